"""What a budget allows, and the repair that makes a choice meet it."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmx_tf.bops import LayerCost
from mmx_tf.budget import Budget, Flip, UnreachableBudgetError


def costs(*searched, ends=(2, 1)):
    first, last = (LayerCost(f"end{i}", "conv", macs, 1, 1, True) for i, macs in enumerate(ends))
    middle = [LayerCost("abcdef"[i], "conv", macs, 1, 1, False) for i, macs in enumerate(searched)]
    return (first, *middle, last)


def budget(target=None, *, macs=(10, 20, 5), bit_widths=(8, 4, 3)):
    return Budget(costs(*macs), bit_widths, weight_bits=4, first_last_bits=8, target_bops=target)


def test_sums_by_hand():
    # Ends: 3 MACs at 8 x 8 bits. Searched: 35 MACs at 4 bits times 3 to 8 bits.
    free = budget()
    assert free.fixed_bops == 192
    assert free.reachable == (192 + 420, 192 + 1120) == (612, 1312)
    assert free.bops_at(4) == 192 + 560
    assert free.bops_at(3.85) == 192 + 539
    assert [cost.name for cost in free.searched] == ["a", "b", "c"]
    assert free.bops_of([0, 1, 2]) == 192 + 4 * (10 * 8 + 20 * 4 + 5 * 3)


def test_bits_per_layer_and_choices_must_match():
    with pytest.raises(ValueError):
        budget().bops_of([0, 1])


@pytest.mark.parametrize("target", [612, 613, 1312, None])
def test_reachable_targets(target):
    assert budget(target).target_bops == target


@pytest.mark.parametrize("target", [611, 1313, 0, -5])
def test_unreachable_targets_are_refused_with_the_range(target):
    with pytest.raises(UnreachableBudgetError) as error:
        budget(target)
    for part in (f"target_bops={target} ", "(8, 4, 3)", "4-bit weights", "612 to 1312 BOPs", "3 to 8 bits"):
        assert part in str(error.value)


# Margins to the cheaper branches:       a: 8->4 .5, 8->3 .9;    b: 8->4 .2, 8->3 .3;   c: 4->3 .1
ALPHAS = np.array([[1.0, 0.5, 0.1], [0.4, 0.2, 0.1], [0.0, 0.5, 0.4]])
CHOICE = [0, 0, 1]


@pytest.mark.parametrize(
    ("target", "choice", "flips"),
    [
        # 192 + 4 * (10*8 + 20*8 + 5*4) = 1232: met already.
        (1232, [0, 0, 1], []),
        # c saves 4 * 5 = 20: 1212.
        (1231, [0, 0, 2], ["c 4 3 .1"]),
        (1212, [0, 0, 2], ["c 4 3 .1"]),
        # b 8 -> 4 saves 320: 892.
        (1211, [0, 1, 2], ["c 4 3 .1", "b 8 4 .2"]),
        (892, [0, 1, 2], ["c 4 3 .1", "b 8 4 .2"]),
        # From there b gives up only .2 - .1 for 4 -> 3: 80 less, 812.
        (891, [0, 2, 2], ["c 4 3 .1", "b 8 4 .2", "b 4 3 .1"]),
        # a 8 -> 4 saves 160: 652; then a 4 -> 3 saves 40: 612, the least there is.
        (811, [1, 2, 2], ["c 4 3 .1", "b 8 4 .2", "b 4 3 .1", "a 8 4 .5"]),
        (612, [2, 2, 2], ["c 4 3 .1", "b 8 4 .2", "b 4 3 .1", "a 8 4 .5", "a 4 3 .4"]),
    ],
)
def test_repair_flips_the_smallest_margin_first_and_stops_when_the_target_is_met(target, choice, flips):
    repaired, made = budget(target).repair(ALPHAS, CHOICE)
    assert repaired == choice
    expected = [flip.split() for flip in flips]
    assert [(f.name, f.from_bits, f.to_bits) for f in made] == [
        (n, int(a), int(b)) for n, a, b, _ in expected
    ]
    np.testing.assert_allclose([f.margin for f in made], [float(m) for *_, m in expected])
    assert CHOICE == [0, 0, 1]


def test_pairs_and_their_sums_by_hand():
    free = Budget(costs(10, 20), (8, 3), weight_bits=(4, 2), first_last_bits=8)
    assert free.pairs == ((4, 8), (4, 3), (2, 8), (2, 3))
    assert free.bops_costs.table == ((320, 120, 160, 60), (640, 240, 320, 120))
    assert free.reachable == (192 + 180, 192 + 960)
    assert free.bops_of([1, 2]) == 192 + 120 + 320
    assert budget().pairs == ((4, 8), (4, 4), (4, 3)) and not budget().searches_weights


A8_TO_3, A4_TO_2, B8_TO_3, B4_TO_2 = (
    Flip("a", 8, 3, 0.3), Flip("a", 4, 2, 0.2, True), Flip("b", 8, 3, 0.1), Flip("b", 4, 2, 0.4, True)
)  # fmt: skip


@pytest.mark.parametrize(
    ("target", "choice", "flips"),
    [
        # 192 + 4 * 8 * (10 + 20) = 1152.
        (1152, [0, 0], []),
        # b's activations 8 -> 3 save 4 * 5 * 20 = 400.
        (752, [0, 1], [B8_TO_3]),
        # a's weights 4 -> 2 save 2 * 8 * 10 = 160.
        (592, [2, 1], [B8_TO_3, A4_TO_2]),
        # a's activations then save 2 * 5 * 10 = 100, b's weights 2 * 3 * 20 = 120: 372, the least there is.
        (492, [3, 1], [B8_TO_3, A4_TO_2, A8_TO_3]),
        (372, [3, 3], [B8_TO_3, A4_TO_2, A8_TO_3, B4_TO_2]),
    ],
)
def test_repair_flips_weights_or_activations_smallest_margin_first(target, choice, flips):
    limit = Budget(costs(10, 20), (8, 3), (4, 2), 8, target)
    alphas, weight_alphas = np.array([[0.5, 0.2], [0.1, 0.0]]), np.array([[0.3, 0.1], [0.5, 0.1]])
    repaired, made = limit.repair(alphas, [0, 0], weight_alphas)
    assert repaired == choice
    assert made == [dataclasses.replace(flip, margin=pytest.approx(flip.margin)) for flip in flips]


def test_repair_may_skip_a_branch():
    # 8 -> 3 gives up less than 8 -> 4.
    repaired, flips = budget(1300).repair(np.array([[1, 0.2, 0.6], [9, 0, 0], [9, 0, 0.0]]), [0, 0, 0])
    assert repaired == [2, 0, 0]
    assert flips == [Flip("a", 8, 3, pytest.approx(0.4))]


def test_repair_never_flips_to_more_bits():
    # The dearer branch has the larger alpha: no flip there, even at a negative margin.
    repaired, _ = budget(700).repair(np.array([[9.0, 0, 1], [0, 0, 0], [0, 0, 0]]), [2, 0, 0])
    assert repaired[0] == 2


def test_without_a_target_there_is_no_repair():
    assert budget().repair(ALPHAS, [0, 0, 0]) == ([0, 0, 0], [])


@st.composite
def problems(draw):
    macs = draw(st.lists(st.integers(1, 10**9), min_size=1, max_size=6))
    widths = draw(st.lists(st.integers(2, 8), min_size=1, max_size=4, unique=True))
    free = budget(macs=macs, bit_widths=tuple(widths))
    target = draw(st.integers(*free.reachable))
    shape = (len(macs), len(widths))
    values = draw(st.lists(st.floats(-3, 3), min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]))
    choice = draw(st.lists(st.integers(0, shape[1] - 1), min_size=shape[0], max_size=shape[0]))
    return budget(target, macs=macs, bit_widths=tuple(widths)), np.reshape(values, shape), choice


@settings(max_examples=200, deadline=None)
@given(problems())
def test_every_repaired_choice_meets_its_target(problem):
    limit, alphas, choice = problem
    before = limit.bops_of(choice)
    repaired, flips = limit.repair(alphas, choice)
    assert limit.bops_of(repaired) <= limit.target_bops
    if before <= limit.target_bops:
        assert repaired == choice and not flips
    # Replaying the flips gives the choice, and without the last one the target is missed.
    bits = {cost.name: limit.bit_widths[branch] for cost, branch in zip(limit.searched, choice, strict=True)}
    for index, flip in enumerate(flips):
        total = limit.bops_of([limit.bit_widths.index(value) for value in bits.values()])
        assert total > limit.target_bops, index
        assert bits[flip.name] == flip.from_bits > flip.to_bits
        bits[flip.name] = flip.to_bits
    assert list(bits.values()) == [limit.bit_widths[branch] for branch in repaired]
    # A repaired choice is left alone.
    assert limit.repair(alphas, repaired) == (repaired, [])


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_every_repaired_pair_meets_its_target(data):
    macs = data.draw(st.lists(st.integers(1, 10**9), min_size=1, max_size=5))
    bits, weights = (
        tuple(data.draw(st.lists(st.integers(2, 8), min_size=2, max_size=4, unique=True))) for _ in range(2)
    )
    free = Budget(costs(*macs), bits, weights, 8)
    limit = Budget(costs(*macs), bits, weights, 8, data.draw(st.integers(*free.reachable)))
    alphas, weight_alphas = (
        np.reshape(data.draw(st.lists(st.floats(-3, 3), min_size=size, max_size=size)), (len(macs), -1))
        for size in (len(macs) * len(bits), len(macs) * len(weights))
    )
    choice = data.draw(st.lists(st.integers(0, len(free.pairs) - 1), min_size=len(macs), max_size=len(macs)))
    repaired, flips = limit.repair(alphas, choice, weight_alphas)
    assert limit.bops_of(repaired) <= limit.target_bops
    assert limit.repair(alphas, repaired, weight_alphas) == (repaired, [])
    assert bool(flips) == (limit.bops_of(choice) > limit.target_bops)
