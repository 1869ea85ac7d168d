"""benchmarks.device_budget and benchmarks.device_tables: what runs differ in, and what is compared."""

import json
import pathlib

import pytest

from benchmarks import device_budget, device_tables
from mmx_tf.recipe.recipe import Recipe


@pytest.fixture
def options(good, tmp_path):
    """The options of a command line, as the runs' flags are made of them."""
    options = device_budget.parsed([f"--float_model={good}", f"--workdir={tmp_path}", "--seeds=3"])
    assert options.workdir == pathlib.Path(tmp_path)
    return options


def test_runs_differ_in_how_weights_get_their_bits_alone(options):
    recipes = {
        way: Recipe.from_flagfile("\n".join(device_budget.flags_of(options, way, 3)))
        for way in device_budget.WAYS
    }
    for recipe in recipes.values():
        recipe.validate()
    differing = {said.split()[0] for said in recipes["searched"].differences(recipes["uniform"])}
    of_bits = {"--weight_bits", "--selection", "--uniform_bits"}
    assert differing == of_bits | {"--target_flash", "--target_average_bits"}
    assert recipes["searched"].target_flash == 300_000 and recipes["searched"].weight_bits == (8, 4, 2)
    assert recipes["uniform"].weight_bits == 3 and recipes["uniform"].candidate_bits == (8,)


def written(folder, flash, top1, budget=None):
    """A finished workdir, as far as the benchmark reads it."""
    folder.mkdir()
    layer = {"searched": True, "weight_bits": 4}
    layers = [layer, layer | {"weight_bits": 8}, layer, layer | {"searched": False}]
    budgets = {"target_flash": {"figure": flash, "target": budget, "met": flash <= budget}} if budget else {}
    device = {"figures": {"device_flash_bytes": flash}, "budgets": budgets}
    metrics = {"tflite_top1": top1, "device": device, "seconds": {}}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "bit_selection.json").write_text(json.dumps({"layers": layers}))
    return device_budget.result_of(folder)


def test_a_seed_says_whether_the_budget_is_met_and_the_comparison_fair(tmp_path):
    searched = written(tmp_path / "searched", 290_000, 0.75, budget=300_000)
    assert searched["layers_by_weight_bits"] == {8: 1, 4: 2}
    uniform = written(tmp_path / "uniform", 310_000, 0.625)
    assert device_budget.compared(searched, uniform) == {
        "flash_bytes": {"searched": 290_000, "uniform": 310_000},
        "top1": {"searched": 0.75, "uniform": 0.625},
        "gain": 0.125,
        "met": True,
        "fair": True,
    }
    smaller = written(tmp_path / "smaller", 289_999, 0.75)
    beyond = written(tmp_path / "beyond", 290_000, 0.75, budget=289_000)
    found = device_budget.compared(beyond, smaller)
    assert (found["gain"], found["met"], found["fair"]) == (0.0, False, False)


def test_a_table_is_compared_with_whole_files_of_one_pair_and_of_random_ones():
    choices = device_tables.choices_of([(8, 8), (8, 4), (2, 8), (2, 4)], 5, random=3)
    assert list(choices) == ["w8a8", "w8a4", "w2a8", "w2a4", "random_0", "random_1", "random_2"]
    assert choices["w2a8"] == [2] * 5
    drawn = [choices[f"random_{number}"] for number in range(3)]
    assert all(len(draw) == 5 and set(draw) <= set(range(4)) for draw in drawn)
    assert len({tuple(draw) for draw in drawn}) == 3
    assert device_tables.row(3.0, 4.0) == {"table": 3.0, "figure": 4.0, "ratio": 0.75}
