"""Resizing, slicing, moving and comparing, written as layers or as TensorFlow's operators, in one form each.

UpSampling2D, Resizing, tf.image.resize             NearestResize or BilinearResize
x[:, ::2], tf.strided_slice, tf.slice               Slice, and a Reshape where axes come or go
tf.transpose, tf.maximum, tf.minimum                Permute, Maximum, Minimum
AveragePooling2D of the image, of unequal strides   GlobalAveragePooling2D
Conv2D of one group a channel                       DepthwiseConv2D
"""

import functools
from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tf_keras as keras

from mmx_tf.layers import image_layers
from mmx_tf.network import window_operators
from mmx_tf.network.kinds import UnsupportedLayerError

layers = keras.layers
RESIZES = {"nearest": image_layers.NearestResize, "bilinear": image_layers.BilinearResize}
OPERATORS: dict[str, Callable] = {}
"""Function of a TFOpLambda -> (args, kwargs, name) -> (layer of that name, its inputs), or None."""


def _rewrites(*functions: str) -> Callable:
    """A decorator of what rewrites these functions; it has their parameters."""

    def register(rewrite):
        @functools.wraps(rewrite)
        def call(args, kwargs, name):
            return rewrite(*args, **{**kwargs, "name": name})

        OPERATORS.update(dict.fromkeys(functions, call))
        return rewrite

    return register


def clones(layer, kind: str, config: dict, shape) -> list[keras.layers.Layer] | None:
    """As `canonical_layers.clones` for the layers that are here; None for all others.

    Args:
      layer: of the user's network.
      kind, config: of the layer of images that it is, its name given.
      shape: of the layer's input.

    Raises:
      UnsupportedLayerError: for an interpolation or a form of resizing that has no operator.
    """
    if kind in ("UpSampling2D", "Resizing"):
        # UpSampling1D has none.
        interpolation = config.get("interpolation", "nearest")
        resize = RESIZES.get(interpolation)
        if resize is None:
            raise UnsupportedLayerError(
                layer, f"has interpolation={interpolation!r}.", f"Use one of {', '.join(RESIZES)}."
            )
        if getattr(layer, "crop_to_aspect_ratio", False):
            raise UnsupportedLayerError(
                layer, "has crop_to_aspect_ratio=True.", "Put a Cropping2D in front of it instead."
            )
        if kind == "Resizing":
            size = layer.height, layer.width
        else:
            # A signal is an image of height 1.
            size = np.multiply((1, *shape[1:-1])[-2:], config["size"])
        return [resize(size=size, name=config["name"])]
    if kind == "AveragePooling2D" and len(set(config["strides"])) > 1:
        window, image = tuple(layer.pool_size), tuple(shape[1:3])
        if window == image and (layer.padding == "valid" or np.all(np.less_equal(image, layer.strides))):
            return [layers.GlobalAveragePooling2D(keepdims=True, name=config["name"])]
    return None


def depthwise_of(layer: keras.layers.Layer, shape) -> keras.layers.DepthwiseConv2D | None:
    """The DepthwiseConv2D that a new Conv2D of one group a channel is; None for any other layer.

    Its kernel holds the same numbers in the same order. A grouped convolution trains in XLA alone on a CPU.
    """
    groups = getattr(layer, "groups", 1)
    if type(layer) is not layers.Conv2D or groups == 1 or groups != shape[-1]:
        return None
    config = layer.get_config()
    if layer.strides[0] != layer.strides[1] or config["kernel_constraint"]:
        return None
    kept = ("name", "kernel_size", "strides", "padding", "dilation_rate", "use_bias", "bias_regularizer",
            "bias_constraint", "activity_regularizer", "dtype")  # fmt: skip
    return layers.DepthwiseConv2D(
        depth_multiplier=layer.filters // groups,
        depthwise_regularizer=config["kernel_regularizer"],
        **{key: config[key] for key in kept},
    )


def sliced(layer: keras.layers.Layer, args: tuple, names):
    """What a SlicingOpLambda makes of its tensor.

    Args:
      layer: the SlicingOpLambda.
      args: the tensor, and the indices as Keras keeps them.
      names: hands out names, `own` for the layer's own and `new` for one like it.

    Raises:
      UnsupportedLayerError: for a slice of the batch, a step below 0, or indices that are tensors.
    """
    tensor, spec = args
    try:
        bounds, shape = _bounds(tensor.shape, spec if isinstance(spec, tuple) else (spec,))
    except (TypeError, ValueError) as error:
        raise UnsupportedLayerError(
            layer,
            f"is a slice that cannot be handled ({error}).",
            "Take whole batches, in steps of 1 or more.",
        ) from error
    name = names.own(layer.name)
    value = tensor
    if bounds is not None:
        value = image_layers.Slice(**bounds, name=name if shape is None else names.new(f"{name}_part"))(value)
    return value if shape is None else layers.Reshape(shape, name=name)(value)


def _bounds(shape, spec):
    """Indices of all axes -> (begin, end and step of `Slice`, or None; the shape behind it, or None).

    ValueError or TypeError for indices that are not taken.
    """
    taken = sum(item is not None and item is not Ellipsis for item in spec)
    ellipses = [place for place, item in enumerate(spec) if item is Ellipsis]
    spec, place = (spec, ellipses[0]) if ellipses else ((*spec, Ellipsis), len(spec))
    spec = (*spec[:place], *[slice(None)] * (shape.rank - taken), *spec[place + 1 :])
    if _as_slice(spec[0]) not in (slice(None), slice(None, None, 1)):
        raise ValueError("of the batch")
    begin, end, step, sizes, lengths = [], [], [], [], iter(shape[1:])
    for item in spec[1:]:
        if item is None:
            sizes.append(1)
            continue
        length, index = next(lengths), not isinstance(item, slice | dict)
        first, last, by = _as_slice(item).indices(length)
        if by < 1 or last <= first:
            raise ValueError(f"from {first} to {last} in steps of {by}")
        for numbers, number in ((begin, first), (end, last), (step, by)):
            numbers.append(number)
        if not index:
            sizes.append(len(range(first, last, by)))
    kept = [len(range(*bounds)) for bounds in zip(begin, end, step, strict=True)]
    bounds = None if kept == list(shape[1:]) else {"begin": begin, "end": end, "step": step}
    return bounds, None if sizes == kept else tuple(sizes)


def _as_slice(item):
    if isinstance(item, dict):
        return slice(
            *(item[key] if item[key] is None else int(item[key]) for key in ("start", "stop", "step"))
        )
    if isinstance(item, slice):
        return item
    if item is None:
        raise ValueError("with a new axis in front of the batch")
    first = int(item)
    return slice(first, first + 1 or None)


@_rewrites("strided_slice")
def _strided_slice(tensor, begin, end, strides=None, begin_mask=0, end_mask=0, ellipsis_mask=0,
                   new_axis_mask=0, shrink_axis_mask=0, name=None, **others):  # fmt: skip
    if ellipsis_mask or new_axis_mask or shrink_axis_mask or others.get("var") is not None:
        return None
    strides = [1] * len(begin) if strides is None else strides
    items = tuple(
        slice(None if begin_mask >> i & 1 else first, None if end_mask >> i & 1 else last, by)
        for i, (first, last, by) in enumerate(zip(begin, end, strides, strict=True))
    )
    return _part(tensor, items, name)


@_rewrites("slice")
def _slice(tensor, begin, size, name=None):
    ends = [None if count == -1 else first + count for first, count in zip(begin, size, strict=True)]
    return _part(
        tensor, tuple(slice(first or None, end) for first, end in zip(begin, ends, strict=True)), name
    )


def _part(tensor, items, name):
    try:
        bounds, _ = _bounds(tensor.shape, items)
    except (TypeError, ValueError):
        return None
    axes = tensor.shape.rank - 1
    whole = {"begin": [0] * axes, "end": list(tensor.shape[1:]), "step": [1] * axes}
    return image_layers.Slice(**(bounds or whole), name=name), tensor


@_rewrites("image.resize")
def _resize(tensor, size, method="bilinear", preserve_aspect_ratio=False, antialias=False, name=None):
    resize = RESIZES.get(method)
    if resize is None or preserve_aspect_ratio or antialias or tensor.shape.rank != 4:
        return None
    return resize(size=_numbers(size), name=name), tensor


@_rewrites("compat.v1.image.resize_bilinear")
def _resize_bilinear(tensor, size, align_corners=False, name=None, half_pixel_centers=False):
    places = {"align_corners": align_corners, "half_pixel_centers": half_pixel_centers}
    return image_layers.BilinearResize(size=_numbers(size), **places, name=name), tensor


@_rewrites("transpose", "compat.v1.transpose")
def _transpose(tensor, perm=None, conjugate=False, name=None):
    if perm is None or _numbers(perm)[0] != 0:
        return None
    return layers.Permute(_numbers(perm)[1:], name=name), tensor


@_rewrites("math.maximum")
def _maximum(x, y, name=None):
    return _of_two(layers.Maximum, window_operators.maximum_with, x, y, name)


@_rewrites("math.minimum")
def _minimum(x, y, name=None):
    return _of_two(layers.Minimum, window_operators.minimum_with, x, y, name)


def _of_two(layer_class, with_number, x, y, name):
    tensors = [x, y]
    # keras.backend.is_keras_tensor raises for numbers.
    found = [tensor for tensor in tensors if hasattr(tensor, "node")]
    if len(found) == 1:
        return with_number(found[0], y if found[0] is x else x, name)
    return (layer_class(name=name), tensors) if x.shape == y.shape else None


def _numbers(values):
    values = values.numpy() if tf.is_tensor(values) else values
    return tuple(int(value) for value in values)


for _function, _rewrite in window_operators.OPERATORS.items():
    _rewrites(_function)(_rewrite)
