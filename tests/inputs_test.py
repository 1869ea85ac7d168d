"""A run goes on with what it began with, and a finished one has all of its results, or says what is wrong.

One small run on a folder of digits, with a teacher, killed in weight training and resumed; tests copy it.
"""

import contextlib
import hashlib
import itertools
import json
import logging
import os
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import warm_starts
from listening import logged
from networks import pretrained, small_network
from refusals import refused
from stored_datasets import write_digits, write_png
from workdirs import facts_of, forget

from benchmarks import meta_state
from mmx_tf import data as datasets
from mmx_tf.distribution.job import Job
from mmx_tf.errors import RecipeError
from mmx_tf.figures import documents
from mmx_tf.recipe.recipe import Recipe
from mmx_tf.run.finished import open_workdir
from mmx_tf.run.pipeline import run
from mmx_tf.workdir import checkpoints, fingerprints, results
from mmx_tf.workdir.workdir import Workdir

pytestmark = pytest.mark.slow

STEPS = 3


@pytest.fixture(scope="module")
def given(digits, tmp_path_factory):
    """Folder of what the run is given: float.keras, teacher.keras, images."""
    folder = tmp_path_factory.mktemp("given")
    network = pretrained(digits)
    network.save(folder / "float.keras")
    network.save(folder / "teacher.keras")
    write_digits(folder / "images" / "train", per_class=8)
    write_digits(folder / "images" / "test", per_class=2, start=8)
    return folder


def arguments(given, workdir) -> list[str]:
    return [
        f"--float_model={given / 'float.keras'}", f"--teacher={given / 'teacher.keras'}",
        f"--dataset=folder:{given / 'images'}", "--image_size=16", "--batch_size=16",
        f"--steps_per_epoch={STEPS}", "--train_epochs=2", "--parity_images=8", "--target_average_bits=4.5",
        "--learning_rate=0.002", f"--workdir={workdir}",
    ]  # fmt: skip


def recipe_of(given, workdir) -> Recipe:
    recipe = Recipe.from_flagfile("\n".join(arguments(given, workdir)))
    recipe.validate()
    return recipe


@pytest.fixture(scope="module")
def killed(given, tmp_path_factory):
    """The workdir of a run that was killed in its second epoch of weight training."""
    workdir = tmp_path_factory.mktemp("runs") / "killed"
    process = warm_starts.Program(["-m", "mmx_tf.train", *arguments(given, workdir)])
    end = time.monotonic() + 300
    while checkpoints.numbers(workdir / "checkpoints" / "train")[-1:] != [STEPS]:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.001)
    process.kill()
    process.wait()
    if (workdir / "fixed_model.keras").exists():  # on a machine that stood still between the two
        (workdir / "fixed_model.keras").unlink()
    shutil.rmtree(workdir / "checkpoints" / "train" / f"ckpt-{2 * STEPS}", ignore_errors=True)
    return workdir


@pytest.fixture(scope="module")
def finished(given, killed, tmp_path_factory):
    """The same run, resumed to its end."""
    workdir = tmp_path_factory.mktemp("runs") / "run"
    shutil.copytree(killed, workdir)
    run(recipe_of(given, workdir))
    assert results.missing(workdir) == []
    return workdir


@pytest.fixture
def copy(given, finished, tmp_path):
    workdir = Path(shutil.copytree(finished, tmp_path / "run"))
    (workdir / "run.flags").write_text(recipe_of(given, workdir).to_flagfile())
    return workdir


@contextlib.contextmanager
def replaced(path: Path, change):
    """`change(path)` is in force in the block."""
    kept = path.with_name(path.name + ".kept")
    path.rename(kept)
    try:
        shutil.copytree(kept, path) if kept.is_dir() else shutil.copyfile(kept, path)
        change(path)
        yield
    finally:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        kept.rename(path)


def another_network(path):
    small_network().save(path)


def one_image_more(path):
    write_png(path / "train" / "3" / "new.png", np.zeros((8, 8, 1), np.uint8))


def one_image_renamed(path):
    sorted((path / "train" / "3").iterdir())[0].rename(path / "train" / "3" / "renamed.png")


def another_evaluation_image(path):
    sorted((path / "test" / "3").iterdir())[0].unlink()


def one_class_more(path):
    for half in ("train", "test"):
        write_png(path / half / "ten" / "0.png", np.zeros((8, 8, 1), np.uint8))


CHANGES = {
    "float network": ("float.keras", another_network, ["--float_model={path}: the file is not", "SHA-256"]),
    "teacher": ("teacher.keras", another_network, ["--teacher={path}: the file is not", "SHA-256"]),
    "one image more": (
        "images", one_image_more,
        ["had 80 training images in 10 classes (", "when this run began and has 81 in 10 classes ("],
    ),
    "one renamed": ("images", one_image_renamed, ["names or sizes of the files of its 80 training images"]),
    "evaluation": ("images", another_evaluation_image, ["had 20 evaluation images", "and has 19 in"]),
    "class": ("images", one_class_more, ["in 10 classes", "has 81 in 11 classes", "has 21 in 11 classes"]),
}  # fmt: skip


@pytest.mark.parametrize("case", CHANGES)
@pytest.mark.parametrize("moment", ["killed in weight training", "finished"])
def test_another_input_is_refused_by_name(given, killed, finished, capsys, tmp_path, moment, case):
    shutil.copytree(finished if moment == "finished" else killed, tmp_path / "run")
    name, change, parts = CHANGES[case]
    with replaced(given / name, change):
        message = refused(capsys, tmp_path, *arguments(given, tmp_path / "run"))
    assert "holds a run with other input" in message and "or give a new --workdir" in message
    for part in parts:
        assert part.format(path=given / name) in message


def test_what_is_put_back_is_no_change(given, copy, capsys):
    """A file is known by its content, so another time of writing does not matter."""
    for path in given.rglob("*"):
        os.utime(path)
    with logged(logging.INFO) as said:
        metrics = run(recipe_of(given, copy))
    assert any("is finished; nothing is done again" in line for line in said)
    assert metrics == json.loads((copy / "metrics.json").read_text())
    assert "file and folded agree" in capsys.readouterr().out


def test_a_workdir_without_a_record_is_told_of_once_and_gets_one(given, copy, capsys, warnings):
    before = facts_of(copy)
    forget(copy, "inputs", "results")
    kept = (copy / "bit_selection.json").read_bytes()
    (copy / "bit_selection.json").write_text("{")
    state = (copy / "checkpoints" / "state.json").read_bytes()
    with pytest.raises(RecipeError, match="bit_selection.json cannot be used"):
        run(recipe_of(given, copy))
    assert (copy / "checkpoints" / "state.json").read_bytes() == state
    (copy / "bit_selection.json").write_bytes(kept)
    warnings.clear()
    metrics = json.loads((copy / "metrics.json").read_text())
    run(recipe_of(given, copy))
    (told,) = [line for line in warnings if "has no record of the input" in line]
    assert "--float_model, --teacher, --dataset" in told
    assert facts_of(copy)["inputs"] == before["inputs"]
    assert facts_of(copy)["results"] == before["results"]
    run(recipe_of(given, copy))
    assert len([line for line in warnings if "has no record" in line]) == 1
    assert json.loads((copy / "metrics.json").read_text()) == metrics
    with replaced(given / "float.keras", another_network):
        assert "--float_model" in refused(capsys, copy.parent, *arguments(given, copy))


def test_a_worker_with_other_input_is_refused(given, copy, digits):
    """Its own copy of the data, say: the processes would train on different images."""
    recipe = recipe_of(given, copy)
    data = datasets.load(recipe.dataset, image_size=16)
    worker = Job(index=1)
    assert Workdir(recipe, worker, fingerprints.of_inputs(recipe, data)).finished
    with replaced(given / "images", one_image_more):
        data = datasets.load(recipe.dataset, image_size=16)
        with pytest.raises(RecipeError, match="and has 81 in 10 classes"):
            Workdir(recipe, worker, fingerprints.of_inputs(recipe, data))


def test_commands_on_finished_workdirs_notice_other_input(given, copy, warnings):
    with replaced(given / "float.keras", another_network):
        # The float network is not among what the file and the folded network are compared by.
        _, content, _ = open_workdir(copy)
        assert content == (copy / "model.tflite").read_bytes() and warnings == []
        with pytest.raises(SystemExit, match="--float_model=.*: the file is not what this run began with"):
            meta_state.restored(copy)
        recipe = recipe_of(given, copy)
        data = datasets.load(recipe.dataset, image_size=16)
        with pytest.raises(RecipeError, match="--float_model"):
            documents.check_run(recipe, data, small_network())
    with replaced(given / "images", another_evaluation_image):
        open_workdir(copy)
        (told,) = warnings
        assert "20 evaluation images" in told and "Accuracies are not those in" in told
    documents.check_run(recipe, data, small_network())
    (copy / "model.tflite").write_bytes(b"")
    with pytest.raises(RecipeError, match=r"not what the finished run wrote.*model\.tflite \(0 bytes\)"):
        open_workdir(copy)
    (copy / "model.tflite").unlink()
    with pytest.raises(RecipeError, match=r"model\.tflite missing\. `python -m mmx_tf.train --flagfile="):
        open_workdir(copy)


# What is missing is made again


LOST = [
    ("report.html",), ("model.tflite", "parity.json"), ("bit_selection.json",), ("fixed_model.keras",),
    results.RESULTS,
]  # fmt: skip


@pytest.mark.parametrize("names", LOST, ids="+".join)
def test_what_is_missing_is_made_again(given, finished, copy, warnings, capsys, names):
    for name in names:
        (copy / name).unlink()
    before = {p: p.stat().st_mtime_ns for p in copy.rglob("*") if p.is_file()}
    with logged(logging.INFO) as said:
        metrics = run(recipe_of(given, copy))
    assert results.missing(copy) == []
    (told,) = [line for line in warnings if "made again from what is there; nothing is trained" in line]
    assert all(name in told for name in names)
    assert not [line for line in said if re.match("(float|select|train): epochs", line)]
    assert "file and folded agree" in capsys.readouterr().out
    # Equal in every byte, times included; the network's archive has the time of saving in it.
    for name in {*results.RESULTS} - {"fixed_model.keras", "report.html"}:
        assert (copy / name).read_bytes() == (finished / name).read_bytes(), name
    assert metrics == json.loads((finished / "metrics.json").read_text())
    page, former = ((folder / "report.html").read_text() for folder in (copy, finished))
    assert "Bit selection over time" in page
    assert page.replace(str(copy), str(finished)) == former
    # Nothing else is touched.
    ours = {"run.flags", "run.lock", "state.json", *names}
    if "metrics.json" in names:
        ours |= {"model.tflite", "parity.json", "report.html"}
    touched = {p.name for p, at in before.items() if p.stat().st_mtime_ns != at}
    assert touched <= ours
    assert facts_of(copy)["results"] == {
        name: hashlib.sha256((copy / name).read_bytes()).hexdigest() for name in results.RESULTS
    }


def empty(path):
    path.write_bytes(b"")


def another_accuracy(path):
    metrics = json.loads(path.read_text())
    path.write_text(json.dumps(metrics | {"tflite_top1": 1.0}, indent=1) + "\n")


def one_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "change"),
    [*itertools.product(results.RESULTS, (empty, one_byte)), ("metrics.json", another_accuracy)],
)
def test_a_result_that_is_not_what_was_written_is_refused(given, copy, capsys, name, change):
    change(copy / name)
    message = refused(capsys, copy.parent, *arguments(given, copy))
    assert "not what the finished run wrote" in message and "remove it" in message
    assert f"{copy / name} ({(copy / name).stat().st_size:,} bytes)" in message


def test_a_damaged_file_is_known_from_the_metrics_alone(given, copy, capsys):
    """Without the record, as in a workdir whose checkpoints were thrown away."""
    shutil.rmtree(copy / "checkpoints")
    one_byte(copy / "model.tflite")
    message = refused(capsys, copy.parent, *arguments(given, copy))
    assert f"not what the finished run wrote, but damaged or edited: {copy / 'model.tflite'}" in message


def test_a_report_without_checkpoints_has_no_curves_and_says_so(given, copy, warnings):
    shutil.rmtree(copy / "checkpoints")
    (copy / "report.html").unlink()
    run(recipe_of(given, copy))
    assert any("has no curves" in line for line in warnings)
    assert "Bit selection over time" not in (copy / "report.html").read_text()


@pytest.mark.parametrize(
    ("phase", "names"),
    [
        ("train", ("fixed_model.keras",)),
        ("select", ("bit_selection.json", "fixed_model.keras", "metrics.json")),
    ],
)
def test_what_cannot_be_made_again_without_training_is_refused(given, copy, capsys, phase, names):
    shutil.rmtree(copy / "checkpoints" / phase)
    for name in names:
        (copy / name).unlink()
    message = refused(capsys, copy.parent, *arguments(given, copy))
    assert (
        f"{names[0]} is missing, and so is the last checkpoint in {copy / 'checkpoints' / phase}" in message
    )


def test_a_file_that_comes_out_otherwise_is_refused(given, copy, capsys):
    """As with another version: metrics and report would tell of a file that is no more."""
    (copy / "model.tflite").unlink()
    facts = facts_of(copy)
    facts["results"]["model.tflite"] = 64 * "0"
    (copy / "checkpoints" / "state.json").write_text(json.dumps(facts))
    message = refused(capsys, copy.parent, *arguments(given, copy))
    assert "is not what the run wrote (000000000000...)" in message and "remove" in message
    (copy / "metrics.json").unlink()
    metrics = run(recipe_of(given, copy))
    assert metrics["file_sha256"] == hashlib.sha256((copy / "model.tflite").read_bytes()).hexdigest()
    assert results.missing(copy) == []
