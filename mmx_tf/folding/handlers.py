"""The operators that layers without quantized weights become, one function per Keras class.

`HANDLERS` maps the name of a class to (layer, value) -> value, where a value is a `Codes` or a `Pending`, or
a list of them for a layer of several inputs. To fold another class, add its function here and its operator
to `layers.integer.layers` and `export.writing.operators`.
"""

import dataclasses
import math

import numpy as np
import tf_keras as keras

from mmx_tf.folding import carriers
from mmx_tf.folding.activation_handlers import ACTIVATION_HANDLERS, refusal
from mmx_tf.folding.bias import AFFINE_CODE, batch_norm_affine
from mmx_tf.folding.image_handlers import IMAGE_HANDLERS
from mmx_tf.folding.values import Codes, FoldError, Pending, codes_of, image, name_of, on_same_grid
from mmx_tf.folding.weights import affine_weights
from mmx_tf.layers.integer.layers import IntegerAdd, IntegerMean, IntegerMul
from mmx_tf.layers.integer.shapes import (
    IntegerAveragePool2D,
    IntegerConcatenate,
    IntegerCrop,
    IntegerMaxPool2D,
    IntegerPad,
    IntegerReshape,
)
from mmx_tf.layers.integer.weighted import IntegerAffine
from mmx_tf.network.kinds import WEIGHTED


def _batch_normalization(layer, value):
    """Folded into the weighted layer right before it, else a depthwise 1x1 convolution of its own."""
    foldable = isinstance(value, Pending) and type(value.source).__name__ in WEIGHTED
    if foldable and value.activation == "linear" and not value.batch_norm and not value.deferred:
        value.batch_norm = layer
        return value
    return _affine(layer, codes_of(layer, value), *batch_norm_affine(layer))


def _affine(layer, value, factor, bias, *, nonnegative=False):
    """y = factor * x + bias, numbers or one per channel: a depthwise 1x1 convolution."""
    channels = value.tensor.shape[-1]
    factor, bias = (np.broadcast_to(np.asarray(part, np.float64), (channels,)) for part in (factor, bias))
    flat = value.tensor.shape.rank == 2

    def emit(output_grid, activation):
        tensor = value.tensor
        if flat:
            # The operator takes images: a vector is one pixel.
            to_pixel = IntegerReshape(
                target_shape=(1, 1, channels), grid=value.grid, name=f"{layer.name}_pixel"
            )
            tensor = to_pixel(tensor)
        affine = IntegerAffine(
            input_grid=value.grid,
            output_grid=output_grid,
            activation=activation,
            name=layer.name,
            **dataclasses.asdict(affine_weights(factor, bias, value.grid)),
        )
        tensor = affine(tensor)
        if flat:
            tensor = IntegerReshape(target_shape=(-1,), grid=output_grid, name=f"{layer.name}_flat")(tensor)
        return tensor

    return Pending(emit, layer, nonnegative=nonnegative)


def _hard_sigmoid(layer, value):
    # Its clips at 0 and 1 are the saturation of int8 on the gate's grid.
    return _affine(layer, codes_of(layer, value), layer.slope, 0.5, nonnegative=True)


def _binary(integer_layer, *, keeps_sign):
    def handle(layer, values):
        first, second = (codes_of(layer, value) for value in values)

        def emit(output_grid, activation):
            operator = integer_layer(
                input_grids=(first.grid, second.grid),
                output_grid=output_grid,
                activation=activation,
                name=layer.name,
            )
            return operator([first.tensor, second.tensor])

        return Pending(emit, layer, nonnegative=keeps_sign and first.nonnegative and second.nonnegative)

    return handle


def _global_average_pooling(layer, value):
    value = codes_of(layer, value)

    def emit(output_grid, activation):
        mean = IntegerMean(
            input_grid=value.grid, output_grid=output_grid, keepdims=bool(layer.keepdims), name=layer.name
        )
        return mean(value.tensor)

    return Pending(emit, layer, fuses=False, nonnegative=value.nonnegative)


def _rescaling(layer, value):
    """In front of the file where it takes the image, else an operator."""
    if isinstance(value, Pending) and value.source is None and not value.deferred:
        return image(keras.layers.Rescaling.from_config(layer.get_config())(value.emit.image))
    return _affine(layer, codes_of(layer, value), layer.scale, layer.offset)


def _average_pooling(layer, value):
    value = codes_of(layer, value)
    if carriers.averages_windows(layer, value.tensor.shape):

        def emit(output_grid, activation):
            mean = _constant_depthwise(layer, value.grid, output_grid, window=layer.pool_size)
            return mean(value.tensor)

        return Pending(emit, layer, fuses=False, nonnegative=value.nonnegative)
    pool = IntegerAveragePool2D(
        pool_size=layer.pool_size,
        strides=layer.strides,
        padding=layer.padding,
        grid=value.grid,
        name=layer.name,
    )
    return dataclasses.replace(value, tensor=pool(value.tensor))


def _constant_depthwise(layer, input_grid, output_grid, *, window):
    """The mean of every window as a depthwise convolution whose codes are all equal."""
    channels, size = layer.output_shape[-1], math.prod(window)
    return IntegerAffine(
        input_grid=input_grid,
        output_grid=output_grid,
        weight_codes=np.full((*window, channels, 1), AFFINE_CODE),
        weight_scales=np.full(channels, 1 / (AFFINE_CODE * size)),
        bias_codes=np.zeros(channels),
        strides=layer.strides,
        name=layer.name,
    )


def _concatenate(layer, values):
    values = [codes_of(layer, value) for value in values]
    if len({value.grid for value in values}) != 1:
        names = ", ".join(repr(name_of(value.tensor)) for value in values)
        raise FoldError(layer, f"its inputs {names} have different grids.")
    join = IntegerConcatenate(axis=layer.axis, grid=values[0].grid, name=layer.name)
    return Codes(
        join([value.tensor for value in values]),
        values[0].grid,
        all(value.nonnegative for value in values),
    )


def _max_pooling(layer, value):
    if math.prod(layer.pool_size) == 1 and layer.strides[0] == layer.strides[1]:
        # XNNPACK takes no pooling of one pixel; its mean is the pixel, too.
        return on_same_grid(value, lambda grid: _constant_depthwise(layer, grid, grid, window=(1, 1)))
    window = {"pool_size": layer.pool_size, "strides": layer.strides, "padding": layer.padding}
    return on_same_grid(value, lambda grid: IntegerMaxPool2D(grid=grid, name=layer.name, **window))


def _zero_padding(layer, value):
    return on_same_grid(value, lambda grid: IntegerPad(padding=layer.padding, grid=grid, name=layer.name))


def _cropping(layer, value):
    return on_same_grid(value, lambda grid: IntegerCrop(cropping=layer.cropping, grid=grid, name=layer.name))


def _reshape(layer, value):
    shape = tuple(getattr(layer, "target_shape", (-1,)))
    return on_same_grid(value, lambda grid: IntegerReshape(target_shape=shape, grid=grid, name=layer.name))


def _dropout(layer, value):
    return value


HANDLERS = IMAGE_HANDLERS | {
    "BatchNormalization": _batch_normalization,
    "Add": _binary(IntegerAdd, keeps_sign=True),
    "Multiply": _binary(IntegerMul, keeps_sign=True),
    "GlobalAveragePooling2D": _global_average_pooling,
    "Rescaling": _rescaling,
    "AveragePooling2D": _average_pooling,
    "Concatenate": _concatenate,
    "MaxPooling2D": _max_pooling,
    "ZeroPadding2D": _zero_padding,
    "Cropping2D": _cropping,
    "HardSigmoid": _hard_sigmoid,
    "Flatten": _reshape,
    "Reshape": _reshape,
    "Dropout": _dropout,
    **ACTIVATION_HANDLERS,
}


def has_integer_form(layer: keras.layers.Layer) -> bool:
    """Whether a layer of a canonical network, wherever it stands, is of a kind that can be folded."""
    kind = type(layer).__name__
    if kind in ACTIVATION_HANDLERS:
        return not refusal(layer)
    if kind == "Conv2DTranspose":
        return tuple(layer.dilation_rate) == (1, 1)
    return kind in HANDLERS or kind in WEIGHTED or kind == "InputLayer"
