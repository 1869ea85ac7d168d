"""Costs other than BOPs: the table's format, and what search and repair make of it, by hand."""

import json

import numpy as np
import pytest
import tensorflow as tf
from networks import pretrained, small_network

import mmx_tf
from mmx_tf.budget.budget import Budget, UnreachableBudgetError
from mmx_tf.budget.repair import repaired
from mmx_tf.errors import RecipeError
from mmx_tf.metamix.selection import BitSelection, SelectedCost
from mmx_tf.recipe import cost_table
from mmx_tf.recipe.budgets.target_average_bits import average_bits_costs
from mmx_tf.recipe.candidate_costs import CandidateCosts
from mmx_tf.recipe.cost_table import CostTableError
from mmx_tf.recipe.recipe import Recipe
from mmx_tf.run.pipeline import run
from tests import alphas

BITS = (8, 4, 3)
# 3 bits are no faster than 4 in the second layer, and slower than 8 in the third.
TABLE = {
    "unit": "us",
    "fixed": 5.0,
    "layers": {
        "depthwise": {"8": 10.0, "4": 6.0, "3": 4.0},
        "project": {"8": 8, "4": 3, "3": 3, "2": 1},
        "expand": {"8": 2.0, "4": 1.0, "3": 2.5},
    },
}
ROWS = ((10.0, 6.0, 4.0), (8, 3, 3), (2.0, 1.0, 2.5))
NAMES = tuple(TABLE["layers"])
PAIRS = [(4, bits) for bits in BITS]


def changed(**changes):
    return {key: value for key, value in {**TABLE, **changes}.items() if value is not ...}


def with_layer(name, costs):
    layers = {**TABLE["layers"], name: costs}
    return changed(layers={key: value for key, value in layers.items() if value is not ...})


def search(**options):
    return mmx_tf.augment(small_network(), bit_widths=BITS, **options)


def test_a_table_and_its_file_are_read(tmp_path):
    (tmp_path / "costs.json").write_text(json.dumps(TABLE))
    expected = CandidateCosts("us", ROWS, 5.0)
    for source in (TABLE, tmp_path / "costs.json", str(tmp_path / "costs.json")):
        assert cost_table.read(source, layers=NAMES, pairs=PAIRS) == expected
    assert cost_table.read(changed(fixed=...), layers=NAMES, pairs=[(4, 3), (4, 8)]).table[0] == (4.0, 10.0)
    assert expected.of([0, 1, 2]) == 5 + 10 + 3 + 2.5
    assert expected.reachable == (5 + 4 + 3 + 1, 5 + 10 + 8 + 2.5)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (with_layer("project", ...), "layer 'project' is missing"),
        (with_layer("stem", {"8": 1}), "layer 'stem' is no searched layer"),
        (with_layer("expand", {"8": 1, "3": 1}), "layer 'expand' has no cost at 4 bits"),
        (with_layer("expand", {"8": 1, "4": -1, "3": 1}), "'expand' at 4 bits costs -1, no number >= 0"),
        (with_layer("expand", {"8": 1, "4": "1", "3": 1}), "'expand' at 4 bits costs '1'"),
        (with_layer("expand", {"8": 1, "4": float("nan"), "3": 1}), "'expand' at 4 bits costs nan"),
        (with_layer("expand", 3), "layer 'expand' is no object"),
        (changed(unit=...), "'unit' is no name"),
        (changed(fixed="1"), "fixed is '1'"),
        (changed(colour=1), "unknown key 'colour'"),
        (changed(layers=[1]), "a table is a JSON object with 'unit' and 'layers'"),
    ],
)
def test_what_does_not_fit_is_named(table, message):
    with pytest.raises(CostTableError, match=f"the cost table does not fit: .*{message}"):
        search(cost_table=table, target_cost=20)


def test_a_file_that_is_no_json_is_named(tmp_path):
    (tmp_path / "mine.json").write_text("{")
    for name in ("mine.json", "none.json"):
        with pytest.raises(CostTableError, match=f"{name} cannot be read as a cost table"):
            search(cost_table=tmp_path / name, target_cost=20)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cost_table": TABLE}, "cost_table=.* without target_cost: they belong together"),
        ({"target_cost": 20}, "target_cost=20 without cost_table: they belong together"),
        ({"cost_table": TABLE, "target_cost": 0}, "target_cost=0: a number above 0"),
        ({"target_average_bits": 4, "average_bits_weighting": "time"}, "'time': one of 'operations', 'ele"),
    ],
)
def test_budgets_that_make_no_search_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        search(**options)


def test_a_target_out_of_reach_is_refused_with_the_range():
    with pytest.raises(UnreachableBudgetError, match="12 us is out of reach: .* takes 13 to 25.5 us"):
        search(cost_table=TABLE, target_cost=12)


def test_regularizer_and_gradient_by_hand():
    """Zero alphas choose 8 bits: 25 us. The gradient is 1/3 of a cost less the mean of the layer's costs."""
    found = search(cost_table=TABLE, target_cost=20)
    with tf.GradientTape() as tape:
        gap = found.regularizer()
    assert float(gap) == pytest.approx((25 - 20) / 20)
    for row, gradient in zip(ROWS, tape.gradient(gap, found.alpha)[0], strict=True):
        np.testing.assert_allclose(gradient, (np.array(row) - np.mean(row)) / 3 / 20, rtol=1e-5)
    # At 3 bits in every layer, 14.5 us, the gap is below the target, and the gradient turns.
    alphas.set_rows(found, [0.0, 0.0, 1e-7])
    with tf.GradientTape() as tape:
        gap = found.regularizer()
    assert float(gap) == pytest.approx((20 - 14.5) / 20)
    np.testing.assert_allclose(
        tape.gradient(gap, found.alpha)[0, 0], -(np.array(ROWS[0]) - 20 / 3) / 3 / 20, rtol=1e-5
    )


ALPHAS = np.array([[1.0, 0.5, 0.1], [0.4, 0.2, 0.3], [0.2, 0.15, 0.19]])


@pytest.mark.parametrize(
    ("target", "choice"),
    [
        (25, [0, 0, 0]),
        # expand 8 -> 4 gives up .05, project 8 -> 3 .1; expand 8 -> 3 and project 4 -> 3 save nothing.
        (24, [0, 0, 1]),
        # project alone, and expand stays.
        (23, [0, 2, 0]),
        (15, [1, 2, 1]),
        (13, [2, 2, 1]),
    ],
)
def test_the_repair_counts_the_table(target, choice):
    costs = search().budget.costs
    budget = Budget(costs, BITS, 4, 8, others=((CandidateCosts("us", ROWS, 5.0), target),))
    assert repaired(budget, ALPHAS, [0, 0, 0])[0] == choice


@pytest.mark.parametrize(
    ("weighting", "weights"),
    # MACs by hand: 8*8*6*9, 8*8*6*6, 8*8*6*8; every input has 8*8*6 elements.
    [("operations", (3456, 2304, 3072)), ("elements", (384, 384, 384)), ("plain", (1, 1, 1))],
)
def test_average_bits_by_hand(weighting, weights):
    costs = average_bits_costs(search().budget.costs, BITS, weighting)
    expected = np.outer(weights, BITS) / sum(weights)
    np.testing.assert_allclose(costs.table, expected, rtol=1e-12)
    assert costs.of([0, 1, 2]) == pytest.approx(np.average([8, 4, 3], weights=weights))


@pytest.mark.parametrize(("weighting", "key"), [("elements", "by_elements"), ("plain", "plain")])
def test_a_selection_meets_its_average(weighting, key):
    found = search(target_average_bits=4.4, average_bits_weighting=weighting)
    alphas.set_rows(found, [0.2, 0.1, 0.0])
    selection = found.bit_selection()
    assert selection.target_bops is None
    assert selection.cost.value == pytest.approx(selection.average_bits[key]) and selection.cost.value <= 4.4
    assert selection.cost.target == 4.4 and selection.cost.unit.startswith("bits on average")


def test_operations_stay_a_budget_in_bops():
    by_default, named = (
        search(target_average_bits=4.4, **more).budget
        for more in ({}, {"average_bits_weighting": "operations"})
    )
    assert by_default == named and by_default.others == ()
    assert by_default.target_bops == 3536 * 64 + round(8832 * 4 * 4.4)


def test_search_and_selection_survive_their_files(tmp_path):
    found = search(cost_table=TABLE, target_cost=20)
    selection = found.bit_selection()
    assert selection.cost.value <= 20 and selection.cost.unit == "us"
    selection.save(tmp_path / "bits.json")
    assert BitSelection.load(tmp_path / "bits.json") == selection
    assert json.loads((tmp_path / "bits.json").read_text())["cost"]["target"] == 20
    found.save(tmp_path / "search.keras")
    loaded = mmx_tf.load_model(tmp_path / "search.keras")
    assert loaded.budget == found.budget and loaded.bit_selection() == selection


def recipe(*arguments):
    return Recipe.from_flagfile("\n".join(["--workdir=runs/x", "--float_epochs=1", *arguments]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target_cost=3"], "--target_cost=3.0 without --cost_table: they belong together"),
        (["--target_cost=3", "--cost_table=none.json"], "--cost_table=none.json is not allowed"),
        (["--target_cost=-1"], "--target_cost=-1"),
        (["--target_bops=1G", "--average_bits_weighting=plain"], "--average_bits_weighting=plain"),
        (["--average_bits_weighting=time"], "operations, elements, plain"),
    ],
)
def test_flags_that_make_no_run_are_named(arguments, message):
    with pytest.raises(RecipeError, match=message):
        recipe(*arguments).validate()


@pytest.mark.slow
def test_a_run_with_a_cost_table(digits, tmp_path):
    pretrained(digits).save(tmp_path / "float.keras")
    table = tmp_path / "costs.json"
    table.write_text(json.dumps(TABLE))
    made = recipe(
        f"--float_model={tmp_path / 'float.keras'}", "--image_size=16", "--batch_size=64",
        "--steps_per_epoch=3", "--train_epochs=1", "--eval_images=64", "--parity_images=8",
        "--learning_rate=0.002", f"--cost_table={table}", "--target_cost=15", f"--workdir={tmp_path / 'run'}",
    )  # fmt: skip
    made.validate()
    assert Recipe.from_flagfile(made.to_flagfile()) == made
    metrics = run(made)
    selection = BitSelection.load(tmp_path / "run" / "bit_selection.json")
    chosen = [BITS.index(layer.activation_bits) for layer in selection.layers if layer.searched]
    value = 5 + sum(row[branch] for row, branch in zip(ROWS, chosen, strict=True))
    assert selection.cost == SelectedCost("us", value, 15.0) and value <= 15
    assert metrics["cost"] == {"unit": "us", "value": value, "target": 15.0}
    assert metrics["target_bops"] is None and metrics["bops"] == selection.bops
    assert f"it takes {value:.4g} us of a budget of 15" in (tmp_path / "run" / "report.html").read_text()
    table.write_text(json.dumps(changed(fixed=6.0)))
    said = "--cost_table=.*: the file is not what this run began with: .* is kept as .*cost_table.json"
    with pytest.raises(RecipeError, match=said):
        run(made)
    # As earlier versions left it: the copy alone says what the table was.
    state = tmp_path / "run" / "checkpoints" / "state.json"
    facts = json.loads(state.read_text())
    del facts["inputs"]
    state.write_text(json.dumps(facts))
    with pytest.raises(RecipeError, match=said):
        run(made)
