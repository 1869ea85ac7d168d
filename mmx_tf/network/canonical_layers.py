"""What one layer of a user's network becomes in the canonical network.

Each function gives the new layers that together compute what the layer does; the caller names and calls
them.
"""

import math

import numpy as np
import tensorflow as tf
import tf_keras as keras

from mmx_tf.layers.activations import CURVES, GATE_OF
from mmx_tf.layers.batch_norm import BatchNormalization
from mmx_tf.layers.quantizers.gates import HardSigmoid
from mmx_tf.layers.quantizers.smooth_gates import Smooth, layer_of
from mmx_tf.network import image_operators, signals
from mmx_tf.network.kinds import DROPPED, SUPPORTED, WEIGHTED, UnsupportedLayerError

KERAS_HARD_SIGMOID_SLOPE = 0.2
TENSORFLOW_LEAKY_SLOPE = 0.2
"""Of tf.nn.leaky_relu, which "leaky_relu" is to Keras; the layer's own default is 0.3."""
_CURVE_OF = {curve.spelling: name for name, curve in CURVES.items() if curve.spelling}
"""Function of TensorFlow -> its entry."""
_OF_TENSORFLOW = (
    tf.nn.relu, tf.nn.relu6, tf.nn.silu, tf.nn.swish, tf.nn.gelu, tf.nn.sigmoid, tf.nn.tanh, tf.nn.softmax,
    *_CURVE_OF,
)  # fmt: skip
"""Functions that are known; all but those of a curve compute what Keras's of the same name do."""


def clones(layer: keras.layers.Layer, names, *, shape) -> list[keras.layers.Layer]:
    """New layers that together do what `layer` does; none for what does nothing, but perhaps in training.

    Args:
      layer: a layer of the user's network, of a supported class.
      names: hands out names, `own` for the layer's own and `new` for one like it.
      shape: of the layer's input, or of the first of several, a TensorShape or tuple with the batch; that of
        a signal (batch, length, channels), where the new layers take an image of height 1.

    Raises:
      UnsupportedLayerError: for an activation or settings that cannot be handled.
    """
    kind = type(layer).__name__
    if kind in DROPPED:
        return []
    check_activation(layer)
    # The weights are copied, so what initialised them is of no use, and may be of the user's own.
    config = {key: value for key, value in layer.get_config().items() if not key.endswith("_initializer")}
    if kind == "Activation" and config["activation"] == "linear":
        return []
    config["name"] = names.own(config["name"])
    config["trainable"] = True
    if isinstance(layer, keras.__internal__.layers.BaseRandomLayer):
        # Of the generators that Keras has, this one's state can be kept in a checkpoint.
        config["rng_type"] = "stateful"
    if kind == "TFOpLambda":
        return [type(layer).from_config(config)]
    # Not the layer's own policy, which may be mixed precision.
    config["dtype"] = "float32"
    kind, config, paddings = signals.on_images(kind, config, rank=None if shape is None else len(shape))
    paddings = [
        keras.layers.ZeroPadding2D(padding, name=names.new(f"{config['name']}_padding"))
        for padding in paddings
    ]
    if kind == "SeparableConv2D":
        return [*paddings, *_split_separable(layer, config, names)]
    if kind == "GlobalMaxPooling2D":
        return _full_window(layer, config["name"], names, shape)
    if kind == "Normalization":
        return [_rescaling(_in_float32(layer, config, shape), config["name"])]
    images = image_operators.clones(layer, kind, config, shape)
    if images is not None:
        return images
    if kind in WEIGHTED:
        activation, config["activation"] = config["activation"], "linear"
        clone = _made(layer, kind, config) if kind != "Dense" or len(shape) == 2 else _pointwise(config)
        clone = image_operators.depthwise_of(clone, shape) or clone
        return [*paddings, clone, *_fused_activation(layer, activation, config["name"], names)]
    if kind == "Activation":
        return [_activation(layer, config["activation"], config["name"])]
    if kind == "ThresholdedReLU":
        return [keras.layers.ReLU(threshold=float(layer.theta), name=config["name"])]
    if kind == "BatchNormalization":
        return [BatchNormalization.from_config(config)]
    return [_made(layer, kind, config)]


def gate_of(layer: keras.layers.Layer, names) -> keras.layers.Layer | None:
    """The gate of an activation that is x times a gate of x, such as swish's sigmoid; None for others."""
    function = layer.get_config()["activation"] if type(layer).__name__ == "Activation" else ""
    if function in ("swish", "silu"):
        return keras.layers.Activation("sigmoid", name=names.new(f"{layer.name}_gate"))
    if function in GATE_OF:
        return Smooth(function=GATE_OF[function], name=names.new(f"{layer.name}_gate"))
    return None


def hard_sigmoid_of(scaled: keras.layers.Layer, tensor) -> tuple[HardSigmoid, object] | None:
    """The gate that c * relu_m(a * x + b) is, written with three layers as MobileNet-v3 does.

    Args:
      scaled: the Rescaling by c that is about to be called.
      tensor: symbolic tensor of the canonical network that it would be called on.

    Returns:
      (HardSigmoid, x) if c * m = 1 and c * b = 1/2, else None.
    """
    if not _is_plain_rescaling(scaled) or scaled.offset != 0:
        return None
    bounded = tensor.node.layer
    if type(bounded).__name__ != "ReLU" or bounded.max_value is None or float(bounded.negative_slope):
        return None
    shifted = tensor.node.keras_inputs[0].node.layer
    if not _is_plain_rescaling(shifted) or not math.isclose(scaled.scale * bounded.max_value, 1):
        return None
    if float(bounded.threshold) or not math.isclose(scaled.scale * shifted.offset, 0.5):
        return None
    slope = scaled.scale * shifted.scale
    return (HardSigmoid(slope=slope, name=scaled.name), shifted.input) if slope > 0 else None


def copy_weights(layer: keras.layers.Layer, new_layers) -> None:
    """Gives the layer's weights to its new layers, in order."""
    weights = layer.get_weights()
    for new_layer in new_layers:
        count = len(new_layer.weights)
        # A Dense that became a convolution has a kernel of another shape.
        new_layer.set_weights(
            [
                np.reshape(value, variable.shape)
                for value, variable in zip(weights[:count], new_layer.weights, strict=True)
            ]
        )
        weights = weights[count:]


def _made(layer, kind, config):
    """A layer of the given one's class, or of Keras's that is called `kind`."""
    of = type(layer) if type(layer).__name__ == kind else getattr(keras.layers, kind)
    return of.from_config(config)


def _is_plain_rescaling(layer) -> bool:
    return type(layer).__name__ == "Rescaling" and np.ndim(layer.scale) == np.ndim(layer.offset) == 0


def _fused_activation(layer, activation, name, names) -> list[keras.layers.Layer]:
    return [] if activation == "linear" else [_activation(layer, activation, names.new(f"{name}_activation"))]


def check_activation(layer) -> None:
    """Refuses a function of the user's own: in a config it has nothing but its name, which may be Keras's."""
    function = getattr(layer, "activation", None)
    if function is None or isinstance(function, keras.layers.Layer) or function in _OF_TENSORFLOW:
        return
    name = getattr(function, "__name__", None)
    if name is None:  # functools.partial, or an object that is called
        raise _own_activation(layer)
    kerass = getattr(keras.activations, name, None)
    # Keras 3 has the same functions by the same names, but for this one.
    of_keras3 = function.__module__.startswith("keras.") and name != "hard_sigmoid"
    if kerass is not None and function is not kerass and not of_keras3:
        raise _own_activation(layer)


def _own_activation(layer) -> UnsupportedLayerError:
    return UnsupportedLayerError(
        layer,
        "has an activation that is a function or class of its own.",
        "Use one that Keras has by name, for example 'relu', 'relu6' or 'sigmoid'.",
    )


def _activation(layer, activation, name):
    if layer.activation in _CURVE_OF:
        return layer_of(_CURVE_OF[layer.activation], name)
    if isinstance(activation, dict) and activation.get("class_name") in SUPPORTED:
        # A layer object given as activation=.
        config = {**activation["config"], "name": name, "trainable": True, "dtype": "float32"}
        return getattr(keras.layers, activation["class_name"]).from_config(config)
    if not isinstance(activation, str):
        raise _own_activation(layer)
    if activation in ("relu", "relu6"):
        return keras.layers.ReLU(6.0 if activation == "relu6" else None, name=name)
    if activation == "leaky_relu":
        return keras.layers.LeakyReLU(TENSORFLOW_LEAKY_SLOPE, name=name)
    if activation == "hard_sigmoid":
        return HardSigmoid(slope=KERAS_HARD_SIGMOID_SLOPE, name=name)
    return keras.layers.Activation(activation, name=name)


def _pointwise(config):
    """The 1x1 convolution that equals a Dense on an image."""
    return keras.layers.Conv2D(config["units"], 1, use_bias=config["use_bias"], name=config["name"])


def _split_separable(layer, config, names):
    name = config["name"]
    depthwise = keras.layers.DepthwiseConv2D(
        config["kernel_size"], strides=config["strides"], padding=config["padding"],
        depth_multiplier=config["depth_multiplier"], dilation_rate=config["dilation_rate"], use_bias=False,
        name=names.new(f"{name}_depthwise"),
    )  # fmt: skip
    pointwise = keras.layers.Conv2D(
        config["filters"], 1, use_bias=config["use_bias"], name=names.new(f"{name}_pointwise")
    )
    return [depthwise, pointwise, *_fused_activation(layer, config["activation"], name, names)]


def _full_window(layer, name, names, shape):
    """Global max pooling as a pooling whose window is the image."""
    window = (1, *shape[1:-1])[-2:]
    if layer.keepdims:
        return [keras.layers.MaxPooling2D(window, name=name)]
    return [
        keras.layers.MaxPooling2D(window, name=names.new(f"{name}_window")),
        keras.layers.Flatten(name=name),
    ]


def _in_float32(layer, config, shape):
    """A Normalization whose numbers are not rounded to the type that the user's network computes in."""
    twin = type(layer).from_config(config)
    twin.build(shape)
    twin.set_weights(layer.get_weights())
    twin.finalize_state()
    return twin


def _rescaling(layer, name):
    """A Normalization by constants as the Rescaling that it equals."""
    mean, variance = np.ravel(layer.mean), np.ravel(layer.variance)
    deviation = np.maximum(np.sqrt(variance), keras.backend.epsilon())
    scale, offset = 1 / deviation, -mean / deviation
    if layer.invert:
        scale, offset = deviation, mean
    parts = [part[0] if np.all(part == part[0]) else part for part in (scale, offset)]
    return keras.layers.Rescaling(*(part.tolist() for part in parts), name=name)
