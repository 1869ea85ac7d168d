"""The rules of budgets, told once: for the flags of the command line and for the arguments of a notebook.

Those of one kind are in its module (`mmx_tf.recipe.budgets`); here is what holds for all.

>>> asked = AskedBudget(target_ram=48000, flags=True)
>>> asked.check()                                       # refuses two in BOPs, values such as nan, ...
>>> asked.check_weight_bits((8, 4, 2))
Traceback (most recent call last):
    ...
mmx_tf.recipe.budgets.BudgetRuleError: --target_ram=48000 with --weight_bits=8,4,2: it counts ...
"""

import dataclasses
import math
import numbers
from collections.abc import Sequence

from mmx_tf.recipe import budgets
from mmx_tf.recipe.budgets import Argument, BudgetRuleError, Kind
from mmx_tf.recipe.fields import RecipeFields

KINDS = {kind.name: kind for kind in budgets.kinds()}
"""The kinds of budget by name."""
ARGUMENTS: dict[str, Argument] = {}
"""All that a budget is asked for with: each kind's target, and behind it what belongs to it."""
for _kind in KINDS.values():
    ARGUMENTS |= {_kind.name: Argument(None, _kind.annotation, _kind.text), **_kind.beside}

_Asked = dataclasses.make_dataclass(
    "_Asked",
    [(name, one.annotation, one.default) for name, one in ARGUMENTS.items()],
    frozen=True,
    kw_only=True,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AskedBudget(_Asked):
    """Budgets as a user asks for them, in one or several of the `KINDS`; None for what is not given.

    Attributes:
      flags: errors name flags (--target_cost=900) instead of arguments (target_cost=900).

    The others are `ARGUMENTS`.
    """

    flags: bool = False

    @property
    def given(self) -> dict[Kind, object]:
        """The kinds of budget that are given, each with its value."""
        return {kind: value for name, kind in KINDS.items() if (value := getattr(self, name)) is not None}

    @property
    def measured(self) -> tuple[Kind, ...]:
        """The kinds that are given and whose costs are measured on a file."""
        return tuple(kind for kind in self.given if kind.measured)

    @property
    def counting_weights(self) -> tuple[Kind, ...]:
        """The kinds that are given and whose costs depend on weight bits."""
        return tuple(kind for kind in self.given if budgets.WEIGHTS in kind.counts)

    @property
    def arguments(self) -> dict[str, object]:
        """All of it, as arguments of `augment`."""
        return {name: getattr(self, name) for name in ARGUMENTS}

    def check(self) -> None:
        """Checks what needs no network and no candidates.

        Raises:
          BudgetRuleError: for two targets in BOPs, targets that are no numbers above 0, a list of targets
            that is empty or has one twice, and what the kinds themselves refuse: an unknown weighting or one
            without its budget, and a cost table or its target without the other.
        """
        given = self.given
        in_bops = [kind for kind in given if kind.counts_bops(self)]
        if len(in_bops) > 1:
            named = " and ".join(self.said(kind.name) for kind in in_bops)
            clear = f" Clear the other with {_listed(kind.cleared for kind in in_bops)} (also when it comes "
            clear += "from a flagfile)."
            raise BudgetRuleError(
                f"{named}: give one of them, as both count operations.{clear if self.flags else ''}"
            )
        for kind in KINDS.values():
            kind.check(self)
        for kind, value in given.items():
            self._check_number(kind, value)

    def check_weight_bits(self, weight_bits: Sequence[int]) -> None:
        """Checks the budget against the candidates of weights.

        Args:
          weight_bits: candidates of weights; one where their bits are given.

        Raises:
          BudgetRuleError: for a budget that leaves weight bits without a cost although they are searched, and
            for one that nothing but weight bits changes where they are not.
        """
        weights = self._shown("weight_bits", tuple(weight_bits) if len(weight_bits) > 1 else weight_bits[0])
        for kind in self.given:
            if len(weight_bits) == 1 and budgets.ACTIVATIONS not in kind.counts:
                several = "--weight_bits=8,4,2" if self.flags else "weight_bits=(8, 4, 2)"
                raise BudgetRuleError(
                    f"{self.said(kind.name)} with {weights}: activation bits do not change {kind.counted}. "
                    f"Give several candidates, such as {several}."
                )
        if len(weight_bits) > 1 and self.given and not self.counting_weights:
            named, each = " and ".join(self.said(kind.name) for kind in self.given), len(self.given) > 1
            raise BudgetRuleError(
                f"{named} with {weights}: {'they count' if each else 'it counts'} activation bits alone, so "
                "that every layer would take the most weight bits. Give "
                f"{_listed(map(self.named, OF_WEIGHTS))}, or one number as {self.named('weight_bits')}."
            )

    def check_candidates(self, bit_widths: Sequence[int]) -> None:
        """Checks the budget against the candidates of activations, as far as that needs no network.

        Raises:
          BudgetRuleError: for an average that does not lie between them.
        """
        for kind in self.given:
            kind.check_candidates(self, bit_widths)

    def _check_number(self, kind: Kind, value) -> None:
        row = isinstance(value, Sequence) or getattr(value, "ndim", 0) > 0
        several = row and not isinstance(value, str)
        if several and not kind.listed and not self.flags:
            raise BudgetRuleError(f"{self.said(kind.name)}: {self._way_to_several(kind)}")
        listed = kind.listed and several
        for one in value if listed else (value,):
            # True is a number to Python, and would be a budget of 1.
            if isinstance(one, bool) or not (isinstance(one, numbers.Real) and 0 < one < math.inf):
                said = self._shown(kind.name, one)
                raise BudgetRuleError(f"{said}: a number above 0, for example {kind.example}.")
        if listed and not 0 < len(value) == len({int(one) for one in value}):
            raise BudgetRuleError(f"{self.said(kind.name)}: a number, or a list of different numbers.")

    def _way_to_several(self, kind: Kind) -> str:
        listed = next(one.name for one in KINDS.values() if one.listed)
        said = (
            f"one number above 0, for example {kind.example}. Several budgets share a search where they are "
        )
        said += f"in operations, {listed}=[5.3e9, 4.5e9]"
        if kind.counts_bops(self):
            said += f"; an average is mmx_tf.augment(model, {kind.name}={kind.example}).budget.target_bops"
        return f"{said}. Others are a call of augment each."

    def named(self, name: str) -> str:
        """An argument or flag, as the user knows it."""
        return f"--{name}" if self.flags else name

    def said(self, name: str) -> str:
        """An argument or flag with its value, as the user gave it."""
        return self._shown(name, getattr(self, name))

    def _shown(self, name: str, value) -> str:
        if not self.flags:
            return f"{name}={value!r}"
        several = isinstance(value, Sequence) and not isinstance(value, str)
        return f"--{name}={','.join(map(str, value)) if several else value}"


OF_WEIGHTS = tuple(name for name, kind in KINDS.items() if budgets.WEIGHTS in kind.counts)
"""Kinds with which weight bits can be searched."""


def of_recipe(recipe: RecipeFields) -> AskedBudget:
    """What the flags of a recipe ask for, unchecked."""
    asked = {name: getattr(recipe, name) or one.default for name, one in ARGUMENTS.items()}
    return AskedBudget(**asked, flags=True)


def of_search(recipe: RecipeFields) -> AskedBudget:
    """What the search of a recipe gets: with one bit-width everywhere its own BOPs are the budget."""
    asked = of_recipe(recipe)
    if recipe.selection != "uniform":
        return asked
    cleared = dict.fromkeys((kind.name for kind in asked.given if kind.in_bops), None)
    return dataclasses.replace(asked, **{**cleared, "target_average_bits": recipe.uniform_bits})


def missing() -> str:
    """Says that a recipe has no budget, and which there are."""
    every, of_weights = (_listed((f"--{name}" for name in names), "and") for names in (KINDS, OF_WEIGHTS))
    return f"There is no budget: give one of {every}. Where weights are searched, it is one of {of_weights}."


def _listed(words, conjunction: str = "or") -> str:
    *first, last = words
    return f"{', '.join(first)} {conjunction} {last}" if first else last
