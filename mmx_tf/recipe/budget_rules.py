"""The rules of budgets, told once: for the flags of the command line and for the arguments of a notebook.

>>> asked = AskedBudget(target_cost=900, cost_table="times.json", flags=True)
>>> asked.check()                                       # refuses two kinds, numbers that are none, ...
>>> asked.check_weight_bits((8, 4, 2))
BudgetRuleError: --target_cost=900 with --weight_bits=8,4,2: it counts activation bits alone, ...
"""

import dataclasses
import math
import numbers
import os
from collections.abc import Mapping, Sequence

from mmx_tf.choices import WEIGHTINGS

EXAMPLES = {
    "target_bops": "5.3e9",
    "target_average_bits": "4",
    "target_cost": "900",
    "target_bytes": "2.9e6",
}
"""The kinds of budget, each with a value that it may have."""
OF_ACTIVATIONS = ("target_average_bits", "target_cost")
"""Kinds that count activation bits alone."""


class BudgetRuleError(ValueError):
    """A budget that cannot be asked for."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AskedBudget:
    """A budget as a user asks for it, in one of four ways; None for what is not given.

    Attributes:
      target_bops: bit operations, or a list of different ones.
      target_average_bits: average activation bits.
      average_bits_weighting: what the average is weighted with, one of `WEIGHTINGS`.
      target_cost: in the unit of the cost table.
      cost_table: costs of layers and bits, or the path of their file.
      target_bytes: size of the exported file.
      flags: errors name flags (--target_cost=900) instead of arguments (target_cost=900).
    """

    target_bops: float | Sequence[float] | None = None
    target_average_bits: float | None = None
    average_bits_weighting: str = "operations"
    target_cost: float | None = None
    cost_table: Mapping | str | os.PathLike | None = None
    target_bytes: float | None = None
    flags: bool = False

    @property
    def given(self) -> dict[str, object]:
        """The kinds of budget that are given, each with its value."""
        return {name: getattr(self, name) for name in EXAMPLES if getattr(self, name) is not None}

    def check(self) -> None:
        """Checks what needs no network and no candidates.

        Raises:
          BudgetRuleError: for two kinds of budget, targets that are no numbers above 0, a list of targets
            that is empty or has one twice, an unknown weighting or one without its budget, and a cost table
            or its target without the other.
        """
        given = self.given
        if len(given) > 1:
            named = " and ".join(self._set(name) for name in given)
            clear = " Clear the others with --target_bops=, --target_average_bits=0, --target_cost=0 or "
            clear += "--target_bytes= (also when they come from a flagfile)."
            raise BudgetRuleError(f"{named}: give one budget.{clear if self.flags else ''}")
        if (self.cost_table is None) != (self.target_cost is None):
            missing, other = ("cost_table", "target_cost")[:: 1 if self.cost_table is None else -1]
            raise BudgetRuleError(
                f"{self._set(other)} without {self._name(missing)}: they belong together, as the table has "
                "the costs of layers and bits and the target is in its unit. Give both or neither."
            )
        if self.average_bits_weighting not in WEIGHTINGS:
            allowed = ", ".join(map(repr, WEIGHTINGS))
            raise BudgetRuleError(f"{self._set('average_bits_weighting')}: one of {allowed}.")
        if self.average_bits_weighting != "operations" and self.target_average_bits is None:
            raise BudgetRuleError(
                f"{self._set('average_bits_weighting')}: it is for {self._name('target_average_bits')} alone."
            )
        for name, value in given.items():
            self._check_number(name, value)

    def check_weight_bits(self, weight_bits: Sequence[int]) -> None:
        """Checks the budget against the candidates of weights.

        Args:
          weight_bits: candidates of weights; one where their bits are given.

        Raises:
          BudgetRuleError: for a budget that leaves weight bits without a cost although they are searched, and
            for one in bytes, which nothing but weight bits changes, where they are not.
        """
        weights = self._shown("weight_bits", tuple(weight_bits) if len(weight_bits) > 1 else weight_bits[0])
        if self.target_bytes is not None and len(weight_bits) == 1:
            several = "--weight_bits=8,4,2" if self.flags else "weight_bits=(8, 4, 2)"
            raise BudgetRuleError(
                f"{self._set('target_bytes')} with {weights}: activation bits do not change the size of the "
                f"file. Give several candidates, such as {several}."
            )
        for name in OF_ACTIVATIONS:
            if len(weight_bits) > 1 and getattr(self, name) is not None:
                raise BudgetRuleError(
                    f"{self._set(name)} with {weights}: it counts activation bits alone, so that every layer "
                    f"would take the most weight bits. Give {self._name('target_bops')} or "
                    f"{self._name('target_bytes')}, or one number as {self._name('weight_bits')}."
                )

    def check_average(self, bit_widths: Sequence[int]) -> None:
        """Checks that the average, if one is asked for, lies between the candidates.

        Raises:
          BudgetRuleError: if it does not.
        """
        average, low, high = self.target_average_bits, min(bit_widths), max(bit_widths)
        if average is not None and not low <= average <= high:
            candidates = ",".join(map(str, bit_widths)) if self.flags else tuple(bit_widths)
            raise BudgetRuleError(
                f"{self._set('target_average_bits')} is out of reach: with candidates {candidates} the "
                f"average is {low} to {high} bits."
            )

    def _check_number(self, name: str, value) -> None:
        listed = name == "target_bops" and isinstance(value, Sequence) and not isinstance(value, str)
        for one in value if listed else (value,):
            if not (isinstance(one, numbers.Real) and 0 < one < math.inf):
                said = self._shown(name, one)
                raise BudgetRuleError(f"{said}: a number above 0, for example {EXAMPLES[name]}.")
        if listed and not 0 < len(value) == len({int(one) for one in value}):
            raise BudgetRuleError(f"{self._set(name)}: a number, or a list of different numbers.")

    def _name(self, name: str) -> str:
        return f"--{name}" if self.flags else name

    def _set(self, name: str) -> str:
        return self._shown(name, getattr(self, name))

    def _shown(self, name: str, value) -> str:
        if not self.flags:
            return f"{name}={value!r}"
        several = isinstance(value, Sequence) and not isinstance(value, str)
        return f"--{name}={','.join(map(str, value)) if several else value}"
