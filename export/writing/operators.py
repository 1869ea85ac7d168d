"""How integer layers become TFLite operators: convolutions, arithmetic, pooling, shapes."""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from mmx_tf.export.writing.context import ACTIVATIONS, PADDINGS, Builtin, TensorType, writes
from mmx_tf.export.writing.flatbuffer import quantization
from mmx_tf.layers.integer import convolutions, layers, shapes, weighted


def _window_options(options, layer):
    options.padding = PADDINGS[layer.padding]
    options.strideH, options.strideW = layer.strides
    options.dilationHFactor, options.dilationWFactor = layer.dilation_rate
    options.fusedActivationFunction = ACTIVATIONS[layer.activation]
    return options


@writes(weighted.IntegerConv2D)
def _conv(context, layer, inputs, output):
    if layer.container != "int8" and layer.row_length and context.packed_as_matrix_product:
        _matrix_product(context, layer, inputs, output, layer.weight_codes.numpy()[0, 0], per_channel=True)
        return
    _convolution(context, layer, inputs, output, version=3)


@writes(convolutions.IntegerGroupedConv2D)
def _grouped_conv(context, layer, inputs, output):
    # The number of groups is that of the input's channels over those of a filter.
    _convolution(context, layer, inputs, output, version=6)


def _convolution(context, layer, inputs, output, *, version):
    codes = layer.weight_codes.numpy().transpose(3, 0, 1, 2)
    constants = context.weights(layer, codes, axis=0)
    options = _window_options(schema.Conv2DOptionsT(), layer)
    version = 7 if layer.container == "int4" else version
    context.writer.operator(Builtin.CONV_2D, inputs + constants, [output], options=options, version=version)


@writes(weighted.IntegerDepthwiseConv2D, weighted.IntegerAffine)
def _depthwise(context, layer, inputs, output):
    height, width, channels, multiplier = layer.weight_shape
    codes = layer.weight_codes.numpy().reshape(1, height, width, channels * multiplier)
    constants = context.weights(layer, codes, axis=3)
    options = _window_options(schema.DepthwiseConv2DOptionsT(), layer)
    options.depthMultiplier = multiplier
    version = 7 if layer.container == "int4" else 3
    context.writer.operator(
        Builtin.DEPTHWISE_CONV_2D, inputs + constants, [output], options=options, version=version
    )


@writes(weighted.IntegerDense)
def _dense(context, layer, inputs, output):
    codes, per_channel = layer.weight_codes.numpy(), layer.per_channel
    _matrix_product(context, layer, inputs, output, codes, per_channel=per_channel)


def _matrix_product(context, layer, inputs, output, codes, *, per_channel):
    """`codes` [in, out] times the last axis of the input."""
    constants = context.weights(layer, codes.T, axis=0 if per_channel else None)
    options = schema.FullyConnectedOptionsT()
    options.fusedActivationFunction = ACTIVATIONS[layer.activation]
    options.keepNumDims = len(context.shapes[layer.name]) > 1
    by_container = {"int8": 12 if per_channel else 4, "int4": 12 if per_channel else 7, "int2": 14}
    version = by_container[layer.container]
    context.writer.operator(
        Builtin.FULLY_CONNECTED, inputs + constants, [output], options=options, version=version
    )


@writes(layers.IntegerAdd)
def _add(context, layer, inputs, output):
    options = schema.AddOptionsT()
    options.fusedActivationFunction = ACTIVATIONS[layer.activation]
    context.writer.operator(Builtin.ADD, inputs, [output], options=options, version=2)


@writes(layers.IntegerMul)
def _mul(context, layer, inputs, output):
    options = schema.MulOptionsT()
    options.fusedActivationFunction = ACTIVATIONS[layer.activation]
    context.writer.operator(Builtin.MUL, inputs, [output], options=options, version=2)


@writes(layers.IntegerMean)
def _mean(context, layer, inputs, output):
    axes = context.constant(f"{layer.name}/axes", np.array([1, 2]), TensorType.INT32)
    options = schema.ReducerOptionsT()
    options.keepDims = layer.keepdims
    context.writer.operator(Builtin.MEAN, [*inputs, axes], [output], options=options, version=2)


@writes(layers.IntegerRequantize)
def _requantize(context, layer, inputs, output):
    options = schema.QuantizeOptionsT()
    context.writer.operator(Builtin.QUANTIZE, inputs, [output], options=options, version=2)


@writes(layers.IntegerRescale)
def _rescale(context, layer, inputs, output):
    one = context.constant(
        f"{layer.name}/one", np.array([1]), TensorType.INT8, quantization=quantization([1.0], [0])
    )
    _mul(context, layer, [*inputs, one], output)


@writes(shapes.IntegerMaxPool2D)
def _max_pool(context, layer, inputs, output):
    _pool(Builtin.MAX_POOL_2D, context, layer, inputs, output)


@writes(shapes.IntegerAveragePool2D)
def _average_pool(context, layer, inputs, output):
    _pool(Builtin.AVERAGE_POOL_2D, context, layer, inputs, output)


def _pool(builtin, context, layer, inputs, output):
    options = schema.Pool2DOptionsT()
    options.padding = PADDINGS[layer.padding]
    options.filterHeight, options.filterWidth = layer.pool_size
    options.strideH, options.strideW = layer.strides
    context.writer.operator(builtin, inputs, [output], options=options, version=2)


@writes(shapes.IntegerPad)
def _pad(context, layer, inputs, output):
    amounts = np.array([(0, 0), *layer.padding, (0, 0)])
    paddings = context.constant(f"{layer.name}/paddings", amounts, TensorType.INT32)
    options = schema.PadOptionsT()
    context.writer.operator(Builtin.PAD, [*inputs, paddings], [output], options=options, version=2)


@writes(shapes.IntegerCrop)
def _crop(context, layer, inputs, output):
    height, width, _ = context.shapes[layer.name]
    (top, _), (left, _) = layer.cropping
    bounds = {
        "begin": [0, top, left, 0],
        "end": [0, top + height, left + width, 0],
        "strides": [1, 1, 1, 1],
    }
    constants = [
        context.constant(f"{layer.name}/{name}", np.array(values), TensorType.INT32)
        for name, values in bounds.items()
    ]
    options = schema.StridedSliceOptionsT()
    # Batch and channels are taken whole.
    options.beginMask = options.endMask = 0b1001
    context.writer.operator(
        Builtin.STRIDED_SLICE, [*inputs, *constants], [output], options=options, version=2
    )


@writes(shapes.IntegerConcatenate)
def _concatenate(context, layer, inputs, output):
    options = schema.ConcatenationOptionsT()
    rank = len(context.shapes[layer.name]) + 1
    options.axis = layer.axis % rank
    context.writer.operator(Builtin.CONCATENATION, inputs, [output], options=options, version=2)


@writes(shapes.IntegerReshape)
def _reshape(context, layer, inputs, output):
    # -1 stands for the batch, so that the file can be resized.
    shape = np.array([-1, *context.shapes[layer.name]])
    target = context.constant(f"{layer.name}/shape", shape, TensorType.INT32)
    options = schema.ReshapeOptionsT()
    options.newShape = shape.astype(np.int32)
    context.writer.operator(Builtin.RESHAPE, [*inputs, target], [output], options=options, version=1)
