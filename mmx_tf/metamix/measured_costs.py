"""The budgets whose costs are measured on a file of the network: how each is measured.

A kind of budget says that it is `measured` (`mmx_tf.recipe.budgets`); here is what `augment` then calls with
the search network and the options of `convert`.
"""

import functools
from collections.abc import Callable

from mmx_tf import devices
from mmx_tf.metamix import file_bytes, flash, on_device, ram

MEASURED = {
    "target_bytes": file_bytes.costs_in_bytes,
    "target_ram": ram.costs_in_ram,
    "target_flash": flash.costs_in_flash,
    "target_latency": None,
}
"""Name of a kind of budget -> function (search, convert_options) -> its costs; None where a device has it."""


def measuring(budget: str, device: str) -> Callable:
    """The function that measures the costs of a budget for a device.

    Raises:
      DeviceError: a ValueError, for a device that there is not, or on which the budget means nothing.
    """
    part = devices.named(device)
    if budget in part.refuses:
        raise devices.DeviceError(f"{budget} with device={device!r}: {part.why[budget]}")
    if budget in part.measures:
        return functools.partial(on_device.costs_on_device, device=part, budget=budget)
    return MEASURED[budget]
