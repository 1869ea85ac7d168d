"""Operators in a Keras 3 network (`x + y`, `keras.ops.mean(x, (1, 2))`) as the tf_keras layers they equal.

Keras 3 keeps such a call as an Operation in the graph. Those that have a layer of their own become that
layer, a number added or multiplied becomes a Rescaling, and the others are refused.

    tensor = call(operation, args, kwargs, outputs, names)
"""

import math
import numbers

import tf_keras as keras

from mmx_tf.layers.quantizers.smooth_gates import Smooth
from mmx_tf.network import tf_operators, window_operators
from mmx_tf.network.keras3_layers import OTHER_ACTIVATIONS, Keras3Error, Names, activation

layers = keras.layers


def call(operation, args: tuple, kwargs: dict, outputs: list, names: Names):
    """Calls the layer that an operation of Keras 3 equals.

    Args:
      operation: an Operation that is no layer.
      args, kwargs: what it is called with, tensors of tf_keras in place of those of Keras 3.
      outputs: its output tensors in Keras 3.
      names: of the network that it is in.

    Returns:
      The output tensor.

    Raises:
      UnsupportedLayerError: if no layer equals it.
    """
    rewrite = OPERATORS.get(type(operation).__name__)
    value = None
    if rewrite and type(operation).__module__.startswith("keras.src.") and "float" in outputs[0].dtype:
        arguments = [*args, *(argument for argument in kwargs.values() if argument is not None)]
        value = rewrite(operation, arguments, names)
    if value is None:
        raise Keras3Error(
            operation,
            "is an operation that, as it is called here, no layer computes.",
            f"Operations that a layer computes: {', '.join(OPERATORS)}. Build the network with layers.",
        )
    return value


def _function(name):
    def rewrite(operation, arguments, names):
        return activation(name, names.own(operation.name), names)(arguments[0])

    return rewrite


def _layer(layer_class, **attributes):
    """A layer of one tensor, whose arguments are attributes of the operation."""

    def rewrite(operation, arguments, names):
        options = {key: getattr(operation, attribute) for key, attribute in attributes.items()}
        return layer_class(name=names.own(operation.name), **options)(arguments[0])

    return rewrite


def _gelu(operation, arguments, names):
    if operation.approximate:
        return Smooth(function="gelu_approximate", name=names.own(operation.name))(arguments[0])
    return _function("gelu")(operation, arguments, names)


def _elu(operation, arguments, names):
    return layers.ELU(operation.alpha, name=names.own(operation.name))(arguments[0])


def _clip(operation, arguments, names):
    if operation.x_min != 0 or not isinstance(operation.x_max, numbers.Real) or operation.x_max <= 0:
        return None
    return layers.ReLU(float(operation.x_max), name=names.own(operation.name))(arguments[0])


def _binary(layer_class, rescaling=None):
    """Two tensors as `layer_class`; a tensor and a number by rescaling(number, number is first)."""

    def rewrite(operation, arguments, names):
        first, second = arguments
        name = names.own(operation.name)
        if _is_tensor(first) and _is_tensor(second):
            # Layers align shapes of different rank at the batch, operators at the last axis.
            if layer_class is None or first.shape.rank != second.shape.rank:
                return None
            return layer_class(name=name)([first, second])
        number_first = isinstance(first, numbers.Real)
        tensor, number = (second, first) if number_first else (first, second)
        scaling = rescaling and isinstance(number, numbers.Real) and rescaling(float(number), number_first)
        return layers.Rescaling(*scaling, name=name)(tensor) if scaling else None

    return rewrite


def _extreme(layer_class, with_number):
    """The larger or smaller of two tensors, or of one and a bound that a ReLU has."""
    of_two = _binary(layer_class)

    def rewrite(operation, arguments, names):
        tensors = [argument for argument in arguments if _is_tensor(argument)]
        if len(tensors) == 2:
            return of_two(operation, arguments, names)
        (bound,) = (argument for argument in arguments if not _is_tensor(argument))
        found = with_number(tensors[0], bound, names.own(operation.name))
        return found and found[0](found[1])

    return rewrite


def _sum(number, number_first):
    return 1.0, number


def _difference(number, number_first):
    return (-1.0, number) if number_first else (1.0, -number)


def _product(number, number_first):
    return number, 0.0


def _quotient(number, number_first):
    return None if number_first or number == 0 else (1.0 / number, 0.0)


def _concatenate(operation, arguments, names):
    tensors = arguments[0]
    if operation.axis is None or not all(map(_is_tensor, tensors)):
        return None
    return layers.Concatenate(axis=operation.axis, name=names.own(operation.name))(list(tensors))


def _global_pooling(layer_classes):
    def rewrite(operation, arguments, names):
        axes, tensor = operation.axis, arguments[0]
        rank = tensor.shape.rank
        axes = sorted(axis % rank for axis in ((axes,) if isinstance(axes, int) else axes or ()))
        if rank not in layer_classes or axes != list(range(1, rank - 1)):
            return None
        if getattr(operation, "initial", None) is not None:
            return None
        layer_class = layer_classes[rank]
        return layer_class(keepdims=bool(operation.keepdims), name=names.own(operation.name))(tensor)

    return rewrite


def _pooling(layer_classes):
    def rewrite(operation, arguments, names):
        layer_class = layer_classes.get(arguments[0].shape.rank)
        if layer_class is None or operation.data_format not in (None, "channels_last"):
            return None
        layer = layer_class(
            operation.pool_size, operation.strides, operation.padding, name=names.own(operation.name)
        )
        return layer(arguments[0])

    return rewrite


def _reshape(operation, arguments, names):
    (tensor,), (batch, *shape) = arguments, operation.newshape
    if batch not in (-1, None) or (batch == -1 and math.prod(shape) != math.prod(tensor.shape[1:])):
        return None
    return layers.Reshape(shape, name=names.own(operation.name))(tensor)


def _pad(operation, arguments, names):
    tensor, *constant = arguments
    rank = len(operation.pad_width)
    if operation.mode != "constant" or any(value != 0 for value in constant) or rank not in (3, 4):
        return None
    batch, *window, channels = (tuple(widths) for widths in operation.pad_width)
    if (batch, channels) != ((0, 0), (0, 0)):
        return None
    name = names.own(operation.name)
    if rank == 3:
        return layers.ZeroPadding1D(window[0], name=name)(tensor)
    return layers.ZeroPadding2D(window, name=name)(tensor)


def _reshaped_to(shape_behind):
    def rewrite(operation, arguments, names):
        shape = shape_behind(arguments[0], operation.axis)
        return layers.Reshape(shape, name=names.own(operation.name))(arguments[0]) if shape else None

    return rewrite


def _cast(operation, arguments, names):
    """To a float type (of others `call` knows nothing): everything is float32 here."""
    return arguments[0]


def _get_item(operation, arguments, names):
    tensor, key = arguments
    return tensor[key]


def _transpose(operation, arguments, names):
    if operation.axes is None or operation.axes[0] != 0:
        return None
    return layers.Permute(operation.axes[1:], name=names.own(operation.name))(arguments[0])


def _resize(operation, arguments, names):
    plain = not (operation.antialias or operation.crop_to_aspect_ratio or operation.pad_to_aspect_ratio)
    if not plain or operation.data_format != "channels_last" or arguments[0].shape.rank != 4:
        return None
    if operation.interpolation not in ("nearest", "bilinear"):
        return None
    name = names.own(operation.name)
    return layers.Resizing(*operation.size, interpolation=operation.interpolation, name=name)(arguments[0])


def _is_tensor(value):
    # keras.backend.is_keras_tensor raises for numbers.
    return hasattr(value, "node")


OPERATORS = {
    # HardSigmoid is the operation of hard_sigmoid, and so on.
    **{name.title().replace("_", ""): _function(name) for name in OTHER_ACTIVATIONS},
    "Relu": _function("relu"),
    "Relu6": _function("relu6"),
    "ReLU": _layer(
        layers.ReLU, max_value="max_value", negative_slope="negative_slope", threshold="threshold"
    ),
    "LeakyRelu": _layer(layers.LeakyReLU, alpha="negative_slope"),
    "Clip": _clip,
    "Sigmoid": _function("sigmoid"),
    "Silu": _function("silu"),
    "Tanh": _function("tanh"),
    "Gelu": _gelu,
    "Elu": _elu,
    "Selu": _function("selu"),
    "Softsign": _function("softsign"),
    "Exp": _function("exponential"),
    "Softplus": _function("softplus"),
    "Softmax": _layer(layers.Softmax, axis="axis"),
    "Add": _binary(layers.Add, _sum),
    "Subtract": _binary(layers.Subtract, _difference),
    "Multiply": _binary(layers.Multiply, _product),
    "Divide": _binary(None, _quotient),
    "TrueDivide": _binary(None, _quotient),
    "Maximum": _extreme(layers.Maximum, window_operators.maximum_with),
    "Minimum": _extreme(layers.Minimum, window_operators.minimum_with),
    "Cast": _cast,
    "Concatenate": _concatenate,
    "Mean": _global_pooling({3: layers.GlobalAveragePooling1D, 4: layers.GlobalAveragePooling2D}),
    "Max": _global_pooling({3: layers.GlobalMaxPooling1D, 4: layers.GlobalMaxPooling2D}),
    "AveragePool": _pooling({3: layers.AveragePooling1D, 4: layers.AveragePooling2D}),
    "MaxPool": _pooling({3: layers.MaxPooling1D, 4: layers.MaxPooling2D}),
    "Reshape": _reshape,
    "ExpandDims": _reshaped_to(tf_operators.expanded),
    "Squeeze": _reshaped_to(tf_operators.squeezed),
    "Pad": _pad,
    "GetItem": _get_item,
    "Transpose": _transpose,
    "Resize": _resize,
}
