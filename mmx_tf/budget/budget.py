"""The budget of a search: what each choice costs, what is reachable, and the repair that fills the target.

A budget counts one cost per searched layer and candidate (`CandidateCosts`): BOPs, average bits under some
weighting, bytes of the file, or a table of the user's own. Bytes of RAM are the largest of such sums
(`PeakCosts`), and may be limited beside BOPs. Regularizer and repair know nothing else of it.

A layer's candidate is an activation bit-width, or, where weight bits are searched too, a pair of both: with W
weight and B activation candidates the pair (w, a) has the index w * B + a (`Budget.pairs`).
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence

from mmx_tf.budget.bops import LayerCost
from mmx_tf.budget.peak_costs import PeakCosts
from mmx_tf.budget.ram_costs import RamCosts, ram_costs_from
from mmx_tf.recipe.candidate_costs import CandidateCosts, exact

Costs = CandidateCosts | PeakCosts | RamCosts


class UnreachableBudgetError(ValueError):
    """A budget that no choice of the candidate bit-widths can meet."""


@dataclasses.dataclass(frozen=True)
class Budget:
    """Costs of the layers and the target that the selection must not exceed.

    The target is in BOPs, or, with `own` costs, in their unit. There may be one of each (`constraints`).

    Attributes:
      costs: all weighted layers in graph order.
      bit_widths: B candidate activation bit-widths, in the order of the branches.
      weight_bits: weight bits of the searched layers; a tuple of W candidates where they are searched.
      first_last_bits: weight and activation bits of first and last layers.
      target_bops: budget in bit operations on one image, or None.
      own: costs in place of BOPs or beside them, or None.
      target_cost: budget in the unit of `own`; None without it.
    """

    costs: tuple[LayerCost, ...]
    bit_widths: tuple[int, ...]
    weight_bits: int | tuple[int, ...]
    first_last_bits: int
    target_bops: int | None = None
    own: Costs | None = None
    target_cost: float | None = None

    def __post_init__(self):
        """Refuses an unreachable target before any training.

        Raises:
          UnreachableBudgetError: with the reachable range.
        """
        if self.own is not None:
            low, high = self.own.reachable
            # What a limit leaves free is no mistake; `augment` says so.
            high = math.inf if self.own.is_limit else high
            if self.target_cost is not None and not low <= self.target_cost <= high:
                weights = f" and {self.weight_bits} for weights" if self.searches_weights else ""
                target, low, high = (_exactly(cost) for cost in (self.target_cost, *self.own.reachable))
                raise UnreachableBudgetError(
                    f"the target of {target} {self.own.unit} is out of reach: with candidates "
                    f"{self.bit_widths}{weights} this network takes {low} to {high} {self.own.unit}."
                )
        low, high = self.reachable
        weights = ", ".join(map(str, self.weight_bit_widths))
        if self.target_bops is not None and not low <= self.target_bops <= high:
            raise UnreachableBudgetError(
                f"target_bops={self.target_bops} ({self.target_bops / 1e9:.4g} GBOPs) is out of reach: "
                f"with candidates {self.bit_widths} and {weights}-bit weights this network "
                f"takes {low} to {high} BOPs ({low / 1e9:.4g} to {high / 1e9:.4g} GBOPs), on average "
                f"{min(self.bit_widths)} to {max(self.bit_widths)} bits."
            )

    @classmethod
    def from_config(cls, config: dict) -> "Budget":
        """The budget of a dict that `dataclasses.asdict` made, lists in place of tuples included."""
        own = config.get("own")
        if own is not None:
            own = _costs_from(own)
        read = {"own": own, "costs": tuple(LayerCost(**cost) for cost in config["costs"])}
        for name in ("bit_widths", "weight_bits"):
            read[name] = tuple(config[name]) if isinstance(config[name], list | tuple) else config[name]
        return cls(**{**config, **read})

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
        both = ((self.bops_costs, self.target_bops), (self.own, self.target_cost))
        return tuple((costs, target) for costs, target in both if target is not None)

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
        return all(costs.exactly(choice) <= exact(target) for costs, target in self.constraints)


def _costs_from(config: dict) -> Costs:
    if "blocks" in config:
        return ram_costs_from(config)
    if "moments" in config:
        return PeakCosts(config["unit"], tuple(map(_costs_from, config["moments"])))
    return CandidateCosts(config["unit"], tuple(map(tuple, config["table"])), config["fixed"])


def _exactly(cost: float) -> str:
    """A cost with every digit that matters when it is given as a target."""
    return str(int(cost)) if float(cost).is_integer() else f"{cost:g}"
