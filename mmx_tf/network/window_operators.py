"""TensorFlow's operators on windows, borders, blocks and bounds of images, as the Keras layers they equal.

tf.nn.max_pool2d, tf.nn.avg_pool2d          MaxPooling2D, AveragePooling2D
tf.pad with zeros around an image           ZeroPadding2D, ZeroPadding1D
tf.nn.depth_to_space                        Reshape, Permute, Reshape
tf.clip_by_value(x, 0, m), tf.maximum(x, 0) ReLU
"""

import numpy as np
import tf_keras as keras

layers = keras.layers


def _pooling(layer_class):
    def rewrite(tensor, ksize, strides, padding, data_format="NHWC", _given=None, *, name):
        size, step = _of_window(ksize), _of_window(strides)
        if data_format not in (None, "NHWC") or tensor.shape.rank != 4 or size is None or step is None:
            return None
        if not isinstance(padding, str):
            return None
        return layer_class(size, step, padding.lower(), name=name), tensor

    return rewrite


def _of_window(sizes) -> tuple[int, int] | None:
    """(height, width) of a number, of one or two numbers, or of one for each axis."""
    sizes = [int(size) for size in np.ravel(sizes)]
    if len(sizes) == 4:
        return tuple(sizes[1:3]) if sizes[0] == sizes[3] == 1 else None
    return (sizes[0], sizes[-1]) if len(sizes) in (1, 2) else None


def _pad(tensor, paddings, mode="CONSTANT", _given=None, constant_values=0, *, name):
    if mode != "CONSTANT" or np.any(constant_values):
        return None
    widths = [tuple(int(width) for width in pair) for pair in np.asarray(paddings)]
    if len(widths) not in (3, 4) or (widths[0], widths[-1]) != ((0, 0), (0, 0)):
        return None
    if len(widths) == 3:
        return layers.ZeroPadding1D(widths[1], name=name), tensor
    return layers.ZeroPadding2D(tuple(widths[1:3]), name=name), tensor


def _depth_to_space(tensor, block_size, data_format="NHWC", _given=None, *, name):
    if data_format != "NHWC" or tensor.shape.rank != 4:
        return None
    _, rows, columns, channels = tensor.shape
    rest = channels // block_size**2
    blocks = layers.Reshape((rows, columns, block_size, block_size, rest), name=f"{name}_blocks")(tensor)
    apart = layers.Permute((1, 3, 2, 4, 5), name=f"{name}_apart")(blocks)
    return layers.Reshape((rows * block_size, columns * block_size, rest), name=name), apart


def _clip(tensor, clip_value_min, clip_value_max, _given=None, *, name):
    bounds = clip_value_min, clip_value_max
    if not all(isinstance(bound, int | float) for bound in bounds) or bounds[0] != 0 or bounds[1] <= 0:
        return None
    return layers.ReLU(float(clip_value_max), name=name), tensor


def maximum_with(tensor, number, name):
    """The layer that max(tensor, number) is, with its input; None for other numbers than 0."""
    return (layers.ReLU(name=name), tensor) if _is_number(number) and number == 0 else None


def minimum_with(tensor, number, name):
    """The layer that min(tensor, number) is behind a ReLU, with its input; None for others."""
    if not _is_number(number) or number <= 0 or type(tensor.node.layer).__name__ != "ReLU":
        return None
    source = tensor.node.layer
    if float(source.negative_slope) or float(source.threshold):
        return None
    return layers.ReLU(float(number), name=name), tensor


def _is_number(value) -> bool:
    return isinstance(value, int | float) or (np.ndim(value) == 0 and not hasattr(value, "node"))


OPERATORS = {
    "nn.max_pool2d": _pooling(layers.MaxPooling2D),
    "nn.max_pool": _pooling(layers.MaxPooling2D),
    "nn.avg_pool2d": _pooling(layers.AveragePooling2D),
    "nn.avg_pool": _pooling(layers.AveragePooling2D),
    "compat.v1.pad": _pad,
    "pad": _pad,
    "nn.depth_to_space": _depth_to_space,
    "clip_by_value": _clip,
}
"""Function of a TFOpLambda -> rewriting of its arguments, as in `mmx_tf.network.image_operators`."""
