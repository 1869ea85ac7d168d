"""The operators that layers without quantized weights become, where they are not the form of one layer.

Activations are in `activation_handlers`, resizing, slices and differences in `image_handlers`.
"""

import dataclasses
import math

import numpy as np
import tf_keras as keras

from mmx_tf.folding import carriers
from mmx_tf.folding.bias import AFFINE_CODE, batch_norm_affine
from mmx_tf.folding.registry import as_form, folds
from mmx_tf.folding.values import Codes, FoldError, Pending, codes_of, image, name_of, on_same_grid
from mmx_tf.folding.weights import affine_weights
from mmx_tf.layers.integer.shapes import IntegerConcatenate, IntegerReshape
from mmx_tf.layers.integer.weighted import IntegerAffine
from mmx_tf.network.kinds import WEIGHTED


@folds("BatchNormalization")
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


@folds("HardSigmoid")
def _hard_sigmoid(layer, value):
    # Its clips at 0 and 1 are the saturation of int8 on the gate's grid.
    return _affine(layer, codes_of(layer, value), layer.slope, 0.5, nonnegative=True)


@folds("Rescaling")
def _rescaling(layer, value):
    """In front of the file where it takes the image, else an operator."""
    if isinstance(value, Pending) and value.source is None and not value.deferred:
        return image(keras.layers.Rescaling.from_config(layer.get_config())(value.emit.image))
    return _affine(layer, codes_of(layer, value), layer.scale, layer.offset)


@folds("AveragePooling2D")
def _average_pooling(layer, value):
    value = codes_of(layer, value)
    if carriers.averages_windows(layer, value.tensor.shape):

        def emit(output_grid, activation):
            mean = _constant_depthwise(layer, value.grid, output_grid, window=layer.pool_size)
            return mean(value.tensor)

        return Pending(emit, layer, fuses=False, nonnegative=value.nonnegative)
    return as_form(layer, value)


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


@folds("Concatenate")
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


@folds("MaxPooling2D")
def _max_pooling(layer, value):
    if math.prod(layer.pool_size) == 1 and layer.strides[0] == layer.strides[1]:
        # XNNPACK takes no pooling of one pixel; its mean is the pixel, too.
        return on_same_grid(value, lambda grid: _constant_depthwise(layer, grid, grid, window=(1, 1)))
    return as_form(layer, value)


@folds("Dropout")
def _dropout(layer, value):
    return value
