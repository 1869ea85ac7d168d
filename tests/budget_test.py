"""What a budget allows, and the repair that makes the most of it."""

import dataclasses
import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmx_tf.budget import repair
from mmx_tf.budget.bops import LayerCost
from mmx_tf.budget.budget import Budget, UnreachableBudgetError
from mmx_tf.budget.repair import Flip
from mmx_tf.choices import WEIGHTINGS
from mmx_tf.recipe.budgets.target_average_bits import average_bits_costs
from mmx_tf.recipe.candidate_costs import CandidateCosts


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
    for part in (
        f"target_bops={target} ",
        "8, 4, 3 bits",
        "4-bit weights",
        "612 to 1312 BOPs",
        "3 to 8 bits",
    ):
        assert part in str(error.value)


# Margins to the cheaper branches:       a: 8->4 .5, 8->3 .9;    b: 8->4 .2, 8->3 .35;  c: 4->3 .1
# They save BOPs:                               160       200             320       400           20
ALPHAS = np.array([[1.0, 0.5, 0.1], [0.4, 0.2, 0.05], [0.0, 0.5, 0.4]])
CHOICE = [0, 0, 1]


@pytest.mark.parametrize(
    ("target", "choice", "flips"),
    [
        # 192 + 4 * (10*8 + 20*8 + 5*4) = 1232: met already.
        (1232, [0, 0, 1], []),
        (1231, [0, 0, 2], ["c 4 3 .1"]),
        (1212, [0, 0, 2], ["c 4 3 .1"]),
        # 21 to 320 less: b 8 -> 4 alone; after the flip of c, which gives up least, that one is for nothing.
        (1211, [0, 1, 1], ["b 8 4 .2"]),
        (912, [0, 1, 1], ["b 8 4 .2"]),
        (911, [0, 1, 2], ["b 8 4 .2", "c 4 3 .1"]),
        (892, [0, 1, 2], ["b 8 4 .2", "c 4 3 .1"]),
        # 341 to 400: b 8 -> 3 alone, and c stays.
        (891, [0, 2, 1], ["b 8 3 .35"]),
        (832, [0, 2, 1], ["b 8 3 .35"]),
        (831, [0, 2, 2], ["b 8 3 .35", "c 4 3 .1"]),
        (812, [0, 2, 2], ["b 8 3 .35", "c 4 3 .1"]),
        # 421 to 480: with a at 4 bits, b goes up to 4 again, and c.
        (811, [1, 1, 1], ["a 8 4 .5", "b 8 4 .2"]),
        (612, [2, 2, 2], ["a 8 3 .9", "b 8 3 .35", "c 4 3 .1"]),
    ],
)
def test_repair_gives_up_the_least_alpha_that_meets_the_target(target, choice, flips):
    repaired, made = repair.repaired(budget(target), ALPHAS, CHOICE)
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
        (592, [2, 1], [A4_TO_2, B8_TO_3]),
        # 561 to 600: a's activations 8 -> 3, which save 4 * 5 * 10 = 200, in place of its weights.
        (552, [1, 1], [A8_TO_3, B8_TO_3]),
        # 601 to 660: both of a, 260 for .5; its weights and b's, 160 + 2 * 3 * 20 = 280, would give up .6.
        (492, [3, 1], [A4_TO_2, A8_TO_3, B8_TO_3]),
        (372, [3, 3], [A4_TO_2, A8_TO_3, B4_TO_2, B8_TO_3]),
    ],
)
def test_repair_flips_weights_and_activations(target, choice, flips):
    limit = Budget(costs(10, 20), (8, 3), (4, 2), 8, target)
    alphas, weight_alphas = np.array([[0.5, 0.2], [0.1, 0.0]]), np.array([[0.3, 0.1], [0.5, 0.1]])
    repaired, made = repair.repaired(limit, alphas, [0, 0], weight_alphas)
    assert repaired == choice
    assert made == [dataclasses.replace(flip, margin=pytest.approx(flip.margin)) for flip in flips]


def test_repair_may_skip_a_branch():
    # 8 -> 3 gives up less than 8 -> 4.
    repaired, flips = repair.repaired(
        budget(1300), np.array([[1, 0.2, 0.6], [9, 0, 0], [9, 0, 0.0]]), [0, 0, 0]
    )
    assert repaired == [2, 0, 0]
    assert flips == [Flip("a", 8, 3, pytest.approx(0.4))]


def test_a_choice_that_has_not_the_largest_alphas_is_raised():
    """a 3 -> 8 costs 4 * 5 * 10 = 200, to the BOP what is left."""
    repaired, flips = repair.repaired(budget(812), np.array([[9.0, 0, 1], [0, 0, 0], [0, 0, 0]]), [2, 2, 2])
    assert repaired == [0, 2, 2]
    assert flips == [Flip("a", 3, 8, -8.0)]


def test_without_a_target_there_is_no_repair():
    assert repair.repaired(budget(), ALPHAS, [0, 0, 0]) == ([0, 0, 0], [])


def test_of_equal_alphas_the_most_bits_are_taken():
    """As before a search. Above 612, c at 8 bits takes 100, a and b at 4 bits take 40 and 80."""
    repaired, flips = repair.repaired(budget(832), np.zeros((3, 3)), [0, 0, 0])
    assert repaired == [1, 1, 0]
    assert flips == [Flip("a", 8, 4, 0.0), Flip("b", 8, 4, 0.0)]
    # One of the two: the cheaper one.
    assert repair.repaired(budget(831), np.zeros((3, 3)), [0, 0, 0])[0] == [1, 2, 0]


def test_alphas_that_are_not_finite_choose_nothing():
    with pytest.raises(ValueError, match="not finite"):
        repair.repaired(budget(700), np.array([[np.nan, 0, 1], [0, 0, 0], [0, 0, 0]]), [0, 0, 0])


# Properties. Costs are BOPs of one or several weight bits, or a user's table; some alphas are equal.


def a_list(values, size):
    return st.lists(values, min_size=size, max_size=size)


def unique(draw, values, least, most):
    return tuple(draw(st.lists(values, min_size=least, max_size=most, unique=True)))


@st.composite
def problems(draw):
    """(budget, alphas, any choice) in BOPs of the activations."""
    macs = draw(st.lists(st.integers(1, 10**9), min_size=1, max_size=6))
    widths = unique(draw, st.integers(2, 8), 1, 4)
    free = budget(macs=macs, bit_widths=widths)
    target = draw(st.integers(*free.reachable))
    shape = (len(macs), len(widths))
    values = draw(a_list(st.floats(-3, 3), shape[0] * shape[1]))
    choice = draw(a_list(st.integers(0, shape[1] - 1), shape[0]))
    return budget(target, macs=macs, bit_widths=widths), np.reshape(values, shape), choice


@st.composite
def repairs(draw):
    """(budget, alphas, weight alphas or None)."""
    layers = draw(st.integers(1, 4))
    bits = unique(draw, st.integers(2, 8), 2, 3)
    weights = unique(draw, st.integers(2, 8), 2, 3) if draw(st.booleans()) else 4
    free = Budget(costs(*draw(a_list(st.integers(1, 10**11), layers))), bits, weights, 8)
    if draw(st.booleans()):
        cost = draw(
            st.sampled_from(
                [
                    st.integers(0, 30),
                    st.integers(0, 10**5).map(lambda cents: cents / 100),
                    st.floats(0, 1e9),
                    st.floats(1e-30, 1e-20),
                ]
            )
        )
        table = tuple(tuple(draw(a_list(cost, len(free.pairs)))) for _ in range(layers))
        own = CandidateCosts("us", table, draw(cost))
        # What some choice costs, to the last digit, or a number in between.
        target = own.of(draw(a_list(st.integers(0, len(free.pairs) - 1), layers)))
        if draw(st.booleans()):
            target = draw(st.floats(*own.reachable))
        limit = free.beside(own, target)
    else:
        limit = dataclasses.replace(free, target_bops=draw(st.integers(*free.reachable)))
    values = draw(st.sampled_from([st.floats(-3, 3, width=32), st.integers(-2, 2).map(float)]))
    alphas, weight_alphas = (
        np.reshape(draw(a_list(values, layers * len(candidates))), (layers, -1))
        for candidates in (bits, limit.weight_bit_widths)
    )
    return limit, alphas, weight_alphas if limit.searches_weights else None


def of_pairs(alphas, weight_alphas):
    """(L, W * B) fractions: alphas of the pairs, added without rounding."""
    weights = np.zeros((len(alphas), 1)) if weight_alphas is None else weight_alphas
    return [
        [Fraction(float(w)) + Fraction(float(a)) for w, a in itertools.product(of_weights, own)]
        for of_weights, own in zip(weights, alphas, strict=True)
    ]


def decimal(cost):
    return Fraction(str(cost))


def picked(rows, choice):
    return [row[i] for row, i in zip(rows, choice, strict=True)]


@settings(max_examples=200, deadline=None)
@given(repairs())
def test_a_repair_is_the_best_choice_within_the_budget(problem):
    """Against all choices; and no flip that raises alpha fits into what is left."""
    limit, alphas, weight_alphas = problem
    scores = of_pairs(alphas, weight_alphas)
    argmax = [row.index(max(row)) for row in scores]
    found, flips = repair.repaired(limit, alphas, argmax, weight_alphas)
    ((costs, target),) = limit.constraints
    table, fixed = costs.table, costs.fixed
    left = decimal(target) - decimal(fixed) - sum(map(decimal, picked(table, found)))
    assert costs.of(found) <= target
    if left < 0:  # By less than a float64 of the target tells: there is nothing below.
        assert costs.of(found) == costs.reachable[0]
        return
    for costs_of_layer, alphas_of_layer, i in zip(table, scores, found, strict=True):
        for cost, alpha in zip(costs_of_layer, alphas_of_layer, strict=True):
            # Sums of two alphas are float64, which tells no less apart.
            raises = float(alpha - alphas_of_layer[i]) > 1e-12
            assert not raises or decimal(cost) - decimal(costs_of_layer[i]) > left
    best = max(
        sum(picked(scores, choice))
        for choice in itertools.product(range(len(limit.pairs)), repeat=len(scores))
        if limit.meets(choice)
    )
    assert float(best - sum(picked(scores, found))) <= 1e-12
    if limit.meets(argmax):
        assert found == argmax and not flips
    bits = [list(limit.pairs[i]) for i in argmax]
    for flip in flips:
        of_layer = bits["abcdef".index(flip.name)]
        assert of_layer[not flip.of_weights] == flip.from_bits != flip.to_bits
        of_layer[not flip.of_weights] = flip.to_bits
    assert [tuple(pair) for pair in bits] == [limit.pairs[i] for i in found]
    assert repair.repaired(limit, alphas, found, weight_alphas) == (found, [])


@settings(max_examples=100, deadline=None)
@given(problems())
def test_flips_are_told_from_any_choice(problem):
    limit, alphas, choice = problem
    repaired, flips = repair.repaired(limit, alphas, choice)
    assert limit.bops_of(repaired) <= limit.target_bops
    assert len(flips) == sum(old != new for old, new in zip(choice, repaired, strict=True))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=60), st.sampled_from(WEIGHTINGS))
def test_one_bit_width_everywhere_is_that_many_bits_on_average(elements, weighting):
    """Sums of rounded shares made 4.000000000000001 of nine layers at 4 bits, more than a budget of 4."""
    layers = [LayerCost(str(i), "conv", macs, 1, macs + i, False) for i, macs in enumerate(elements)]
    found = average_bits_costs(layers, (8, 4, 3), weighting)
    assert found.reachable == (3, 8)
    assert found.exactly([1] * len(layers)) == 4
