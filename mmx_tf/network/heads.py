"""What a network ends with: its last activation, whatever form it has.

>>> head_of(model, "--float_model=m.keras")      # Head("--float_model=m.keras", (10,), activation="softmax")
"""

import tensorflow as tf
import tf_keras as keras

from mmx_tf.export.comparing.heads import Head
from mmx_tf.layers.quantizers.activation import ActivationQuantizer
from mmx_tf.layers.quantizers.gates import GateQuantizer, HardSigmoid
from mmx_tf.layers.quantizers.multi_branch import MultiBranchQuantizer
from mmx_tf.layers.quantizers.pixels import PixelQuantizer
from mmx_tf.network import graph
from mmx_tf.network.kinds import DROPPED

_PASSING = ("Flatten", "Reshape", "Dropout", *DROPPED)
_OPERATORS = {"nn.softmax": "softmax", "math.sigmoid": "sigmoid", "nn.sigmoid": "sigmoid"}
_FUNCTIONS = {
    keras.activations.softmax: "softmax",
    keras.activations.sigmoid: "sigmoid",
    keras.activations.hard_sigmoid: "hard_sigmoid",
}


def activation_of(model: keras.Model) -> str | None:
    """What a float, search or fixed network ends with: "softmax", "sigmoid", "hard_sigmoid" or None."""
    output = model.outputs[0]
    layer = output.node.layer
    if graph.is_network(layer):
        return activation_of(layer)
    if is_softmax(layer) or is_sigmoid(layer):
        return "softmax" if is_softmax(layer) else "sigmoid"
    if type(layer).__name__ == "TFOpLambda":
        return _OPERATORS.get(layer.get_config()["function"])
    return _FUNCTIONS.get(getattr(layer, "activation", None)) or last_activation(output)


def head_of(model: keras.Model, name: str) -> Head:
    """The head of a network that messages call `name`."""
    return Head(name, tuple(model.output_shape[1:]), activation_of(model))


def gives_logits(model: keras.Model) -> bool:
    """Whether outputs are logits, or numbers, and no probabilities."""
    return activation_of(model) is None


def last_activation(output) -> str | None:
    """What an output is that of: "softmax", "sigmoid", "hard_sigmoid", or None for anything else.

    Args:
      output: symbolic tensor of a float, search or fixed network; quantizers may be behind the activation.
    """
    node = output.node
    while is_quantizer(node.layer) or type(node.layer).__name__ in _PASSING:
        node = tf.nest.flatten(node.call_args[0])[0].node
    if is_softmax(node.layer):
        return "softmax"
    if isinstance(node.layer, HardSigmoid):
        return "hard_sigmoid"
    return "sigmoid" if is_sigmoid(node.layer) else None


def is_softmax(layer) -> bool:
    """Whether a layer is a softmax; at the end of a network it is left out of the file."""
    return isinstance(layer, keras.layers.Softmax) or (
        isinstance(layer, keras.layers.Activation) and layer.get_config()["activation"] == "softmax"
    )


def is_sigmoid(layer) -> bool:
    """Whether a layer is the logistic function."""
    return isinstance(layer, keras.layers.Activation) and layer.get_config()["activation"] == "sigmoid"


def is_quantizer(layer) -> bool:
    """Whether a layer is an activation quantizer of any kind."""
    return isinstance(layer, (ActivationQuantizer, MultiBranchQuantizer, PixelQuantizer, GateQuantizer))
