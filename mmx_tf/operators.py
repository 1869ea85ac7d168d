"""TensorFlow operators in a functional network (`tf.nn.relu(x)`, `x + y`) as the Keras layers they equal.

Keras wraps such calls in TFOpLambda layers. Those that have a layer of their own are rewritten, so that what
follows knows one form of a ReLU; the others are passed through.
"""

import tf_keras as keras

layers = keras.layers


def as_layer(layer, args: tuple, kwargs: dict, *, name):
    """The Keras layer that a TFOpLambda call equals.

    Args:
      layer: a TFOpLambda.
      args, kwargs: what it is called with.
      name: function without arguments that gives the new layer's name; called only where there is one.

    Returns:
      (layer, its inputs), or None where there is no such layer.
    """
    rewrite = _REWRITES.get(layer.get_config()["function"])
    arguments = [*args, *(value for key, value in kwargs.items() if key != "name")]
    return rewrite(arguments, name) if rewrite else None


def _relu(max_value):
    def rewrite(arguments, name):
        return (layers.ReLU(max_value, name=name()), arguments[0]) if len(arguments) == 1 else None

    return rewrite


def _binary(layer_class, fits):
    def rewrite(arguments, name):
        if len(arguments) != 2 or not all(map(_is_tensor, arguments)) or not fits(*arguments):
            return None
        return layer_class(name=name()), arguments

    return rewrite


def _same_shape(first, second):
    return first.shape == second.shape


def _same_or_per_channel(first, second):
    """Equal shapes, or one value per channel times an image, as squeeze-excite gates it."""
    shapes = sorted([tuple(first.shape[1:]), tuple(second.shape[1:])], key=len)
    per_channel = any(len(shape) == 3 and shape[:2] == (1, 1) for shape in shapes)
    return first.shape == second.shape or (
        per_channel and len(shapes[0]) == 3 and shapes[0][2] == shapes[1][2]
    )


def _concatenate(arguments, name):
    tensors, axis = arguments[0], arguments[1] if len(arguments) == 2 else None
    if not isinstance(tensors, (list, tuple)) or not all(map(_is_tensor, tensors)) or axis is None:
        return None
    return layers.Concatenate(axis=axis, name=name()), list(tensors)


def _mean(arguments, name):
    tensor, axes = arguments[0], arguments[1] if len(arguments) > 1 else None
    if tensor.shape.rank != 4 or not isinstance(axes, (list, tuple)) or sorted(axes) != [1, 2]:
        return None
    keepdims = arguments[2] if len(arguments) > 2 else False
    return layers.GlobalAveragePooling2D(keepdims=bool(keepdims), name=name()), tensor


def _is_tensor(value):
    # keras.backend.is_keras_tensor raises for numbers.
    return hasattr(value, "node")


_REWRITES = {
    "nn.relu": _relu(None),
    "nn.relu6": _relu(6.0),
    "math.add": _binary(layers.Add, _same_shape),
    "__operators__.add": _binary(layers.Add, _same_shape),
    "math.multiply": _binary(layers.Multiply, _same_or_per_channel),
    "concat": _concatenate,
    "math.reduce_mean": _mean,
}
