"""The parts that a network is made for, a module for each: `--device=NAME`, `augment(device=NAME)`.

A device says how the file has to be for it, what a choice of bits costs there, what is made of the file, and
by which tool the finished file is judged (`mmx_tf.devices.device.Device`).

    >>> device = named("ethos-u55-128")
    >>> device.wants["weight_storage"], device.measures
    ('int8', {'target_flash': 'bytes of off-chip flash', 'target_latency': 'ms'})

It stands below the recipe, which refuses flags by it, and imports `export` alone. No tool and no TensorFlow
is loaded before it is asked.
"""

from mmx_tf.devices.bops import BOPS
from mmx_tf.devices.cortex_m4 import CORTEX_M4
from mmx_tf.devices.cpu import CPU
from mmx_tf.devices.device import Device, DeviceError
from mmx_tf.devices.ethos_u import ETHOS_U
from mmx_tf.devices.fpga import FPGA

DEVICES = {device.name: device for device in (BOPS, CPU, CORTEX_M4, *ETHOS_U, FPGA)}
NAMES = tuple(DEVICES)

__all__ = ["DEVICES", "NAMES", "Device", "DeviceError", "named"]


def named(name: str) -> Device:
    """A device by its name.

    Raises:
      DeviceError: a ValueError, with the allowed names.
    """
    if name not in DEVICES:
        raise DeviceError(f"device={name!r}: one of {', '.join(map(repr, NAMES))}.")
    return DEVICES[name]
