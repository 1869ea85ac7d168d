"""What a search holds for each of its targets: a budget, and one alpha per searched layer.

All targets of a search share the network and its meta-state. What is searched for one of them depends on no
other: its alphas take the values that they would take in a search of their own, on the same minibatches.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf
from absl import logging

from layers import replicas
from mmx_tf import bops
from mmx_tf.bit_selection import BitSelection, LayerSelection, SelectedCost
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

    def selection_of(self, choice: Sequence[int], signed: Mapping[str, bool]) -> BitSelection:
        """The BitSelection of a choice.

        Args:
          choice: the branch index of every searched layer, in graph order.
          signed: layer name -> whether its input has codes below zero.
        """
        budget = self.budget
        bits = {c.name: budget.bit_widths[b] for c, b in zip(budget.searched, choice, strict=True)}
        ends = budget.first_last_bits
        layers = tuple(
            LayerSelection(
                name=cost.name, kind=cost.kind, macs=cost.macs, activation_bits=bits.get(cost.name, ends),
                weight_bits=ends if cost.end else budget.weight_bits, signed=signed[cost.name],
                input_elements=cost.input_elements, searched=not cost.end,
            )
            for cost in budget.costs
        )  # fmt: skip
        cost = None
        if budget.own is not None:
            cost = SelectedCost(budget.own.unit, float(budget.own.of(choice)), budget.target_cost)
        return BitSelection(budget.bit_widths, layers, budget.target_bops, cost)


def over_targets(targets: Sequence[TargetSearch], one_pass: Callable) -> tuple[tf.Tensor, tf.Tensor]:
    """Results of a pass for each of T targets: ((T, L, B) gradients, (T,) losses).

    Args:
      targets: those of one search.
      one_pass: ((L, B) alphas, scalar float64 target, None without one) -> ((L, B) gradient, scalar loss).
    """
    if len(targets) == 1:
        gradient, loss = one_pass(tf.stack(targets[0].alphas), None)
        return gradient[tf.newaxis], loss[tf.newaxis]
    count = len(targets)
    alphas = tf.stack([tf.stack(target.alphas) for target in targets])
    goals = tf.constant([target.budget.target for target in targets], tf.float64)

    def one(i, gradients, losses):
        gradient, loss = one_pass(alphas[i], goals[i])
        return i + 1, gradients.write(i, gradient), losses.write(i, loss)

    # A loop, as in the bit-meta step: one pass is traced, and one pass's activations are alive.
    empty = (tf.TensorArray(tf.float32, count), tf.TensorArray(tf.float32, count))
    gradients, losses = replicas.in_turn(count, one, empty)
    return gradients.stack(), losses.stack()


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
