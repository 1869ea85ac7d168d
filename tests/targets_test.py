"""A whole run with two targets, its layout, and what is left of it after a kill."""

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import warm_starts
from networks import pretrained, small_network
from refusals import refused

from mmx_tf.errors import RecipeError
from mmx_tf.recipe.recipe import Recipe
from mmx_tf.run.finished import open_workdir
from mmx_tf.run.pipeline import run
from mmx_tf.workdir import checkpoints

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
# Ends: 3536 MACs at 8x8 bits; searched: 8832 MACs at 4 bits times 3.5 and 6 on average.
TARGETS = {"target_349.952K": 3536 * 64 + 8832 * 14, "target_438.272K": 3536 * 64 + 8832 * 24}
OF_A_TARGET = {
    "run.flags", "bit_selection.json", "checkpoints", "fixed_model.keras", "model.tflite", "metrics.json",
    "parity.json", "sensitivity.json", "report.html", "logs", "run.lock",
}  # fmt: skip


@pytest.fixture(scope="module")
def float_network(digits, tmp_path_factory):
    path = tmp_path_factory.mktemp("float") / "float.keras"
    pretrained(digits).save(path)
    return path


def arguments(float_network, workdir, *more) -> list[str]:
    return [
        f"--float_model={float_network}", "--image_size=16", "--batch_size=64", "--steps_per_epoch=3",
        "--train_epochs=1", "--eval_images=64", "--parity_images=8", "--learning_rate=0.002",
        f"--target_bops={','.join(map(str, TARGETS.values()))}", f"--workdir={workdir}", *more,
    ]  # fmt: skip


def names(folder: Path) -> set[str]:
    """What is in a folder, but for hidden files, which a kill in the middle of a write leaves behind."""
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


def written(folder: Path) -> dict[Path, int]:
    """When each file below a folder was written."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def finished(float_network, tmp_path_factory):
    """(workdir, printed, said) of a run that was killed when the first of its two files was finished."""
    workdir = tmp_path_factory.mktemp("runs") / "run"
    words = [sys.executable, "-m", "mmx_tf.train", *arguments(float_network, workdir)]
    first = warm_starts.Program(words)
    end = time.monotonic() + 600
    while not (workdir / "front.json").exists():
        assert first.poll() is None, first.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)
    first.kill()
    first.wait()
    partial = json.loads((workdir / "front.json").read_text())
    # Its file is compared with one that this process makes, so its kernels are to be the same.
    second = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert second.returncode == 0, second.stderr
    return workdir, partial, second.stdout, second.stderr


def test_what_was_finished_before_the_kill_is_kept(finished):
    _, partial, _, said = finished
    assert [target["folder"] for target in partial["targets"]] == ["target_349.952K"]
    # The search is taken up at its end, and the first target is done.
    assert "select: epochs" not in said
    assert "target_349.952K is finished; nothing is done again" in said
    assert re.findall("train: epochs.*", said) == ["train: epochs 1 to 1"]


def test_one_search_and_the_files_of_every_target(finished):
    workdir, _, _, _ = finished
    assert names(workdir) == {
        "run.flags", "run.lock", "checkpoints", "logs", "front.json", "front.png", "report.html", *TARGETS,
    }  # fmt: skip
    assert names(workdir / "checkpoints") == {"select", "state.json"}
    assert checkpoints.numbers(workdir / "checkpoints" / "select") == [3, 6]
    for folder, bops in TARGETS.items():
        target = workdir / folder
        assert names(target) == OF_A_TARGET
        assert names(target / "checkpoints") == {"train", "state.json"}
        metrics = json.loads((target / "metrics.json").read_text())
        selection = json.loads((target / "bit_selection.json").read_text())
        assert metrics["target_bops"] == selection["target_bops"] == bops
        assert metrics["bops"] == selection["bops"] <= bops
        assert metrics["code_disagreement"] == 0.0 and metrics["tflite_top1"] > 0.2  # guessing: 0.1
        assert list(metrics["seconds"]) == ["select", "sensitivity", "train", "convert", "verify"]
        recipe = Recipe.from_flagfile((target / "run.flags").read_text())
        assert (recipe.target_bops, recipe.workdir) == ((bops,), str(target))


def test_the_front(finished):
    workdir, _, printed, _ = finished
    front = json.loads((workdir / "front.json").read_text())
    assert {target["folder"]: target["target_bops"] for target in front["targets"]} == TARGETS
    for target in front["targets"]:
        metrics = json.loads((workdir / target["folder"] / "metrics.json").read_text())
        assert all(metrics[key] == value for key, value in target.items() if key in metrics)
    page = (workdir / "report.html").read_text()
    assert all(f'href="{folder}/report.html"' in page for folder in TARGETS)
    *_, head, _, _, rule, _, _, last = printed.splitlines()
    assert "on the front" in head and set(rule) == {"-"}
    assert last.split()[-1] == str(workdir / "report.html")


def test_the_curves_of_a_targets_report_are_its_own(finished):
    workdir, _, _, _ = finished
    steps = checkpoints.newest_facts(workdir / "checkpoints" / "select")["steps"]
    names = ("bops", "search_loss", "regularizer", "alpha_entropy", "alpha_margin", "alpha_flips")
    assert set(steps) == {"loss", *(f"{folder}/{name}" for folder in TARGETS for name in names)}
    assert {len(values) for values in steps.values()} == {6}
    for folder in TARGETS:
        page = (workdir / folder / "report.html").read_text()
        panels = re.search("Bit selection over time: (.*?)\\.", page)[1].split("; ")
        alpha = {
            "entropy of alpha",
            "lead of the most probable bits over the next",
            "layers whose bits a step has changed",
        }
        assert set(panels) == {"kBOPs of the most probable bits", "loss", "distance from the budgets"} | alpha


def test_a_targets_folder_is_a_workdir_and_the_run_names_it(finished):
    workdir, _, _, _ = finished
    folded, data, _ = open_workdir(workdir / "target_438.272K")
    assert folded.output_shape == (None, 10) and data[4:8] == b"TFL3"
    with pytest.raises(RecipeError, match=r"several targets: give one of .*target_349.952K, .*target_438"):
        open_workdir(workdir)


def test_a_target_can_be_exported_later_from_the_same_search(finished, float_network, tmp_path):
    """The search of the whole run with one target's folder gone; its file comes out as it was."""
    workdir = tmp_path / "run"
    shutil.copytree(finished[0], workdir)
    file = (workdir / "target_438.272K" / "model.tflite").read_bytes()
    for folder in TARGETS:
        shutil.rmtree(workdir / folder)
    recipe = Recipe.from_flagfile("\n".join(arguments(float_network, workdir, "--export_target=438272")))
    recipe.validate()
    document = run(recipe)
    assert [target["folder"] for target in document["targets"]] == ["target_438.272K"]
    assert not (workdir / "target_349.952K").exists()
    assert (workdir / "target_438.272K" / "model.tflite").read_bytes() == file
    before = written(workdir)
    assert run(recipe) == document
    after = written(workdir)
    changed = {path.name for path in after if after[path] != before.get(path)}
    assert changed <= {"state.json", "run.flags", "run.lock"}


def test_what_is_missing_of_targets_is_made_again(finished, float_network, tmp_path, warnings, capsys):
    workdir = tmp_path / "run"
    shutil.copytree(finished[0], workdir)
    one, other = (workdir / folder for folder in TARGETS)
    before = {path: path.read_bytes() for path in workdir.rglob("*.*") if path.is_file()}
    gone = [workdir / "front.png", one / "model.tflite", one / "bit_selection.json", other / "report.html"]
    for path in gone:
        path.unlink()
    words = arguments(float_network, workdir)
    recipe = Recipe.from_flagfile("\n".join(words))
    document = run(recipe)
    assert document == json.loads((workdir / "front.json").read_text())
    for path in (*gone[:3], workdir / "front.json", other / "metrics.json", other / "model.tflite"):
        assert path.read_bytes() == before[path], path
    page = gone[3].read_text()
    assert "Bit selection over time" in page and page.count("<svg") == before[gone[3]].decode().count("<svg")
    told = [line for line in warnings if "made again" in line]
    assert len(told) == 3
    for folder, names in ((one, "bit_selection.json, model.tflite are"), (other, "report.html is")):
        assert any(f"{folder} is finished, but {names} missing" in line for line in told)
    assert any(f"{workdir}: front.png missing" in line for line in told)
    # Damaged: the front is drawn again, a target's file is refused by name; so is another float network.
    (workdir / "front.json").write_text("{")
    run(recipe)
    assert (workdir / "front.json").read_bytes() == before[workdir / "front.json"]
    (other / "model.tflite").write_bytes(b"")
    message = refused(capsys, tmp_path, *words)
    assert f"not what the finished run wrote, but damaged or edited: {other / 'model.tflite'}" in message
    (other / "model.tflite").write_bytes(before[other / "model.tflite"])
    small_network().save(tmp_path / "another.keras")
    kept = float_network.read_bytes()
    try:
        shutil.copyfile(tmp_path / "another.keras", float_network)
        assert f"--float_model={float_network}: the file is not" in refused(capsys, tmp_path, *words)
    finally:
        float_network.write_bytes(kept)
    # The search is over for all targets: what needs it again is refused, and nothing is trained.
    shutil.rmtree(workdir / "checkpoints" / "select")
    for name in ("bit_selection.json", "fixed_model.keras"):
        (one / name).unlink()
    with pytest.raises(RecipeError, match="bit_selection.json is missing, and so is the last checkpoint in"):
        run(recipe)
