"""Another file of a finished run (`mmx_tf reexport`), and storages that are told once."""

import hashlib
import shutil
from pathlib import Path

import pytest
from ai_edge_litert.interpreter import Interpreter
from commands import called, train_main
from networks import calibrated, small_network

import mmx_tf
from mmx_tf import reexport
from mmx_tf.errors import RecipeError
from mmx_tf.metamix.selection import BitSelection
from mmx_tf.recipe.recipe import Recipe
from mmx_tf.workdir import belonging


@pytest.fixture(scope="module")
def finished(float_file, tmp_path_factory):
    """The workdir of a short run on digits, and its flags."""
    workdir = tmp_path_factory.mktemp("runs") / "run"
    flags = [
        f"--float_model={float_file}", "--image_size=16", "--batch_size=64", "--steps_per_epoch=4",
        "--train_epochs=1", "--eval_images=64", "--parity_images=32", "--target_average_bits=4.5",
        "--learning_rate=0.002", f"--workdir={workdir}",
    ]  # fmt: skip
    train_main(flags)
    return workdir, flags


def contents(folder: Path) -> dict:
    return {
        path: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()
    }


@pytest.mark.slow
def test_the_same_options_give_the_same_bytes(finished, tmp_path, capsys):
    done = called(capsys, reexport.main, f"--workdir={finished[0]}", f"--out={tmp_path / 'same.tflite'}")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "same.tflite").read_bytes() == (finished[0] / "model.tflite").read_bytes()


@pytest.mark.slow
def test_another_file_is_written_verified_and_nothing_else_is_touched(finished, tmp_path, capsys):
    workdir, before = finished[0], contents(finished[0])
    done = called(
        capsys, reexport.main,
        f"--workdir={workdir}", "--output_type=class", "--weight_storage=int4_xnnpack", "--input_type=int8",
        "--max_disagreement=0", f"--out={tmp_path / 'other.tflite'}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "code disagreement of the outputs on 64 images: 0.0000%" in done.stdout
    assert "xnnpack, 32 images: 0 of" in done.stdout
    assert contents(workdir) == before
    content = (tmp_path / "other.tflite").read_bytes()
    fixed = mmx_tf.load_model(workdir / "fixed_model.keras")
    target = BitSelection.load(workdir / "bit_selection.json").target_bops
    made = mmx_tf.convert(
        fixed, weight_storage="int4_xnnpack", input_type="int8", output_type="class", target_bops=target,
        labels=[str(digit) for digit in range(10)],
    )  # fmt: skip
    assert content == made
    assert len(content) < (workdir / "model.tflite").stat().st_size + 2_000
    interpreter = Interpreter(model_content=content)
    assert interpreter.get_input_details()[0]["dtype"].__name__ == "int8"
    assert len(interpreter.get_output_details()) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "words, said",
    [
        (["--weight_storage=int3"], "int4_xnnpack"),
        (["--output_type=classes"], "class"),
        (["--input_type=int16"], "uint8"),
        (["--input_type=float32"], "use one of uint8 (pixels), int8"),
        (["--max_disagreement=2"], "a share of 0 to 1"),
        (["--out={there}"], "is there already"),
        (["--out={folder}/no/file.tflite"], "there is no folder"),
        (["--out={workdir}/report.html"], "is there already"),
    ],
)
def test_what_cannot_be_written_is_told(finished, tmp_path, capsys, words, said):
    there = tmp_path / "there.tflite"
    there.write_text("mine")
    names = {"there": there, "folder": tmp_path, "workdir": finished[0]}
    given = [word.format(**names) for word in [f"--out={tmp_path / 'new.tflite'}", *words]]
    before = contents(finished[0])
    done = called(capsys, reexport.main, f"--workdir={finished[0]}", *given)
    assert done.returncode == 2
    assert said in done.stderr
    assert there.read_text() == "mine" and list(tmp_path.iterdir()) == [there]
    assert contents(finished[0]) == before


@pytest.mark.slow
def test_a_folder_that_is_no_finished_run_is_told(finished, tmp_path, capsys):
    out = tmp_path / "new.tflite"
    done = called(capsys, reexport.main, f"--workdir={tmp_path}", f"--out={out}")
    assert done.returncode == 2 and "is not a finished workdir" in done.stderr
    copy = tmp_path / "copy"
    shutil.copytree(finished[0], copy)
    (copy / "model.tflite").unlink()
    done = called(capsys, reexport.main, f"--workdir={copy}", f"--out={copy / 'model.tflite'}")
    assert done.returncode == 2 and "is the name of a result" in done.stderr
    assert not (copy / "model.tflite").exists()


@pytest.mark.slow
def test_a_file_that_differs_is_not_written(finished, tmp_path, capsys, monkeypatch):
    """The file has the last layer's weights with the other sign."""
    from mmx_tf.folding import convert

    write = convert.convert

    def damaged(folded, **options):
        layer = next(layer for layer in folded.layers if "logits" in layer.name and layer.weights)
        kept = layer.get_weights()
        layer.set_weights([-values if values.ndim > 1 else values for values in kept])
        try:
            return write(folded, **options)
        finally:
            layer.set_weights(kept)

    monkeypatch.setattr(convert, "convert", damaged)
    words = [f"--workdir={finished[0]}", "--max_disagreement=0.01", f"--out={tmp_path / 'new.tflite'}"]
    done = called(capsys, reexport.main, *words)
    assert done.returncode == 3, done.stderr
    assert "is not written" in done.stderr and not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_run_with_other_flags_of_the_file_names_the_command(finished, float_file):
    workdir, flags = finished
    other = Recipe.from_flagfile("\n".join([*flags, "--weight_storage=int4", "--output_type=class"]))
    with pytest.raises(RecipeError) as told:
        belonging.check(other, {})
    words = f"`python -m mmx_tf.reexport --workdir={workdir} --weight_storage=int4 --output_type=class --out="
    assert words in str(told.value)
    # What it was trained with is not the file's alone.
    for more in (["--seed=5"], ["--seed=5", "--weight_storage=int4"]):
        with pytest.raises(RecipeError, match="Give another --workdir") as told:
            belonging.check(Recipe.from_flagfile("\n".join([*flags, *more])), {})
        assert "reexport" not in str(told.value)


@pytest.mark.parametrize("storage", ["int8", "int4", "int4_xnnpack", "int4_micro"])
def test_a_storage_is_told_once(digits, tmp_path, storage):
    fixed = calibrated(small_network(), digits)
    folded = mmx_tf.fold(fixed, weight_storage=storage)
    data = mmx_tf.convert(folded)
    assert data == mmx_tf.convert(fixed, weight_storage=storage)
    folded.save(tmp_path / "folded.keras")
    assert data == mmx_tf.convert(tmp_path / "folded.keras")


def test_another_storage_than_that_of_the_folded_network_is_refused(digits):
    folded = mmx_tf.fold(calibrated(small_network(), digits), weight_storage="int4_micro")
    with pytest.raises(ValueError, match="'int8', but the model was folded for 'int4_micro'. Leave"):
        mmx_tf.convert(folded, weight_storage="int8")
