"""The multiple-choice knapsack: exact against all choices, and fast on networks of any size."""

import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmx_tf.budget.knapsack import LARGEST, solve


def total(rows, choice):
    return sum(row[i] for row, i in zip(rows, choice, strict=True))


def test_by_hand():
    costs, scores = [[4, 2], [6, 3]], [[5, 1], [4, 0]]
    assert solve(costs, scores, 10).choice == [0, 0]
    # 9: 4 + 3 scores 5 + 0, and 2 + 6 scores 1 + 4: of equal sums the cheaper one.
    assert solve(costs, scores, 9).choice == [0, 1]
    assert solve(costs, scores, 6).choice == [1, 1]
    assert solve(costs, scores, 5).choice == [1, 1]
    with pytest.raises(ValueError, match="cheapest one costs 5 of 4"):
        solve(costs, scores, 4)


def test_what_the_steepest_steps_miss():
    """Per cost the first layer's step is the best, but it keeps the two others out."""
    assert solve([[0, 6], [0, 5], [0, 5]], [[0, 9], [0, 7], [0, 7]], 10).choice == [0, 1, 1]


def test_a_candidate_off_the_hull_may_be_the_best():
    """Between (0, 0) and (10, 10) the candidate (9, 8) is below the line, and all that fits."""
    assert solve([[0, 9, 10]], [[0, 8, 10]], 9).choice == [1]


@st.composite
def problems(draw):
    shape = draw(st.tuples(st.integers(1, 5), st.integers(1, 4)))
    largest = draw(st.sampled_from([3, 100, 10**6, 2**58]))
    rows = st.lists(
        st.lists(st.integers(0, largest), min_size=shape[1], max_size=shape[1]),
        min_size=shape[0],
        max_size=shape[0],
    )
    costs, scores = draw(rows), draw(rows)
    if draw(st.booleans()):
        # Proportional: every sum of costs is a score of its own.
        scores = [[3 * cost - 1 for cost in row] for row in costs] if largest < 2**50 else scores
    scores = [[score - largest // 2 for score in row] for row in scores]
    return costs, scores, draw(st.integers(sum(map(min, costs)), sum(map(max, costs))))


@settings(max_examples=500, deadline=None)
@given(problems(), st.booleans())
def test_against_all_choices(problem, thinned):
    costs, scores, capacity = problem
    found = solve(costs, scores, capacity, **({"most_states": 2} if thinned else {}))
    assert total(costs, found.choice) <= capacity
    fitting = [
        choice
        for choice in itertools.product(range(len(costs[0])), repeat=len(costs))
        if total(costs, choice) <= capacity
    ]
    best = max(total(scores, choice) for choice in fitting)
    assert 0 <= best - total(scores, found.choice) <= found.missed
    if not thinned:
        assert found.missed == 0
        cheapest = min(total(costs, choice) for choice in fitting if total(scores, choice) == best)
        assert total(costs, found.choice) == cheapest


def test_costs_beyond_int64_are_no_candidates():
    assert solve([[1, 10**30]], [[0, 5]], 7).choice == [0]
    with pytest.raises(ValueError, match="together"):
        solve([[1, 2]], [[0, LARGEST]], 7)


@pytest.mark.parametrize("alphas", ["searched", "two values and noise", "equal", "close to the costs"])
@pytest.mark.parametrize("candidates", [3, 9])
@pytest.mark.parametrize("share", [0.02, 0.3])
def test_a_network_of_350_layers_is_solved(alphas, candidates, share):
    """Costs from 1e6 to 1e10, as of a network's layers; some seconds are ten times what it takes."""
    generator = np.random.default_rng(0)
    bits = np.array([8, 4, 3]) if candidates == 3 else np.outer([8, 4, 2], [8, 4, 3]).ravel()
    macs = np.exp(generator.uniform(np.log(1e5), np.log(2e8), 350)).astype(np.int64)
    costs, noise = macs[:, np.newaxis] * bits, generator.normal(size=(350, candidates))
    scores = {
        "searched": 1e12 * noise,
        "two values and noise": 1e12 * generator.choice([-1, 1], size=noise.shape) + 1e7 * noise,
        "equal": np.broadcast_to(bits, noise.shape),
        "close to the costs": 1e4 * costs + 1e11 * noise,
    }[alphas]
    scores = np.rint(scores).astype(np.int64).tolist()
    low, high = costs.min(1).sum(), costs.max(1).sum()
    begin = time.process_time()
    found = solve(costs.tolist(), scores, int(low + share * (high - low)))
    assert found.missed == 0 and time.process_time() - begin < 10
    assert total(costs.tolist(), found.choice) <= low + share * (high - low)


def test_scores_in_proportion_to_costs_are_told_as_what_they_are():
    """Then every sum of costs counts, of which there are more than can be kept."""
    macs = np.exp(np.random.default_rng(0).uniform(np.log(1e5), np.log(2e8), 40)).astype(np.int64)
    costs = (macs[:, np.newaxis] * np.array([8, 4, 3])).tolist()
    capacity = sum(row[1] for row in costs)
    found = solve(costs, costs, capacity, most_states=500)
    assert 0 < capacity - total(costs, found.choice) <= found.missed < 1e-4 * capacity
