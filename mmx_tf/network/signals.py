"""Tensors of (length, channels) as images of height 1, so that all else knows images and vectors alone.

A signal (length, channels) is the image (1, length, channels), a 1-D layer the 2-D layer whose window has
height 1. In a canonical network a Reshape stands where a signal becomes an image and where a signal of the
user's leaves the network. Layers of images need none between them.

    signals = Signals(names)
    signals.called(conv2d, signal, conv2d)     # a signal again
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tf_keras as keras

from mmx_tf.network.heads import is_softmax

SHAPING = ("Reshape", "Flatten")
OF_GIVEN_SHAPE = ("TFOpLambda", "SlicingOpLambda", "Permute", "Softmax")
"""Kinds that mean axes of the user's. So does a softmax, whatever its axis."""


def is_signal(tensor) -> bool:
    """Whether something is a symbolic tensor of shape (batch, length, channels)."""
    return hasattr(tensor, "node") and tensor.shape.rank == 3


class Signals:
    """The images that stand for the signals of one network.

    Args:
      names: hands out names, `new` for one like another.
    """

    def __init__(self, names):
        self._names = names
        # The signals are kept, so that none of their ids is given away.
        self._images: dict[int, tuple] = {}

    def image(self, tensor):
        """The image (batch, 1, length, channels) of a signal; any other tensor as it is."""
        if not is_signal(tensor):
            return tensor
        if id(tensor) not in self._images:
            shape, source = (1, *tensor.shape[1:]), tensor
            while not source.node.is_input and type(source.node.layer).__name__ in SHAPING:
                source = source.node.keras_inputs[0]
            if tuple(source.shape[1:]) != shape:
                source = self._reshape(source, shape, f"{tensor.node.layer.name}_image")
            self._images[id(tensor)] = tensor, source
        return self._images[id(tensor)][1]

    def signal(self, image):
        """The signal (batch, length, channels) of an image of height 1."""
        tensor = self._reshape(image, image.shape[2:], f"{image.node.layer.name}_signal")
        self._images[id(tensor)] = tensor, image
        return tensor

    def called(self, layer: keras.layers.Layer, value, call: Callable):
        """What a layer of the canonical network makes of signals, by its call on their images.

        Args:
          layer: the layer; one that means an axis of the user's is called on the signals themselves.
          value: a tensor or a list of them, of the user's shapes.
          call: calls the layer on a tensor or list in the place of `value`.

        Returns:
          The output, of the user's shape.
        """
        kind = type(layer).__name__
        if kind in SHAPING:
            # The order of the elements is the same.
            return call(self.image(value) if id(value) in self._images else value)
        if kind == "Rescaling":
            value, shape = _in_front(layer, value)
            if shape:
                return self._reshape(call(value), shape, f"{layer.name}_reshape")
        given = kind in OF_GIVEN_SHAPE or is_softmax(layer)
        given = given or (kind == "Rescaling" and _is_in_front(value))
        if given or not any(map(is_signal, tf.nest.flatten(value))):
            return call(value)
        output = call(tf.nest.map_structure(self.image, value))
        return self.signal(output) if output.shape.rank == 4 else output

    def _reshape(self, tensor, shape, name):
        return keras.layers.Reshape(shape, name=self._names.new(name))(tensor)


def _in_front(rescaling: keras.layers.Layer, value) -> tuple:
    """What a Rescaling by two numbers takes in front of the reshapings of the input, and the shape behind."""
    source = value
    while not source.node.is_input and type(source.node.layer).__name__ in SHAPING:
        source = source.node.keras_inputs[0]
    by_numbers = np.ndim(rescaling.scale) == np.ndim(rescaling.offset) == 0
    # An image that is reshaped first is left as it is.
    if source is value or source.shape.rank == 4 or not by_numbers or not _is_in_front(source):
        return value, None
    return source, tuple(value.shape[1:])


def _is_in_front(tensor) -> bool:
    """Whether a tensor is a network's input, or what rescalings make of it, all of which is no operator."""
    while not tensor.node.is_input:
        if type(tensor.node.layer).__name__ != "Rescaling":
            return False
        tensor = tensor.node.keras_inputs[0]
    return True


def on_images(kind: str, config: dict, *, rank: int | None) -> tuple[str, dict, list[keras.layers.Layer]]:
    """A layer of signals as one of images of height 1.

    Args:
      kind, config: of the layer, as Keras writes it.
      rank: of what it takes, with the batch.

    Returns:
      (kind, config, paddings): those of the layer of images, and the ZeroPadding2D in front of it, without a
      name, which a causal convolution has. Of other layers what was given.
    """
    config = dict(config)
    if kind == "BatchNormalization" and rank == 3:
        config["axis"] = -1
    if kind == "Concatenate" and rank == 3 and config["axis"] > 0:
        config["axis"] += 1
    if kind == "Dropout" and rank == 3 and config.get("noise_shape"):
        batch, *others = config["noise_shape"]
        config["noise_shape"] = (batch, 1, *others)
    if kind == "PReLU" and rank == 3 and config.get("shared_axes"):
        config["shared_axes"] = [1, *(axis + 1 for axis in config["shared_axes"])]
    if not kind.endswith("1D"):
        return kind, config, []
    for name in ("kernel_size", "pool_size", "dilation_rate"):
        if name in config:
            config[name] = (1, *config[name])
    if "strides" in config:
        # Along a height of 1 no stride is taken. Depthwise convolutions need equal ones, and XNNPACK takes no
        # pooling whose stride is longer than its window.
        pools = kind == "MaxPooling1D" and config["pool_size"] != (1, 1)
        config["strides"] = (1 if pools else config["strides"][0], *config["strides"])
    for name in ("kernel_constraint", "depthwise_constraint"):
        if isinstance(config.get(name), dict) and "axis" in config[name].get("config", {}):
            config[name] = {**config[name], "config": _of_kernel_with_height(config[name]["config"])}
    for name in ("padding", "cropping"):
        if name in config and not isinstance(config[name], str):
            config[name] = ((0, 0), tuple(config[name]))
    if "size" in config:
        config["size"] = (1, config["size"])
    paddings = []
    if config.get("padding") == "causal":
        before = (config["kernel_size"][1] - 1) * config["dilation_rate"][1]
        config["padding"] = "valid"
        paddings = [((0, 0), (before, 0))] if before else []
    return f"{kind[:-2]}2D", config, paddings


def _of_kernel_with_height(constraint: dict) -> dict:
    """The settings of a constraint along axes of a kernel, which has a height in front now."""
    axes = [axis + 1 if axis >= 0 else axis for axis in np.ravel(constraint["axis"]).tolist()]
    return {**constraint, "axis": axes}
