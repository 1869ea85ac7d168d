"""TensorFlow operators in a functional network (`tf.nn.relu(x)`, `x + y`) as the Keras layers they equal.

Keras wraps such calls in TFOpLambda layers. Those that have a layer of their own are rewritten, so that what
follows knows one form of a ReLU; the others are passed through.
"""

import functools
import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tf_keras as keras

from mmx_tf.layers.activations import CURVES
from mmx_tf.layers.quantizers import smooth_gates
from mmx_tf.network import canonical_layers, image_operators

layers = keras.layers
_REWRITES: dict[str, Callable] = {}
"""Function of a TFOpLambda -> (its arguments in order, name) -> (layer of that name, its inputs), or None."""


def _rewrites(*functions: str) -> Callable:
    """A decorator of what rewrites these functions; those with a layer alone are in the table below."""

    def register(rewrite):
        _REWRITES.update(dict.fromkeys(functions, rewrite))
        return rewrite

    return register


def as_layer(layer, args: tuple, kwargs: dict):
    """The Keras layer that a TFOpLambda call equals.

    Args:
      layer: a TFOpLambda.
      args, kwargs: what it is called with.

    Returns:
      (layer of the same name, its inputs), or None where there is no such layer.
    """
    function = layer.get_config()["function"]
    if function in image_operators.OPERATORS:
        return image_operators.OPERATORS[function](args, kwargs, layer.name)
    rewrite = _REWRITES.get(function)
    named = sorted((key for key in kwargs if key != "name"), key=_position)
    arguments = [*args, *(kwargs[key] for key in named)]
    while arguments and arguments[-1] is None:
        arguments.pop()  # What is not said.
    return rewrite(arguments, layer.name) if rewrite else None


def _position(keyword):
    # Keywords come in the order of the call, which may be another than that of the parameters.
    return _PARAMETERS.index(keyword) if keyword in _PARAMETERS else len(_PARAMETERS)


_PARAMETERS = (
    "features", "logits", "input_tensor", "values", "x", "y", "alpha", "approximate", "dtype", "axis",
    "keepdims",
)  # fmt: skip


def _unary(make_layer):
    def rewrite(arguments, name):
        return (make_layer(name), arguments[0]) if len(arguments) == 1 else None

    return rewrite


def _activation(activation):
    return _unary(lambda name: layers.Activation(activation, name=name))


@_rewrites("nn.leaky_relu")
def _leaky_relu(arguments, name):
    slope = arguments[1] if len(arguments) == 2 else canonical_layers.TENSORFLOW_LEAKY_SLOPE
    is_number = len(arguments) <= 2 and isinstance(slope, (int, float))
    return (layers.LeakyReLU(slope, name=name), arguments[0]) if is_number else None


@_rewrites("nn.gelu")
def _gelu(arguments, name):
    if len(arguments) == 2 and arguments[1]:
        return smooth_gates.Smooth(function="gelu_approximate", name=name), arguments[0]
    return (layers.Activation("gelu", name=name), arguments[0]) if len(arguments) <= 2 else None


def _binary(layer_class, fits, constant):
    """Of two tensors, or of one and a number: there `constant` gives scale and offset."""

    def rewrite(arguments, name):
        if len(arguments) != 2:
            return None
        if all(map(_is_tensor, arguments)):
            return (layer_class(name=name), arguments) if fits(*arguments) else None
        return _with_constant(arguments, name, constant)

    return rewrite


@_rewrites("math.subtract")
def _subtract(arguments, name):
    if len(arguments) != 2:
        return None
    if all(map(_is_tensor, arguments)):
        return (layers.Subtract(name=name), arguments) if _same_shape(*arguments) else None
    sign = 1.0 if _is_tensor(arguments[0]) else -1.0
    return _with_constant(arguments, name, lambda number: (sign, -sign * number))


@_rewrites("math.truediv", "math.divide")
def _divide(arguments, name):
    if len(arguments) != 2 or not _is_tensor(arguments[0]) or _is_tensor(arguments[1]):
        return None
    return _with_constant(arguments, name, lambda number: (1 / number, 0.0) if np.all(number) else None)


def _with_constant(arguments, name, constant):
    tensor, number = arguments if _is_tensor(arguments[0]) else reversed(arguments)
    if tf.is_tensor(number) and number.dtype.is_floating:
        number = tf.cast(number, tf.float64)  # numpy has no bfloat16.
    # A number, or a constant of TensorFlow's as Keras's own functions have: one for all channels or for each.
    number = np.asarray(number)
    if not tensor.shape.rank:
        return None  # A scalar, as of a loss that the network adds.
    if number.dtype.kind not in "fiu" or number.shape not in ((), (tensor.shape[-1],)):
        return None
    scaling = constant(number.astype(np.float64))
    return (layers.Rescaling(*map(_plain, scaling), name=name), tensor) if scaling else None


def _plain(values):
    return np.asarray(values).tolist()


def _same_shape(first, second):
    return first.shape == second.shape


def _same_or_per_channel(first, second):
    """Equal shapes, or one value per channel times an image, as squeeze-excite gates it."""
    shapes = sorted([tuple(first.shape[1:]), tuple(second.shape[1:])], key=len)
    rank = len(shapes[0])
    per_channel = any(len(shape) == rank and set(shape[:-1]) == {1} for shape in shapes)
    return first.shape == second.shape or (per_channel and rank in (2, 3) and shapes[0][-1] == shapes[1][-1])


@_rewrites("concat")
def _concatenate(arguments, name):
    tensors, axis = arguments[0], arguments[1] if len(arguments) == 2 else None
    if not isinstance(tensors, (list, tuple)) or not all(map(_is_tensor, tensors)) or axis is None:
        return None
    return layers.Concatenate(axis=axis, name=name), list(tensors)


def _of_all_pixels(of_signals, of_images):
    def rewrite(arguments, name):
        tensor, axes = arguments[0], arguments[1] if len(arguments) > 1 else None
        axes = np.ravel(axes).tolist() if isinstance(axes, (int, list, tuple)) else None
        pooling = {3: ([1], of_signals), 4: ([1, 2], of_images)}
        places, layer_class = pooling.get(tensor.shape.rank, (None, None))
        if places is None or axes is None or sorted(axes) != places:
            return None
        keepdims = arguments[2] if len(arguments) > 2 else False
        return layer_class(keepdims=bool(keepdims), name=name), tensor

    return rewrite


def expanded(tensor, axis) -> list[int] | None:
    """The shape, without the batch, with axes of length 1 more; None where the batch would move."""
    axes = np.ravel(axis).tolist()
    rank = tensor.shape.rank + len(axes)
    places = {place % rank for place in axes}
    sizes = iter(tensor.shape[1:])
    return None if 0 in places else [1 if place in places else next(sizes) for place in range(1, rank)]


def squeezed(tensor, axis) -> list[int] | None:
    """The shape, without the batch, less axes of length 1; None where it is not said which."""
    if axis is None:
        return None
    places = {place % tensor.shape.rank for place in np.ravel(axis).tolist()}
    return [size for place, size in enumerate(tensor.shape) if place and place not in places]


def _reshaped_to(shape_behind):
    def rewrite(arguments, name):
        if len(arguments) != 2 or not isinstance(arguments[1], (int, list, tuple)):
            return None
        shape = shape_behind(*arguments)
        return (layers.Reshape(shape, name=name), arguments[0]) if shape else None

    return rewrite


@_rewrites("reshape")
def _reshape(arguments, name):
    if len(arguments) != 2 or not isinstance(arguments[1], (list, tuple)):
        return None
    tensor, (batch, *shape) = arguments
    known = all(isinstance(size, int) for size in (batch, *shape))
    if not known or batch != -1 or math.prod(shape) != math.prod(tensor.shape[1:]):
        return None
    return layers.Reshape(shape, name=name), tensor


@_rewrites("cast")
def _cast(arguments, name):
    """To a float type, as networks of mixed precision have it: everything is float32 here."""
    if len(arguments) != 2 or not tf.as_dtype(arguments[1]).is_floating:
        return None
    return layers.Activation("linear", name=name), arguments[0]


def _is_tensor(value):
    # keras.backend.is_keras_tensor raises for numbers.
    return hasattr(value, "node")


_add = _binary(layers.Add, _same_shape, lambda number: (1.0, number))
_multiply = _binary(layers.Multiply, _same_or_per_channel, lambda number: (number, 0.0))
_REWRITES |= {
    curve.tensorflow: _unary(functools.partial(smooth_gates.layer_of, name))
    for name, curve in CURVES.items()
    if curve.tensorflow
}
_REWRITES |= {
    "nn.relu": _unary(lambda name: layers.ReLU(name=name)),
    "nn.relu6": _unary(lambda name: layers.ReLU(6.0, name=name)),
    "math.tanh": _activation("tanh"),
    "nn.silu": _activation("swish"),
    "math.sigmoid": _activation("sigmoid"),
    "nn.softmax": _activation("softmax"),
    "math.add": _add,
    "__operators__.add": _add,
    "math.negative": _unary(lambda name: layers.Rescaling(-1.0, name=name)),
    "math.multiply": _multiply,
    "math.reduce_mean": _of_all_pixels(layers.GlobalAveragePooling1D, layers.GlobalAveragePooling2D),
    "math.reduce_max": _of_all_pixels(layers.GlobalMaxPooling1D, layers.GlobalMaxPooling2D),
    "expand_dims": _reshaped_to(expanded),
    "squeeze": _reshaped_to(squeezed),
    "compat.v1.squeeze": _reshaped_to(squeezed),
}
