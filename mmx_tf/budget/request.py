"""The budget that a user asks for, in one of four ways, and the budgets of a network that it amounts to."""

import dataclasses
import math
import numbers
import os
from collections.abc import Mapping, Sequence

import numpy as np

from mmx_tf.budget import cost_table
from mmx_tf.budget.budget import Budget, UnreachableBudgetError, average_bits_costs
from mmx_tf.choices import WEIGHTINGS

# The kinds of budget, each with a value that it may have.
EXAMPLES = {
    "target_bops": "5.3e9",
    "target_average_bits": "4",
    "target_cost": "900",
    "target_bytes": "2.9e6",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class BudgetRequest:
    """The arguments of `augment` of the same names, checked before any network is looked at.

    Raises:
      ValueError: for two kinds of budget, targets that are no numbers above 0, a list of targets that is
        empty or has one twice, an unknown weighting, and a cost table or its target without the other.
    """

    target_bops: float | Sequence[float] | None
    target_average_bits: float | None
    average_bits_weighting: str
    target_cost: float | None
    cost_table: Mapping | str | os.PathLike | None
    target_bytes: float | None = None

    def __post_init__(self):
        """Checks the arguments."""
        given = {name: getattr(self, name) for name in EXAMPLES if getattr(self, name) is not None}
        if len(given) > 1:
            raise ValueError(
                " and ".join(f"{name}={value!r}" for name, value in given.items()) + ": give one budget."
            )
        if (self.cost_table is None) != (self.target_cost is None):
            missing = "cost_table" if self.cost_table is None else "target_cost"
            raise ValueError(f"{missing}=None: target_cost and cost_table belong together; give both.")
        if self.average_bits_weighting not in WEIGHTINGS:
            allowed = ", ".join(map(repr, WEIGHTINGS))
            raise ValueError(f"average_bits_weighting={self.average_bits_weighting!r}: one of {allowed}.")
        if self.average_bits_weighting != "operations" and self.target_average_bits is None:
            raise ValueError(
                f"average_bits_weighting={self.average_bits_weighting!r}: it is for target_average_bits "
                "alone."
            )
        for name, value in given.items():
            listed = name == "target_bops" and isinstance(value, list | tuple | np.ndarray)
            for one in value if listed else (value,):
                if not (isinstance(one, numbers.Real) and 0 < one < math.inf):
                    raise ValueError(f"{name}={one!r}: a number above 0, for example {EXAMPLES[name]}.")
            if listed and not 0 < len(value) == len({int(one) for one in value}):
                raise ValueError(f"{name}={value!r}: a number, or a list of different ones.")

    def budgets(self, free: Budget) -> tuple[Budget, ...]:
        """The budgets of a network, one for each target; `free` is its budget without a target.

        For `target_bytes` it is `free` itself: what a file takes is measured later
        (`mmx_tf.metamix.file_bytes`).

        Raises:
          ValueError: for a budget that leaves weight bits without a cost although they are searched, or one
            in bytes, which nothing but weight bits changes, where they are not.
          UnreachableBudgetError: if no choice of bits meets a target.
          CostTableError: if the cost table does not fit the network.
        """
        self._check_weights_count(free)
        if self.cost_table is not None:
            names = [cost.name for cost in free.searched]
            own = cost_table.read(self.cost_table, layers=names, bit_widths=free.bit_widths)
            return (dataclasses.replace(free, own=own, target_cost=float(self.target_cost)),)
        average, weighting = self.target_average_bits, self.average_bits_weighting
        if average is not None and weighting != "operations":
            own = average_bits_costs(free.costs, free.bit_widths, weighting)
            return (dataclasses.replace(free, own=own, target_cost=float(average)),)
        if average is not None:
            low, high = min(free.bit_widths), max(free.bit_widths)
            if not low <= average <= high:
                raise UnreachableBudgetError(
                    f"target_average_bits={average!r} is out of reach: with candidates {free.bit_widths} the "
                    f"average is {low} to {high} bits."
                )
            targets = (free.bops_at(average),)
        elif isinstance(self.target_bops, list | tuple | np.ndarray):
            targets = tuple(map(int, self.target_bops))
        else:
            targets = (None if self.target_bops is None else int(self.target_bops),)
        return tuple(dataclasses.replace(free, target_bops=target) for target in targets)

    def _check_weights_count(self, free: Budget) -> None:
        """Refuses weight candidates under a budget that counts activation bits alone."""
        if self.target_bytes is not None and not free.searches_weights:
            raise ValueError(
                f"target_bytes={self.target_bytes!r} with weight_bits={free.weight_bits}: activation bits do "
                "not change the size of the file. Give several candidates, such as weight_bits=(8, 4, 2)."
            )
        for name in ("target_average_bits", "target_cost"):
            if free.searches_weights and getattr(self, name) is not None:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} with weight_bits={free.weight_bits}: it counts "
                    "activation bits alone, so that every layer would take the most weight bits. Give "
                    "target_bops or target_bytes, or one number as weight_bits."
                )
