"""How each integer layer becomes its TFLite operator: weights, options, version.

`WRITERS` maps a layer class to a function (context, layer, input tensor indices, output tensor index). To
support another operator, add the layer to `layers` and its writer here. Operator versions are the lowest that
define the int8 form.
"""

from dataclasses import dataclass, field

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from mmx_tf.export.writing.activations import ACTIVATION_WRITERS
from mmx_tf.export.writing.enumerations import ACTIVATIONS, PADDINGS, Builtin, TensorType
from mmx_tf.export.writing.flatbuffer import GraphWriter, packed, quantization
from mmx_tf.export.writing.image_operators import IMAGE_WRITERS
from mmx_tf.layers.integer import convolutions, layers, weighted
from mmx_tf.layers.integer import shapes as integer_shape_layers


@dataclass(frozen=True)
class Context:
    """What a writer needs.

    Attributes:
      writer: the graph writer.
      shapes: each layer's output shape without the batch dimension.
      grids: each layer's output grid; layers that give no codes have none.
      packed_as_matrix_product: see `export.writing.tflite.convert`.
      float_tensors: names of the float tensors inside of curves, as they are added.
    """

    writer: GraphWriter
    shapes: dict
    grids: dict
    packed_as_matrix_product: bool = True
    float_tensors: set = field(default_factory=set)

    def constant(self, name, values, dtype, **kwargs):
        """Add a constant from an array -> tensor index. dtype: INT2, INT4, INT8, INT32, FLOAT32."""
        bits = {TensorType.INT2: 2, TensorType.INT4: 4}.get(dtype)
        numpy_type = {TensorType.INT32: np.int32, TensorType.FLOAT32: np.float32}.get(dtype, np.int8)
        if dtype == TensorType.FLOAT32:
            self.float_tensors.add(name)
        data = packed(values, bits=bits) if bits else np.ascontiguousarray(values, numpy_type).tobytes()
        return self.writer.tensor(name, np.shape(values), dtype, data=data, **kwargs)

    def codes(self, layer, *, name=None, unsigned=False):
        """Add the int8 tensor of a layer's output codes -> its index.

        name: the tensor's, if it is not the layer's. unsigned: the same codes plus 128, as uint8.
        """
        grid, shift = layer.output_grid, 128 if unsigned else 0
        return self.writer.tensor(
            name or layer.name,
            (1, *self.shapes[layer.name]),
            TensorType.UINT8 if unsigned else TensorType.INT8,
            quantization=quantization([grid.scale], [grid.zero_point + shift]),
            dynamic_batch=True,
        )

    def float_tensor(self, layer, part):
        """Add a float tensor inside of a layer, of the shape of its output -> its index."""
        name = f"{layer.name}/{part}"
        self.float_tensors.add(name)
        return self.writer.tensor(name, (1, *self.shapes[layer.name]), TensorType.FLOAT32, dynamic_batch=True)

    def weights(self, layer, codes, *, axis):
        """Add weights (`codes` in TFLite's layout) and bias of a layer -> their tensor indices."""
        scales = layer.weight_scales.numpy()
        bias_scales = np.float32(layer.input_grid.scale) * scales
        zeros = np.zeros(len(scales), np.int64)
        dtype = getattr(TensorType, layer.container.upper())
        weight_grid = quantization(scales, zeros, axis=axis)
        bias_grid = quantization(bias_scales, zeros)
        bias = layer.bias_codes.numpy()
        return [
            self.constant(f"{layer.name}/weights", codes, dtype, quantization=weight_grid),
            self.constant(f"{layer.name}/bias", bias, TensorType.INT32, quantization=bias_grid),
        ]


def _window_options(options, layer):
    options.padding = PADDINGS[layer.padding]
    options.strideH, options.strideW = layer.strides
    options.dilationHFactor, options.dilationWFactor = layer.dilation_rate
    options.fusedActivationFunction = ACTIVATIONS[layer.activation]
    return options


def _conv(context, layer, inputs, output):
    if layer.container != "int8" and layer.row_length and context.packed_as_matrix_product:
        _matrix_product(context, layer, inputs, output, layer.weight_codes.numpy()[0, 0], per_channel=True)
        return
    _convolution(context, layer, inputs, output, version=3)


def _grouped_conv(context, layer, inputs, output):
    # The number of groups is that of the input's channels over those of a filter.
    _convolution(context, layer, inputs, output, version=6)


def _convolution(context, layer, inputs, output, *, version):
    codes = layer.weight_codes.numpy().transpose(3, 0, 1, 2)
    constants = context.weights(layer, codes, axis=0)
    options = _window_options(schema.Conv2DOptionsT(), layer)
    version = 7 if layer.container == "int4" else version
    context.writer.operator(Builtin.CONV_2D, inputs + constants, [output], options=options, version=version)


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


def _add(context, layer, inputs, output):
    options = schema.AddOptionsT()
    options.fusedActivationFunction = ACTIVATIONS[layer.activation]
    context.writer.operator(Builtin.ADD, inputs, [output], options=options, version=2)


def _mul(context, layer, inputs, output):
    options = schema.MulOptionsT()
    options.fusedActivationFunction = ACTIVATIONS[layer.activation]
    context.writer.operator(Builtin.MUL, inputs, [output], options=options, version=2)


def _mean(context, layer, inputs, output):
    axes = context.constant(f"{layer.name}/axes", np.array([1, 2]), TensorType.INT32)
    options = schema.ReducerOptionsT()
    options.keepDims = layer.keepdims
    context.writer.operator(Builtin.MEAN, [*inputs, axes], [output], options=options, version=2)


def _requantize(context, layer, inputs, output):
    options = schema.QuantizeOptionsT()
    context.writer.operator(Builtin.QUANTIZE, inputs, [output], options=options, version=2)


def _rescale(context, layer, inputs, output):
    one = context.constant(
        f"{layer.name}/one", np.array([1]), TensorType.INT8, quantization=quantization([1.0], [0])
    )
    _mul(context, layer, [*inputs, one], output)


def _pool(builtin):
    def write(context, layer, inputs, output):
        options = schema.Pool2DOptionsT()
        options.padding = PADDINGS[layer.padding]
        options.filterHeight, options.filterWidth = layer.pool_size
        options.strideH, options.strideW = layer.strides
        context.writer.operator(builtin, inputs, [output], options=options, version=2)

    return write


def _pad(context, layer, inputs, output):
    amounts = np.array([(0, 0), *layer.padding, (0, 0)])
    paddings = context.constant(f"{layer.name}/paddings", amounts, TensorType.INT32)
    options = schema.PadOptionsT()
    context.writer.operator(Builtin.PAD, [*inputs, paddings], [output], options=options, version=2)


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


def _concatenate(context, layer, inputs, output):
    options = schema.ConcatenationOptionsT()
    rank = len(context.shapes[layer.name]) + 1
    options.axis = layer.axis % rank
    context.writer.operator(Builtin.CONCATENATION, inputs, [output], options=options, version=2)


def _reshape(context, layer, inputs, output):
    # -1 stands for the batch, so that the file can be resized.
    shape = np.array([-1, *context.shapes[layer.name]])
    target = context.constant(f"{layer.name}/shape", shape, TensorType.INT32)
    options = schema.ReshapeOptionsT()
    options.newShape = shape.astype(np.int32)
    context.writer.operator(Builtin.RESHAPE, [*inputs, target], [output], options=options, version=1)


WRITERS = {
    **ACTIVATION_WRITERS,
    **IMAGE_WRITERS,
    weighted.IntegerConv2D: _conv,
    convolutions.IntegerGroupedConv2D: _grouped_conv,
    weighted.IntegerDepthwiseConv2D: _depthwise,
    weighted.IntegerAffine: _depthwise,
    weighted.IntegerDense: _dense,
    layers.IntegerAdd: _add,
    layers.IntegerMul: _mul,
    layers.IntegerMean: _mean,
    layers.IntegerRequantize: _requantize,
    layers.IntegerRescale: _rescale,
    integer_shape_layers.IntegerMaxPool2D: _pool(Builtin.MAX_POOL_2D),
    integer_shape_layers.IntegerAveragePool2D: _pool(Builtin.AVERAGE_POOL_2D),
    integer_shape_layers.IntegerPad: _pad,
    integer_shape_layers.IntegerCrop: _crop,
    integer_shape_layers.IntegerConcatenate: _concatenate,
    integer_shape_layers.IntegerReshape: _reshape,
}
