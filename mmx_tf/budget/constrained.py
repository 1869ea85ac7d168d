"""The choice with the largest sum of scores under several limits at once: BOPs, bytes of weights, RAM.

    maximize sum_l score_l[c_l]   subject to   fixed_m + sum_l cost_ml[c_l] <= target_m   for every limit m

One sum is a knapsack (`mmx_tf.budget.knapsack`); several are an integer linear program, which scipy's HiGHS
solves by branch and cut. It works in floating point, so what it finds is checked with exact numbers.

Bytes of RAM are a limit on the sum at each moment, and on the arena, which is no sum, as there may be gaps
between tensors. Where the arena of what was found is too large, the layers that make it so are told; then the
program is solved again with the condition that one of them has a smaller tensor (logic-based Benders cuts:
Hooker and Ottosson, "Logic-based Benders decomposition", 2003).
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from scipy import optimize, sparse

from mmx_tf.budget.ram_costs import RamCosts
from mmx_tf.recipe.candidate_costs import CandidateCosts, exact

Limits = Sequence[tuple[CandidateCosts | RamCosts, float]]
Cut = Sequence[tuple[int, int]]
"""(layer, candidate) pairs of which a choice has to have one."""

FIRST_TIGHTENING, TIGHTENINGS = 2.0**-30, 6
"""By this share a limit is tightened where the solver's tolerance let a choice exceed it. If that is not
enough the share grows 16 times, as often as the second number says."""
CUTS = 24
"""So many arenas that are too large are excluded; then layers are made smaller, the smallest loss first."""
MARGINS = 1e5
"""What the scores' margins add up to for the solver, whose tolerance of 1e-6 is absolute."""
TIE = 1e-4
"""What a bit counts beside that: it decides between equals."""


class NoChoiceError(ValueError):
    """Limits that no choice was found to meet."""


def best_choice(limits: Limits, scores: np.ndarray, bits: Sequence[int]) -> list[int]:
    """The best choice, to a relative 1e-8 of the scores' margins; of equal ones that with the most bits.

    No flip of a layer that raises its score fits beside it. Where arenas have gaps it is the best one if no
    arena is larger for smaller tensors and at most `CUTS` have to be excluded.

    Args:
      limits: costs and target of each.
      scores: (L, C), in float64.
      bits: C sums of a candidate's bits.

    Returns:
      L candidates' indices.

    Raises:
      NoChoiceError: if no choice is found.
      ValueError: if a score is not finite.
    """
    if not np.all(np.isfinite(scores)):
        raise ValueError("alphas are not finite numbers: training has diverged, so they choose no bits.")
    margins = scores - scores.max(axis=1, keepdims=True)
    margins = margins * (MARGINS / (np.abs(margins).max(axis=1).sum() or 1.0))
    values = margins + TIE * np.asarray(bits, np.float64)
    sums = [(moment, target) for costs, target in limits for moment in costs.moments]
    cuts: list[Cut] = []
    choice = _within(sums, values, cuts)
    while excess := next(_exceeded(limits, choice), None):
        cut = _cut(*excess, choice) if len(cuts) < CUTS else ()
        try:
            if not cut:
                raise NoChoiceError
            choice = _within(sums, values, [*cuts, cut])
            cuts.append(cut)
        except NoChoiceError:
            choice = _made_smaller(limits, sums, choice, scores)
    return raised(limits, choice, scores)


def _within(sums: Limits, values: np.ndarray, cuts: Sequence[Cut]) -> list[int]:
    """The best choice by the sums alone."""
    tightening = 0.0
    for _ in range(TIGHTENINGS):
        choice = _solved(sums, values, tightening, cuts)
        if meets(sums, choice):
            return choice
        tightening = tightening * 16 or FIRST_TIGHTENING
    raise NoChoiceError("no choice was found that meets all limits with exact sums.")


def _solved(sums: Limits, values: np.ndarray, tightening: float, cuts: Sequence[Cut]) -> list[int]:
    layers, candidates = values.shape
    one_each = sparse.kron(sparse.eye(layers), np.ones((1, candidates)), format="csr")
    constraints = [optimize.LinearConstraint(one_each, 1, 1)]
    for costs, target in sums:
        # In shares of the target, since the solver's tolerances are absolute.
        row = np.array(costs.table, np.float64).reshape(1, -1) / float(target)
        left = 1.0 - float(costs.fixed) / float(target)
        constraints.append(optimize.LinearConstraint(row, -np.inf, left - tightening))
    for cut in cuts:
        row = np.zeros(values.shape)
        row[tuple(np.transpose(cut))] = 1
        constraints.append(optimize.LinearConstraint(row.reshape(1, -1), 1, np.inf))
    found = optimize.milp(
        -values.ravel(),
        integrality=np.ones(values.size),
        bounds=optimize.Bounds(0, 1),
        constraints=constraints,
        options={"mip_rel_gap": 0.0},
    )
    if found.x is None:
        raise NoChoiceError(f"no choice meets all limits: {found.message}")
    return [int(i) for i in found.x.reshape(layers, candidates).argmax(axis=1)]


def _exceeded(limits: Limits, choice: Sequence[int]) -> Iterator[tuple[RamCosts, float]]:
    """The limits whose arena is too large; what is a sum is met."""
    for costs, target in limits:
        if isinstance(costs, RamCosts) and costs.exactly(choice) > exact(target):
            yield costs, target


def _cut(costs: RamCosts, target: float, choice: Sequence[int]) -> Cut:
    """What has to be taken of the layers that make the arena of a choice too large.

    With all others at their smallest tensors it is too large still, so one of these has to shrink.
    """
    reduced = list(choice)

    def without(layers: Sequence[int]) -> bool:
        """Lowers layers, if the arena is too large without them."""
        tried = list(reduced)
        for layer in layers:
            tried[layer] = costs.smallest(layer)
        if costs.exactly(tried) > exact(target):
            reduced[:] = tried
            return True
        return False

    def found(layers: Sequence[int]) -> Iterable[int]:
        """Those of the layers without which it fits; the others are lowered, as many at once as can be."""
        if not layers or without(layers):
            return ()
        if len(layers) == 1:
            return layers
        half = len(layers) // 2
        return (*found(layers[:half]), *found(layers[half:]))

    layers = range(len(choice))
    certain = [layer for layer in layers if costs.smallest(layer) is not None]
    kept = {*found(certain), *(layer for layer in layers if layer not in certain)}
    return [(layer, c) for layer in sorted(kept) for c in costs.smaller(layer, choice[layer])]


def _made_smaller(limits: Limits, sums: Limits, choice: Sequence[int], scores: np.ndarray) -> list[int]:
    """Gives layers that make an arena too large fewer bytes, the smallest loss of score first."""
    choice = list(choice)
    while excess := next(_exceeded(limits, choice), None):
        costs, target = excess
        flips = [
            (scores[layer, choice[layer]] - scores[layer, c], layer, c)
            for layer, c in _cut(costs, target, choice)
            if costs.totals[layer][c] < costs.totals[layer][choice[layer]]
            and meets(sums, [*choice[:layer], c, *choice[layer + 1 :]])
        ]
        if not flips:
            # Smaller tensors can take a larger arena, where one can no longer be written over another.
            cheapest = next((c.cheapest for c, _ in limits if meets(limits, c.cheapest)), None)
            if cheapest is None:
                raise NoChoiceError(f"no choice was found within {target:g} {costs.unit} beside the others.")
            return cheapest
        _, layer, candidate = min(flips)
        choice[layer] = candidate
    return choice


def meets(limits: Limits, choice: Sequence[int]) -> bool:
    """Whether a choice costs no more than every limit: by exact sums, and by the arena where it is RAM."""
    # Sums are cheap; an arena has to be arranged.
    within = (m.exactly(choice) <= exact(target) for costs, target in limits for m in costs.moments)
    return all(within) and next(_exceeded(limits, choice), None) is None


def raised(limits: Limits, choice: Sequence[int], scores: np.ndarray) -> list[int]:
    """Takes flips of single layers that raise the score and fit, the largest first, until no flip is left.

    Args:
      limits, scores: as for `best_choice`.
      choice: one that meets the limits.
    """
    choice = list(choice)
    while True:
        gains = scores - scores[np.arange(len(choice)), choice][:, np.newaxis]
        for flat in np.argsort(-gains, axis=None, kind="stable").tolist():
            layer, candidate = divmod(flat, scores.shape[1])
            if gains[layer, candidate] <= 0:
                return choice
            flipped = [*choice[:layer], candidate, *choice[layer + 1 :]]
            if meets(limits, flipped):
                choice = flipped
                break
        else:
            return choice


def filled(limits: Limits, choice: Sequence[int], scores: np.ndarray, bits: Sequence[int]) -> list[int]:
    """Raises bits wherever that fits, for limits that all other layers leave room under.

    Layers come in the order of what their alphas gain by it; each takes the most bits that fit.

    Args:
      limits, scores, bits: as for `best_choice`.
      choice: one that meets the limits.
    """
    choice, sizes = list(choice), np.asarray(bits)
    gains = scores - scores[np.arange(len(choice)), choice][:, np.newaxis]
    gains = np.where(sizes[np.newaxis, :] > sizes[choice][:, np.newaxis], gains, -np.inf).max(axis=1)
    for layer in np.argsort(-gains, kind="stable").tolist():
        for candidate in np.argsort(-sizes, kind="stable").tolist():
            flipped = [*choice[:layer], candidate, *choice[layer + 1 :]]
            if sizes[candidate] > sizes[choice[layer]] and meets(limits, flipped):
                choice = flipped
                break
    return choice
