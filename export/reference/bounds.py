"""The end of every integer kernel: the bounds of its fused activation, and saturation to int8.

    low, high = activation_bounds(operator, "xnnpack")     # (112, 127) for RELU on a grid with zero point 112
    codes = saturate(values, (low, high))                  # int8

The runtimes place the real bounds 0 and 6 on the output grid differently: XNNPACK adds the zero point in
float32 and rounds half to even, TFLite's own kernels round half away from zero and add the zero point after.
"""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from mmx_tf.export.reference import rounding

LOWEST, HIGHEST = -128, 127
ACTIVATION_NAMES = {
    value: name for name, value in vars(schema.ActivationFunctionType).items() if name[0] != "_"
}
BOUNDS = {"NONE": (None, None), "RELU": (0.0, None), "RELU6": (0.0, 6.0), "RELU_N1_TO_1": (-1.0, 1.0)}


def activation_bounds(operator, rules):
    """(lowest, highest) int8 code that the fused activation leaves; ValueError for an unknown one."""
    number = getattr(operator.options, "fusedActivationFunction", schema.ActivationFunctionType.NONE)
    name = ACTIVATION_NAMES.get(number, str(number))
    if name not in BOUNDS:
        raise ValueError(
            f"operator {operator.index} ({operator.kind}) has the fused activation {name}; "
            f"known ones: {', '.join(BOUNDS)}."
        )
    return real_bounds(BOUNDS[name], operator.outputs[0], rules)


def real_bounds(bounds, tensor, rules):
    """Real (lowest, highest), None for no bound -> int8 codes on the grid of `tensor`."""
    low, high = (None if bound is None else _code(bound, tensor, rules) for bound in bounds)
    return (LOWEST if low is None else max(low, LOWEST), HIGHEST if high is None else min(high, HIGHEST))


def _code(bound, tensor, rules):
    steps = np.float32(bound) / tensor.scale
    if rules == "xnnpack":
        return int(np.rint(np.clip(steps + np.float32(tensor.zero_point), LOWEST, HIGHEST)))
    return int(rounding.half_away(steps)) + tensor.zero_point


def saturate(values, bounds):
    """Integers in any type, clamped to the inclusive `bounds` -> int8."""
    # Not np.clip: where a bound of the activation lies beyond the other one, the upper bound wins.
    return np.minimum(np.maximum(values, bounds[0]), bounds[1]).astype(np.int8)
