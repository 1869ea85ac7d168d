"""RAM of the C source on a microcontroller, which `mmx_tf.metamix.ram` measures."""

from mmx_tf.recipe import budgets


class Kind(budgets.Kind):
    """A limit on what is live at the same time, so a tensor's bits cost something only where RAM is full."""

    text = (
        "budget in bytes of RAM of the C source (`mmx_tf.c_source`) with packed activations: what its plan "
        "of memory takes. Layers that do not fill it keep the most bits."
    )
    example = "48e3"
    counts = (budgets.ACTIVATIONS,)
    label = "budget of RAM"
    measured = True
