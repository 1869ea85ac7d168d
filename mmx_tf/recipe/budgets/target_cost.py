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
    label = "budget of own costs"
    beside = {
        "cost_table": budgets.Argument(
            None,
            Mapping | str | os.PathLike | None,
            "what each searched layer costs at each candidate, such as measured latencies: a dict or the "
            "path of a JSON file (see `mmx_tf.recipe.cost_table`), of activation bits or of pairs of weight "
            "and activation bits.",
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
        """Those of the table; a CostTableError where it does not fit the network, or weights are free."""
        layers = [cost.name for cost in free.searched]
        found = cost_table.read(asked.cost_table, layers=layers, pairs=free.pairs)
        branches = len(free.bit_widths)
        if any(row != row[:branches] * len(free.weight_bit_widths) for row in found.table):
            return found
        if free.searches_weights and asked.counting_weights == (self,):
            raise cost_table.CostTableError(
                f"{asked.said(self.name)} with {asked.named('weight_bits')} {free.weight_bits}: the cost "
                "table has the same costs at all weight bits, so that every layer would take the most. Give "
                'costs of pairs, such as "w4a8", a budget beside it that counts weight bits, or one number '
                f"as {asked.named('weight_bits')}."
            )
        return found
