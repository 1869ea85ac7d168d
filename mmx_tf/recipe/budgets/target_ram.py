"""RAM of the C source on a microcontroller, which `mmx_tf.metamix.ram` measures."""

from mmx_tf.recipe import budgets


class Kind(budgets.Kind):
    """A limit on what is live at the same time, so a tensor's bits cost something only where RAM is full."""

    text = (
        "budget in bytes of RAM of the C source (`mmx_tf.c_source`) with packed activations: what its plan "
        "of memory takes at the fullest moment. Layers that do not fill it keep the most bits. It may be "
        "given beside `target_bops`."
    )
    example = "48e3"
    counts = (budgets.ACTIVATIONS,)
    label = "budget of RAM"
    beside_bops = True
    measured = True

    def check(self, asked) -> None:
        """Refuses an average that is not one of BOPs beside it: one budget has its own unit."""
        if asked.target_ram is not None and asked.average_bits_weighting != "operations":
            raise budgets.BudgetRuleError(
                f"{asked.said(self.name)} with {asked.said('average_bits_weighting')}: a budget "
                "beside it counts operations."
            )
