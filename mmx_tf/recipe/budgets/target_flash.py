"""Flash of the C source on a microcontroller, which `mmx_tf.metamix.flash` measures."""

from mmx_tf.recipe import budgets


class Kind(budgets.Kind):
    """A limit on the constants of the program: weights in slots of 2, 4 and 8 bits, and all else."""

    text = (
        "budget in bytes of constants of the C source (`mmx_tf.c_source`) with packed weights, for several "
        "weight candidates. Bits that fit into it are free. It leaves activation bits without a cost, so "
        "give `target_ram` or another budget beside it. With an Ethos-U55 as `device` it counts the off-chip "
        "flash that Vela tells."
    )
    example = "300e3"
    counts = (budgets.WEIGHTS,)
    counted = "the flash that the C source takes"
    label = "budget of flash"
    measured = True
