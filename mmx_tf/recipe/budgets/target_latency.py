"""Time of one image on a device, by that device's own tool (`mmx_tf.devices`)."""

from mmx_tf.recipe import budgets


class Kind(budgets.Kind):
    """Milliseconds; a limit."""

    text = (
        "budget in milliseconds of one image on `device`: Vela's estimate of an Ethos-U, or, of a CPU, "
        "measured on this machine."
    )
    example = "2"
    label = "budget of time"
    measured = True
