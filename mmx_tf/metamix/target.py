"""What a search holds for each of its targets: a budget, and one alpha per searched layer.

Where weight bits are searched too there is another alpha per layer for them. What goes through a pass is then
one tensor of both, (L, B + W): the activations' B columns, then the weights' W (`TargetSearch.stacked`).

All targets of a search share the network and its meta-state. What is searched for one of them depends on no
other: its alphas take the values that they would take in a search of their own, on the same minibatches.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf
from absl import logging

from mmx_tf.budget import bops
from mmx_tf.budget.budget import Budget, CandidateCosts
from mmx_tf.budget.repair import repaired
from mmx_tf.layers import replicas
from mmx_tf.metamix.selection import BitSelection, LayerSelection, SelectedCost


@dataclasses.dataclass(frozen=True, eq=False)
class TargetSearch:
    """One target of a search.

    Attributes:
      budget: costs, candidates and target.
      alphas: architectural parameters, one (B,) variable per searched layer, in graph order.
      prefix: what the names of its logs begin with; empty where there is one target.
      weight_alphas: those of the weights, one (W,) variable per searched layer; empty where weight bits are
        given.
    """

    budget: Budget
    alphas: Sequence[tf.Variable]
    prefix: str = ""
    weight_alphas: Sequence[tf.Variable] = ()

    @property
    def variables(self) -> list[tf.Variable]:
        """All alphas: the activations' of every layer, then the weights'."""
        return [*self.alphas, *self.weight_alphas]

    def stacked(self) -> tf.Tensor:
        """(L, B) alphas, or (L, B + W) with those of the weights."""
        alphas = tf.stack(self.alphas)
        return tf.concat([alphas, tf.stack(self.weight_alphas)], axis=1) if self.weight_alphas else alphas

    def logs(self) -> dict[str, tf.Tensor]:
        """Scalars by log name: BOPs of the most probable bits, regularizer, mean entropy of the alphas.

        With costs in place of BOPs, also the `cost` of those bits; where weight bits are searched,
        `weight_alpha_entropy`.
        """
        entropies = {"alpha_entropy": self.alphas}
        if self.weight_alphas:
            entropies["weight_alpha_entropy"] = self.weight_alphas
        counted = {"bops": self.budget.bops_costs}
        if self.budget.own is not None:
            counted["cost"] = self.budget.own
        return {
            **{
                f"{self.prefix}{name}": tf.cast(selected_cost(self.stacked(), costs, self.budget), tf.float32)
                for name, costs in counted.items()
            },
            f"{self.prefix}regularizer": regularizer(self.budget, self.stacked()),
            **{f"{self.prefix}{name}": _mean_entropy(alphas) for name, alphas in entropies.items()},
        }

    def choose(self, *, repair: bool) -> list[int]:
        """The candidate with the largest alphas in every searched layer, L indices.

        Args:
          repair: take the choice with the largest sum of alphas that the budget allows instead. Flips from
            the former, and what is left of the budget, are logged.
        """
        alphas = np.stack([alpha.numpy() for alpha in self.alphas])
        choice = [int(branch) for branch in alphas.argmax(axis=1)]
        weight_alphas = None
        if self.weight_alphas:
            weight_alphas = np.stack([alpha.numpy() for alpha in self.weight_alphas])
            branches = len(self.budget.bit_widths)
            choice = [int(w) * branches + a for w, a in zip(weight_alphas.argmax(1), choice, strict=True)]
        if not repair or self.budget.target is None:
            return choice
        costs, target = self.budget.candidate_costs, self.budget.target
        before = costs.of(choice)
        choice, flips = repaired(self.budget, alphas, choice, weight_alphas)
        for flip in flips:
            logging.info(
                "%sbudget repair: %s%s %d -> %d bits (alpha margin %.4g)",
                self.prefix, "weights of " if flip.of_weights else "",
                flip.name, flip.from_bits, flip.to_bits, flip.margin,
            )  # fmt: skip
        after, up = costs.of(choice), sum(flip.to_bits > flip.from_bits for flip in flips)
        logging.info(
            "%sbudget repair: %d flips (%d down, %d up) took %s %s to %s (target %s, %.2f%% of it unused)",
            self.prefix, len(flips), len(flips) - up, up, before, costs.unit, after, target,
            100 * (1 - after / target),
        )  # fmt: skip
        return choice

    def selection_of(self, choice: Sequence[int], signed: Mapping[str, bool]) -> BitSelection:
        """The BitSelection of a choice.

        Args:
          choice: the candidate's index (see `mmx_tf.budget.budget`) for every searched layer, in graph order.
          signed: layer name -> whether its input has codes below zero.
        """
        budget = self.budget
        ends = budget.first_last_bits
        bits = {cost.name: (ends, ends) for cost in budget.costs}
        bits |= {cost.name: budget.pairs[i] for cost, i in zip(budget.searched, choice, strict=True)}
        layers = tuple(
            LayerSelection(
                name=cost.name, kind=cost.kind, macs=cost.macs, activation_bits=bits[cost.name][1],
                weight_bits=bits[cost.name][0], signed=signed[cost.name],
                input_elements=cost.input_elements, searched=not cost.end,
            )
            for cost in budget.costs
        )  # fmt: skip
        cost = None
        if budget.own is not None:
            cost = SelectedCost(budget.own.unit, float(budget.own.of(choice)), budget.target_cost)
        searched_weights = budget.weight_bit_widths if budget.searches_weights else ()
        return BitSelection(budget.bit_widths, layers, budget.target_bops, cost, searched_weights)


def over_targets(targets: Sequence[TargetSearch], one_pass: Callable) -> tuple[tf.Tensor, tf.Tensor]:
    """Results of a pass for each of T targets: (gradients, (T,) losses), the gradients those of T `stacked`.

    Args:
      targets: those of one search.
      one_pass: (`stacked` alphas, scalar float64 target, None without one) -> (gradient, scalar loss).
    """
    if len(targets) == 1:
        gradient, loss = one_pass(targets[0].stacked(), None)
        return gradient[tf.newaxis], loss[tf.newaxis]
    count = len(targets)
    alphas = tf.stack([target.stacked() for target in targets])
    goals = tf.constant([target.budget.target for target in targets], tf.float64)

    def one(i, gradients, losses):
        gradient, loss = one_pass(alphas[i], goals[i])
        return i + 1, gradients.write(i, gradient), losses.write(i, loss)

    # A loop, as in the bit-meta step: one pass is traced, and one pass's activations are alive.
    empty = (tf.TensorArray(tf.float32, count), tf.TensorArray(tf.float32, count))
    gradients, losses = replicas.in_turn(count, one, empty)
    return gradients.stack(), losses.stack()


def split(stacked, budget: Budget) -> tuple[tf.Tensor, tf.Tensor | None]:
    """The (L, B) alphas of the activations and the (L, W) ones of the weights, None where bits are given.

    Args:
      stacked: what `TargetSearch.stacked` gives, or a list of its L rows.
      budget: knows B and W.
    """
    stacked, branches = tf.stack(stacked), len(budget.bit_widths)
    return (stacked[:, :branches], stacked[:, branches:]) if budget.searches_weights else (stacked, None)


def by_variable(stacked, budget: Budget) -> list[tf.Tensor]:
    """`TargetSearch.stacked`, or its gradient, taken apart as the target's `variables` are."""
    return [row for part in split(stacked, budget) if part is not None for row in tf.unstack(part)]


def selected_cost(alphas, costs: CandidateCosts, budget: Budget) -> tf.Tensor:
    """Cost of the branches with the largest alpha: scalar float64, differentiable (paper eq. 4 and 5).

    Args:
      alphas: `TargetSearch.stacked`, or a list of its L rows.
      costs: what is counted.
      budget: knows the candidates.
    """
    own, of_weights = split(alphas, budget)
    return bops.selected_cost(own, table=costs.table, fixed=costs.fixed, weight_alphas=of_weights)


def regularizer(budget: Budget, alphas, target: tf.Tensor | None = None) -> tf.Tensor:
    """r(alpha) / target: the gap of the cost relative to the target (eq. 4, normalised); 0 without a target.

    Args:
      budget: costs, candidates and target.
      alphas: `TargetSearch.stacked`, or a list of its L rows.
      target: scalar float64 that stands in for the budget's target.
    """
    if budget.target is None:
        return tf.constant(0.0)
    target = budget.target if target is None else target
    gap = tf.abs(selected_cost(alphas, budget.candidate_costs, budget) - target)
    return tf.cast(gap / target, tf.float32)


def _mean_entropy(alphas) -> tf.Tensor:
    probabilities = tf.nn.softmax(tf.stack(alphas))
    entropy = -tf.reduce_sum(probabilities * tf.math.log(probabilities + 1e-12), axis=-1)
    return tf.reduce_mean(entropy)
