"""Several budgets at once: all are met, or refused with what each can be; in search, repair and files."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import small_network
from ram_budget_test import residual_network

import mmx_tf
from mmx_tf.budget.bops import LayerCost
from mmx_tf.budget.budget import Budget, UnreachableBudgetError
from mmx_tf.budget.repair import repaired
from mmx_tf.export.c_source import c_source
from mmx_tf.metamix.file_bytes import TrialFiles, costs_in_bytes
from mmx_tf.metamix.flash import costs_in_flash
from mmx_tf.metamix.ram import costs_in_ram
from mmx_tf.metamix.selection import BitSelection, SelectedCost
from mmx_tf.metamix.target import regularizer
from mmx_tf.recipe.candidate_costs import CandidateCosts

BITS, WEIGHTS = (8, 4, 2), (8, 4, 2)
LAYERS = tuple(
    LayerCost(name, "conv", macs, 10, 10, end=name in "ad")
    for name, macs in zip("abcd", (5, 10, 20, 1), strict=True)
)
# BOPs at 8, 4, 2 activation bits and 4-bit weights: b 320, 160, 80; c 640, 320, 160; the ends 384.
US = CandidateCosts("us", ((8, 5, 4), (3, 2, 1)), 1)


def budget(target_bops, target, costs=US, *more):
    return Budget(LAYERS, BITS, 4, 8, target_bops, ((costs, target), *more))


# The regularizer.


@pytest.mark.parametrize(
    ("bops", "us", "expected"),
    [
        # 1344 BOPs and 12 us are chosen.
        (1000, 10, 344 / 1000 + 2 / 10),
        (1000, 12, 344 / 1000),
        (1344, 10, 2 / 10),
        (1344, 12, 0),
    ],
)
def test_overshoots_are_added(bops, us, expected):
    alpha = tf.constant([[1.0, 0, 0]] * 2)
    assert float(regularizer(budget(bops, us), alpha)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("bops", "us", "expected"), [(800, 10, 96 / 800), (900, 8, 1 / 8), (700, 12, 4 / 700), (900, 7, 0)]
)
def test_while_none_is_used_up_the_fullest_one_asks_for_more_bits(bops, us, expected):
    alpha = tf.constant([[0, 1.0, 0], [0, 0, 1.0]])  # 384 + 160 + 160 = 704 BOPs, 1 + 5 + 1 = 7 us.
    assert float(regularizer(budget(bops, us), alpha)) == pytest.approx(expected, rel=1e-5)


def test_a_limit_asks_for_no_bits():
    free = dataclasses.replace(US, is_limit=True)
    alpha = tf.constant([[0, 0, 1.0]] * 2)  # 624 BOPs, 6 us.
    assert float(regularizer(budget(None, 10, free), alpha)) == 0
    # Beside it BOPs ask, as without it.
    assert float(regularizer(budget(1000, 7, free), alpha)) == pytest.approx(0.376)


def test_the_gradient_is_that_of_the_exceeded_budgets():
    alpha = tf.Variable([[0.0, 0, 0]] * 2)

    def gradient(of):
        with tf.GradientTape() as tape:
            value = regularizer(of, alpha)
        return tape.gradient(value, alpha).numpy()

    rows = np.array([[8, 5, 4], [3, 2, 1]], np.float64)
    of_us = (rows - rows.mean(axis=1, keepdims=True)) / 3 / 10
    np.testing.assert_allclose(gradient(budget(1344, 10)), of_us, rtol=1e-5, atol=1e-8)
    bops = np.outer([40, 80], [8, 4, 2])
    of_bops = (bops - bops.mean(axis=1, keepdims=True)) / 3 / 1000
    np.testing.assert_allclose(gradient(budget(1000, 10)), of_us + of_bops, rtol=1e-5, atol=1e-8)


# Repair and reach.


def test_the_repair_meets_both():
    alphas = np.array([[0.5, 0.2, 0.0], [0.6, 0.5, 0.0]])
    # BOPs alone would lower c (0.1 lost, 320 saved), us alone b (3 saved).
    assert repaired(budget(1024, 12), alphas, [0, 0])[0] == [0, 1]
    assert repaired(budget(1344, 9), alphas, [0, 0])[0] == [1, 0]
    assert repaired(budget(1024, 9), alphas, [0, 0])[0] == [1, 1]
    assert repaired(budget(1024, 8), alphas, [0, 0])[0] == [1, 1]


COSTS = st.lists(st.integers(0, 30), min_size=3, max_size=3)


@given(st.lists(st.lists(COSTS, min_size=2, max_size=2), min_size=1, max_size=3), st.data())
@settings(max_examples=60, deadline=None)
def test_all_are_met_or_refused(tables, data):
    """Costs in any order: against all choices."""
    others = []
    for number, table in enumerate(tables):
        costs = CandidateCosts(f"unit{number}", tuple(map(tuple, table)), 1)
        others.append(
            (costs, float(data.draw(st.integers(int(costs.reachable[0]), int(costs.reachable[1])))))
        )
    target = data.draw(st.integers(624, 1344))
    choices = list(itertools.product(range(3), repeat=2))
    fitting = [c for c in choices if all(costs.of(c) <= t for costs, t in others)]
    free = Budget(LAYERS, BITS, 4, 8)
    fitting = [c for c in fitting if free.bops_of(c) <= target]
    if not fitting:
        with pytest.raises(
            UnreachableBudgetError, match="no choice of bits takes .* BOPs .of 624 to 1344. and"
        ):
            Budget(LAYERS, BITS, 4, 8, target, tuple(others))
        return
    alphas = np.float64(data.draw(st.lists(st.integers(-9, 9), min_size=6, max_size=6))).reshape(2, 3)
    limit = Budget(LAYERS, BITS, 4, 8, target, tuple(others))
    found, _ = repaired(limit, alphas, alphas.argmax(axis=1).tolist())
    assert limit.meets(found)
    worth = {c: alphas[[0, 1], list(c)].sum() for c in fitting}
    assert worth[tuple(found)] == max(worth.values())


def test_what_no_choice_meets_together_is_refused_with_the_range_of_each():
    slower = CandidateCosts("us", ((1, 5, 9), (1, 5, 9)))
    with pytest.raises(
        UnreachableBudgetError, match=r"takes 704 BOPs \(of 624 to 1344\) and 8 us \(of 2 to 18\)"
    ):
        budget(704, 8, slower)
    budget(1344, 8, slower)


def test_a_budget_survives_its_config_and_one_of_before_is_read():
    both = budget(1024, 9)
    config = json.loads(json.dumps(dataclasses.asdict(both)))
    assert Budget.from_config(config) == both
    del config["others"]
    us = {"unit": "us", "table": US.table, "fixed": 1}
    assert Budget.from_config({**config, "own": us, "target_cost": 9}) == both
    assert Budget.from_config({**config, "own": None, "target_cost": None}).others == ()


# Flash.


def searched(network=None, **options):
    return mmx_tf.augment(network or small_network(), bit_widths=BITS, **{"weight_bits": WEIGHTS, **options})


@pytest.fixture(scope="module")
def free():
    return searched(target_bops=4e5)


@pytest.fixture(scope="module")
def flash(free):
    return costs_in_flash(free, {})


def test_bytes_of_weights_by_hand(flash):
    """Filters in pairs, each in groups of 8 weights, of 16 with 2 bits; depthwise 54 weights in words.

    project: 6 filters of 6 inputs, 6 * 8, 6 * 4, 6 * 4 bytes. expand: 8 of 6.
    """
    depthwise, project, expand = (row[::3] for row in flash.table)
    assert depthwise == (56, 28, 28)
    assert project == (48, 24, 24) and expand == (64, 32, 32)
    assert all(row[0::3] == row[1::3] == row[2::3] for row in flash.table)
    assert flash.is_limit and flash.unit == "bytes of flash"


def of_file(search, choice):
    files = TrialFiles(search, choice, {})
    return c_source(files.with_activation_bits([search.budget.pairs[i][1] for i in choice]))


@pytest.mark.slow
@pytest.mark.parametrize("network", [small_network, residual_network])
def test_no_program_has_more_constants_than_are_counted_nor_much_less(network):
    search = searched(network())
    costs, rng = costs_in_flash(search, {}), np.random.default_rng(0)
    layers, pairs = len(costs.table), len(search.budget.pairs)
    for choice in [
        [0] * layers,
        [pairs - 1] * layers,
        *(rng.integers(pairs, size=layers).tolist() for _ in range(3)),
    ]:
        made = of_file(search, choice)
        assert made.flash_bytes <= costs.of(choice) <= made.flash_bytes + 256 * (layers + 3)


@pytest.mark.slow
def test_ram_is_counted_with_the_scratch_memory_of_the_fewest_weight_bits():
    """Columns of 2-bit weights are padded to 16 elements, those of more bits to 8."""
    search = searched(residual_network())
    costs, pairs = costs_in_ram(search, {}), search.budget.pairs
    for activations in (8, 2):
        found = [of_file(search, [pairs.index((w, activations))] * costs.layers).ram_bytes for w in WEIGHTS]
        assert found[2] > found[1]
        assert costs.of([pairs.index((8, activations))] * costs.layers) >= max(found)


@pytest.mark.slow
def test_ram_and_flash_are_met_together(flash):
    low, high = flash.reachable
    limit = (low + high) // 2
    search = searched(target_ram=700, target_flash=limit)
    (ram, _), (constants, target) = search.budget.others
    assert constants == flash and target == limit and ram.unit == "bytes of RAM"
    assert ram.reachable[0] <= 700 < ram.reachable[1]
    search.alpha.assign(np.random.default_rng(0).normal(size=search.alpha.shape))
    selection = search.bit_selection()
    assert [cost.unit for cost in selection.costs] == ["bytes of RAM", "bytes of flash"]
    assert selection.costs[0].value <= 700 and selection.costs[1].value <= limit
    chosen = [
        search.budget.pairs.index((layer.weight_bits, layer.activation_bits))
        for layer in selection.layers
        if layer.searched
    ]
    made = of_file(search, chosen)
    assert made.ram_bytes <= 700 and made.flash_bytes <= limit
    # What is below both is free: no layer could have more bits.
    sizes = [sum(pair) for pair in search.budget.pairs]
    for layer, candidate in itertools.product(range(3), range(9)):
        flipped = [*chosen[:layer], candidate, *chosen[layer + 1 :]]
        assert sizes[candidate] <= sizes[chosen[layer]] or not search.budget.meets(flipped)


def test_flash_of_one_weight_bit_width_is_refused():
    with pytest.raises(
        ValueError, match="target_flash=3000 with weight_bits=4: activation bits do not change"
    ):
        searched(target_flash=3000, weight_bits=4)


def test_bops_and_bytes_are_met_together(free, tmp_path):
    options = {"weight_storage": "int4"}
    size = costs_in_bytes(free, options)
    bops = free.budget.fixed_bops + 8832 * 20
    target = int(size.reachable[0]) + 30
    search = searched(target_bops=[bops, bops + 9000], target_bytes=target, convert_options=options)
    search.alpha.assign(np.random.default_rng(0).normal(size=search.alpha.shape))
    for selection, limit in zip(search.bit_selections(), (bops, bops + 9000), strict=True):
        assert selection.bops <= limit and selection.cost == SelectedCost(
            "bytes", selection.cost.value, target
        )
        assert selection.cost.value <= target
    search.save(tmp_path / "search.keras")
    loaded = mmx_tf.load_model(tmp_path / "search.keras")
    assert [one.budget for one in loaded.targets] == [one.budget for one in search.targets]


def test_average_bits_beside_flash_count_activations_alone(flash):
    search = searched(target_average_bits=4, target_flash=flash.reachable[1])
    (average, target), (constants, _) = search.budget.others
    assert (search.budget.target_bops, target) == (None, 4) and constants == flash
    assert average.of([0, 4, 8]) == pytest.approx((3456 * 8 + 2304 * 4 + 3072 * 2) / 8832)


# Files.


def test_a_selection_has_all_costs_in_its_file(free, tmp_path):
    costs = (SelectedCost("us", 9.0, 10.0), SelectedCost("bytes", 7.0, 8.0))
    selection = dataclasses.replace(free.bit_selection(), costs=costs)
    selection.save(tmp_path / "bits.json")
    document = json.loads((tmp_path / "bits.json").read_text())
    assert document["cost"] == document["costs"][0] == {"unit": "us", "value": 9.0, "target": 10.0}
    assert document["costs"][1] == {"unit": "bytes", "value": 7.0, "target": 8.0}
    assert BitSelection.load(tmp_path / "bits.json") == selection
    one = dataclasses.replace(selection, costs=costs[:1]).to_json()
    assert "costs" not in one and BitSelection.from_json(one).costs == costs[:1]
