"""Writers of operators on images: transposed convolution, resizing, slicing, moving axes, differences."""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from mmx_tf.export.writing.context import ACTIVATIONS, PADDINGS, Builtin, TensorType, writes
from mmx_tf.export.writing.flatbuffer import quantization
from mmx_tf.layers.integer import convolutions, differences, moving


@writes(convolutions.IntegerConv2DTranspose)
def _transpose_conv(context, layer, inputs, output):
    codes = layer.weight_codes.numpy().transpose(2, 0, 1, 3)
    weights, bias = context.weights(layer, codes, axis=0)
    # The one shape in a file that names the batch: XNNPACK does not read it there, other kernels do.
    shape = np.array([1, *context.shapes[layer.name]])
    target = context.constant(f"{layer.name}/shape", shape, TensorType.INT32)
    options = schema.TransposeConvOptionsT()
    options.padding = PADDINGS[layer.padding]
    options.strideH, options.strideW = layer.strides
    options.fusedActivationFunction = ACTIVATIONS[layer.activation]
    version = 3 if layer.activation == "linear" else 4
    context.writer.operator(
        Builtin.TRANSPOSE_CONV, [target, weights, *inputs, bias], [output], options=options, version=version
    )


@writes(moving.IntegerResizeBilinear)
def _resize_bilinear(context, layer, inputs, output):
    size = context.constant(f"{layer.name}/size", np.array(layer.size), TensorType.INT32)
    options = schema.ResizeBilinearOptionsT()
    options.alignCorners, options.halfPixelCenters = layer.align_corners, layer.half_pixel_centers
    context.writer.operator(Builtin.RESIZE_BILINEAR, [*inputs, size], [output], options=options, version=3)


@writes(moving.IntegerResizeNearest)
def _resize_nearest(context, layer, inputs, output):
    size = context.constant(f"{layer.name}/size", np.array(layer.size), TensorType.INT32)
    options = schema.ResizeNearestNeighborOptionsT()
    options.halfPixelCenters = True
    context.writer.operator(
        Builtin.RESIZE_NEAREST_NEIGHBOR, [*inputs, size], [output], options=options, version=3
    )


@writes(moving.IntegerSlice)
def _slice(context, layer, inputs, output):
    bounds = {"begin": (0, *layer.begin), "end": (0, *layer.end), "strides": (1, *layer.step)}
    constants = [
        context.constant(f"{layer.name}/{name}", np.array(values), TensorType.INT32)
        for name, values in bounds.items()
    ]
    options = schema.StridedSliceOptionsT()
    # The batch is taken whole.
    options.beginMask = options.endMask = 1
    context.writer.operator(
        Builtin.STRIDED_SLICE, [*inputs, *constants], [output], options=options, version=2
    )


@writes(moving.IntegerTranspose)
def _transpose(context, layer, inputs, output):
    axes = context.constant(f"{layer.name}/axes", np.array(layer.permutation), TensorType.INT32)
    context.writer.operator(
        Builtin.TRANSPOSE, [*inputs, axes], [output], options=schema.TransposeOptionsT(), version=2
    )


@writes(differences.IntegerSub)
def _sub(context, layer, inputs, output):
    options = schema.SubOptionsT()
    options.fusedActivationFunction = ACTIVATIONS[layer.activation]
    context.writer.operator(Builtin.SUB, inputs, [output], options=options, version=2)


@writes(differences.IntegerScale)
def _scale(context, layer, inputs, output):
    factor = context.constant(
        f"{layer.name}/factor", np.array([1]), TensorType.INT8, quantization=quantization([layer.factor], [0])
    )
    options = schema.MulOptionsT()
    options.fusedActivationFunction = ACTIVATIONS[layer.activation]
    context.writer.operator(Builtin.MUL, [*inputs, factor], [output], options=options, version=2)
