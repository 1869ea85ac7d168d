"""What a search holds for each of its targets: a budget, and one alpha per searched layer.

All targets of a search share the network and its meta-state. What is searched for one of them depends on no
other: its alphas take the values that they would take in a search of their own, on the same minibatches.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from absl import logging

from mmx_tf import bops
from mmx_tf.budget import Budget, CandidateCosts


@dataclasses.dataclass(frozen=True, eq=False)
class TargetSearch:
    """One target of a search.

    Attributes:
      budget: costs, candidates and target.
      alphas: architectural parameters, one (B,) variable per searched layer, in graph order.
      prefix: what the names of its logs begin with; empty where there is one target.
    """

    budget: Budget
    alphas: Sequence[tf.Variable]
    prefix: str = ""

    def logs(self) -> dict[str, tf.Tensor]:
        """Scalars by log name: BOPs of the most probable bits, regularizer, mean entropy of the alphas.

        With costs in place of BOPs, also the `cost` of those bits.
        """
        probabilities = tf.nn.softmax(tf.stack(self.alphas))
        entropy = -tf.reduce_sum(probabilities * tf.math.log(probabilities + 1e-12), axis=-1)
        counted = {"bops": self.budget.bops_costs}
        if self.budget.own is not None:
            counted["cost"] = self.budget.own
        return {
            **{
                f"{self.prefix}{name}": tf.cast(selected_cost(self.alphas, costs), tf.float32)
                for name, costs in counted.items()
            },
            f"{self.prefix}regularizer": regularizer(self.budget, self.alphas),
            f"{self.prefix}alpha_entropy": tf.reduce_mean(entropy),
        }

    def choose(self, *, repair: bool) -> list[int]:
        """The branch with the largest alpha in every searched layer, L indices, repaired to meet the budget.

        Args:
          repair: flip layers, smallest alpha margin first and each flip logged, until the budget is met.
        """
        alphas = np.stack([alpha.numpy() for alpha in self.alphas])
        choice = [int(branch) for branch in alphas.argmax(axis=1)]
        if not repair:
            return choice
        costs, unit = self.budget.candidate_costs, self.budget.candidate_costs.unit
        before = costs.of(choice)
        choice, flips = self.budget.repair(alphas, choice)
        for flip in flips:
            logging.info(
                "budget repair: %s %d -> %d bits (alpha margin %.4g)",
                flip.name, flip.from_bits, flip.to_bits, flip.margin,
            )  # fmt: skip
        if flips:
            logging.info(
                "budget repair: %d flips took %s %s to %s (target %s)",
                len(flips), before, unit, costs.of(choice), self.budget.target,
            )  # fmt: skip
        return choice


def selected_cost(alphas, costs: CandidateCosts) -> tf.Tensor:
    """Cost of the branches with the largest alpha: scalar float64, differentiable (paper eq. 4 and 5)."""
    return bops.selected_cost(alphas, table=costs.table, fixed=costs.fixed)


def regularizer(budget: Budget, alphas, target: tf.Tensor | None = None) -> tf.Tensor:
    """r(alpha) / target: the gap of the cost relative to the target (eq. 4, normalised); 0 without a target.

    Args:
      budget: costs, candidates and target.
      alphas: L tensors of shape (B,), or one of shape (L, B).
      target: scalar float64 that stands in for the budget's target.
    """
    if budget.target is None:
        return tf.constant(0.0)
    target = budget.target if target is None else target
    gap = tf.abs(selected_cost(alphas, budget.candidate_costs) - target)
    return tf.cast(gap / target, tf.float32)
