"""Costs of one's own, such as measured latencies, from a table (`mmx_tf.recipe.cost_table`)."""

import os
from collections.abc import Mapping

from mmx_tf.recipe import budgets, cost_table
from mmx_tf.recipe.candidate_costs import CandidateCosts
from mmx_tf.recipe.texts import refuse


class Kind(budgets.Kind):
    """A target in the table's unit, and the table."""

    text = "budget in the unit of `cost_table`."
    example = "900"
    counts = (budgets.ACTIVATIONS,)
    label = "budget of own costs"
    beside = {
        "cost_table": budgets.Argument(
            None,
            Mapping | str | os.PathLike | None,
            "what each searched layer costs at each candidate, such as measured latencies: a dict or the "
            "path of a JSON file (see `mmx_tf.recipe.cost_table`); of activation bits, so not with several "
            "weight candidates.",
        )
    }

    def check(self, asked) -> None:
        """Refuses a table or its target without the other."""
        if (asked.cost_table is None) != (asked.target_cost is None):
            missing, other = ("cost_table", "target_cost")[:: 1 if asked.cost_table is None else -1]
            raise budgets.BudgetRuleError(
                f"{asked.said(other)} without {asked.named(missing)}: they belong together, as the table has "
                "the costs of layers and bits and the target is in its unit. Give both or neither."
            )

    def check_flags(self, recipe) -> None:
        """Refuses a table that is no file."""
        if not os.path.isfile(recipe.cost_table):
            refuse("cost_table", recipe.cost_table, "the path of a JSON file")

    def costs(self, asked, free) -> CandidateCosts:
        """Those of the table; a CostTableError where it does not fit the network."""
        layers = [cost.name for cost in free.searched]
        return cost_table.read(asked.cost_table, layers=layers, bit_widths=free.bit_widths)
