"""No part in particular, the default: BOPs are the cost, and the `.tflite` is the result."""

from mmx_tf.devices.device import Device


class Bops(Device):
    """What a run without `--device` is for."""

    name = "bops"
    refuses = ("target_latency",)
    why = {"target_latency": "A time is one of a part: name it with --device, cpu or an ethos-u."}


BOPS = Bops()
