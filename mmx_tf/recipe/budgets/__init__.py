"""The kinds of budget: a module for each, found by its name.

`--target_bops` and `augment(target_bops=...)` are `budgets/target_bops.py`, and so on. A module has a class
`Kind`; the base class here says what it may tell, and what holds where it tells nothing. The field of the
same name in `mmx_tf.recipe.fields` makes it a flag, and their order is that of the kinds. `augment` has its
argument by itself.

Flags and notebook are checked by the same functions (`mmx_tf.recipe.budget_rules`). What a choice costs is
arithmetic on the layers' costs, so nothing here loads TensorFlow.

    >>> [kind.name for kind in kinds()]
    ['target_bops', 'target_average_bits', 'target_cost', 'target_bytes', 'target_ram', 'target_flash',
     'target_latency']
"""

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mmx_tf.recipe.candidate_costs import CandidateCosts
from mmx_tf.recipe.fields import RecipeFields

ACTIVATIONS, WEIGHTS = "activation bits", "weight bits"


class BudgetRuleError(ValueError):
    """A budget that cannot be asked for."""


class Argument(NamedTuple):
    """An argument of `augment`: its value where it is not given, its type, and what its docstring says."""

    default: object
    annotation: object
    text: str


class Kind:
    """A kind of budget, and what holds for one that says nothing else.

    In its methods `asked` is the `mmx_tf.recipe.budget_rules.AskedBudget`, and `free` the network's
    `mmx_tf.budget.budget.Budget` without a target.

    Attributes:
      name: of its module, its flag and its argument.
      text: what the docstring of `augment` says of it.
      example: a value that it may have.
      counts: the bits that change its costs: `ACTIVATIONS`, `WEIGHTS` or both.
      counted: what it counts, where that is `WEIGHTS` alone: "activation bits do not change (the size of the
        file)".
      label: what a figure calls a run with it; empty where it is a matter of course.
      listed: whether it may be a list of targets, which are searched on one meta-state.
      in_bops: whether its target is one of BOPs. Only with such a budget bits may be drawn, given or the same
        everywhere, and a search may train weights.
      measured: whether its costs are measured on a file, by `augment`.
      annotation: type of the argument.
      beside: further arguments that belong to it; each is a flag of the same name.
    """

    text = ""
    example = ""
    counts: Sequence[str] = (ACTIVATIONS, WEIGHTS)
    counted = ""
    label = ""
    listed = False
    in_bops = False
    measured = False
    annotation: object = float | None
    beside: Mapping[str, Argument] = {}

    def __init__(self, name: str):
        self.name = name

    @property
    def cleared(self) -> str:
        """The flag of a run without it."""
        text = RecipeFields.__dataclass_fields__[self.name].metadata["text"]
        return f"--{self.name}={'' if text else 0}"

    def counts_bops(self, asked) -> bool:
        """Whether its target is one of BOPs, as `asked`; there is at most one such target."""
        return self.in_bops

    def check(self, asked) -> None:
        """Refuses (BudgetRuleError) what does not fit `beside`, whether the budget is of this kind or not."""

    def check_candidates(self, asked, bit_widths: Sequence[int]) -> None:
        """Refuses (BudgetRuleError) a target that these activation bits meet in no network."""

    def check_flags(self, recipe: RecipeFields) -> None:
        """Refuses (RecipeError) other flags of a recipe with this budget."""

    def costs(self, asked, free) -> CandidateCosts | None:
        """What the network's candidates cost; None for BOPs.

        Raises:
          ValueError: where they cannot be told of this network.
        """
        return None

    def targets(self, asked, free) -> Sequence[float]:
        """The targets in the unit of `costs`, whole numbers for BOPs.

        Raises:
          BudgetRuleError: for a target that no choice of bits meets.
        """
        return (float(getattr(asked, self.name)),)


def kinds() -> tuple[Kind, ...]:
    """Every kind, in the order of their flags."""
    names = {module.name for module in pkgutil.iter_modules(__path__)}
    order = list(RecipeFields.__dataclass_fields__)
    if names - set(order):
        raise TypeError(f"kinds of budget without a field in mmx_tf.recipe.fields: {names - set(order)}")
    return tuple(
        importlib.import_module(f"{__name__}.{name}").Kind(name) for name in sorted(names, key=order.index)
    )
