"""Operators that move codes and compute none: paddings, slices, shapes, and the place of the largest code.

codes = pad(operator, [codes, amounts], "xnnpack")     # int8
"""

import numpy as np

from mmx_tf.export.reference.kernels import computes


@computes("ARG_MAX", ("INT8", "INT32"), in_xnnpack=False)
def arg_max(operator, inputs, rules):
    """ARG_MAX: the place of the largest code along the axis inputs[1], the first of equal ones."""
    (axis,) = inputs[1].reshape(-1)
    return inputs[0].argmax(axis=int(axis)).astype(operator.outputs[0].numpy_type)


@computes("PAD")
def pad(operator, inputs, rules):
    """PAD: codes of real 0 round the input; inputs[1]: amounts [rank, 2]."""
    return np.pad(inputs[0], inputs[1].tolist(), constant_values=operator.outputs[0].zero_point)


@computes("CONCATENATION")
def concatenate(operator, inputs, rules):
    """CONCATENATION of codes; by the specification all inputs are on the output's grid."""
    for tensor in operator.inputs:
        if (tensor.scale, tensor.zero_point) != (operator.outputs[0].scale, operator.outputs[0].zero_point):
            raise ValueError(
                f"operator {operator.index} (CONCATENATION): {tensor.name!r} is on another grid than "
                "the output."
            )
    return np.concatenate(inputs, axis=operator.options.axis)


@computes("RESHAPE")
def reshape(operator, inputs, rules):
    """RESHAPE to the second input, or, without one, to the options' newShape; one entry may be -1."""
    target = inputs[1] if len(inputs) > 1 and inputs[1] is not None else operator.options.newShape
    return inputs[0].reshape([int(size) for size in target])


@computes("STRIDED_SLICE")
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


@computes("TRANSPOSE")
def transpose(operator, inputs, rules):
    """TRANSPOSE: axis i of the output is axis inputs[1][i] of the input."""
    return inputs[0].transpose([int(axis) for axis in inputs[1]])
