"""Budgets of the fullest moment, which is RAM: their costs, regularizer and repair."""

import dataclasses
import itertools
import random

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from mmx_tf.budget import bops, constrained
from mmx_tf.budget.bops import LayerCost
from mmx_tf.budget.budget import Budget, UnreachableBudgetError
from mmx_tf.budget.ram_costs import LiveBlock, RamCosts, without_lower
from mmx_tf.budget.repair import repaired
from mmx_tf.metamix.target import regularizer
from mmx_tf.recipe.candidate_costs import CandidateCosts

BITS = (8, 4, 2)


def moment(*rows, fixed=0):
    return CandidateCosts("bytes", tuple(rows), fixed)


# Two tensors of 100 and 60 bytes are live together; then the second with a third of 32.
TWO = RamCosts(
    (
        LiveBlock("early", 0, 0, -1, (12,)),
        LiveBlock("b", 0, 0, 0, (100, 52, 28)),
        LiveBlock("c", 0, 1, 1, (60, 32, 16)),
        LiveBlock("d", 1, 1, 2, (32, 16, 8)),
        LiveBlock("late", 1, 1, -1, (48,)),
    ),
    layers=3,
    candidates=3,
)


def budget(costs=TWO, target=120.0, **kwargs):
    macs = [5000, 3000, 1000, 2000, 100]
    layers = tuple(
        LayerCost(name=name, kind="conv", macs=count, weights=10, input_elements=10, end=name in "ae")
        for name, count in zip("abcde", macs, strict=True)
    )
    return Budget(layers, BITS, 4, 8, others=((costs, target),), **kwargs)


def test_the_peak_is_the_fullest_moment():
    assert TWO.of([0, 0, 0]) == 172  # 12 + 100 + 60; the other moment has 140.
    assert TWO.of([2, 0, 0]) == 140  # 12 + 28 + 60 = 100; 48 + 60 + 32.
    assert TWO.reachable == (72, 172)  # 48 + 16 + 8.
    assert [costs.reachable for costs in TWO.moments] == [(56, 172), (72, 140)]


def test_which_candidates_of_a_layer_are_smaller():
    assert [TWO.smaller(0, c) for c in range(3)] == [(1, 2), (2,), ()]
    assert TWO.totals[1] == [60, 32, 16] and TWO.smallest(1) == 2
    # Fewer bits, but scratch memory to unpack them into: neither is the smallest in every block.
    mixed = dataclasses.replace(TWO, blocks=(*TWO.blocks, LiveBlock("scratch", 0, 0, 0, (0, 8, 8))))
    assert mixed.smallest(0) is None and mixed.smaller(0, 2) == (0,)
    assert mixed.totals[0] == [100, 60, 36]


def test_moments_that_can_never_be_the_peak_are_left_out():
    high, low, other = moment((4, 2), fixed=1), moment((4, 1), fixed=1), moment((0, 0), fixed=4)
    assert set(without_lower([low, other, high, high])) == {high, other}


def test_a_peak_survives_the_config_of_a_budget():
    import json

    made = budget(target_bops=400_000)
    assert Budget.from_config(json.loads(json.dumps(dataclasses.asdict(made)))) == made


def test_a_peak_out_of_reach_is_refused_with_the_range():
    with pytest.raises(UnreachableBudgetError, match="takes 72 to 172 bytes of RAM"):
        budget(target=71)


def test_a_limit_that_the_most_bits_meet_leaves_them_alone():
    free = budget(target=173)
    assert repaired(free, np.array([[0.0, 1, 2]] * 3), [2, 2, 2])[0] == [0, 0, 0]


def test_bops_out_of_reach_are_refused_beside_a_peak():
    with pytest.raises(UnreachableBudgetError, match="target_bops=1 "):
        budget(target_bops=1)


def test_the_regularizer_is_what_exceeds_the_limit():
    alpha = tf.constant([[1.0, 0, 0]] * 3)
    assert float(regularizer(budget(target=120.0), alpha)) == pytest.approx((172 - 120) / 120)
    # More bits are not asked for where the limit is not reached.
    few = tf.constant([[0.0, 0, 1]] * 3)
    assert float(regularizer(budget(target=120.0), few)) == 0.0


def test_beside_bops_both_gaps_are_added():
    alpha = tf.constant([[1.0, 0, 0]] * 3)
    both = budget(target=120.0, target_bops=400_000)
    counted = both.bops_of([0, 0, 0])
    expected = abs(counted - 400_000) / 400_000 + 52 / 120
    assert float(regularizer(both, alpha)) == pytest.approx(expected)


def test_the_gradient_of_the_peak_reaches_moments_close_to_it():
    costs = tf.Variable([100.0, 98.0, 50.0], dtype=tf.float64)
    with tf.GradientTape() as tape:
        value = bops.peak(costs)
    gradient = tape.gradient(value, costs).numpy()
    assert float(value) == 100.0
    expected = np.exp(np.array([0, -1.0, -25.0]))  # 2% below the peak: 1/e of its weight.
    np.testing.assert_allclose(gradient, expected / expected.sum(), rtol=1e-9)


def test_the_repair_lowers_what_is_live_at_the_peak_and_leaves_the_rest_at_most_bits():
    # The first tensor costs the least alpha; the third one's alphas prefer 2 bits, which save nothing.
    alphas = np.array([[0.3, 0.2, 0.0], [0.5, 0.0, 0.0], [0.0, 0.1, 0.2]])
    choice, flips = repaired(budget(target=141.0), alphas, [0, 0, 2])
    assert choice == [1, 0, 0]  # 12 + 52 + 60 = 124; 48 + 60 + 32 = 140.
    assert [(flip.name, flip.from_bits, flip.to_bits) for flip in flips] == [("b", 8, 4), ("d", 2, 8)]


def test_beside_bops_bits_are_not_filled_up_against_alpha():
    alphas = np.array([[0.3, 0.2, 0.0], [0.5, 0.0, 0.0], [0.0, 0.1, 0.2]])
    largest = budget().reachable[1]
    choice, _ = repaired(budget(target=141.0, target_bops=largest), alphas, [0, 0, 2])
    assert choice == [1, 0, 2]
    # With fewer BOPs too: 3000 * 4 * 4 + 1000 * 4 * 8 + 2000 * 4 * 2, and 64 * 5100 of the ends.
    most = 64 * 5100 + 48_000 + 32_000 + 16_000
    assert repaired(budget(target=141.0, target_bops=most), alphas, [0, 0, 2])[0] == [1, 0, 2]
    assert repaired(budget(target=141.0, target_bops=most - 1), alphas, [0, 0, 2])[0] == [2, 0, 2]


COSTS = st.integers(0, 40)


@st.composite
def programs(draw):
    layers, moments = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    limits = []
    for _ in range(moments):
        rows = [sorted(draw(st.lists(COSTS, min_size=3, max_size=3)), reverse=True) for _ in range(layers)]
        costs = moment(*map(tuple, rows), fixed=draw(COSTS))
        low, high = costs.reachable
        limits.append((costs, draw(st.integers(int(low), int(high))) or 1))
    scores = draw(st.lists(st.integers(-9, 9), min_size=3 * layers, max_size=3 * layers))
    return limits, np.float64(scores).reshape(layers, 3) / 7


@given(programs())
@settings(deadline=None)  # The solver's first call takes long where other programs run.
def test_the_best_choice_is_that_of_all_choices(program):
    limits, scores = program
    bits = [12, 8, 6]
    choices = [
        choice
        for choice in itertools.product(range(3), repeat=len(scores))
        if constrained.meets(limits, choice)
    ]

    def worth(choice):
        return round(float(scores[np.arange(len(scores)), list(choice)].sum()), 9)

    found = constrained.best_choice(limits, scores, bits)
    assert constrained.meets(limits, found)
    best = max(map(worth, choices))
    assert worth(found) == best
    most = max(sum(bits[i] for i in choice) for choice in choices if worth(choice) == best)
    assert sum(bits[i] for i in found) == most


@given(programs())
@settings(deadline=None)
def test_a_filled_choice_has_no_layer_that_more_bits_fit_into(program):
    limits, scores = program
    bits = [12, 8, 6]
    start = constrained.best_choice(limits, scores, bits)
    filled = constrained.filled(limits, start, scores, bits)
    assert constrained.meets(limits, filled)
    for layer, candidate in itertools.product(range(len(scores)), range(3)):
        if bits[candidate] > bits[filled[layer]]:
            assert not constrained.meets(limits, [*filled[:layer], candidate, *filled[layer + 1 :]])
        assert bits[filled[layer]] >= bits[start[layer]]


# Every step has 16 bytes at most, but "a" and "b", which meet at step 2, cannot both lie at an end of them
# in the order in which blocks are placed: with both large tensors the arena has a gap, and 20 bytes.
GAP = RamCosts(
    (
        LiveBlock("a", 0, 2, -1, (4,)),
        LiveBlock("b", 2, 4, -1, (4,)),
        LiveBlock("c", 4, 4, 0, (12, 8, 4)),
        LiveBlock("d", 1, 1, 1, (12, 8, 4)),
    ),
    layers=2,
    candidates=3,
)


def gap_budget(**options):
    layers = tuple(LayerCost(name, "conv", 1000, 10, 10, end=name in "ae") for name in "abce")
    return Budget(layers, BITS, 4, 8, others=((GAP, 16.0),), **options)


def test_an_arena_with_a_gap_is_more_than_its_moments():
    assert (GAP.of([0, 0]), max(costs.of([0, 0]) for costs in GAP.moments)) == (20, 16)
    assert GAP.of([0, 1]) == GAP.of([1, 0]) == 16


@pytest.mark.parametrize(
    ("alphas", "choice"),
    [
        # Every moment fits with 8 bits twice, the arena does not: the layer that loses less gives way.
        ([[1.0, 0.6, 0.0], [1.0, 0.8, 0.0]], [0, 1]),
        ([[1.0, 0.8, 0.0], [1.0, 0.6, 0.0]], [1, 0]),
    ],
)
@pytest.mark.parametrize("cuts", [24, 0])
def test_the_repair_counts_the_arena(monkeypatch, cuts, alphas, choice):
    """By cuts; and without any, layer by layer."""
    monkeypatch.setattr(constrained, "CUTS", cuts)
    for options in ({}, {"target_bops": 64 * 2000 + 8 * 4 * 2000}):
        found, _ = repaired(gap_budget(**options), np.array(alphas), [0, 0])
        assert found == choice


def test_bits_are_filled_up_within_the_arena():
    # The alphas choose 2 bits, and 8 are free for one layer: the one that they hold less against.
    found, _ = repaired(gap_budget(), np.array([[0.0, 0.1, 0.2], [0.15, 0.15, 0.2]]), [2, 2])
    assert found == [1, 0]


def plans_with_gaps(count):
    """Random plans of four layers, the arena of every choice, and the number of arenas that have a gap."""
    generator, choices = random.Random(0), list(itertools.product(range(3), repeat=4))
    while count:
        blocks = []
        for name in "abcdefghijklmn":
            first, layer, size = (
                generator.randrange(8),
                generator.choice([-1, 0, 1, 2, 3]),
                generator.randint(1, 6),
            )
            sizes = (8 * size, 4 * size, 2 * size) if layer >= 0 else (8 * size,)
            blocks.append(LiveBlock(name, first, first + generator.randint(0, 3), layer, sizes))
        costs = RamCosts(tuple(blocks), layers=4, candidates=3)
        arenas = {choice: costs.of(choice) for choice in choices}
        if any(arenas[choice] > max(m.of(choice) for m in costs.moments) for choice in choices):
            count -= 1
            yield costs, arenas


def test_within_arenas_with_gaps_the_best_of_all_choices_is_found():
    repairs, rng = 0, np.random.default_rng(0)
    for costs, arenas in plans_with_gaps(3):
        for target in sorted({arena for arena in arenas.values() if arena >= costs.reachable[0]}):
            scores = rng.normal(size=(4, 3))
            found = constrained.best_choice([(costs, float(target))], scores, [12, 8, 6])
            worth = {c: scores[range(4), c].sum() for c, arena in arenas.items() if arena <= target}
            assert worth[tuple(found)] == pytest.approx(max(worth.values()))
            repairs += 1
    assert repairs > 20


BLOCK = st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(-1, 2), st.integers(1, 5))


@given(st.lists(BLOCK, min_size=4, max_size=7), st.floats(0, 1), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_no_repair_exceeds_the_arena(blocks, share, seed):
    costs = RamCosts(
        tuple(
            LiveBlock(str(i), first, first + length, layer, (8 * size, 4 * size, 4) if layer >= 0 else (8,))
            for i, (first, length, layer, size) in enumerate(blocks)
        ),
        layers=3,
        candidates=3,
    )
    low, high = costs.reachable
    target = low + share * max(0, high - low)
    limit = budget(costs, target)
    alphas = np.random.default_rng(seed).normal(size=(3, 3))
    choice, _ = repaired(limit, alphas, alphas.argmax(axis=1).tolist())
    assert costs.of(choice) <= target


def test_a_limit_that_the_solver_exceeds_by_its_tolerance_is_met():
    # 3 times a third of a limit of large numbers, one unit too many.
    costs = moment((10**12 + 1, 1), (10**12, 1), (10**12, 1))
    choice = constrained.best_choice([(costs, 3 * 10**12)] * 2, np.array([[1.0, 0]] * 3), [8, 4])
    assert sorted(choice) == [0, 0, 1] and costs.of(choice) <= 3 * 10**12


def test_alphas_that_are_no_numbers_choose_nothing():
    with pytest.raises(ValueError, match="not finite"):
        constrained.best_choice([(moment((1, 0)), 1)], np.array([[np.nan, 0]]), [8, 4])
