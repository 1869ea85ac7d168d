"""The budget of a search: what each choice costs, what is reachable, and the repair that meets the target.

A budget counts one cost per searched layer and candidate (`CandidateCosts`): BOPs, average bits under some
weighting, or a table of the user's own. Regularizer and repair know nothing else of it.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from mmx_tf.bops import LayerCost


class UnreachableBudgetError(ValueError):
    """A budget that no choice of the candidate bit-widths can meet."""


@dataclasses.dataclass(frozen=True)
class Flip:
    """One change that the repair made: layer `name` went from one bit-width to a cheaper one.

    `margin` is the alpha that was given up: alpha of the old branch minus alpha of the new one.
    """

    name: str
    from_bits: int
    to_bits: int
    margin: float


@dataclasses.dataclass(frozen=True)
class CandidateCosts:
    """What the searched layers cost at each candidate bit-width.

    Attributes:
      unit: what is counted, such as "BOPs" or "us".
      table: L rows, one per searched layer in graph order, of B costs, one per candidate.
      fixed: cost of everything else.
    """

    unit: str
    table: tuple[tuple[float, ...], ...]
    fixed: float = 0.0

    def of(self, choice: Sequence[int]) -> float:
        """Cost of a choice: the branch index of every searched layer."""
        return self.fixed + sum(row[branch] for row, branch in zip(self.table, choice, strict=True))

    @property
    def reachable(self) -> tuple[float, float]:
        """Smallest and largest cost of any choice."""
        return tuple(self.of([row.index(pick(row)) for row in self.table]) for pick in (min, max))


WEIGHTINGS = ("operations", "elements", "plain")


def average_bits_costs(
    costs: Sequence[LayerCost], bit_widths: Sequence[int], weighting: str
) -> CandidateCosts:
    """Average activation bits of the searched layers as a cost.

    Args:
      costs: all weighted layers.
      bit_widths: candidates.
      weighting: what a layer's bits are weighted by: its "operations", the "elements" of its input, or
        "plain" for equal weights.
    """
    weights = {
        "operations": [cost.macs for cost in costs if not cost.end],
        "elements": [cost.input_elements for cost in costs if not cost.end],
        "plain": [1 for cost in costs if not cost.end],
    }[weighting]
    table = tuple(tuple(weight * bits / sum(weights) for bits in bit_widths) for weight in weights)
    behind = "" if weighting == "plain" else f", weighted by {weighting}"
    return CandidateCosts(f"bits on average{behind}", table)


@dataclasses.dataclass(frozen=True)
class Budget:
    """Costs of the layers and the target that the selection must not exceed.

    The target is in BOPs, or, with `own` costs, in their unit.

    Attributes:
      costs: all weighted layers in graph order.
      bit_widths: B candidate activation bit-widths, in the order of the branches.
      weight_bits: weight bits of the searched layers.
      first_last_bits: weight and activation bits of first and last layers.
      target_bops: budget in bit operations on one image, or None.
      own: costs in place of BOPs, or None.
      target_cost: budget in the unit of `own`; None without it.
    """

    costs: tuple[LayerCost, ...]
    bit_widths: tuple[int, ...]
    weight_bits: int
    first_last_bits: int
    target_bops: int | None = None
    own: CandidateCosts | None = None
    target_cost: float | None = None

    def __post_init__(self):
        """Refuses an unreachable target before any training.

        Raises:
          UnreachableBudgetError: with the reachable range.
        """
        if self.own is not None:
            low, high = self.own.reachable
            if self.target_cost is not None and not low <= self.target_cost <= high:
                raise UnreachableBudgetError(
                    f"the target of {self.target_cost:g} {self.own.unit} is out of reach: with candidates "
                    f"{self.bit_widths} this network takes {low:g} to {high:g} {self.own.unit}."
                )
            return
        low, high = self.reachable
        if self.target_bops is not None and not low <= self.target_bops <= high:
            raise UnreachableBudgetError(
                f"target_bops={self.target_bops} ({self.target_bops / 1e9:.4g} GBOPs) is out of reach: "
                f"with candidates {self.bit_widths} and {self.weight_bits}-bit weights this network "
                f"takes {low} to {high} BOPs ({low / 1e9:.4g} to {high / 1e9:.4g} GBOPs), on average "
                f"{min(self.bit_widths)} to {max(self.bit_widths)} bits."
            )

    @classmethod
    def from_config(cls, config: dict) -> "Budget":
        """The budget of a dict that `dataclasses.asdict` made, lists in place of tuples included."""
        own = config.get("own")
        if own is not None:
            own = CandidateCosts(own["unit"], tuple(map(tuple, own["table"])), own["fixed"])
        costs = tuple(LayerCost(**cost) for cost in config["costs"])
        return cls(**{**config, "costs": costs, "bit_widths": tuple(config["bit_widths"]), "own": own})

    @property
    def searched(self) -> list[LayerCost]:
        """The layers whose bits are searched."""
        return [cost for cost in self.costs if not cost.end]

    @property
    def fixed_bops(self) -> int:
        """BOPs of first and last layers."""
        return sum(cost.macs for cost in self.costs if cost.end) * self.first_last_bits**2

    @property
    def reachable(self) -> tuple[int, int]:
        """Smallest and largest BOPs of any choice of bits."""
        return self.bops_at(min(self.bit_widths)), self.bops_at(max(self.bit_widths))

    @property
    def candidate_costs(self) -> CandidateCosts:
        """What regularizer and repair count."""
        return self.bops_costs if self.own is None else self.own

    @property
    def bops_costs(self) -> CandidateCosts:
        """BOPs of every searched layer at each candidate; `fixed` are those of first and last layers."""
        table = tuple(
            tuple(cost.macs * self.weight_bits * bits for bits in self.bit_widths) for cost in self.searched
        )
        return CandidateCosts("BOPs", table, self.fixed_bops)

    @property
    def target(self) -> float | None:
        """The target in the unit of `candidate_costs`, or None for no budget."""
        return self.target_bops if self.own is None else self.target_cost

    def bops_at(self, average_bits: float) -> int:
        """BOPs at the given activation bits, averaged over the searched layers weighted by operations."""
        macs = sum(cost.macs for cost in self.searched)
        return self.fixed_bops + round(macs * self.weight_bits * average_bits)

    def bops_of(self, choice: Sequence[int]) -> int:
        """BOPs of a choice: the branch index of every searched layer."""
        return self.bops_costs.of(choice)

    def repair(self, alphas: np.ndarray, choice: Sequence[int]) -> tuple[list[int], list[Flip]]:
        """Makes a choice meet the target by flipping the layers with the smallest alpha margin first.

        Every flip takes a layer to a cheaper branch; among all such flips the one that gives up least alpha
        goes first, until the target is met.

        Args:
          alphas: (L, B) architectural parameters of the searched layers.
          choice: L branch indices.

        Returns:
          The repaired choice and the flips in order, none if the choice met the target already.
        """
        choice, flips, costs = list(choice), [], self.candidate_costs
        while self.target is not None and costs.of(choice) > self.target:
            margin, layer, branch = min(
                (float(alphas[layer, current] - alphas[layer, branch]), layer, branch)
                for layer, current in enumerate(choice)
                for branch in range(len(self.bit_widths))
                if costs.table[layer][branch] < costs.table[layer][current]
            )
            name, old = self.searched[layer].name, self.bit_widths[choice[layer]]
            flips.append(Flip(name, old, self.bit_widths[branch], margin))
            choice[layer] = branch
        return choice, flips
