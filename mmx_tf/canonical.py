"""The canonical form of a user's network, which the rest of the project works on.

A canonical network is functional and flat; it computes what the user's network computes. Nested models are
inlined; a SeparableConv2D is a DepthwiseConv2D and a 1x1 Conv2D; an activation inside a layer is a layer of
its own; ReLU has one spelling; every layer is called once. All layers are new, so the user's network is left
untouched.
"""

import tf_keras as keras

from mmx_tf import graph

WEIGHTED = ("Conv2D", "DepthwiseConv2D", "Dense")
SUPPORTED = (
    "InputLayer", "BatchNormalization", "ReLU", "Activation", "Softmax", "Add", "Multiply", "Concatenate",
    "GlobalAveragePooling2D", "AveragePooling2D", "MaxPooling2D", "ZeroPadding2D", "Flatten", "Reshape",
    "Dropout", "Rescaling", "TFOpLambda",
)  # fmt: skip
REWRITTEN = ("SeparableConv2D",)


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
    taken: set[str] = set()

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
        clones = _clones(layer, taken)
        value = clones[0](*args, **kwargs)
        for clone in clones[1:]:
            value = clone(value)
        _copy_weights(layer, clones)
        return value

    inputs = keras.Input(network.input_shape[1:], name=network.inputs[0].node.layer.name)
    return keras.Model(inputs, graph.replay(network, inputs, call), name=network.name)


def weighted_layers(network: keras.Model) -> list[keras.layers.Layer]:
    """The convolutions, depthwise convolutions and dense layers of a canonical network, in graph order."""
    return [node.layer for node in graph.nodes(network) if type(node.layer).__name__ in WEIGHTED]


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
    shape = network.input_shape
    if len(shape) != 4 or None in shape[1:]:
        raise ValueError(
            f"model {network.name!r} takes inputs of shape {shape}; an image network takes (None, height, "
            "width, channels) of fixed size."
        )


def _check_layer(layer):
    kind = type(layer).__name__
    if kind not in WEIGHTED + SUPPORTED + REWRITTEN:
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


def _clones(layer, taken) -> list[keras.layers.Layer]:
    config = layer.get_config()
    name = config["name"]
    while name in taken:
        # Nested models may repeat a name; in one flat network each is its own.
        name += "_1"
    taken.add(name)
    config["name"] = name
    kind = type(layer).__name__
    if kind == "SeparableConv2D":
        return _split_separable(config)
    if kind in WEIGHTED:
        activation = config["activation"]
        config["activation"] = "linear"
        clone = type(layer).from_config(config)
        return [clone] if activation == "linear" else [clone, _activation(activation, f"{name}_activation")]
    if kind == "Activation":
        return [_activation(config["activation"], name)]
    return [type(layer).from_config(config)]


def _activation(activation, name):
    if activation == "relu":
        return keras.layers.ReLU(name=name)
    if activation == "relu6" or activation is keras.activations.relu:
        return keras.layers.ReLU(6.0 if activation == "relu6" else None, name=name)
    return keras.layers.Activation(activation, name=name)


def _split_separable(config):
    name, activation = config["name"], config["activation"]
    depthwise = keras.layers.DepthwiseConv2D(
        config["kernel_size"], strides=config["strides"], padding=config["padding"],
        depth_multiplier=config["depth_multiplier"], dilation_rate=config["dilation_rate"], use_bias=False,
        name=f"{name}_depthwise",
    )  # fmt: skip
    pointwise = keras.layers.Conv2D(
        config["filters"], 1, use_bias=config["use_bias"], name=f"{name}_pointwise"
    )
    layers = [depthwise, pointwise]
    return layers if activation == "linear" else [*layers, _activation(activation, f"{name}_activation")]


def _copy_weights(layer, clones):
    weights = layer.get_weights()
    for clone in clones:
        count = len(clone.weights)
        clone.set_weights(weights[:count])
        weights = weights[count:]
