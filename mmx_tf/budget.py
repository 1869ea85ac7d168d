"""The BOPs budget of a search: what is reachable, and the repair that makes a selection meet it."""

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
class Budget:
    """Costs of the layers and the target that the selection must not exceed.

    Attributes:
      costs: all weighted layers in graph order.
      bit_widths: B candidate activation bit-widths, in the order of the branches.
      weight_bits: weight bits of the searched layers.
      first_last_bits: weight and activation bits of first and last layers.
      target_bops: budget in bit operations on one image, or None for no budget.
    """

    costs: tuple[LayerCost, ...]
    bit_widths: tuple[int, ...]
    weight_bits: int
    first_last_bits: int
    target_bops: int | None = None

    def __post_init__(self):
        """Refuses an unreachable target before any training.

        Raises:
          UnreachableBudgetError: with the reachable range.
        """
        low, high = self.reachable
        if self.target_bops is not None and not low <= self.target_bops <= high:
            raise UnreachableBudgetError(
                f"target_bops={self.target_bops} ({self.target_bops / 1e9:.4g} GBOPs) is out of reach: "
                f"with candidates {self.bit_widths} and {self.weight_bits}-bit weights this network "
                f"takes {low} to {high} BOPs ({low / 1e9:.4g} to {high / 1e9:.4g} GBOPs), on average "
                f"{min(self.bit_widths)} to {max(self.bit_widths)} bits."
            )

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

    def bops_at(self, average_bits: float) -> int:
        """BOPs at the given activation bits, averaged over the searched layers weighted by operations."""
        macs = sum(cost.macs for cost in self.searched)
        return self.fixed_bops + round(macs * self.weight_bits * average_bits)

    def bops_of(self, choice: Sequence[int]) -> int:
        """BOPs of a choice: the branch index of every searched layer."""
        return self.fixed_bops + sum(
            cost.macs * self.weight_bits * self.bit_widths[branch]
            for cost, branch in zip(self.searched, choice, strict=True)
        )

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
        choice, flips = list(choice), []
        while self.target_bops is not None and self.bops_of(choice) > self.target_bops:
            margin, layer, branch = min(
                (float(alphas[layer, current] - alphas[layer, branch]), layer, branch)
                for layer, current in enumerate(choice)
                for branch, bits in enumerate(self.bit_widths)
                if bits < self.bit_widths[current]
            )
            name, old = self.searched[layer].name, self.bit_widths[choice[layer]]
            flips.append(Flip(name, old, self.bit_widths[branch], margin))
            choice[layer] = branch
        return choice, flips
