"""TRANSPOSE_CONV: each pixel of the input puts the kernel, times its codes, on the output.

    acc[channel] = sum((q - z_in) * w) + bias              # over the pixels whose windows reach a place
    codes = transpose_convolution(operator, [shape, weights, image, bias], "builtin")        # int8

It ends as `export.reference.weighted` says, in TFLite's optimized kernel by the rule of the depthwise one.
"""

from dataclasses import replace

import numpy as np

from mmx_tf.export.reference.kernels import computes
from mmx_tf.export.reference.weighted import LANES, exact_type, requantize, unpacked
from mmx_tf.export.reference.windows import SAME, Window


def _in_xnnpack(operator):
    options, (_, *kernel, _) = operator.options, operator.inputs[1].shape
    gaps = kernel[0] < options.strideH or kernel[1] < options.strideW
    # Of windows that leave gaps it takes no padding off.
    return unpacked(operator) and (options.padding != SAME or not gaps)


# Its first input is the shape of its output.
@computes("TRANSPOSE_CONV", ("INT32", "INT8"), in_xnnpack=_in_xnnpack)
def transpose_convolution(operator, inputs, rules):
    """Output shape [4], weights [channels, KH, KW, C], codes [N, H, W, C], bias -> [N, *shape[1:]].

    ValueError for a shape from which no convolution with this window comes to the input.
    """
    shape, weights, codes, bias = (*inputs, None)[:4]
    size = tuple(int(length) for length in shape[1:3])
    window = Window.from_options(size, weights.shape[1:3], operator.options)
    if window.output != codes.shape[1:3]:
        raise ValueError(
            f"operator {operator.index} (TRANSPOSE_CONV) has an input of {codes.shape[1:3]} pixels and an "
            f"output of {size}, from which its window comes to {window.output}."
        )
    source = operator.inputs[2]
    floating = exact_type(weights.reshape(len(weights), -1))
    shifted = codes.astype(floating) - floating(source.zero_point)
    # With what lies under the windows outside of the output.
    whole = [
        max(before + length, (places - 1) * stride + taps)
        for before, length, places, stride, taps in zip(
            window.before, size, window.output, window.strides, window.kernel, strict=True
        )
    ]
    sums = np.zeros((len(codes), *whole, len(weights)), floating)
    for row in range(window.kernel[0]):
        for column in range(window.kernel[1]):
            rows, columns = (
                slice(first, first + (places - 1) * stride + 1, stride)
                for first, places, stride in zip((row, column), window.output, window.strides, strict=True)
            )
            sums[:, rows, columns] += shifted @ weights[:, row, column].T.astype(floating)
    (top, left), (height, width) = window.before, size
    sums = sums[:, top : top + height, left : left + width]
    as_convolution = replace(operator, inputs=(source, operator.inputs[1]))
    return requantize(sums, bias, as_convolution, rules, lanes=LANES)
