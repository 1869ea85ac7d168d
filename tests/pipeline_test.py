"""A whole run of the command line: what it leaves, what it prints, and what it refuses afterwards."""

import hashlib
import json
import logging
import re

import numpy as np
import pytest
from commands import called, train_main
from listening import logged
from pipeline_run import EVAL_IMAGES, METRICS, again, contents, finished_run, recipe_of

from benchmarks.provenance import bring_in
from mmx_tf.errors import RecipeError
from mmx_tf.export import parity, provenance
from mmx_tf.export.running import litert
from mmx_tf.metamix.selection import BitSelection
from mmx_tf.recipe.recipe import Recipe
from mmx_tf.run.finished import open_workdir
from mmx_tf.run.pipeline import run
from mmx_tf.workdir import checkpoints

# MACs of tests/networks.py's network on 16x16 pixels, worked out by hand.
MACS = {"stem": 3456, "depthwise": 3456, "project": 2304, "expand": 3072, "logits": 80}


ENDS = ("stem", "logits")


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


def test_another_flag_is_refused_in_a_finished_workdir(finished, float_file):
    _, workdir, _ = finished
    before = contents(workdir)
    with pytest.raises(RecipeError, match="--train_epochs is 3 here and 2 there"):
        run(recipe_of(float_file, workdir, "--train_epochs=3"))
    assert contents(workdir) == before


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
