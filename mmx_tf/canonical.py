"""The canonical form of a user's network, which the rest of the project works on.

A canonical network is functional and flat; it computes what the user's network computes. Nested models are
inlined; a SeparableConv2D is a DepthwiseConv2D and a 1x1 Conv2D, a Dense on an image is a 1x1 Conv2D; an
activation inside a layer is a layer of its own; ReLU has one spelling, linear activations are gone; Add and
Multiply take two inputs; a TensorFlow operator is the layer that equals it, where there is one; every layer
is called once. Everything is float32 and trainable, whatever was frozen: quantization changes what each layer
sees, so each has to follow. All layers are new, so the user's network is left untouched.
"""

import functools

import numpy as np
import tf_keras as keras

from mmx_tf import graph, operators

WEIGHTED = ("Conv2D", "DepthwiseConv2D", "Dense")
SUPPORTED = (
    "InputLayer", "BatchNormalization", "ReLU", "Activation", "Softmax", "Add", "Multiply", "Concatenate",
    "GlobalAveragePooling2D", "AveragePooling2D", "MaxPooling2D", "ZeroPadding2D", "Flatten", "Reshape",
    "Dropout", "Rescaling", "TFOpLambda",
)  # fmt: skip
REWRITTEN = ("SeparableConv2D",)
BINARY = ("Add", "Multiply")


class UnsupportedLayerError(ValueError):
    """A layer that cannot be handled, named with its class and the way out."""

    def __init__(self, layer: keras.layers.Layer, reason: str, advice: str):
        super().__init__(f"Layer {layer.name!r} ({type(layer).__name__}) {reason} {advice}")
        self.layer_name = layer.name


def canonicalize(network: keras.Model) -> keras.Model:
    """Returns the canonical form of a functional or Sequential image network, with its weights.

    Args:
      network: built model with one image input (batch, height, width, channels).

    Raises:
      ValueError: if the network is not functional, is not built, or has no single image input.
      UnsupportedLayerError: for a layer that cannot be handled.
    """
    _check_network(network)
    seen: set[int] = set()
    names = _Names(network)

    def call(layer, args, kwargs):
        if id(layer) in seen and layer.weights:
            raise UnsupportedLayerError(
                layer,
                "has weights and is called more than once.",
                "Each call has an input bit-width of its own: build the network with one layer object per "
                "call and copy the weights.",
            )
        seen.add(id(layer))
        _check_layer(layer)
        _check_call(layer, args, kwargs)
        kwargs = {key: value for key, value in kwargs.items() if key != "training"}
        if type(layer).__name__ in BINARY:
            return _chain(layer, args[0], names)
        if type(layer).__name__ == "TFOpLambda":
            rewritten = operators.as_layer(layer, args, kwargs, name=functools.partial(names.own, layer.name))
            if rewritten is not None:
                equal, inputs = rewritten
                return equal(inputs)
        clones = _clones(layer, names, rank=getattr(getattr(args[0], "shape", None), "rank", None))
        value = args[0]
        for clone in clones:
            value = clone(value, *args[1:], **kwargs)
            args, kwargs = args[:1], {}
        _copy_weights(layer, clones)
        if isinstance(value, (list, tuple)):
            raise UnsupportedLayerError(
                layer,
                f"gives {len(value)} tensors.",
                "Quantizers follow single tensors: use layers with one output each.",
            )
        return value

    inputs = keras.Input(network.inputs[0].shape[1:], name=names.own(network.inputs[0].node.layer.name))
    return keras.Model(inputs, graph.replay(network, inputs, call), name=network.name)


def _check_network(network):
    if not isinstance(network, keras.Model):
        raise ValueError(
            f"expected a tf_keras model, got {type(network).__module__}.{type(network).__name__}; load or "
            "build the network with `import tf_keras`."
        )
    if not graph.is_network(network):
        raise ValueError(
            f"model {network.name!r} ({type(network).__name__}) has no known graph: give a functional model "
            "or a Sequential one that is built (start it with an Input of fixed size)."
        )
    if len(network.inputs) != 1:
        raise ValueError(
            f"model {network.name!r} has {len(network.inputs)} inputs; exactly one image is allowed."
        )
    shape = tuple(network.inputs[0].shape)
    if len(shape) != 4 or None in shape[1:]:
        raise ValueError(
            f"model {network.name!r} takes inputs of shape {shape}; an image network takes (None, height, "
            "width, channels) of fixed size."
        )


def _check_layer(layer):
    kind = type(layer).__name__
    # A custom class may have the name of a Keras one.
    known = type(layer).__module__.startswith("tf_keras.")
    if not known or kind not in WEIGHTED + SUPPORTED + REWRITTEN:
        raise UnsupportedLayerError(
            layer,
            "cannot be handled.",
            f"Allowed are {', '.join(WEIGHTED + REWRITTEN + SUPPORTED)}. Rewrite the layer with these, or "
            "leave it out of the network (data augmentation belongs in the input pipeline).",
        )
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        raise UnsupportedLayerError(layer, "is channels_first.", "Build it with data_format='channels_last'.")
    if getattr(layer, "groups", 1) != 1:
        raise UnsupportedLayerError(
            layer,
            f"has groups={layer.groups}.",
            "Use groups=1, or a DepthwiseConv2D for one group a channel.",
        )


def _check_call(layer, args, kwargs):
    if kwargs.get("training") is True:
        raise UnsupportedLayerError(
            layer,
            "is called with training=True, also when the network is not trained.",
            "A deployed network has no training mode: build the network without this argument.",
        )
    if type(layer).__name__ == "Dense" and args[0].shape.rank not in (2, 4):
        raise UnsupportedLayerError(
            layer,
            f"takes a tensor of shape {tuple(args[0].shape)}.",
            "A dense layer here takes (None, features) or (None, height, width, channels): put a Flatten or "
            "a Reshape in front of it.",
        )
    if type(layer).__name__ == "BatchNormalization" and list(layer.axis) != [args[0].shape.rank - 1]:
        raise UnsupportedLayerError(
            layer, f"normalizes axis {list(layer.axis)}.", "Build it with axis=-1, the channels."
        )


class _Names:
    """Hands out layer names: the user's own as far as they are unique, ours never in the user's way."""

    def __init__(self, network):
        self._users = _layer_names(network)
        self._taken: set[str] = set()

    def own(self, name: str) -> str:
        """The name for a layer that the user called `name`; nested models may repeat a name."""
        return self.new(name) if name in self._taken else self._take(name)

    def new(self, name: str) -> str:
        """A name like `name` that nobody has."""
        while name in self._taken or name in self._users:
            name += "_1"
        return self._take(name)

    def _take(self, name):
        self._taken.add(name)
        return name


def _layer_names(network) -> set[str]:
    names = {network.inputs[0].node.layer.name}
    for node in graph.nodes(network):
        names |= _layer_names(node.layer) if graph.is_network(node.layer) else {node.layer.name}
    return names


def _chain(layer, values, names: _Names):
    """a + b + c as (a + b) + c: the exported addition and product take two tensors."""
    name, total = names.own(layer.name), values[0]
    for count, value in enumerate(values[1:], start=2):
        last = count == len(values)
        total = type(layer)(name=name if last else names.new(f"{name}_{count}"))([total, value])
    return total


def _clones(layer, names: _Names, *, rank) -> list[keras.layers.Layer]:
    """New layers that together do what `layer` does; none for a linear activation. rank: of its input."""
    kind = type(layer).__name__
    config = layer.get_config()
    if kind == "Activation" and config["activation"] == "linear":
        return []
    config["name"] = names.own(config["name"])
    config["trainable"] = True
    if kind == "TFOpLambda":
        return [type(layer).from_config(config)]
    # Not the layer's own policy, which may be mixed precision.
    config["dtype"] = "float32"
    if kind == "SeparableConv2D":
        return _split_separable(layer, config, names)
    if kind in WEIGHTED:
        activation, config["activation"] = config["activation"], "linear"
        clone = type(layer).from_config(config) if kind != "Dense" or rank == 2 else _pointwise(config)
        return [clone, *_fused_activation(layer, activation, config["name"], names)]
    if kind == "Activation":
        return [_activation(layer, config["activation"], config["name"])]
    return [type(layer).from_config(config)]


def _fused_activation(layer, activation, name, names: _Names) -> list[keras.layers.Layer]:
    return [] if activation == "linear" else [_activation(layer, activation, names.new(f"{name}_activation"))]


def _activation(layer, activation, name):
    if isinstance(activation, dict) and activation.get("class_name") in SUPPORTED:
        # A layer object given as activation=.
        config = {**activation["config"], "name": name, "trainable": True, "dtype": "float32"}
        return getattr(keras.layers, activation["class_name"]).from_config(config)
    if not isinstance(activation, str):
        raise UnsupportedLayerError(
            layer,
            "has an activation that is a function or class of its own.",
            "Use one that Keras has by name, for example 'relu', 'relu6' or 'sigmoid'.",
        )
    if activation in ("relu", "relu6"):
        return keras.layers.ReLU(6.0 if activation == "relu6" else None, name=name)
    return keras.layers.Activation(activation, name=name)


def _pointwise(config):
    """The 1x1 convolution that equals a Dense on an image."""
    return keras.layers.Conv2D(config["units"], 1, use_bias=config["use_bias"], name=config["name"])


def _split_separable(layer, config, names: _Names):
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


def _copy_weights(layer, clones):
    weights = layer.get_weights()
    for clone in clones:
        count = len(clone.weights)
        # A Dense that became a convolution has a kernel of another shape.
        clone.set_weights(
            [
                np.reshape(value, variable.shape)
                for value, variable in zip(weights[:count], clone.weights, strict=True)
            ]
        )
        weights = weights[count:]
