"""The budgets of a network that a user's request amounts to.

>>> asked = asked_for(target_bops=[360e3, 400e3])
>>> [budget.target_bops for budget in budgets(asked, search.budget)]       # of a network without a target
[360000, 400000]
"""

import dataclasses

import numpy as np

from mmx_tf.budget.budget import Budget, UnreachableBudgetError
from mmx_tf.recipe.budget_rules import KINDS, AskedBudget, BudgetRuleError


def asked_for(**arguments) -> AskedBudget:
    """The budget that the arguments of `augment` of the same names ask for, checked.

    Raises:
      BudgetRuleError: a ValueError, by `AskedBudget.check`.
    """
    for name, kind in KINDS.items():
        if kind.listed and isinstance(arguments.get(name), np.ndarray):
            arguments[name] = arguments[name].tolist()
    asked = AskedBudget(**arguments)
    asked.check()
    return asked


def budgets(asked: AskedBudget, free: Budget) -> tuple[Budget, ...]:
    """The budgets of a network, one for each target in BOPs where these are several; each has all others.

    What is measured later, such as the bytes of a file, is not in them yet. Without a target it is `free`.

    Args:
      asked: a checked budget.
      free: the network's, without a target.

    Raises:
      BudgetRuleError: by `AskedBudget.check_weight_bits`.
      UnreachableBudgetError: if no choice of bits meets the targets.
      CostTableError: if the cost table does not fit the network.
    """
    asked.check_weight_bits(free.weight_bit_widths)
    found = (free,)
    for kind in asked.given:
        if kind.measured:
            continue
        costs = kind.costs(asked, free)
        try:
            targets = kind.targets(asked, free)
        except BudgetRuleError as error:
            raise UnreachableBudgetError(str(error)) from None
        if costs is None:
            found = tuple(dataclasses.replace(one, target_bops=target) for target in targets for one in found)
        else:
            (target,) = targets
            found = tuple(one.beside(costs, target) for one in found)
    return found
