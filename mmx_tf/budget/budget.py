"""The budgets of a search: what each choice costs, what is reachable, and whether all targets are met.

A budget counts one cost per searched layer and candidate (`CandidateCosts`): BOPs, average bits under some
weighting, bytes of the file or of flash, or a table of the user's own. Bytes of RAM are the arena of a plan
of memory (`RamCosts`). Any of them may be given together, and all are met. Regularizer and repair know
nothing else of them.

A layer's candidate is an activation bit-width, or, where weight bits are searched too, a pair of both: with W
weight and B activation candidates the pair (w, a) has the index w * B + a (`Budget.pairs`).
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence

import numpy as np

from mmx_tf.budget import constrained
from mmx_tf.budget.bops import LayerCost
from mmx_tf.budget.ram_costs import RamCosts, ram_costs_from
from mmx_tf.recipe.candidate_costs import CandidateCosts

Costs = CandidateCosts | RamCosts


class UnreachableBudgetError(ValueError):
    """A budget that no choice of the candidate bit-widths can meet."""


@dataclasses.dataclass(frozen=True)
class Budget:
    """Costs of the layers and the targets that the selection must not exceed.

    Attributes:
      costs: all weighted layers in graph order.
      bit_widths: B candidate activation bit-widths, in the order of the branches.
      weight_bits: weight bits of the searched layers; a tuple of W candidates where they are searched.
      first_last_bits: weight and activation bits of first and last layers.
      target_bops: budget in bit operations on one image, or None.
      others: costs in place of BOPs or beside them, each with its target in its own unit.
    """

    costs: tuple[LayerCost, ...]
    bit_widths: tuple[int, ...]
    weight_bits: int | tuple[int, ...]
    first_last_bits: int
    target_bops: int | None = None
    others: tuple[tuple[Costs, float], ...] = ()

    def __post_init__(self):
        """Refuses targets out of reach before any training.

        Raises:
          UnreachableBudgetError: with the reachable range of each.
        """
        for costs, target in self.others:
            low, high = costs.reachable
            # What a limit leaves free is no mistake; `augment` says so.
            if not low <= target <= (math.inf if costs.is_limit else high):
                weights = f" and {_listed(self.weight_bits)} for weights" if self.searches_weights else ""
                advice = self._advice(too_low=target < low)
                target, low, high = map(_exactly, (target, low, high))
                raise UnreachableBudgetError(
                    f"the target of {target} {costs.unit} is out of reach: with candidates of "
                    f"{_listed(self.bit_widths)} bits{weights} this network takes {low} to {high} "
                    f"{costs.unit}. {advice}"
                )
        low, high = self.reachable
        weights = _listed(self.weight_bit_widths)
        if self.target_bops is not None and not low <= self.target_bops <= high:
            raise UnreachableBudgetError(
                f"target_bops={self.target_bops} ({self.target_bops / 1e9:.4g} GBOPs) is out of reach: "
                f"with candidates of {_listed(self.bit_widths)} bits and {weights}-bit weights this network "
                f"takes {low} to {high} BOPs ({low / 1e9:.4g} to {high / 1e9:.4g} GBOPs), on average "
                f"{min(self.bit_widths)} to {max(self.bit_widths)} bits. "
                + self._advice(too_low=self.target_bops < low)
            )
        if not self._reachable_together:
            ranges = [(target, costs.unit, *costs.reachable) for costs, target in self.constraints]
            each = " and ".join(
                f"{_exactly(target)} {unit} (of {_exactly(low)} to {_exactly(high)})"
                for target, unit, low, high in ranges
            )
            raise UnreachableBudgetError(
                f"no choice of bits takes {each} or less together, though each of them can be met alone. "
                "Raise one of these targets, or give more candidates."
            )

    @classmethod
    def from_config(cls, config: dict) -> "Budget":
        """The budget of a dict that `dataclasses.asdict` made, lists in place of tuples included."""
        read = {name: value for name, value in config.items() if name not in ("own", "target_cost")}
        others = list(config.get("others", ()))
        if config.get("own") is not None:  # There was one such cost.
            others.append((config["own"], config["target_cost"]))
        read["others"] = tuple((_costs_from(costs), target) for costs, target in others)
        read["costs"] = tuple(LayerCost(**cost) for cost in config["costs"])
        for name in ("bit_widths", "weight_bits"):
            read[name] = tuple(config[name]) if isinstance(config[name], list | tuple) else config[name]
        return cls(**read)

    def beside(self, costs: Costs, target: float) -> "Budget":
        """This budget and one more.

        Raises:
          UnreachableBudgetError: if no choice meets it, or none meets all.
        """
        return dataclasses.replace(self, others=(*self.others, (costs, target)))

    @property
    def searched(self) -> list[LayerCost]:
        """The layers whose bits are searched."""
        return [cost for cost in self.costs if not cost.end]

    @property
    def searches_weights(self) -> bool:
        """Whether there are several weight candidates."""
        return isinstance(self.weight_bits, tuple)

    @property
    def weight_bit_widths(self) -> tuple[int, ...]:
        """The W weight candidates in the order of their branches; one where weight bits are given."""
        return self.weight_bits if self.searches_weights else (self.weight_bits,)

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """(weight bits, activation bits) of a layer's W * B candidates, in the order of their indices."""
        return tuple(itertools.product(self.weight_bit_widths, self.bit_widths))

    @property
    def fixed_bops(self) -> int:
        """BOPs of first and last layers."""
        return sum(cost.macs for cost in self.costs if cost.end) * self.first_last_bits**2

    @property
    def reachable(self) -> tuple[int, int]:
        """Smallest and largest BOPs of any choice of bits."""
        return self.bops_costs.reachable

    @property
    def constraints(self) -> tuple[tuple[Costs, float], ...]:
        """What regularizer and repair count: costs and their target, BOPs first; none without a target."""
        bops = () if self.target_bops is None else ((self.bops_costs, self.target_bops),)
        return (*bops, *self.others)

    @property
    def bops_costs(self) -> CandidateCosts:
        """BOPs of every searched layer at each candidate; `fixed` are those of first and last layers."""
        table = tuple(tuple(cost.macs * w * a for w, a in self.pairs) for cost in self.searched)
        return CandidateCosts("BOPs", table, self.fixed_bops)

    @property
    def only_limits(self) -> bool:
        """Whether bits below the targets are free, as of RAM, which counts at its fullest moment alone."""
        return bool(self.constraints) and all(costs.is_limit for costs, _ in self.constraints)

    def bops_at(self, average_bits: float) -> int:
        """BOPs at the given activation bits, averaged over the searched layers weighted by operations.

        Raises:
          ValueError: if weight bits are searched, on which the BOPs then depend.
        """
        if self.searches_weights:
            raise ValueError(f"average bits are no number of BOPs with weight candidates {self.weight_bits}.")
        macs = sum(cost.macs for cost in self.searched)
        return self.fixed_bops + round(macs * self.weight_bits * average_bits)

    def bops_of(self, choice: Sequence[int]) -> int:
        """BOPs of a choice: the candidate's index for every searched layer."""
        return self.bops_costs.of(choice)

    def meets(self, choice: Sequence[int]) -> bool:
        """Whether a choice costs no more than the targets."""
        return constrained.meets(self.constraints, choice)

    def _advice(self, *, too_low: bool) -> str:
        """What to do about a target out of reach."""
        if not too_low:
            return "Ask for less."
        if self.searches_weights:
            smaller = ", or add smaller candidates" if min(*self.bit_widths, *self.weight_bits) > 2 else ""
        else:
            where = "--candidate_bits, in a notebook bit_widths"
            smaller = f", or add a smaller candidate, such as 2 ({where})" if min(self.bit_widths) > 2 else ""
        return f"Ask for more{smaller}."

    @property
    def _reachable_together(self) -> bool:
        """Whether some choice meets all targets, each of which can be met."""
        if len(self.constraints) < 2 or any(self.meets(costs.cheapest) for costs, _ in self.constraints):
            return True
        scores = np.zeros((len(self.searched), len(self.pairs)))
        try:
            constrained.best_choice(self.constraints, scores, [sum(pair) for pair in self.pairs])
        except constrained.NoChoiceError:
            return False
        return True


def _costs_from(config: dict) -> Costs:
    if "blocks" in config:
        return ram_costs_from(config)
    return CandidateCosts(**{**config, "table": tuple(map(tuple, config["table"]))})


def _exactly(cost: float) -> str:
    """A cost with every digit that matters when it is given as a target."""
    return str(int(cost)) if float(cost).is_integer() else f"{cost:g}"


def _listed(bits: Sequence[int]) -> str:
    return ", ".join(map(str, bits))
