import dataclasses
import hashlib
import json
import logging
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from commands import called, train_main
from listening import logged
from networks import calibrated, pretrained
from workdirs import forget

import mmx_tf
from benchmarks.provenance import bring_in
from mmx_tf.errors import RecipeError
from mmx_tf.export import parity, provenance
from mmx_tf.export import verify as export_verify
from mmx_tf.export.comparing.whole_file import verify
from mmx_tf.export.running import litert
from mmx_tf.metamix.selection import BitSelection
from mmx_tf.recipe.recipe import Recipe
from mmx_tf.run.finished import open_workdir
from mmx_tf.run.pipeline import run
from mmx_tf.workdir import checkpoints

ROOT = Path(__file__).parents[1]
EVAL_IMAGES = 64
METRICS = {
    "float_top1", "fixed_top1", "folded_top1", "tflite_top1", "top1_agreement", "code_disagreement",
    "eval_images", "bops", "target_bops", "average_bits", "file_bytes", "seconds", "versions",
    # Beyond the contract:
    "tensor_codes_compared", "tensor_codes_differing", "xnnpack_partitions", "xnnpack_left_outside",
    "file_sha256", "microcontroller", "search",
}  # fmt: skip
# MACs of tests/networks.py's network on 16x16 pixels, worked out by hand.
MACS = {"stem": 3456, "depthwise": 3456, "project": 2304, "expand": 3072, "logits": 80}
ENDS = ("stem", "logits")


@pytest.fixture(scope="module")
def float_network(digits, tmp_path_factory):
    """A user's network, briefly trained on real digits."""
    path = tmp_path_factory.mktemp("float") / "float.keras"
    pretrained(digits).save(path)
    return path


def arguments_of(float_network, workdir) -> list[str]:
    return [
        f"--float_model={float_network}", "--image_size=16", "--batch_size=64", "--steps_per_epoch=4",
        "--train_epochs=2", f"--eval_images={EVAL_IMAGES}", "--target_average_bits=4.5",
        # Eight steps of a cosine bear no large one.
        "--learning_rate=0.002",
        f"--workdir={workdir}",
    ]  # fmt: skip


def recipe_of(float_network, workdir, *more) -> Recipe:
    recipe = Recipe.from_flagfile("\n".join([*arguments_of(float_network, workdir), *more]))
    recipe.validate()
    return recipe


@pytest.fixture(scope="module")
def finished(float_network, tmp_path_factory):
    """(recipe, workdir, what the command printed) of one whole run of the command line."""
    workdir = tmp_path_factory.mktemp("runs") / "run"
    recipe = recipe_of(float_network, workdir)
    done = command("mmx_tf.train", *arguments_of(float_network, workdir))
    assert done.returncode == 0, done.stderr
    return recipe, workdir, done


@pytest.fixture(scope="module")
def metrics(finished):
    return json.loads((finished[1] / "metrics.json").read_text())


def command(module, *arguments) -> subprocess.CompletedProcess:
    words = [sys.executable, "-m", module, *arguments]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)


def again(workdir, folder, *flags) -> Path:
    """A workdir whose export is still to come, with other flags for it."""
    shutil.copytree(workdir, folder)
    for name in ("model.tflite", "metrics.json", "report.html", "parity.json"):
        (folder / name).unlink()
    lines = [(folder / "run.flags").read_text(), *flags, f"--workdir={folder}"]
    (folder / "run.flags").write_text(Recipe.from_flagfile("\n".join(lines)).to_flagfile())
    return folder


@pytest.fixture
def said():
    """What the program logs during a test."""
    with logged(logging.INFO) as lines:
        yield lines


def contents(folder: Path):
    """Every file below a folder with its content and the time at which it was written."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_a_run_leaves_every_file(finished):
    _, workdir, _ = finished
    for name in (
        "run.flags", "bit_selection.json", "fixed_model.keras", "model.tflite", "metrics.json", "report.html",
        "parity.json", "sensitivity.json",
    ):  # fmt: skip
        assert (workdir / name).stat().st_size > 100, name
    # The ends of the two epochs, of four steps each.
    assert checkpoints.numbers(workdir / "checkpoints" / "select") == [4, 8]
    assert checkpoints.numbers(workdir / "checkpoints" / "train") == [4, 8]
    assert list((workdir / "logs").rglob("events.out.tfevents.*"))
    assert not [path for path in workdir.iterdir() if path.name.startswith(".")]


def test_the_command_prints_its_own_lines_only(finished):
    _, workdir, done = finished
    assert "mmx_tf: select: epochs 1 to 2" in done.stderr
    assert [line for line in done.stderr.splitlines() if not line.startswith("mmx_tf: ")] == []
    for phase, cost in (("select", r"\d+\.?\d* [kM]BOPs, "), ("train", "")):
        epoch = rf"mmx_tf: {phase}: epoch 2 of 2 done after .*: loss [\d.]+, {cost}accuracy \d+(\.\d\d)?%"
        assert re.search(epoch, done.stderr), done.stderr
    # Not a line for every step, nor lines that are written anew.
    assert "\r" not in done.stderr and len(re.findall(r"epoch \d of 2 done", done.stderr)) <= 4
    before, table = done.stdout.split("#  layer", 1)
    assert before == ""
    assert [line.split() for line in table.splitlines()[-2:]] == [
        ["the", "file", str(workdir / "model.tflite")], ["the", "report", str(workdir / "report.html")],
    ]  # fmt: skip
    assert all(name in table for name in MACS)
    assert "file and folded agree" in table and "100% of 64 images" in table


def test_metrics(finished, metrics):
    _, workdir, _ = finished
    assert set(metrics) == METRICS
    assert metrics["eval_images"] == EVAL_IMAGES
    assert metrics["code_disagreement"] == 0.0
    assert metrics["top1_agreement"] == 1.0
    assert metrics["tensor_codes_differing"] == 0
    assert metrics["folded_top1"] == metrics["tflite_top1"]
    for form in ("float", "fixed", "folded", "tflite"):
        # A share of the evaluation images, far above the tenth that guessing gives.
        share = metrics[f"{form}_top1"] * EVAL_IMAGES
        assert share == pytest.approx(round(share), abs=1e-4)
        assert metrics[f"{form}_top1"] > 0.3
    content = (workdir / "model.tflite").read_bytes()
    assert metrics["file_bytes"] == len(content)
    assert metrics["file_sha256"] == hashlib.sha256(content).hexdigest()
    assert set(metrics["average_bits"]) == {"plain", "by_ops", "by_elements"}
    assert set(metrics["seconds"]) == {"select", "sensitivity", "train", "convert", "verify"}
    assert all(seconds > 0 for seconds in metrics["seconds"].values())
    assert metrics["versions"]["tensorflow"] == "2.21.0"


def test_bit_selection_meets_the_budget(finished, metrics):
    _, workdir, _ = finished
    selection = json.loads((workdir / "bit_selection.json").read_text())
    assert set(selection) == {"schema", "bit_widths", "layers", "bops", "target_bops"}
    assert selection["schema"] == 1
    assert selection["bit_widths"] == [8, 4, 3]
    assert {layer["name"]: layer["macs"] for layer in selection["layers"]} == MACS
    assert list(MACS) == [layer["name"] for layer in selection["layers"]]
    bops = 0
    for layer in selection["layers"]:
        assert {"name", "kind", "macs", "activation_bits", "weight_bits", "signed"} <= set(layer)
        end = layer["name"] in ENDS
        assert layer["weight_bits"] == (8 if end else 4)
        assert layer["activation_bits"] in ((8,) if end else (8, 4, 3))
        bops += layer["macs"] * layer["weight_bits"] * layer["activation_bits"]
    # Ends: 3536 MACs at 8x8 bits; searched: 8832 MACs at 4 bits times 4.5 on average.
    assert metrics["target_bops"] == selection["target_bops"] == 3536 * 64 + 8832 * 18
    assert metrics["bops"] == selection["bops"] == bops <= selection["target_bops"]


def test_the_parity_certificate(finished, metrics):
    _, workdir, _ = finished
    parity = json.loads((workdir / "parity.json").read_text())
    assert parity["sha256"] == hashlib.sha256((workdir / "model.tflite").read_bytes()).hexdigest()
    assert {kernels: runtime["images"] for kernels, runtime in parity["runtimes"].items()} == {
        "xnnpack": EVAL_IMAGES, "builtin": EVAL_IMAGES, "reference": 32,
    }  # fmt: skip
    operators = parity["runtimes"]["xnnpack"]["operators"]
    assert {*MACS, "add", "pool"} <= {operator["name"] for operator in operators}
    assert sum(operator["differing"] for operator in operators) == 0
    for name in ("fixed_top1", "folded_top1", "tflite_top1", "top1_agreement", "code_disagreement"):
        assert parity["end_to_end"][name] == metrics[name]
    assert "Parity of the file" in (workdir / "report.html").read_text()


def test_a_file_beyond_max_disagreement_fails_the_run_and_names_the_layers(finished, tmp_path, capsys):
    """XNNPACK takes no int4 weights, and the builtin kernels that do round twice."""
    copy = again(finished[1], tmp_path / "strict", "--weight_storage=int4", "--max_disagreement=0")
    done = called(capsys, train_main, f"--flagfile={copy / 'run.flags'}")
    assert done.returncode == 3
    assert "under the xnnpack kernels these differ" in done.stderr
    assert re.search(r"(expand|project|depthwise) \(\w*CONV_2D\): \d+ of \d+ codes", done.stderr)
    parity = json.loads((copy / "parity.json").read_text())
    # They have no INT4 in depthwise convolutions.
    assert set(parity["runtimes"]) == {"xnnpack", "builtin", "reference"} and parity["unable"] == {}
    assert "reference kernels cannot run the file" in parity["unpacked"]["reference"]
    assert not (copy / "metrics.json").exists()


def test_the_file_takes_the_bytes_of_a_camera(finished, metrics, digits):
    _, workdir, _ = finished
    images, labels = next(iter(digits.evaluation(batch_size=EVAL_IMAGES)))
    # scikit-learn's pixels have 17 values; resized to 16x16 they are bytes.
    pixels = np.rint((images.numpy() + 1) * 127.5).astype(np.uint8)
    runner = litert.Runner((workdir / "model.tflite").read_bytes())
    ((name, detail),) = runner.inputs.items()
    assert (detail["dtype"], detail["quantization"]) == (np.uint8, (np.float32(1 / 127.5), 128))
    (logits,) = runner({name: pixels}).values()
    assert (logits.argmax(1) == labels.numpy()).mean() == metrics["tflite_top1"]


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


def test_run_flags_replay_the_run(finished):
    recipe, workdir, _ = finished
    assert Recipe.from_flagfile((workdir / "run.flags").read_text()) == recipe


def test_the_report_shows_the_run(finished):
    _, workdir, _ = finished
    page = (workdir / "report.html").read_text()
    assert f"--workdir={workdir}" in page
    assert all(name in page for name in MACS)
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_a_second_run_does_nothing_again(finished, metrics, said, capsys):
    recipe, workdir, _ = finished
    before = contents(workdir)
    assert run(recipe) == metrics
    after = contents(workdir)
    # run.flags is written anew, with the same content, and the lock is empty again.
    assert {path: data for path, (data, _) in after.items()} == {
        path: data for path, (data, _) in before.items()
    }
    assert {path.name for path in after if after[path] != before[path]} <= {"run.flags", "run.lock"}
    assert any("is finished" in line for line in said)
    assert "file and folded agree" in capsys.readouterr().out


def test_another_flag_is_refused_in_a_finished_workdir(finished, float_network):
    _, workdir, _ = finished
    before = contents(workdir)
    with pytest.raises(RecipeError, match="--train_epochs is 3 here and 2 there"):
        run(recipe_of(float_network, workdir, "--train_epochs=3"))
    assert contents(workdir) == before


@pytest.fixture
def killed_after_selection(finished, float_network, tmp_path):
    """(recipe, workdir) as a run leaves them that is killed in the first epoch of weight training."""
    _, workdir, _ = finished
    copy = tmp_path / "killed"
    shutil.copytree(workdir, copy)
    for name in ("fixed_model.keras", "model.tflite", "metrics.json", "report.html"):
        (copy / name).unlink()
    shutil.rmtree(copy / "checkpoints" / "train")
    shutil.rmtree(copy / "logs" / "train")
    forget(copy, "results")
    return recipe_of(float_network, copy), copy


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


def test_the_file_can_be_certified_again_by_command(finished, tmp_path, capsys):
    _, workdir, _ = finished
    options = ("--images=20", "--kernels=xnnpack", f"--json={tmp_path / 'again.json'}")
    done = called(capsys, parity.main, f"--workdir={workdir}", *options, "--max_disagreement=0")
    assert done.returncode == 0, done.stderr
    assert "xnnpack, 20 images: 0 of " in done.stdout and "64 images" not in done.stdout
    again = json.loads((tmp_path / "again.json").read_text())
    assert again["runtimes"]["xnnpack"]["images"] == 20
    assert {"commit", "date", "machine"} == set(again["provenance"])
    refused = called(capsys, parity.main, f"--workdir={workdir}", "--kernels=gpu")
    assert refused.returncode == 2 and "kernels is 'gpu'; use one of xnnpack" in refused.stderr


def test_a_finished_run_can_be_brought_into_the_results(finished, metrics, tmp_path):
    _, workdir, _ = finished
    stamp = provenance.provenance()
    bring_in(workdir, tmp_path / "results", stamp)
    brought = json.loads((tmp_path / "results" / "metrics.json").read_text())
    assert brought == {"provenance": stamp} | metrics
    copied = BitSelection.load(tmp_path / "results" / "bit_selection.json")
    assert copied == BitSelection.load(workdir / "bit_selection.json")


def test_a_folder_that_is_no_workdir_cannot_be_opened(tmp_path):
    with pytest.raises(RecipeError, match=r"not a finished workdir: run\.flags, fixed_model\.keras"):
        open_workdir(tmp_path / "nowhere")


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
    assert any("the 0 steps of weight training that move running statistics: 100%" in w for w in warnings)
