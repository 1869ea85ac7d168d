"""Runs that are killed and resumed, with epochs on the folded graph, and files of a run with other ends."""

import dataclasses
import json
import logging
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf
from commands import called, train_main
from listening import logged
from networks import calibrated, pretrained
from pipeline_run import EVAL_IMAGES, METRICS, again, command, contents, finished_run, recipe_of
from workdirs import forget

import mmx_tf
from mmx_tf.errors import RecipeError
from mmx_tf.export import parity
from mmx_tf.export import verify as export_verify
from mmx_tf.export.comparing.whole_file import verify
from mmx_tf.export.running import litert
from mmx_tf.recipe.recipe import Recipe
from mmx_tf.run.finished import open_workdir
from mmx_tf.run.pipeline import run
from mmx_tf.workdir import checkpoints


@pytest.fixture(scope="module")
def finished(float_file, tmp_path_factory):
    """(recipe, workdir, what the command printed) of one whole run of the command line."""
    return finished_run(float_file, tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def metrics(finished):
    return json.loads((finished[1] / "metrics.json").read_text())


@pytest.fixture
def said():
    """What the program logs during a test."""
    with logged(logging.INFO) as lines:
        yield lines


@pytest.mark.slow
def test_a_run_that_gives_classes(finished, metrics, tmp_path, capsys):
    workdir = again(finished[1], tmp_path / "class", "--output_type=class", "--max_disagreement=0")
    done = called(capsys, train_main, f"--flagfile={workdir / 'run.flags'}")
    assert done.returncode == 0, done.stderr
    found = json.loads((workdir / "metrics.json").read_text())
    assert set(found) == METRICS and found["xnnpack_partitions"] == 1
    assert found["xnnpack_left_outside"] == ["QUANTIZE", "ARG_MAX", "SOFTMAX"]
    same = METRICS - {"seconds", "file_bytes", "file_sha256", "xnnpack_left_outside", "microcontroller"}
    assert {key: found[key] for key in same} == {key: metrics[key] for key in same}
    assert Recipe.from_flagfile((workdir / "run.flags").read_text()).output_type == "class"
    verified = called(capsys, export_verify.main, f"--workdir={workdir}")
    assert verified.returncode == 0, verified.stderr
    assert json.loads(verified.stdout)["top1_agreement"] == 1.0
    certified = called(capsys, parity.main, f"--workdir={workdir}", "--images=20", "--max_disagreement=0")
    assert certified.returncode == 0, certified.stderr
    assert "xnnpack, 20 images: 0 of " in certified.stdout and "reference, 20 images" in certified.stdout


@pytest.mark.slow
def test_a_run_that_gives_floats(finished, metrics, tmp_path):
    workdir = again(finished[1], tmp_path / "floats", "--output_type=float32", "--input_type=int8")
    found = run(Recipe.from_flagfile((workdir / "run.flags").read_text()))
    assert found["xnnpack_left_outside"] == [] and found["xnnpack_partitions"] == 1
    for name in ("folded_top1", "tflite_top1", "top1_agreement", "code_disagreement"):
        assert found[name] == metrics[name]
    report = verify(*open_workdir(workdir))
    assert (report.code_disagreement, report.top1_agreement) == (0.0, 1.0)


@pytest.mark.slow
def test_a_workdir_with_a_learnt_input_grid_can_be_verified(finished, digits, tmp_path, capsys):
    """As runs left them before files took pixels: no such quantizer, and no flag for the output's type."""
    workdir = again(finished[1], tmp_path / "earlier")
    forget(workdir, "inputs", "results")
    flags = (workdir / "run.flags").read_text().splitlines()
    (workdir / "run.flags").write_text("\n".join(f for f in flags if not f.startswith("--output_type")))
    fixed = calibrated(pretrained(digits), digits)
    fixed.save(workdir / "fixed_model.keras")
    (workdir / "model.tflite").write_bytes(mmx_tf.convert(fixed))
    done = called(capsys, export_verify.main, f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["code_disagreement"], report["eval_images"]) == (0.0, EVAL_IMAGES)
    folded, data, _ = open_workdir(workdir)
    ((_, detail),) = litert.Runner(data).inputs.items()
    assert detail["quantization"][0] != pytest.approx(1 / 127.5, rel=1e-4)


@pytest.fixture
def killed_after_selection(finished, float_file, tmp_path):
    """(recipe, workdir) as a run leaves them that is killed in the first epoch of weight training."""
    _, workdir, _ = finished
    copy = tmp_path / "killed"
    shutil.copytree(workdir, copy)
    for name in ("fixed_model.keras", "model.tflite", "metrics.json", "report.html"):
        (copy / name).unlink()
    shutil.rmtree(copy / "checkpoints" / "train")
    shutil.rmtree(copy / "logs" / "train")
    forget(copy, "results")
    return recipe_of(float_file, copy), copy


@pytest.mark.slow
def test_a_run_killed_after_selection_resumes_there(finished, metrics, killed_after_selection, said):
    _, workdir, _ = finished
    recipe, copy = killed_after_selection
    with pytest.raises(RecipeError, match=r"fixed_model\.keras, model\.tflite missing"):
        open_workdir(copy)
    before = contents(copy)
    selected = {*contents(copy / "checkpoints" / "select"), copy / "bit_selection.json"}
    resumed = run(recipe)
    after = contents(copy)
    assert {path: after[path] for path in selected} == {path: before[path] for path in selected}
    assert [line for line in said if line.startswith(("select: epochs", "train: epochs"))] == [
        "train: epochs 1 to 2"
    ]
    # Selection and seeds are the same, so is the result.
    same = METRICS - {"seconds"}
    assert {key: resumed[key] for key in same} == {key: metrics[key] for key in same}
    assert (copy / "model.tflite").read_bytes() == (workdir / "model.tflite").read_bytes()


def values_at(workdir, epoch) -> dict:
    """Name -> value of the checkpoint of weight training after an epoch."""
    reader = tf.train.load_checkpoint(
        str(workdir / "checkpoints" / "train" / f"ckpt-{4 * epoch}" / "variables")
    )
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


@pytest.mark.slow
def test_the_last_epochs_can_be_on_the_folded_graph_and_resume_there(killed_after_selection, said):
    recipe, workdir = killed_after_selection
    # Frozen statistics bear no large learning rate, and 8 steps of a schedule do not make it small.
    recipe = dataclasses.replace(recipe, folded_epochs=1, learning_rate=0.005)
    (workdir / "run.flags").write_text(recipe.to_flagfile())
    metrics = run(recipe)
    epochs = ["train: epochs 1 to 1", "train: epochs 2 to 2 on the folded graph"]
    assert [line for line in said if line.startswith("train: epochs")] == epochs
    # One phase: its curves, its checkpoints and the optimizer's steps go on.
    curves = checkpoints.newest_facts(workdir / "checkpoints" / "train")["history"]
    assert {name: len(values) for name, values in curves.items()} == dict.fromkeys(
        ("loss", "accuracy", "val_loss", "val_accuracy"), 2
    )
    first, second = values_at(workdir, 1), values_at(workdir, 2)
    assert first.keys() == second.keys()
    statistics = [name for name in first if "/moving_" in name and name.startswith("model/")]
    assert len(statistics) == 4
    changed = {name for name in first if not np.array_equal(first[name], second[name])}
    assert changed.isdisjoint(statistics)
    assert {name for name in first if re.search("/(gamma|beta|kernel|step_size)/", name)} <= changed
    (steps,) = {int(second[name]) for name in second if "/_iterations/" in name}
    assert steps == 2 * 4
    # The accuracy of the last epoch is that of the graph it trained, which is the folded network's.
    assert curves["val_accuracy"][-1] == pytest.approx(metrics["folded_top1"], abs=1.01 / EVAL_IMAGES)
    assert metrics["code_disagreement"] == 0.0
    assert "<td>folded_epochs</td>" in (workdir / "report.html").read_text().replace(' class="text"', "")

    for name in ("fixed_model.keras", "model.tflite", "metrics.json", "report.html"):
        (workdir / name).unlink()
    shutil.rmtree(workdir / "checkpoints" / "train" / "ckpt-8")
    forget(workdir, "results")
    said.clear()
    resumed = run(recipe)
    assert [line for line in said if line.startswith("train: epochs")] == epochs[1:]
    again = values_at(workdir, 2)
    assert all(np.array_equal(again[name], first[name]) for name in statistics)
    assert {int(again[name]) for name in again if "/_iterations/" in name} == {steps}
    assert resumed["code_disagreement"] == 0.0


@pytest.mark.slow
def test_the_file_can_be_verified_again_by_command(finished, metrics):
    _, workdir, _ = finished
    done = command("export.verify", f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    # Lines of the log as those of a run, and nothing of TensorFlow's.
    said = done.stderr.splitlines()
    assert said[0] == "mmx_tf: loading TensorFlow ..." and all(line.startswith("mmx_tf: ") for line in said)
    report = json.loads(done.stdout)
    assert report["eval_images"] == EVAL_IMAGES
    assert report["code_disagreement"] == 0.0
    assert report["tflite_top1"] == metrics["tflite_top1"]


@pytest.mark.slow
def test_the_folded_epochs_go_on_where_the_others_ended_without_a_checkpoint(
    killed_after_selection, said, monkeypatch
):
    """Its disk is full from the first step of weight training on: what was trained is not trained again."""
    recipe, workdir = killed_after_selection
    recipe = dataclasses.replace(recipe, folded_epochs=1, learning_rate=0.005)
    (workdir / "run.flags").write_text(recipe.to_flagfile())
    own, numbers, steps = checkpoints.Checkpoints.save, [], []

    def only_the_first(self, number, facts, **options):
        numbers.append(number)
        steps.append(int(self._checkpoint.optimizer.iterations))
        return own(self, number, facts, **options) if number == 0 else False

    monkeypatch.setattr(checkpoints.Checkpoints, "save", only_the_first)
    metrics = run(recipe)
    epochs = ["train: epochs 1 to 1", "train: epochs 2 to 2 on the folded graph"]
    assert [line for line in said if line.startswith("train: epochs")] == epochs
    assert numbers == steps == [0, 4, 8]
    assert metrics["code_disagreement"] == 0.0


@pytest.mark.slow
def test_all_epochs_can_be_on_the_folded_graph(killed_after_selection, said, warnings):
    recipe, workdir = killed_after_selection
    recipe = dataclasses.replace(recipe, folded_epochs=2, learning_rate=0.005)
    (workdir / "run.flags").write_text(recipe.to_flagfile())
    metrics = run(recipe)
    epochs = ["train: epochs 1 to 2 on the folded graph"]
    assert [line for line in said if line.startswith("train: epochs")] == epochs
    assert metrics["code_disagreement"] == 0.0
    assert any("the 0 steps of weight training that move its running statistics: 100%" in w for w in warnings)
