"""Baselines of a run: made beside it, added to a finished one, resumed, and left out where they cannot be."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import warm_starts
from ai_edge_quantizer import quantizer
from listening import logged
from workdirs import facts_of, forget

import mmx_tf
from benchmarks import reliability
from mmx_tf.budget.bops import LayerCost
from mmx_tf.budget.budget import Budget
from mmx_tf.layers.quantizers.activation import ActivationQuantizer
from mmx_tf.recipe.recipe import Recipe
from mmx_tf.run import baselines, finished
from mmx_tf.run.baselines import uniform_pair
from mmx_tf.run.pipeline import run
from mmx_tf.workdir import checkpoints

IMAGES = 64
FACTS = {"quality", "bops", "file_bytes", "file_sha256", "microcontroller"}


def recipe_of(float_file, workdir, *more) -> Recipe:
    lines = [
        f"--float_model={float_file}", "--image_size=16", "--batch_size=64", "--steps_per_epoch=4",
        "--train_epochs=2", f"--eval_images={IMAGES}", "--target_average_bits=4.5", "--parity_images=8",
        "--learning_rate=0.002", "--keep_checkpoints=5", f"--workdir={workdir}",
        # A search of four steps may end with one bit-width everywhere, which is no baseline of itself.
        "--selection=random", *more,
    ]  # fmt: skip
    recipe = Recipe.from_flagfile("\n".join(lines))
    recipe.validate()
    return recipe


def metrics_in(workdir: Path) -> dict:
    return json.loads((workdir / "metrics.json").read_text())


def times(folder: Path) -> dict:
    return {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file() and p.name != "run.lock"}


@pytest.fixture(scope="module")
def whole(float_file, tmp_path_factory):
    """(workdir, what was said) of a run that was finished with int8, and then given both baselines."""
    workdir = tmp_path_factory.mktemp("runs") / "run"
    first = run(recipe_of(float_file, workdir, "--baselines=int8"))
    assert set(first["baselines"]) == {"int8"} and set(first["latency"]["median_ms"]) == {"tflite", "int8"}
    before = times(workdir)
    with logged(0) as said:
        run(recipe_of(float_file, workdir, "--baselines=int8,uniform"))
    after = times(workdir)
    for name in ("model.tflite", "fixed_model.keras", "parity.json", "baselines/int8/model.tflite"):
        assert before[workdir / name] == after[workdir / name], name
    return workdir, said


@pytest.mark.slow
def test_a_finished_run_is_given_what_is_new_alone(whole):
    workdir, said = whole
    assert [line for line in said if "epochs" in line and line.startswith(("select", "train"))] == [
        "train: epochs 1 to 2"
    ]
    metrics = metrics_in(workdir)
    assert set(metrics["baselines"]) == {"int8", "uniform"}
    assert set(metrics["latency"]["median_ms"]) == {"tflite", "int8", "uniform"}
    assert {"baseline int8", "baseline uniform"} <= set(metrics["seconds"])
    page = (workdir / "report.html").read_text()
    assert "What it is worth" in page and "4 bits everywhere" in page.replace("&#39;", "'")


@pytest.mark.slow
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_its_report_in_a_browser(whole, browser, width, dark):
    """A page with every section: baselines, reasons, parity, microcontroller, curves."""
    browser.open(whole[0] / "report.html", width, dark=dark)
    assert browser.problems() == []
    head = browser.ask("return document.querySelector('.answers').textContent")
    assert "What it gains over plain int8" in head
    figures = browser.ask("return document.querySelectorAll('figure figcaption').length")
    assert figures == browser.ask("return document.images.length") >= 5


@pytest.mark.slow
def test_figures_of_the_baselines(whole):
    workdir, _ = whole
    metrics = metrics_in(workdir)
    int8, uniform = metrics["baselines"]["int8"], metrics["baselines"]["uniform"]
    assert set(int8) == FACTS and set(uniform) == FACTS | {"activation_bits", "weight_bits"}
    selection = json.loads((workdir / "bit_selection.json").read_text())
    macs = {layer["name"]: layer["macs"] for layer in selection["layers"]}
    ends = macs["stem"] + macs["logits"]
    assert int8["bops"] == 64 * sum(macs.values())
    # The budget is 4.5 bits on average, so 4 is what fits of 8, 4 and 3.
    assert (uniform["activation_bits"], uniform["weight_bits"]) == (4, 4)
    assert uniform["bops"] == 64 * ends + 16 * (sum(macs.values()) - ends) <= metrics["target_bops"]
    for name, facts in metrics["baselines"].items():
        content = (workdir / "baselines" / name / "model.tflite").read_bytes()
        assert facts["file_bytes"] == len(content)
        assert facts["quality"]["accuracy"] > 0.3  # guessing: 0.1
        assert facts["microcontroller"]["int8"]["ram_bytes"] > 0
    assert metrics["comparison"]["reference"] == "int8"
    assert metrics["comparison"]["files"]["tflite"]["ratios"]["bops"] == metrics["bops"] / int8["bops"]


@pytest.mark.slow
def test_the_uniform_network_is_trained_from_the_same_start_on_the_same_batches(whole):
    """Its first checkpoint has the weights of the run's own first one, and the step sizes of its branch."""
    workdir, _ = whole
    folders = (workdir, workdir / "baselines" / "uniform")
    assert all(checkpoints.numbers(f / "checkpoints" / "train") == [0, 4, 8] for f in folders)

    def started(folder):
        reader = tf.train.load_checkpoint(str(folder / "checkpoints" / "train" / "ckpt-0" / "variables"))
        return {
            name: reader.get_tensor(name)
            for name in reader.get_variable_to_shape_map()
            if name.startswith("model/") and "OPTIMIZER_SLOT" not in name
        }

    own, uniform = map(started, folders)
    assert own.keys() == uniform.keys() and len(own) > 20
    differing = {name for name in own if not np.array_equal(own[name], uniform[name])}
    assert differing and all("step_size" in name for name in differing)
    fixed = mmx_tf.load_model(folders[1] / "fixed_model.keras")
    bits = [q.bits for q in fixed.layers if isinstance(q, ActivationQuantizer) and "input" in q.name]
    assert bits.count(4) == 3


@pytest.mark.slow
def test_the_uniform_folder_is_a_workdir_that_can_be_verified(whole):
    folded, data, evaluation = finished.open_workdir(whole[0] / "baselines" / "uniform")
    report = mmx_tf.verify(folded, data, evaluation)
    assert report.code_disagreement == 0.0
    assert report.tflite_top1 == metrics_in(whole[0])["baselines"]["uniform"]["quality"]["accuracy"]


@pytest.mark.slow
def test_the_same_command_on_it_does_nothing(whole, float_file, capsys):
    workdir, _ = whole
    before = times(workdir)
    # Baselines that are there stay, also where the flag no longer asks for them.
    for flag in ("--baselines=int8,uniform", "--baselines="):
        with logged(0) as said:
            metrics = run(recipe_of(float_file, workdir, flag))
        assert any("is finished; nothing is done again" in line for line in said)
        assert metrics == metrics_in(workdir)
    unchanged = {p: t for p, t in times(workdir).items() if p.name != "run.flags"}
    assert unchanged == {p: t for p, t in before.items() if p.name != "run.flags"}
    printed = capsys.readouterr().out
    assert printed.startswith(" ") and "Plain int8" in printed.splitlines()[0]
    assert printed.rstrip().endswith("report.html")


@pytest.mark.slow
def test_what_a_kill_left_is_taken_up(whole, float_file, tmp_path):
    """Killed in the second epoch of the uniform network's training: the rest is that epoch."""
    workdir = tmp_path / "run"
    shutil.copytree(whole[0], workdir)
    uniform = workdir / "baselines" / "uniform"
    for name in ("facts.json", "fixed_model.keras", "model.tflite", "bit_selection.json"):
        (uniform / name).unlink()
    shutil.rmtree(uniform / "checkpoints" / "train" / "ckpt-8")
    for name in ("metrics.json", "report.html"):
        (workdir / name).unlink()
    forget(workdir, "results")
    with logged(0) as said:
        metrics = run(recipe_of(float_file, workdir, "--baselines=int8,uniform"))
    trained = [line for line in said if line.startswith(("select: epochs", "train: epochs"))]
    assert trained == ["train: epochs 2 to 2"]
    before = metrics_in(whole[0])
    assert metrics["baselines"]["int8"] == before["baselines"]["int8"]
    assert metrics["baselines"]["uniform"]["bops"] == before["baselines"]["uniform"]["bops"]
    assert facts_of(workdir)["results"].keys() >= {"metrics.json", "report.html"}


@pytest.mark.slow
def test_a_damaged_baseline_is_made_again(whole, float_file, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(whole[0], workdir)
    path = workdir / "baselines" / "int8" / "model.tflite"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"?")
    for name in ("metrics.json", "report.html"):
        (workdir / name).unlink()
    metrics = run(recipe_of(float_file, workdir, "--baselines=int8,uniform"))
    assert len(path.read_bytes()) == metrics["baselines"]["int8"]["file_bytes"] == len(content)
    assert path.read_bytes() != content[:-1] + b"?"


@pytest.mark.slow
def test_a_baseline_that_cannot_be_made_is_told_in_a_sentence(whole, float_file, tmp_path, monkeypatch):
    workdir = tmp_path / "run"
    shutil.copytree(whole[0], workdir)
    shutil.rmtree(workdir / "baselines" / "int8")
    for name in ("metrics.json", "report.html"):
        (workdir / name).unlink()

    def refuse(*_):
        raise RuntimeError("operator GATHER_ND\nis not supported")

    monkeypatch.setattr(quantizer.Quantizer, "calibrate", refuse)
    with logged() as warnings:
        metrics = run(recipe_of(float_file, workdir, "--baselines=int8,uniform"))
    sentence = (
        "there is no int8 baseline: AI Edge Quantizer cannot make this network int8 (operator GATHER_ND is "
        "not supported)."
    )
    assert sentence in warnings
    assert metrics["baselines"]["int8"] == {"refused": sentence}
    assert metrics["comparison"]["reference"] == "uniform"
    assert sentence[1:] in (workdir / "report.html").read_text()


@pytest.mark.slow
def test_a_selection_that_is_uniform_is_its_own_baseline(float_file, tmp_path):
    flags = ("--selection=uniform", "--uniform_bits=4", "--baselines=uniform", "--train_epochs=1")
    metrics = run(recipe_of(float_file, tmp_path / "run", *flags))
    assert metrics["baselines"]["uniform"]["refused"] == (
        "there is no uniform baseline: the run's own bits are the same everywhere, 4-bit activations and "
        "4-bit weights."
    )
    assert "latency" not in metrics and metrics["comparison"]["reference"] is None


@pytest.mark.parametrize(
    ("weight_bits", "limit", "pair"),
    [
        # Ends: 2 * 10 * 64 = 1280; 100 MACs at 4-bit weights: 400 a bit.
        (4, 1280 + 3200, (4, 8)),
        (4, 1280 + 3199, (4, 4)),
        (4, 1280 + 1600, (4, 4)),
        (4, 1280 + 1599, (4, 3)),
        (4, 0, (4, 3)),
        # 1600 is 4 * 4 and 2 * 8; 2400 is 8 * 3.
        ((8, 4, 2), 1280 + 1600, (4, 4)),
        ((8, 4, 2), 1280 + 2500, (8, 3)),
    ],
)
def test_the_uniform_bits_are_those_closest_below_the_budget(weight_bits, limit, pair):
    costs = tuple(
        LayerCost(name=name, kind="conv", macs=macs, weights=macs, input_elements=1, end=name != "b")
        for name, macs in (("a", 10), ("b", 100), ("c", 10))
    )
    budget = Budget(costs, (8, 4, 3), weight_bits, 8)
    assert budget.pairs[uniform_pair(budget, limit)] == pair


def test_baselines_are_those_of_the_flag():
    assert set(baselines.choices.BASELINES) == {"int8", "uniform"}
    with pytest.raises(mmx_tf.errors.RecipeError, match="empty, or one or more of int8, uniform"):
        Recipe.from_flagfile("--baselines=int8,int4\n--float_epochs=1\n--workdir=x\n").validate()
    with pytest.raises(mmx_tf.errors.RecipeError, match="--baselines=int8,int8 is not allowed"):
        Recipe.from_flagfile("--baselines=int8,int8\n--float_epochs=1\n--workdir=x\n").validate()


@pytest.mark.slow
def test_a_run_that_is_killed_in_the_uniform_training_ends_with_the_same_bytes(tmp_path):
    float_file = tmp_path / "float.keras"
    reliability.save_float_network(float_file)

    def words(name):
        arguments = reliability.arguments(float_file, tmp_path / name)
        return [*arguments, "--baselines=uniform", reliability.EVERY_STEP]

    reliability.finish(words("left_alone"))
    point = reliability.Point("baseline", ("train", 3), 0.0)
    uniform = tmp_path / "killed" / "baselines" / "uniform"
    killed = reliability.kill_at(point, words("killed"), uniform, start=warm_starts.Program)
    assert killed is not None
    assert not (uniform / "fixed_model.keras").exists()
    done = warm_starts.finished(words("killed"))
    assert done.returncode == 0, done.stderr
    said = done.stderr
    assert "select: epochs" not in said and said.count("train: epochs") == 1
    for name in ("model.tflite", "baselines/uniform/model.tflite", "baselines/uniform/facts.json"):
        left_alone, killed = (tmp_path / run / name for run in ("left_alone", "killed"))
        assert left_alone.read_bytes() == killed.read_bytes(), name
