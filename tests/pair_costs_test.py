"""Cost tables of pairs, weight and activation bits: the format, and what search and repair make of them."""

import json

import numpy as np
import pytest
import tensorflow as tf
from networks import small_network

import mmx_tf
from mmx_tf.budget.budget import Budget
from mmx_tf.budget.repair import repaired
from mmx_tf.recipe import cost_table
from mmx_tf.recipe.candidate_costs import CandidateCosts
from mmx_tf.recipe.cost_table import CostTableError
from tests import alphas

BITS, WEIGHTS = (8, 4), (8, 2)
PAIRS = [(8, 8), (8, 4), (2, 8), (2, 4)]
ROWS = ((10.0, 6.0, 7.0, 4.0), (8, 5, 3, 1), (2.0, 1.0, 1.5, 0.5))
NAMES = ("depthwise", "project", "expand")
KEYS = [f"w{weights}a{activations}" for weights, activations in PAIRS]
TABLE = {
    "unit": "us",
    "fixed": 5.0,
    "layers": {name: dict(zip(KEYS, row, strict=True)) for name, row in zip(NAMES, ROWS, strict=True)},
}
OF_ACTIVATIONS = {"unit": "us", "layers": {name: {"8": 4, "4": 2} for name in NAMES}}


def search(**options):
    return mmx_tf.augment(small_network(), bit_widths=BITS, **{"weight_bits": WEIGHTS, **options})


def with_layer(costs):
    return {**TABLE, "layers": {**TABLE["layers"], "expand": costs}}


def test_a_table_of_pairs_is_read_from_json_and_from_a_dict(tmp_path):
    (tmp_path / "costs.json").write_text(json.dumps(TABLE))
    tuples = {
        **TABLE,
        "layers": {name: dict(zip(PAIRS, row, strict=True)) for name, row in zip(NAMES, ROWS, strict=True)},
    }
    upper = with_layer({key.upper(): cost for key, cost in TABLE["layers"]["expand"].items()})
    for source in (TABLE, tmp_path / "costs.json", tuples, upper):
        assert cost_table.read(source, layers=NAMES, pairs=PAIRS) == CandidateCosts("us", ROWS, 5.0)
    # With one weight bit-width its pairs alone are asked for.
    assert cost_table.read(TABLE, layers=NAMES, pairs=[(2, 4), (2, 8)]).table[0] == (4.0, 7.0)


def test_costs_of_activation_bits_hold_for_all_weight_bits():
    mixed = with_layer({"8": 2, "4": 1})
    assert cost_table.read(mixed, layers=NAMES, pairs=PAIRS).table == (*ROWS[:2], (2, 1, 2, 1))


@pytest.mark.parametrize(
    ("costs", "message"),
    [
        ({"w8a8": 2, "w8a4": 1, "w2a8": 1}, "layer 'expand' has no cost at w2a4"),
        ({"w8a8": 2, "w8a4": 1, "w2a8": 1, "w2a4": -1}, "layer 'expand' at w2a4 costs -1, no number >= 0"),
        ({"w8a8": 2, "8": 1}, r"has costs of pairs \('w8a8'\) and of activation bits alone \('8'\)"),
        ({"w8_a8": 2}, "layer 'expand' has no cost at 8 bits"),
        ({(8, 8): 2, (8, 4, 2): 1}, "layer 'expand' has no cost at w8a4"),
    ],
)
def test_what_does_not_fit_is_named(costs, message):
    with pytest.raises(CostTableError, match=message):
        search(cost_table=with_layer(costs), target_cost=20)


def test_weights_without_a_cost_are_refused_unless_another_budget_counts_them():
    message = r"target_cost=9 with weight_bits \(8, 2\): the cost table has the same costs at all weight bits"
    with pytest.raises(CostTableError, match=message):
        search(cost_table=OF_ACTIVATIONS, target_cost=9)
    budget = search(cost_table=OF_ACTIVATIONS, target_cost=9, target_bops=4e5).budget
    assert budget.others == ((CandidateCosts("us", ((4, 2, 4, 2),) * 3), 9.0),)
    assert [costs.unit for costs, _ in budget.constraints] == ["BOPs", "us"]


def test_regularizer_and_gradient_by_hand_and_in_float64():
    """Zero alphas choose 8 and 8 bits: 25 us. A gradient has the other's hard choice as its factor."""
    found = search(cost_table=TABLE, target_cost=20)
    with tf.GradientTape() as tape:
        gap = found.regularizer()
    assert float(gap) == pytest.approx((25 - 20) / 20)
    rows = alphas.rows(found, tape.gradient(gap, found.alpha))
    for layer, (w8a8, w8a4, w2a8, _) in enumerate(np.float64(ROWS)):
        # d softmax / d alpha at equal alphas: 1/4, -1/4. Each at 8 bits of the other.
        np.testing.assert_allclose(rows[layer], np.array([1, -1]) * (w8a8 - w8a4) / 4 / 20, rtol=1e-5)
        np.testing.assert_allclose(rows[layer + 3], np.array([1, -1]) * (w8a8 - w2a8) / 4 / 20, rtol=1e-5)


def test_the_repair_takes_the_pairs_cost():
    layers = search(target_bops=4e5).budget.costs

    def chosen(target):
        budget = Budget(layers, BITS, WEIGHTS, 8, others=((CandidateCosts("us", ROWS, 5.0), target),))
        own = np.array([[0.5, 0.0], [0.3, 0.0], [0.2, 0.0]])
        of_weights = np.array([[0.4, 0.0], [0.35, 0.0], [0.1, 0.0]])
        return repaired(budget, own, [0, 0, 0], of_weights)[0]

    assert chosen(25) == [0, 0, 0]
    # 8 -> 2 weight bits of expand saves .5 for .1, which is enough for 24.5 alone.
    assert chosen(24.5) == [0, 0, 2]
    # project: 8 -> 4 saves 3 for .3, 8 -> 2 weight bits 5 for .35.
    assert chosen(22) == [0, 1, 0]
    assert chosen(21) == [0, 2, 0]


def test_the_selection_has_the_cost_of_its_pairs():
    found = search(cost_table=TABLE, target_cost=15)
    found.alpha.assign(np.random.default_rng(2).normal(size=found.alpha.shape))
    selection = found.bit_selection()
    pairs = [(layer.weight_bits, layer.activation_bits) for layer in selection.layers if layer.searched]
    value = 5 + sum(row[PAIRS.index(pair)] for row, pair in zip(ROWS, pairs, strict=True))
    assert selection.cost.value == value <= 15 and selection.cost.unit == "us"
