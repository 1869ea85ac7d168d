"""The budgets of a network that a user's request amounts to.

>>> asked = asked_for(target_bops=[4.5e9, 5e9])
>>> low, high = budgets(asked, free)                    # free: the network's Budget without a target
"""

import dataclasses

import numpy as np

from mmx_tf.budget import cost_table
from mmx_tf.budget.budget import Budget, UnreachableBudgetError, average_bits_costs
from mmx_tf.recipe.budget_rules import AskedBudget, BudgetRuleError


def asked_for(**arguments) -> AskedBudget:
    """The budget that the arguments of `augment` of the same names ask for, checked.

    Raises:
      BudgetRuleError: a ValueError, by `AskedBudget.check`.
    """
    if isinstance(arguments.get("target_bops"), np.ndarray):
        arguments["target_bops"] = arguments["target_bops"].tolist()
    asked = AskedBudget(**arguments)
    asked.check()
    return asked


def budgets(asked: AskedBudget, free: Budget) -> tuple[Budget, ...]:
    """The budgets of a network, one for each target.

    For `target_bytes` it is `free` itself: what a file takes is measured later (`mmx_tf.metamix.file_bytes`).

    Args:
      asked: a checked budget.
      free: the network's, without a target.

    Raises:
      BudgetRuleError: by `AskedBudget.check_weight_bits`.
      UnreachableBudgetError: if no choice of bits meets a target.
      CostTableError: if the cost table does not fit the network.
    """
    asked.check_weight_bits(free.weight_bit_widths)
    if asked.cost_table is not None:
        names = [cost.name for cost in free.searched]
        own = cost_table.read(asked.cost_table, layers=names, bit_widths=free.bit_widths)
        return (dataclasses.replace(free, own=own, target_cost=float(asked.target_cost)),)
    average, weighting = asked.target_average_bits, asked.average_bits_weighting
    if average is not None and weighting != "operations":
        own = average_bits_costs(free.costs, free.bit_widths, weighting)
        return (dataclasses.replace(free, own=own, target_cost=float(average)),)
    if average is not None:
        try:
            asked.check_average(free.bit_widths)
        except BudgetRuleError as error:
            raise UnreachableBudgetError(str(error)) from None
        targets = (free.bops_at(average),)
    elif isinstance(asked.target_bops, list | tuple):
        targets = tuple(map(int, asked.target_bops))
    else:
        targets = (None if asked.target_bops is None else int(asked.target_bops),)
    return tuple(dataclasses.replace(free, target_bops=target) for target in targets)
