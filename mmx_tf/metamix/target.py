"""What a search holds for each of its targets: a budget, and its rows of alpha.

The alpha of a target is (L, B): a row per searched layer, in graph order, and a column per candidate. Where
weight bits are searched too it is (L, B + W): the activations' B columns, then the weights' W.

All targets of a search share the network and its meta-state. What is searched for one of them depends on no
other: its alpha takes the values that it would take in a search of its own, on the same minibatches.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf
import tf_keras as keras
from absl import logging

from mmx_tf.budget import bops
from mmx_tf.budget.budget import Budget, Costs
from mmx_tf.budget.repair import repaired
from mmx_tf.layers import replicas
from mmx_tf.metamix.selection import BitSelection, LayerSelection, SelectedCost
from mmx_tf.notation import amount, target_folder


@dataclasses.dataclass(frozen=True, eq=False)
class TargetSearch:
    """One target of a search.

    Attributes:
      budget: costs, candidates and target.
      variable: alpha of all targets of the search, (T, L, B) or (T, L, B + W).
      index: of this target in it.
      prefix: what the names of its logs begin with; empty where there is one target.
    """

    budget: Budget
    variable: tf.Variable
    index: int = 0
    prefix: str = ""

    @classmethod
    def of_each(cls, budgets: Sequence[Budget], variable: tf.Variable) -> tuple["TargetSearch", ...]:
        """The targets of a search: one for each budget, in their order."""
        several = len(budgets) > 1
        return tuple(
            cls(budget, variable, index, f"{target_folder(budget.target_bops)}/" if several else "")
            for index, budget in enumerate(budgets)
        )

    @property
    def alpha(self) -> tf.Tensor:
        """Architectural parameters of this target, (L, B) or (L, B + W)."""
        return self.variable[self.index]

    def logs(self, before: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        """Scalars by log name: BOPs of the most probable bits, regularizer, mean entropy of alpha's rows.

        Also `alpha_flips`, the number of alpha's rows whose largest entry the step has changed, and the mean
        `alpha_margin` of the largest probability to the next. With other costs, also the `cost` of those
        bits, of a second one `cost_2`, and so on; where weight bits are searched, `weight_alpha_entropy`;
        flips are then of both.

        Args:
          before: alpha of all targets before the step, of the shape of `variable`; without it there are no
            flips.
        """
        own, of_weights = split(self.alpha, self.budget)
        entropies = {"alpha_entropy": own}
        if of_weights is not None:
            entropies["weight_alpha_entropy"] = of_weights
        others = [costs for costs, _ in self.budget.others]
        counted = {"bops": self.budget.bops_costs, **dict(zip(cost_logs(self.budget), others, strict=True))}
        return {
            **{
                f"{self.prefix}{name}": tf.cast(selected_cost(self.alpha, costs, self.budget), tf.float32)
                for name, costs in counted.items()
            },
            **(
                {}
                if before is None
                else {f"{self.prefix}alpha_flips": _flips(before[self.index], self.alpha, self.budget)}
            ),
            f"{self.prefix}alpha_margin": _mean_margin(own),
            f"{self.prefix}regularizer": regularizer(self.budget, self.alpha),
            **{f"{self.prefix}{name}": _mean_entropy(alpha) for name, alpha in entropies.items()},
        }

    def choose(self, *, repair: bool) -> list[int]:
        """The candidate with the largest alpha in every searched layer, L indices.

        Args:
          repair: take the choice with the largest sum of alphas that the budget allows instead. Flips from
            the former, and what is left of the budget, are logged.
        """
        if not self.budget.searched:
            return []
        own, of_weights = split(self.alpha.numpy(), self.budget)
        choice = [int(branch) for branch in own.argmax(axis=1)]
        if of_weights is not None:
            branches = len(self.budget.bit_widths)
            choice = [int(w) * branches + a for w, a in zip(of_weights.argmax(1), choice, strict=True)]
        if not repair or not self.budget.constraints:
            return choice
        largest = choice
        choice, flips = repaired(self.budget, own, choice, of_weights)
        for flip in flips:
            logging.info(
                "%sbudget repair: %s%s %d -> %d bits (alpha margin %.4g)",
                self.prefix, "weights of " if flip.of_weights else "",
                flip.name, flip.from_bits, flip.to_bits, flip.margin,
            )  # fmt: skip
        up = sum(flip.to_bits > flip.from_bits for flip in flips)
        for costs, target in self.budget.constraints:
            before, after = costs.of(largest), costs.of(choice)
            logging.info(
                "%sbudget repair: %d flips (%d down, %d up) took %s to %s (budget %s, %.2f%% of it unused)",
                self.prefix, len(flips), len(flips) - up, up,
                *(amount((value,), costs.unit) for value in (before, after, target)),
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
        costs = tuple(
            SelectedCost(counted.unit, float(counted.of(choice)), target) for counted, target in budget.others
        )
        searched_weights = budget.weight_bit_widths if budget.searches_weights else ()
        return BitSelection(budget.bit_widths, layers, budget.target_bops, costs, searched_weights)


def over_targets(targets: Sequence[TargetSearch], one_pass: Callable) -> tuple[tf.Tensor, tf.Tensor]:
    """Results of a pass for each of T targets: (gradients of the shape of alpha, (T,) losses).

    Args:
      targets: those of one search.
      one_pass: (a target's alpha, scalar float64 target, None without one) -> (gradient, scalar loss).
    """
    if len(targets) == 1:
        gradient, loss = one_pass(targets[0].alpha, None)
        return gradient[tf.newaxis], loss[tf.newaxis]
    count = len(targets)
    alpha = targets[0].variable.read_value()
    goals = tf.constant([target.budget.constraints[0][1] for target in targets], tf.float64)

    def one(i, gradients, losses):
        gradient, loss = one_pass(alpha[i], goals[i])
        return i + 1, gradients.write(i, gradient), losses.write(i, loss)

    # A loop, as in the bit-meta step: one pass is traced, and one pass's activations are alive.
    empty = (tf.TensorArray(tf.float32, count), tf.TensorArray(tf.float32, count))
    gradients, losses = replicas.in_turn(count, one, empty)
    return gradients.stack(), losses.stack()


def cost_logs(budget: Budget) -> tuple[str, ...]:
    """Names of the logs of `Budget.others`."""
    return tuple(f"cost_{number}" if number > 1 else "cost" for number in range(1, len(budget.others) + 1))


def initializer(stddev: float):
    """What alpha is at first: zeros, so that all branches are equally likely, or noise around them."""
    # Zeros draw nothing: a run without noise has the random numbers that it had before there was noise.
    return keras.initializers.RandomNormal(stddev=stddev) if stddev else "zeros"


def alpha_shape(budgets: Sequence[Budget]) -> tuple[int, int, int]:
    """(T, L, B), or (T, L, B + W) where weight bits are searched, of budgets that differ in targets alone."""
    budget = budgets[0]
    columns = len(budget.bit_widths) + (len(budget.weight_bits) if budget.searches_weights else 0)
    return len(budgets), len(budget.searched), columns


def split(alpha, budget: Budget) -> tuple:
    """The B columns of the activations and the W of the weights, None where their bits are given.

    Args:
      alpha: array or tensor (..., B) or (..., B + W).
      budget: knows B and W.
    """
    branches = len(budget.bit_widths)
    return (alpha[..., :branches], alpha[..., branches:]) if budget.searches_weights else (alpha, None)


def selected_cost(alpha, costs: Costs, budget: Budget) -> tf.Tensor:
    """Cost of the branches with the largest alpha: scalar float64, differentiable (paper eq. 4 and 5).

    Args:
      alpha: of a target, (L, B) or (L, B + W).
      costs: what is counted.
      budget: knows the candidates.
    """
    own, of_weights = split(alpha, budget)
    moments = bops.selected_costs(
        own,
        table=[moment.table for moment in costs.moments],
        fixed=[moment.fixed for moment in costs.moments],
        weight_alphas=of_weights,
    )
    return bops.peak(moments) if len(costs.moments) > 1 else moments[0]


def regularizer(budget: Budget, alpha, target: tf.Tensor | None = None) -> tf.Tensor:
    """What the costs miss their targets by, relative to these; 0 without a target.

    With the gaps g_k = (cost_k - target_k) / target_k of all budgets k it is

        r = sum_k max(0, g_k)  +  max(0, -max_j g_j)

    over all k and over those j whose target is what the costs should come to. The first sum is each budget's
    overshoot. The second term asks for more bits while no budget j is used up. It does not count limits
    (`Costs.is_limit`), such as RAM: what is below them is free. With one budget that is no limit r is |g|
    (eq. 4, normalised); of a limit alone it is the overshoot.

    Args:
      budget: costs, candidates and targets.
      alpha: of a target, (L, B) or (L, B + W).
      target: scalar float64 that stands in for the budget's first target.
    """
    total, fullest = tf.constant(0.0), None
    for costs, goal in budget.constraints:
        goal, target = (goal if target is None else target), None
        gap = tf.cast((selected_cost(alpha, costs, budget) - goal) / goal, tf.float32)
        # Of equal ones the first gets the gradient: a budget that is met exactly has none, as with |g|.
        total += tf.maximum(0.0, gap)
        if not costs.is_limit:
            fullest = gap if fullest is None else tf.maximum(fullest, gap)
    return total if fullest is None else total + tf.maximum(0.0, -fullest)


def _mean_entropy(alpha) -> tf.Tensor:
    if not alpha.shape[0]:
        return tf.constant(0.0)  # Nothing is searched.
    probabilities = tf.nn.softmax(alpha)
    entropy = -tf.reduce_sum(probabilities * tf.math.log(probabilities + 1e-12), axis=-1)
    return tf.reduce_mean(entropy)


def _flips(before, now, budget: Budget) -> tf.Tensor:
    total = tf.constant(0.0)
    for old, new in zip(split(before, budget), split(now, budget), strict=True):
        if old is not None and old.shape[0]:
            total += tf.reduce_sum(tf.cast(tf.argmax(old, -1) != tf.argmax(new, -1), tf.float32))
    return total


def _mean_margin(alpha) -> tf.Tensor:
    if not alpha.shape[0] or alpha.shape[-1] < 2:
        return tf.constant(0.0)  # Nothing is searched.
    first, second = tf.unstack(tf.math.top_k(tf.nn.softmax(alpha), 2).values, axis=-1)
    return tf.reduce_mean(first - second)
