"""CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED and TRANSPOSE_CONV.

    sum = Conv(codes, weights / g)                      # integers in float32
    code = Quant((sum * g + bias) * float32 multiplier) + zero point

g is the greatest common divisor of the weights: files keep 4-bit weights in int8, some of them 18 times
larger. Every partial sum is below 2^24, where float32 has all integers; what goes beyond behind the sum is
computed in float64 and rounded to float32 once, as the runtime's int32 is.
"""

from dataclasses import replace

import numpy as np

from mmx_tf.export.qonnx.ends import cast, rounded, thresholded
from mmx_tf.export.qonnx.errors import refused
from mmx_tf.export.qonnx.exporter import FLOAT32_EXACT
from mmx_tf.export.qonnx.layer import layer_of, weights_of
from mmx_tf.export.qonnx.moves import padded, with_shape
from mmx_tf.export.qonnx.stored import integer_bits, onnx_shape
from mmx_tf.export.reference.windows import Window


def convolution(exporter, operator):
    """CONV_2D, of groups too: ONNX's Conv."""
    channels, height, width, depth = operator.inputs[1].shape
    matrix = weights_of(operator).reshape(channels, -1)
    groups = operator.inputs[0].shape[3] // depth
    layer = layer_of(exporter, operator, matrix)
    shaped = layer.weights.reshape(channels, height, width, depth).transpose(0, 3, 1, 2)
    return _windowed(exporter, layer, shaped, groups)


def depthwise(exporter, operator):
    """DEPTHWISE_CONV_2D: a Conv of as many groups as channels.

    One whose operations do not count is no layer of the network but an average pooling, or what a batch norm
    has become: an AveragePool or nothing, and a Mul.
    """
    _, height, width, channels = operator.inputs[1].shape
    layer = layer_of(exporter, operator, weights_of(operator)[0].transpose(2, 0, 1).reshape(channels, -1))
    own = operator.inputs[0].shape[3]
    alike = (layer.weights == layer.weights[:, :1]).all()
    if operator.index in exporter.layer_bits or channels != own or not alike:
        shaped = layer.weights.reshape(channels, 1, height, width)
        return _windowed(exporter, layer, shaped, own)
    builder, name = exporter.builder, operator.outputs[0].name
    value, window, pads = _window(exporter, layer, (height, width))
    taps = height * width
    if taps > 1 or window.strides != (1, 1):
        shape = exporter.shape(operator.outputs[0])
        value = builder.node(
            "AveragePool",
            [value],
            shape,
            name=f"{name}/average",
            kernel_shape=[height, width],
            strides=list(window.strides),
            pads=pads,
            count_include_pad=1,
        )
        value = builder.node(
            "Mul", [value, builder.constant(f"{name}/taps", taps)], shape, name=f"{name}/nearly_sums"
        )
        # Means are rounded, their sums are integers.
        value = exporter.quant_of(value, f"{name}/sums", bits=32, signed=True, datatype="INT32")
    if (layer.weights != 1).any():
        weights = _quantized(exporter, layer, layer.weights[:, :1].reshape(1, channels, 1, 1))
        value = builder.node("Mul", [value, weights], value.shape, name=f"{name}/weighted", datatype="INT32")
    return _ended(exporter, layer, value)


def dense(exporter, operator):
    """FULLY_CONNECTED: MatMul, or a Conv of 1x1 on an image whose dimensions stay."""
    source, weights = operator.inputs[:2]
    if weights.zero_points.any():
        raise refused(operator, "has weights with a zero point other than 0")
    layer = layer_of(exporter, operator, weights_of(operator))
    units, size = layer.weights.shape
    target = operator.outputs[0]
    if len(source.shape) == 4 and len(target.shape) == 4:
        shaped = layer.weights.reshape(units, size, 1, 1)
        value = _input(exporter, layer)
        return _ended(exporter, layer, _conv(exporter, layer, value, shaped, 1, [0] * 4, (1, 1), (1, 1)))
    value = _input(exporter, layer)
    shape = (*target.shape[:-1], size)
    if tuple(source.shape) != shape:
        value = with_shape(exporter, value, source.shape, shape, f"{target.name}/rows")
    matrix = _quantized(exporter, layer, layer.weights.T)
    sums = exporter.builder.node(
        "MatMul", [value, matrix], exporter.shape(target), name=f"{target.name}/sums", datatype="INT32"
    )
    return _ended(exporter, layer, sums)


def transposed(exporter, operator):
    """TRANSPOSE_CONV: ONNX's ConvTranspose."""
    _, matrix, source, *bias = operator.inputs
    channels, height, width, depth = matrix.shape
    target = operator.outputs[0]
    operator = replace(operator, inputs=(source, matrix, *bias))
    layer = layer_of(exporter, operator, weights_of(operator).reshape(channels, -1))
    size = target.shape[1:3]
    window = Window.from_options(size, (height, width), operator.options)
    whole = [
        stride * (length - 1) + taps
        for stride, length, taps in zip(window.strides, source.shape[1:3], (height, width), strict=True)
    ]
    behind = [whole[i] - window.before[i] - size[i] for i in range(2)]
    shaped = layer.weights.reshape(channels, height, width, depth).transpose(3, 0, 1, 2)
    value = _input(exporter, layer)
    if exporter.stored[source.name].zero:
        # Where no window reaches there is nothing to take the zero point off.
        value = exporter.at_offset(source.name, source.zero_point)
        layer = layer_of(exporter, operator, layer.weights * layer.factor, shifted=True)
    sums = exporter.builder.node(
        "ConvTranspose",
        [value, _quantized(exporter, layer, shaped)],
        exporter.shape(target),
        name=f"{target.name}/sums",
        datatype="INT32",
        kernel_shape=[height, width],
        strides=list(window.strides),
        pads=[*window.before, *(max(amount, 0) for amount in behind)],
        output_padding=[max(-amount, 0) for amount in behind],
    )
    return _ended(exporter, layer, sums)


def _input(exporter, layer):
    """The input of a layer whose bits are those that the file's metadata names."""
    operator = layer.operator
    name = operator.inputs[0].name
    name, _ = exporter.folded.get(name, (name, ()))
    value, stored = exporter.values[name], exporter.stored[name]
    bits = exporter.layer_bits.get(operator.index, (stored.bits, 0))[0]
    if bits == stored.bits or bits < integer_bits(*stored.span) - (not stored.signed):
        return value
    if (value.name, bits) not in exporter.requantized:
        datatype = replace(stored, bits=bits).datatype
        exporter.requantized[value.name, bits] = exporter.quant_of(
            value, f"{name}/{datatype}", bits=bits, signed=stored.signed, datatype=datatype
        )
    return exporter.requantized[value.name, bits]


def _quantized(exporter, layer, weights):
    """The weights behind a Quant of their bits."""
    operator = layer.operator
    low, high = int(weights.min()), int(weights.max())
    named = exporter.layer_bits.get(operator.index, (0, 0))[1]
    bits = max(named, integer_bits(low, high))
    name = f"{operator.outputs[0].name}/weights"
    constant = exporter.builder.constant(f"{name}/codes", weights, datatype=f"INT{bits}")
    return exporter.quant_of(
        constant, name, bits=bits, signed=True, datatype=f"INT{bits}", narrow=low > -(2 ** (bits - 1))
    )


def _windowed(exporter, layer, weights, groups):
    value, window, pads = _window(exporter, layer, weights.shape[2:])
    sums = _conv(exporter, layer, value, weights, groups, pads, window.strides, window.dilation)
    return _ended(exporter, layer, sums)


def _window(exporter, layer, kernel):
    """(input, window, what ONNX pads it with); an input whose real 0 is not 0 is padded already."""
    source, name = layer.operator.inputs[0], layer.operator.outputs[0].name
    window = Window.from_options(source.shape[1:3], kernel, layer.operator.options)
    behind = window.behind(source.shape[1:3])
    _, amounts = exporter.folded.get(source.name, ("", list(zip(window.before, behind, strict=True))))
    value, zero = _input(exporter, layer), exporter.stored[source.name].zero
    if zero and any(map(any, amounts)):
        value = padded(exporter, value, [(0, 0), (0, 0), *amounts], zero, f"{name}/padded")
        amounts = [(0, 0), (0, 0)]
    return value, window, [before for before, _ in amounts] + [behind for _, behind in amounts]


def _conv(exporter, layer, value, weights, groups, pads, strides, dilation):
    target = layer.operator.outputs[0]
    return exporter.builder.node(
        "Conv",
        [value, _quantized(exporter, layer, weights)],
        exporter.shape(target),
        name=f"{target.name}/sums",
        datatype="INT32",
        kernel_shape=list(weights.shape[2:]),
        strides=list(strides),
        dilations=list(dilation),
        pads=list(pads),
        group=groups,
    )


def _ended(exporter, layer, sums):
    target = layer.operator.outputs[0]
    if exporter.form == "thresholds":
        return thresholded(exporter, sums, target, layer.codes, (layer.low, layer.high))
    builder, name = exporter.builder, target.name
    ends = np.array([layer.low, layer.high]) * layer.factor
    largest = max(np.abs(ends).max(), np.abs(ends + layer.bias).max(), np.abs(layer.bias).max())
    dtype = np.float32 if largest < FLOAT32_EXACT else np.float64
    value = sums if dtype == np.float32 else cast(exporter, sums, dtype, f"{name}/double", datatype="INT32")
    if layer.factor != 1:
        by = builder.constant(f"{name}/factor", layer.factor, dtype=dtype)
        value = builder.node(
            "Mul", [value, by], value.shape, name=f"{name}/products", dtype=dtype, datatype="INT32"
        )
    if layer.bias.any():
        bias = _per_channel(builder.constant, f"{name}/bias", layer.bias, target, dtype)
        value = builder.node(
            "Add", [value, bias], value.shape, name=f"{name}/biased", dtype=dtype, datatype="INT32"
        )
    if dtype == np.float64:
        value = cast(exporter, value, np.float32, f"{name}/single")
    by = _per_channel(builder.constant, f"{name}/multiplier", layer.multipliers, target, np.float32)
    value = builder.node("Mul", [value, by], value.shape, name=f"{name}/scaled")
    return rounded(exporter, value, target, shift=exporter.stored[name].zero)


def _per_channel(constant, name, values, target, dtype):
    if len(np.unique(values)) == 1:
        return constant(name, values[0], dtype=dtype)
    shape = onnx_shape((1,) * (len(target.shape) - 1) + (len(values),))
    return constant(name, values.reshape(shape), dtype=dtype)
