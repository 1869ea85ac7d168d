"""Which operators the reference interpreter knows, on which types, and by whose rule each is computed.

    outputs = compute(operator, inputs, "xnnpack")         # list of arrays, one per output of the operator

`KERNELS` maps an operator's kind to its function and types. To support another operator, write a function
(operator, input arrays, rules) -> output array and name it there.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mmx_tf.export.reading.constants import PACKED_BITS
from mmx_tf.export.reference import (
    activations,
    binary,
    curves,
    rescaling,
    resizing,
    transposed,
    weighted,
    windows,
)

RULES = ("xnnpack", "builtin", "reference")
# Operators that XNNPACK leaves to TFLite's kernels when they are int8.
NOT_IN_XNNPACK = {"ARG_MAX", "AVERAGE_POOL_2D", "HARD_SWISH", "RELU", "RELU6", "SOFTMAX"}
# Ratios of input to output scale that XNNPACK takes: lowest, and first one too large.
RATIOS = {"ADD": (2.0**-10, 2.0**8), "SUB": (2.0**-10, 2.0**8), "MUL": (2.0**-16, 2.0**8)}
REQUANTIZE_RATIOS = (2.0**-8, 2.0**7)
INT8 = (("INT8", "INT8"),)
FLOAT32 = (("FLOAT32", "FLOAT32"),)


@dataclass(frozen=True)
class Kernel:
    """A kernel: (operator, inputs, rules) -> output; `types`: allowed (first input, output) types."""

    function: Callable
    types: tuple = INT8


def arg_max(operator, inputs, rules):
    """ARG_MAX: the place of the largest code along the axis inputs[1], the first of equal ones."""
    (axis,) = inputs[1].reshape(-1)
    return inputs[0].argmax(axis=int(axis)).astype(operator.outputs[0].numpy_type)


def pad(operator, inputs, rules):
    """PAD: codes of real 0 round the input; inputs[1]: amounts [rank, 2]."""
    return np.pad(inputs[0], inputs[1].tolist(), constant_values=operator.outputs[0].zero_point)


def concatenate(operator, inputs, rules):
    """CONCATENATION of codes; by the specification all inputs are on the output's grid."""
    for tensor in operator.inputs:
        if (tensor.scale, tensor.zero_point) != (operator.outputs[0].scale, operator.outputs[0].zero_point):
            raise ValueError(
                f"operator {operator.index} (CONCATENATION): {tensor.name!r} is on another grid than "
                "the output."
            )
    return np.concatenate(inputs, axis=operator.options.axis)


def reshape(operator, inputs, rules):
    """RESHAPE to the second input, or to the options' newShape where there is none; one entry may be -1."""
    target = inputs[1] if len(inputs) > 1 and inputs[1] is not None else operator.options.newShape
    return inputs[0].reshape([int(size) for size in target])


def strided_slice(operator, inputs, rules):
    """STRIDED_SLICE with forward strides; inputs[1:4]: begin, end and stride of each axis.

    Bit i of beginMask and endMask leaves that bound of axis i open. ValueError for the other masks and for
    strides below 1.
    """
    options = operator.options
    if options.ellipsisMask or options.newAxisMask or options.shrinkAxisMask or min(inputs[3]) < 1:
        raise ValueError(
            f"operator {operator.index} (STRIDED_SLICE): only begin and end masks and strides of 1 or more "
            "are known here."
        )
    ranges = []
    for axis, (begin, end, stride) in enumerate(zip(*inputs[1:4], strict=True)):
        first = None if options.beginMask >> axis & 1 else int(begin)
        last = None if options.endMask >> axis & 1 else int(end)
        ranges.append(slice(first, last, int(stride)))
    return inputs[0][tuple(ranges)]


KERNELS = {
    "ADD": Kernel(binary.add),
    "ARG_MAX": Kernel(arg_max, (("INT8", "INT32"),)),
    "AVERAGE_POOL_2D": Kernel(windows.average_pool),
    "CONCATENATION": Kernel(concatenate),
    "CONV_2D": Kernel(weighted.convolution),
    "DEPTHWISE_CONV_2D": Kernel(weighted.depthwise),
    "ELU": Kernel(curves.elu),
    "DEQUANTIZE": Kernel(rescaling.dequantize, (("INT8", "FLOAT32"), ("UINT8", "FLOAT32"))),
    "FULLY_CONNECTED": Kernel(weighted.fully_connected),
    "HARD_SWISH": Kernel(activations.hard_swish),
    "LOGISTIC": Kernel(activations.logistic),
    "MAX_POOL_2D": Kernel(windows.max_pool),
    "MEAN": Kernel(rescaling.mean),
    "MUL": Kernel(binary.multiply),
    "PAD": Kernel(pad),
    "QUANTIZE": Kernel(rescaling.quantize, (("FLOAT32", "INT8"), ("UINT8", "INT8"), *INT8)),
    "RELU": Kernel(activations.relu),
    "RELU6": Kernel(activations.relu6),
    "RESHAPE": Kernel(reshape),
    "RESIZE_BILINEAR": Kernel(resizing.resize_bilinear),
    "RESIZE_NEAREST_NEIGHBOR": Kernel(resizing.resize_nearest),
    "SOFTMAX": Kernel(activations.softmax),
    "STRIDED_SLICE": Kernel(strided_slice),
    "SUB": Kernel(binary.subtract),
    "TANH": Kernel(curves.tanh),
    "TRANSPOSE": Kernel(resizing.transpose),
    # Its first input is the shape of its output.
    "TRANSPOSE_CONV": Kernel(transposed.transpose_convolution, (("INT32", "INT8"),)),
}


for _kind, _kernel in curves.FLOAT_KERNELS.items():
    _of_codes = KERNELS.get(_kind)
    KERNELS[_kind] = (
        Kernel(curves.by_type(_of_codes.function, _kernel), (*_of_codes.types, *FLOAT32))
        if _of_codes
        else Kernel(_kernel, FLOAT32)
    )


def check(operator):
    """ValueError when the operator's kind or types are not here; the message names those that are."""
    label = f"operator {operator.index} ({operator.kind})"
    if operator.kind not in KERNELS:
        raise ValueError(f"{label} is not here; known operators: {', '.join(sorted(KERNELS))}.")
    types = (operator.inputs[0].type, operator.outputs[0].type)
    allowed = KERNELS[operator.kind].types
    if types not in allowed:
        known = ", ".join(f"{source} -> {target}" for source, target in allowed)
        raise ValueError(f"{label} computes {types[0]} -> {types[1]}; known here: {known}.")


def compute(operator, inputs, rules):
    """Input arrays (None for one left out) -> list with the operator's output. Errors as in `check`."""
    check(operator)
    if rules not in RULES:
        raise ValueError(f"rules is {rules!r}; use one of {', '.join(map(repr, RULES))}.")
    if rules == "xnnpack" and not taken_by_xnnpack(operator):
        rules = "builtin"
    return [KERNELS[operator.kind].function(operator, inputs, rules)]


def taken_by_xnnpack(operator):
    """Whether LiteRT hands this operator to XNNPACK on x86-64, from its kind, types and scales."""
    source, target = operator.inputs[0], operator.outputs[0]
    if (source.type, target.type) in FLOAT32:
        return True
    if operator.kind in NOT_IN_XNNPACK:
        return False
    if len(operator.inputs) > 1 and (bits := PACKED_BITS.get(operator.inputs[1].type)):
        # Codes share a byte, and rows must start at one.
        return operator.kind == "FULLY_CONNECTED" and operator.inputs[1].shape[1] % (8 // bits) == 0
    if operator.kind == "FULLY_CONNECTED" and operator.inputs[1].zero_points.any():
        return False
    if operator.kind == "TRANSPOSE_CONV":
        return transposed.taken_by_xnnpack(operator)
    if operator.kind == "MUL":
        return _between(source.scale * operator.inputs[1].scale / target.scale, RATIOS["MUL"])
    if operator.kind in RATIOS:
        return all(_between(tensor.scale / target.scale, RATIOS[operator.kind]) for tensor in operator.inputs)
    if operator.kind == "QUANTIZE" and source.type != "FLOAT32":
        lowest, highest = REQUANTIZE_RATIOS
        return source.type == target.type and lowest <= source.scale / target.scale <= highest
    return True


def _between(ratio, limits):
    return limits[0] <= ratio < limits[1]
