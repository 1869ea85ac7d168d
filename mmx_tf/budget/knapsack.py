"""One candidate for every layer: the largest sum of scores whose costs fit into a capacity, exactly.

This is the multiple-choice knapsack problem. It is solved by dynamic programming over the layers: a state is
the (cost, score) of a choice for the layers so far, and a state that costs no less and scores no more than
another one is dropped (Dudzinski and Walukiewicz 1987). Two bounds of the linear relaxation, whose
optimum a greedy choice along each layer's concave hull gives, keep the states few (Pisinger 1995):

* A candidate whose reduced score is more than a gap below its layer's best is in no choice within that gap of
  the relaxation's optimum. The gap starts small and is widened until a choice lies within it.
* A state is dropped where even the relaxation of the layers to come does not bring it within the gap.

Costs and scores are integers, so that nothing is rounded; the bounds are in float64, with a margin for its
rounding. The result depends on the numbers alone.

>>> solve([[4, 2], [6, 3]], [[5, 1], [4, 0]], 8).choice     # 4 + 3 fits and scores 5; 2 + 6 scores 5 too
[0, 1]
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

LARGEST = 2**62
"""Capacity and the sum of the scores' sizes are below it, so that int64 holds every sum."""
MOST_STATES = 50_000
"""Beyond it states are thinned out. Only scores that are all but proportional to the costs take so many."""
FIRST_GAP, GAP_FACTOR = 2.0**-10, 4.0
ROUNDING = 1e-13
"""Relative error that is granted to a bound in float64: some hundred roundings of 2**-53."""


@dataclasses.dataclass(frozen=True)
class Solution:
    """A choice that fits.

    Attributes:
      choice: the candidate's index for every layer.
      missed: 0 for the best choice; else, where states were thinned out, what the sum of scores may lack to
        the best choice's at most.
    """

    choice: list[int]
    missed: float


@dataclasses.dataclass(frozen=True)
class _Layer:
    """Candidates of a layer that no other one dominates, costs and scores rising: (C,) arrays."""

    cost: np.ndarray
    score: np.ndarray
    index: np.ndarray

    def only(self, kept: np.ndarray) -> "_Layer":
        return _Layer(self.cost[kept], self.score[kept], self.index[kept])


def solve(
    costs: Sequence[Sequence[int]],
    scores: Sequence[Sequence[int]],
    capacity: int,
    *,
    most_states: int = MOST_STATES,
) -> Solution:
    """The best choice; of equally good ones a cheapest.

    Args:
      costs: L rows of C integers of 0 or more.
      scores: L rows of C integers.
      capacity: what the costs of a choice may add up to, below `LARGEST`.
      most_states: number of states from which on they are thinned out.

    Raises:
      ValueError: if no choice fits, or a sum would not fit into int64.
    """
    if capacity < sum(map(min, costs)):
        raise ValueError(f"no choice fits: the cheapest one costs {sum(map(min, costs))} of {capacity}.")
    size = sum(max(map(abs, row)) for row in scores)
    if max(capacity, size) >= LARGEST:
        raise ValueError(f"capacity {capacity} or scores of {size} together: below {LARGEST}.")
    layers = [_undominated(*rows, capacity) for rows in zip(costs, scores, strict=True)]
    steps = _relaxation(layers)
    xs, ys = _curve(layers, steps)
    bound = float(np.interp(float(capacity), xs, ys))
    at = int(np.searchsorted(xs, float(capacity), side="right"))
    slope = (ys[at] - ys[at - 1]) / (xs[at] - xs[at - 1]) if at < len(xs) else 0.0
    greedy = _greedy(layers, steps, capacity)
    reached = sum(int(layer.score[i]) for layer, i in zip(layers, greedy, strict=True))
    rounding = ROUNDING * size
    widest = max(0.0, bound - reached)
    gap = widest * FIRST_GAP
    while True:
        lowest = bound - gap if gap < widest else reached
        rest = [_within(layer, slope, min(gap, widest) + rounding) for layer in layers]
        found, thinned = _states(rest, capacity, lowest - rounding, most_states)
        if found is not None and found[0] >= (reached if thinned else lowest):
            score, choice = found
            return Solution(choice, max(0.0, bound - score) + rounding if thinned else 0.0)
        if gap >= widest:  # Thinned out down to less than the greedy choice.
            choice = [int(layer.index[i]) for layer, i in zip(layers, greedy, strict=True)]
            return Solution(choice, widest + rounding)
        gap = gap * GAP_FACTOR or widest


def _undominated(costs, scores, capacity: int) -> _Layer:
    # Python's integers may be larger than int64 holds.
    fits = [i for i, cost in enumerate(costs) if cost <= capacity]
    layer = _Layer(
        np.array([costs[i] for i in fits], np.int64),
        np.array([scores[i] for i in fits], np.int64),
        np.array(fits),
    )
    return layer.only(_front(layer.cost, layer.score))


def _front(costs: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Indices of the pairs that no other one dominates, costs rising; of equal ones the first."""
    order = np.lexsort((-scores, costs))
    ranked = scores[order]
    kept = np.ones(len(order), bool)
    kept[1:] = ranked[1:] > np.maximum.accumulate(ranked)[:-1]
    return order[kept]


def _relaxation(layers: Sequence[_Layer]) -> list[tuple[float, int, int, int, int]]:
    """Steps along the layers' concave hulls, steepest first: (slope, cost, score, layer, candidate)."""
    steps = []
    for number, layer in enumerate(layers):
        costs, scores = layer.cost.tolist(), layer.score.tolist()
        hull: list[int] = []
        for i in range(len(costs)):
            while len(hull) > 1:
                a, b = hull[-2:]
                if (scores[b] - scores[a]) * (costs[i] - costs[a]) > (scores[i] - scores[a]) * (
                    costs[b] - costs[a]
                ):
                    break
                hull.pop()
            hull.append(i)
        for a, b in zip(hull, hull[1:], strict=False):
            cost, score = costs[b] - costs[a], scores[b] - scores[a]
            steps.append((score / cost, cost, score, number, b))
    return sorted(steps, key=lambda step: -step[0])


def _curve(layers: Sequence[_Layer], steps) -> tuple[np.ndarray, np.ndarray]:
    """(costs, largest scores) of the relaxation: a concave function that is linear in between."""
    xs = [sum(float(layer.cost[0]) for layer in layers), *(float(step[1]) for step in steps)]
    ys = [sum(float(layer.score[0]) for layer in layers), *(float(step[2]) for step in steps)]
    return np.cumsum(xs), np.cumsum(ys)


def _greedy(layers, steps, capacity: int) -> list[int]:
    """Positions of the choice that takes the relaxation's steps as long as they fit."""
    choice, left = [0] * len(layers), capacity - sum(int(layer.cost[0]) for layer in layers)
    for _, cost, _, number, candidate in steps:
        left -= cost
        if left < 0:
            break
        choice[number] = candidate
    return choice


def _within(layer: _Layer, slope: float, gap: float) -> _Layer:
    reduced = layer.score - slope * layer.cost
    return layer.only(np.flatnonzero(reduced >= reduced.max() - gap))


def _states(layers, capacity: int, lowest: float, most_states: int):
    """Dynamic programming: ((score, choice) of the best choice, None if no choice fits; whether thinned out).

    Choices whose score is below `lowest` may be left out.
    """
    # Layers with nothing to choose first, then large ranges of costs: bounds bite early.
    order = sorted(
        range(len(layers)), key=lambda n: (len(layers[n].cost) > 1, layers[n].cost[0] - layers[n].cost[-1])
    )
    curves = [_curve((), ())]
    for place in range(len(order) - 1, -1, -1):
        ahead = [layers[n] for n in order[place:]]
        if len(ahead[0].cost) > 1 or place == 0:
            curves.append(_curve(ahead, _relaxation(ahead)))
        else:
            xs, ys = curves[-1]
            curves.append((xs + float(ahead[0].cost[0]), ys + float(ahead[0].score[0])))
    curves = curves[::-1]
    costs = scores = np.zeros(1, np.int64)
    parents, thinned = [], False
    for place, number in enumerate(order):
        layer = layers[number]
        costs = (costs[:, np.newaxis] + layer.cost).ravel()
        scores = (scores[:, np.newaxis] + layer.score).ravel()
        xs, ys = curves[place + 1]
        left = (capacity - costs).astype(np.float64)
        # The smallest cost to come, with the error that float64 may have made of it.
        alive = (costs <= capacity) & (left >= xs[0] * (1 - ROUNDING))
        alive = np.flatnonzero(alive & (scores + np.interp(left, xs, ys) >= lowest))
        kept = alive[_front(costs[alive], scores[alive])]
        if len(kept) > most_states:
            thinned, kept = True, kept[:: -(-len(kept) // most_states)]
        if not len(kept):
            return None, thinned
        costs, scores = costs[kept], scores[kept]
        parents.append(kept.astype(np.int32))
    state, choice = int(scores.argmax()), [0] * len(layers)
    score = int(scores[state])
    for number, kept in zip(reversed(order), reversed(parents), strict=True):
        state, candidate = divmod(int(kept[state]), len(layers[number].cost))
        choice[number] = int(layers[number].index[candidate])
    return (score, choice), thinned
