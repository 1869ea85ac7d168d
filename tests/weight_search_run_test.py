"""Whole runs that search weight bits: a budget in bytes, a kill, several budgets, given selections."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf
import warm_starts
from ablations_test import recipe_of
from workdirs import forget

import mmx_tf
from mmx_tf.data.dataset import PIXEL_SCALING
from mmx_tf.errors import RecipeError
from mmx_tf.metamix.file_bytes import costs_in_bytes
from mmx_tf.recipe.recipe import Recipe
from mmx_tf.run.given_selection import random_choice
from mmx_tf.run.pipeline import run
from mmx_tf.workdir import checkpoints

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
STORAGE = "int4_xnnpack"
WEIGHTS = (8, 4, 2)
# MACs: ends 3536 at 8x8 bits, searched 8832.
ENDS, SEARCHED = 3536 * 64, 8832


@pytest.fixture(scope="module")
def target(float_file, digits):
    """Bytes of the smallest file, and 20 more: of 18 and 24, one pointwise layer may have 8-bit weights."""
    network = mmx_tf.load_model(float_file)
    search = mmx_tf.augment(network, weight_bits=WEIGHTS, pixel_scaling=PIXEL_SCALING)
    options = {"weight_storage": STORAGE, "labels": digits.class_names}
    low, high = costs_in_bytes(search, options).reachable
    assert high == low + 42
    return low + 20


def arguments(float_file, workdir, target) -> list[str]:
    return [
        f"--float_model={float_file}", "--image_size=16", "--batch_size=32", "--steps_per_epoch=3",
        "--train_epochs=1", "--learning_rate=0.002", "--eval_images=64", "--parity_images=8",
        "--weight_bits=8,4,2", f"--target_bytes={target}", f"--weight_storage={STORAGE}", "--deterministic",
        "--checkpoint_minutes=0.000001", "--keep_checkpoints=100", f"--workdir={workdir}",
    ]  # fmt: skip


def trained_by_command(words) -> None:
    with pytest.MonkeyPatch.context() as patch:
        # --deterministic starts the program anew where oneDNN is on; here it is off from the beginning.
        patch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
        command = [sys.executable, "-m", "mmx_tf.train", *words]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def finished(float_file, target, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("bytes") / "run"
    trained_by_command(arguments(float_file, workdir, target))
    return workdir


def document(workdir, name) -> dict:
    return json.loads((workdir / name).read_text())


def test_a_run_meets_its_budget_in_bytes(finished, target):
    selection, metrics = document(finished, "bit_selection.json"), document(finished, "metrics.json")
    cost = metrics["cost"]
    assert cost == selection["cost"] and cost["unit"] == "bytes"
    assert metrics["file_bytes"] == (finished / "model.tflite").stat().st_size
    assert 0.93 * cost["value"] <= metrics["file_bytes"] <= cost["value"] <= cost["target"] == target
    searched = [layer for layer in selection["layers"] if layer["searched"]]
    assert selection["weight_bit_widths"] == [8, 4, 2]
    assert {layer["weight_bits"] for layer in searched} <= set(WEIGHTS)
    assert searched[-1]["weight_bits"] < 8  # 24 bytes are more than the 20
    assert metrics["code_disagreement"] == 0.0 and metrics["tensor_codes_differing"] == 0
    page = (finished / "report.html").read_text()
    assert f"of a budget of {target:,}" in page and "entropy of alpha of the weight bits" in page


def test_its_flags_replay_it(finished, target):
    made = Recipe.from_flagfile((finished / "run.flags").read_text())
    made.validate()
    assert (made.weight_bits, made.target_bytes, made.target_average_bits) == (WEIGHTS, target, 0.0)
    assert made.to_flagfile() == (finished / "run.flags").read_text()


def test_a_run_that_was_killed_in_the_search_ends_as_if_it_had_not_been(
    finished, float_file, target, tmp_path
):
    workdir = tmp_path / "killed"
    shutil.copytree(finished, workdir)
    # After the second of the three steps of the epoch with bit-search steps.
    for path in [*workdir.glob("*.*"), workdir / "checkpoints" / "train"]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    folder = workdir / "checkpoints" / "select"
    assert checkpoints.numbers(folder) == [0, 1, 2, 3, 4, 5, 6]
    shutil.rmtree(folder / "ckpt-6")
    names = [name for name, _ in tf.train.list_variables(str(folder / "ckpt-5" / "variables"))]
    assert any("weight_quantizers" in name and "step_sizes" in name for name in names)
    shutil.copy(finished / "run.flags", workdir / "run.flags")
    words = arguments(float_file, workdir, target)
    flags = Recipe.from_flagfile("\n".join(words))
    (workdir / "run.flags").write_text(flags.to_flagfile())
    forget(workdir, "results")
    done = warm_starts.finished(["-m", "mmx_tf.train", *words])
    assert done.returncode == 0, done.stderr
    for name in ("bit_selection.json", "model.tflite"):
        assert (workdir / name).read_bytes() == (finished / name).read_bytes()


def of(workdir, float_file, *more) -> Recipe:
    return recipe_of(workdir, float_file, "--target_average_bits=0", "--weight_bits=8,4,2", *more)


@pytest.fixture(scope="module")
def two_targets(float_file, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("targets") / "run"
    bops = (ENDS + SEARCHED * 8, ENDS + SEARCHED * 24)
    storage = "--weight_storage=int4"
    front = run(of(workdir, float_file, f"--target_bops={','.join(map(str, bops))}", storage))
    return workdir, bops, front


def test_each_of_several_targets_has_weight_bits_of_its_own(two_targets):
    workdir, bops, front = two_targets
    assert [target["target_bops"] for target in front["targets"]] == list(bops)
    for target in front["targets"]:
        selection = document(workdir / target["folder"], "bit_selection.json")
        assert selection["bops"] == target["bops"] <= target["target_bops"]
        assert selection["weight_bit_widths"] == [8, 4, 2]
    # 8 bits squared on average need weights of fewer than 8.
    low = document(workdir / front["targets"][0]["folder"], "bit_selection.json")
    assert min(layer["weight_bits"] for layer in low["layers"]) < 8


def test_both_bits_of_a_file_can_be_taken(two_targets, float_file, tmp_path):
    workdir, bops, front = two_targets
    path = workdir / front["targets"][0]["folder"] / "bit_selection.json"
    run(of(tmp_path / "run", float_file, f"--bit_selection={path}", f"--target_bops={bops[0]}"))
    assert document(tmp_path / "run", "bit_selection.json") == json.loads(path.read_text())
    fewer = of(
        tmp_path / "fewer", float_file, f"--bit_selection={path}", "--weight_bits=8,7", "--target_bops=700K"
    )
    with pytest.raises(RecipeError, match=r"weight_bits \d is not among \(8, 7\)"):
        run(fewer)


def test_a_run_with_random_pairs(float_file, tmp_path):
    metrics = run(of(tmp_path / "run", float_file, "--selection=random", "--seed=5", "--target_bops=400K"))
    budget = mmx_tf.augment(mmx_tf.load_model(float_file), weight_bits=WEIGHTS, target_bops=400_000).budget
    pairs = [budget.pairs[index] for index in random_choice(budget, 5)]
    layers = document(tmp_path / "run", "bit_selection.json")["layers"]
    assert [(layer["weight_bits"], layer["activation_bits"]) for layer in layers[1:-1]] == pairs
    assert 0.8 * 400_000 <= metrics["bops"] <= 400_000
