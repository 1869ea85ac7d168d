"""Layers of Keras 3 as the tf_keras layers that compute the same.

    >>> import keras as keras3
    >>> dense, hard_silu = as_steps(keras3.layers.Dense(10, activation="hard_silu"), Names())   # of tf_keras
    >>> dense.units
    10

Only layers that mean the same in both are taken. Their configs differ in a few keys and in how they spell
dtypes, initializers and functions; an activation that tf_keras lacks, or that has another formula there
(hard_sigmoid: relu6(x + 3) / 6 in Keras 3, clip(0.2 x + 0.5) in tf_keras), becomes layers of its own.
"""

import functools
import inspect
import re
from collections.abc import Callable, Iterable

import tensorflow as tf
import tf_keras as keras

from mmx_tf.layers.activations import CURVES, NAMES
from mmx_tf.layers.quantizers.smooth_gates import Smooth
from mmx_tf.network import refused
from mmx_tf.network.kinds import DROPPED, OF_KERAS3, UnsupportedLayerError

LAYERS = (*OF_KERAS3, *DROPPED)
ADVICE = (
    f"Layers that can: {', '.join(OF_KERAS3)}. Rewrite it with these, or leave it out of the "
    "network (data augmentation belongs in the input pipeline)."
)
# Name of the function in Keras 3 -> name in tf_keras, of those with the same formula in both.
ACTIVATIONS = {
    **{name: name for name in ("linear", "relu", "relu6", "sigmoid", "softmax", "tanh")},
    **{curve.keras3: NAMES[name] for name, curve in CURVES.items() if curve.keras3 and NAMES[name]},
    "silu": "swish",
    "celu": "elu",
}  # fmt: skip
_KERAS3 = "keras.src.layers."
# Layer objects that may be given as activation=; others could have weights.
ACTIVATION_LAYERS = ("Activation", "ReLU", "LeakyReLU", "ELU", "Softmax")
OF_TENSORFLOW = {
    function: function.__name__ for function in (
        tf.nn.relu, tf.nn.relu6, tf.nn.leaky_relu, tf.nn.gelu, tf.nn.sigmoid, tf.nn.tanh,
    )
} | {tf.nn.silu: "silu", tf.nn.softmax: "softmax"} | {
    curve.spelling: curve.keras3 for curve in CURVES.values() if curve.spelling and curve.keras3
}  # fmt: skip
"""Functions of TensorFlow that compute what Keras 3's of this name do."""
RENAMED = {("LeakyReLU", "negative_slope"): "alpha"}
# All is float32 here, and an activation is handled beside; the others mean nothing without renorm, or without
# padding an image to its aspect ratio.
IGNORED = ("name", "dtype", "activation", "renorm_clipping", "renorm_momentum", "fill_mode", "fill_value")


class Keras3Error(UnsupportedLayerError):
    """A layer or an operation of Keras 3 that cannot be imported, named with its class and the way out."""

    def __init__(self, layer, reason: str, advice: str, *, name: str = "", kind: str = ""):
        self.layer_name = name or layer.name
        message = f"{self.layer_name!r} ({kind or type(layer).__name__}, Keras 3) {reason} {advice}"
        ValueError.__init__(self, message)


class Names:
    """Layer names for tf_keras: those of Keras 3, except where tf_keras forbids a character."""

    def __init__(self, users: Iterable[str] = ()):
        self._taken = set(users)

    def own(self, name: str) -> str:
        """The name for what Keras 3 calls `name`, which is unique there."""
        valid = re.sub(r"^[^A-Za-z0-9.]", "layer_", re.sub(r"[^A-Za-z0-9_.-]", "_", name))
        return name if valid == name else self.new(valid)

    def new(self, name: str) -> str:
        """A name like `name` that nobody has."""
        while name in self._taken:
            name += "_1"
        self._taken.add(name)
        return name


def is_dropped(layer) -> bool:
    """Whether a layer of Keras 3 acts in training alone: the imported network goes without it."""
    return type(layer).__module__.startswith(_KERAS3) and type(layer).__name__ in DROPPED


def as_steps(layer, names: Names, *, name: str | None = None) -> list[Callable]:
    """What computes a layer of Keras 3 in tf_keras, one after the other.

    Args:
      layer: a layer that is no model.
      names: of the network that it is in.
      name: the new name, if not the layer's own.

    Returns:
      Layers, or functions of a tensor; only the first takes several tensors and has weights.

    Raises:
      UnsupportedLayerError: if there is no equal layer.
    """
    check_kind(layer)
    kind = type(layer).__name__
    name = name or names.own(layer.name)
    if kind == "Activation":
        return _activation(layer, name, names)
    inside, after = {}, []
    if hasattr(layer, "activation"):
        function = _function_name(layer)
        if function in ACTIVATIONS:
            inside = {"activation": ACTIVATIONS[function]}
        else:
            after = _activation(layer, names.new(f"{name}_activation"), names)
    return [getattr(keras.layers, kind)(name=name, **_config(layer), **inside), *after]


def check_kind(layer) -> None:
    """Refuses (Keras3Error) a layer whose class cannot be imported."""
    kind = type(layer).__name__
    # A custom class may have the name of a Keras one.
    known = type(layer).__module__.startswith("keras.src.layers.")
    if not known or kind not in LAYERS:
        reason = refused.sentences(kind) if known else None
        raise Keras3Error(layer, *(reason or ("cannot be imported.", ADVICE)))


def activation(function: str, name: str, names: Names) -> Callable | None:
    """The layer, or function of a tensor, for the activation that Keras 3 calls `function`; None without."""
    if function in ACTIVATIONS:
        return keras.layers.Activation(ACTIVATIONS[function], name=name)
    return OTHER_ACTIVATIONS[function](name, names) if function in OTHER_ACTIVATIONS else None


def _own(curve: str, name: str, names: Names) -> Callable:
    return Smooth(function=curve, name=name)


def _hard_sigmoid(name: str, names: Names) -> Callable:
    relu6 = keras.layers.ReLU(6.0, name=names.new(f"{name}_relu6"))
    # As tf_keras's own MobileNetV3 spells it.
    return lambda tensor: relu6(tensor + 3.0) * (1.0 / 6.0)


def _hard_silu(name: str, names: Names) -> Callable:
    gate, product = _hard_sigmoid(name, names), keras.layers.Multiply(name=name)
    return lambda tensor: product([tensor, gate(tensor)])


OTHER_ACTIVATIONS = {
    "leaky_relu": lambda name, names: keras.layers.LeakyReLU(alpha=0.2, name=name),
    "hard_sigmoid": _hard_sigmoid,
    "hard_silu": _hard_silu,
    **{
        curve.keras3: functools.partial(_own, name)
        for name, curve in CURVES.items()
        if curve.keras3 and not NAMES[name]
    },
}
"""Name of the function in Keras 3 -> (name, names) -> the layer, or function of a tensor, of that name."""


def _function_name(layer) -> str:
    """The name of a layer's activation, if it is one of Keras 3's; "" for others."""
    function = layer.activation
    if inspect.isfunction(function) and function in OF_TENSORFLOW:
        return OF_TENSORFLOW[function]
    known = getattr(function, "__module__", "") == "keras.src.activations.activations"
    return function.__name__ if known and inspect.isfunction(function) else ""


def _activation(layer, name: str, names: Names) -> list[Callable]:
    function = layer.activation
    if type(function).__name__ in ACTIVATION_LAYERS:
        return as_steps(function, names, name=name)
    step = activation(_function_name(layer), name, names)
    if step is None:
        raise Keras3Error(
            layer,
            f"has the activation {getattr(function, '__name__', type(function).__name__)!r}.",
            f"Those that can be imported are Keras 3's {', '.join((*ACTIVATIONS, *OTHER_ACTIVATIONS))}, "
            f"and the layers {', '.join(ACTIVATION_LAYERS)}.",
        )
    return [step]


def _config(layer) -> dict:
    """The keyword arguments with which tf_keras builds the layer, its name and activation left out."""
    kind = type(layer).__name__
    twin = getattr(keras.layers, kind)
    known = {key for base in twin.__mro__ for key in inspect.signature(base.__init__).parameters}
    known.discard("renorm")  # Both have it, with other weights.
    config = {}
    for key, value in layer.get_config().items():
        key = RENAMED.get((kind, key), key)
        # Initial values are overwritten by the weights.
        if key in IGNORED or key.endswith("_initializer"):
            continue
        if key.endswith(("_regularizer", "_constraint")) and value is not None:
            value = _penalty(layer, key, value)
        elif isinstance(value, dict) and value.get("class_name") in ("__numpy__", "__tensor__"):
            value = value["config"]["value"]
        if key in known or key == "trainable":
            config[key] = value
        elif value not in (None, False) and (key, value) != ("data_format", "channels_last"):
            value = value.get("class_name", value) if isinstance(value, dict) else value
            raise Keras3Error(layer, f"has {key}={value}, which tf_keras lacks.", "Build it without.")
    return config


def _penalty(layer, key: str, config: dict):
    """The regularizer or constraint of tf_keras."""
    module = "regularizers" if key.endswith("regularizer") else "constraints"
    twin = getattr(getattr(keras, module), config["class_name"], None)
    if config["module"] != f"keras.{module}" or twin is None:
        raise Keras3Error(layer, f"has {key}={config['class_name']}.", f"Use one of keras.{module}.")
    return twin(**config["config"])
