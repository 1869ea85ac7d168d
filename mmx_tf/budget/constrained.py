"""The choice with the largest sum of scores under several limits at once: bytes of RAM at each moment, BOPs.

    maximize sum_l score_l[c_l]   subject to   fixed_m + sum_l cost_ml[c_l] <= target_m   for every limit m

One limit is a knapsack (`mmx_tf.budget.knapsack`); several are an integer linear program, which scipy's HiGHS
solves by branch and cut. It works in floating point, so what it finds is checked with exact numbers.
"""

from collections.abc import Sequence

import numpy as np
from scipy import optimize, sparse

from mmx_tf.recipe.candidate_costs import CandidateCosts, exact

Limits = Sequence[tuple[CandidateCosts, float]]

FIRST_TIGHTENING, TIGHTENINGS = 2.0**-30, 6
"""By this share a limit is tightened where the solver's tolerance let a choice exceed it. If that is not
enough the share grows 16 times, as often as the second number says."""
MARGINS = 1e5
"""What the scores' margins add up to for the solver, whose tolerance of 1e-6 is absolute."""
TIE = 1e-4
"""What a bit counts beside that: it decides between equals."""


def best_choice(limits: Limits, scores: np.ndarray, bits: Sequence[int]) -> list[int]:
    """The best choice, to a relative 1e-8 of the scores' margins; of equal ones that with the most bits.

    No flip of a layer that raises its score fits beside it.

    Args:
      limits: costs and target of each. The cheapest choice meets all of them, which is left to the caller to
        check.
      scores: (L, C), in float64.
      bits: C sums of a candidate's bits.

    Returns:
      L candidates' indices.

    Raises:
      ValueError: if a score is not finite, or no choice is found.
    """
    if not np.all(np.isfinite(scores)):
        raise ValueError("alphas are not finite numbers: training has diverged, so they choose no bits.")
    margins = scores - scores.max(axis=1, keepdims=True)
    margins = margins * (MARGINS / (np.abs(margins).max(axis=1).sum() or 1.0))
    values = margins + TIE * np.asarray(bits, np.float64)
    tightening = 0.0
    for _ in range(TIGHTENINGS):
        choice = _solved(limits, values, tightening)
        if meets(limits, choice):
            return raised(limits, choice, scores)
        tightening = tightening * 16 or FIRST_TIGHTENING
    raise ValueError("no choice was found that meets all limits with exact sums.")


def _solved(limits: Limits, values: np.ndarray, tightening: float) -> list[int]:
    layers, candidates = values.shape
    one_each = sparse.kron(sparse.eye(layers), np.ones((1, candidates)), format="csr")
    constraints = [optimize.LinearConstraint(one_each, 1, 1)]
    for costs, target in limits:
        # In shares of the target, since the solver's tolerances are absolute.
        row = np.array(costs.table, np.float64).reshape(1, -1) / float(target)
        left = 1.0 - float(costs.fixed) / float(target)
        constraints.append(optimize.LinearConstraint(row, -np.inf, left - tightening))
    found = optimize.milp(
        -values.ravel(),
        integrality=np.ones(values.size),
        bounds=optimize.Bounds(0, 1),
        constraints=constraints,
        options={"mip_rel_gap": 0.0},
    )
    if found.x is None:
        raise ValueError(f"no choice meets all limits: {found.message}")
    return [int(i) for i in found.x.reshape(layers, candidates).argmax(axis=1)]


def meets(limits: Limits, choice: Sequence[int]) -> bool:
    """Whether a choice costs no more than every limit, by exact sums."""
    return all(costs.exactly(choice) <= exact(target) for costs, target in limits)


def raised(limits: Limits, choice: Sequence[int], scores: np.ndarray) -> list[int]:
    """Takes flips of single layers that raise the score and fit, the largest first, until there is none.

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
