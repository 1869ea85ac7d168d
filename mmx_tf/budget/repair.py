"""The choice with the largest sum of alphas within a budget: what the repair of a selection takes.

    maximize sum_l alpha_l[c_l]   subject to   fixed + sum_l cost_l[c_l] <= target

A layer's softmax(alpha) differs from exp(alpha) by a factor that no choice changes. So this is the most
probable choice within the budget, and log probabilities in place of alphas would give the same one. Where
weight bits are searched too, a pair scores the sum of its two alphas.
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from absl import logging

from mmx_tf.budget import constrained, knapsack
from mmx_tf.budget.budget import Budget
from mmx_tf.budget.ram_costs import RamCosts
from mmx_tf.recipe.candidate_costs import exact

COST_BITS = 60


@dataclasses.dataclass(frozen=True)
class Flip:
    """One change that the repair made: layer `name` went from one bit-width to another one.

    `margin` is the alpha that was given up: alpha of the old branch minus alpha of the new one. `of_weights`
    says whether the bits are the weights' or the activations'.
    """

    name: str
    from_bits: int
    to_bits: int
    margin: float
    of_weights: bool = False


def repaired(
    budget: Budget, alphas: np.ndarray, choice: Sequence[int], weight_alphas: np.ndarray | None = None
) -> tuple[list[int], list[Flip]]:
    """The choice with the largest sum of alphas that the targets allow, filled up where bits cost nothing.

    Where the budget has a sum of costs, no flip of a layer that raises its alpha fits into what this choice
    leaves of the targets; where it has RAM alone, no flip that raises its bits.

    Args:
      budget: costs, candidates and target.
      alphas: (L, B) architectural parameters of the searched layers.
      choice: L candidates' indices that flips are told from: those of the largest alphas. Where these
        meet the target they stay.
      weight_alphas: (L, W), where weight bits are searched.

    Returns:
      The best choice, and the flips that lead there from `choice`, in graph order.

    Raises:
      ValueError: if an alpha is not finite.
    """
    # In float64 sums of two float32 alphas are all but exact, so what pairs have in common drops out.
    scores = np.float64(alphas)
    if weight_alphas is not None:
        both = np.float64(weight_alphas)[:, :, np.newaxis] + scores[:, np.newaxis, :]
        scores = both.reshape(len(scores), -1)
    largest = all(row[i] == row.max() for row, i in zip(scores, choice, strict=True))
    if not budget.constraints:
        return list(choice), []
    limits = budget.constraints
    bits = [sum(pair) for pair in budget.pairs]
    if largest and budget.meets(choice):
        best = list(choice)
    elif len(limits) > 1 or isinstance(limits[0][0], RamCosts):
        best = constrained.best_choice(limits, scores, bits)
    else:
        ((costs, target),) = limits
        table = [[exact(cost) for cost in row] for row in costs.table]
        best = best_choice(table, exact(target) - exact(costs.fixed), scores, bits)
    if budget.only_limits:
        best = constrained.filled(limits, best, scores, bits)
    return best, _flips(budget, alphas, weight_alphas, choice, best)


def _flips(budget: Budget, alphas, weight_alphas, old, new) -> list[Flip]:
    flips, branches = [], len(budget.bit_widths)
    for layer, cost in enumerate(budget.searched):
        (old_w, old_a), (new_w, new_a) = (divmod(choice[layer], branches) for choice in (old, new))
        if old_w != new_w:
            margin = float(weight_alphas[layer, old_w]) - float(weight_alphas[layer, new_w])
            bits = budget.weight_bits[old_w], budget.weight_bits[new_w]
            flips.append(Flip(cost.name, *bits, margin, of_weights=True))
        if old_a != new_a:
            margin = float(alphas[layer, old_a]) - float(alphas[layer, new_a])
            flips.append(Flip(cost.name, budget.bit_widths[old_a], budget.bit_widths[new_a], margin))
    return flips


def best_choice(
    table: Sequence[Sequence[int | Fraction]],
    capacity: int | Fraction,
    scores: np.ndarray,
    bits: Sequence[int],
) -> list[int]:
    """The best choice, by exact sums of costs.

    Of choices with the same sum of scores the one with the most bits, summed over layers, is taken, of those
    a cheapest. Sums of scores are told apart from 2**-40 or less of the layers' margins together (the largest
    score less the smallest).

    Args:
      table: L rows of C `exact` costs.
      capacity: what the costs of a choice may add up to. Where it is less than any choice costs, which is
        left to the caller to refuse, the cheapest choice is taken.
      scores: (L, C), in float64.
      bits: C sums of a candidate's bits.

    Returns:
      L candidates' indices.

    Raises:
      ValueError: if a score is not finite.
    """
    if not np.all(np.isfinite(scores)):
        raise ValueError("alphas are not finite numbers: training has diverged, so they choose no bits.")
    smallest = [min(row) for row in table]
    capacity = max(0, capacity - sum(smallest))
    above = [[cost - low for cost in row] for row, low in zip(table, smallest, strict=True)]
    fits = np.array([[cost <= capacity for cost in row] for row in above])
    whole = _integers(above, capacity)
    ranks, unit = _ranks(scores, fits, bits)
    found = knapsack.solve(whole[:-1], ranks, whole[-1][0])
    if found.missed:
        logging.warning(
            "budget repair: the alphas are all but proportional to the costs, which leaves too many choices "
            "to compare. This one meets the budget; the best one's sum of alphas is larger by %.2g at most.",
            found.missed / unit,
        )
    return _raised(found.choice, above, capacity, scores)


def _integers(rows, capacity) -> list[list[int]]:
    """Rows of costs of 0 or more, and [capacity] behind them, in one unit in which all are integers.

    Where that takes more bits than the solver has, costs are rounded up.
    """
    rows = [*rows, [capacity]]
    numbers = list(itertools.chain.from_iterable(rows))
    unit = math.lcm(*(number.denominator for number in numbers))
    common = math.gcd(*(int(number * unit) for number in numbers[:-1])) or 1
    whole = [[int(number * unit) // common for number in row] for row in rows]
    shift = max(0, whole[-1][0].bit_length() - COST_BITS)
    return [*([-(-cost >> shift) for cost in row] for row in whole[:-1]), [whole[-1][0] >> shift]]


def _ranks(scores: np.ndarray, fits: np.ndarray, bits: Sequence[int]) -> tuple[list[list[int]], float]:
    """Integers whose sums are ordered like the sums of scores, those of equal ones like the sums of bits.

    Returns:
      L rows of C, and how much of them a score of 1 is.
    """
    # What fits in no choice would only take bits away from the others.
    margins = np.where(fits, scores - scores.max(axis=1, keepdims=True), 0.0)
    factor = len(scores) * max(bits) + 1
    # The sum of the margins is below 2**exponent.
    exponent = math.frexp(float(np.abs(margins).max(axis=1).sum()))[1]
    room = knapsack.LARGEST.bit_length() - 2 - factor.bit_length() - exponent
    ranks = [
        [round(value) * factor + size for value, size in zip(row, bits, strict=True)]
        for row in np.ldexp(margins, room).tolist()
    ]
    return ranks, factor * math.ldexp(1.0, room)


def _raised(choice: list[int], above, capacity, scores: np.ndarray) -> list[int]:
    """Takes single flips that raise the score and fit, the largest first; rounding alone leaves any."""
    choice = list(choice)
    while True:
        left = capacity - sum(row[i] for row, i in zip(above, choice, strict=True))
        raises = [
            (scores[layer, i] - scores[layer, current], -layer, -i)
            for layer, current in enumerate(choice)
            for i in np.flatnonzero(scores[layer] > scores[layer, current]).tolist()
            if above[layer][i] - above[layer][current] <= left
        ]
        if not raises:
            return choice
        _, layer, i = max(raises)
        choice[-layer] = -i
