"""What a network ends with: its last activation, whatever form it has.

>>> head_of(float_model, "--float_model=m.keras").shape
(10,)
"""

import numpy as np
import tensorflow as tf
import tf_keras as keras

from mmx_tf.export.comparing.heads import Head
from mmx_tf.layers.quantizers.activation import ActivationQuantizer
from mmx_tf.layers.quantizers.gates import GateQuantizer, HardSigmoid
from mmx_tf.layers.quantizers.multi_branch import MultiBranchQuantizer
from mmx_tf.layers.quantizers.pixels import PixelQuantizer
from mmx_tf.network import graph
from mmx_tf.network.kinds import DROPPED

RESHAPING = ("Flatten", "Reshape")
_PASSING = (*RESHAPING, "Dropout", *DROPPED)
_PASSING_OPERATORS = ("reshape", "squeeze", "compat.v1.squeeze", "expand_dims", "cast")
_OPERATORS = {"nn.softmax": "softmax", "math.sigmoid": "sigmoid", "nn.sigmoid": "sigmoid"}
_FUNCTIONS = {
    keras.activations.softmax: "softmax",
    keras.activations.sigmoid: "sigmoid",
    keras.activations.hard_sigmoid: "hard_sigmoid",
}


def activation_of(model: keras.Model) -> str | None:
    """What a float, search or fixed network ends with: "softmax", "sigmoid", "hard_sigmoid" or None."""
    return last_activation(model.outputs[0])


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
    node, whole = output.node, True
    while graph.is_network(node.layer) or _passes(node.layer):
        if graph.is_network(node.layer):
            node = node.layer.outputs[0].node
            continue
        whole &= node.outputs.shape[-1] == tf.nest.flatten(node.call_args[0])[0].shape[-1]
        node = tf.nest.flatten(node.call_args[0])[0].node
    found = _activation(node.layer)
    # Of scores that are reshaped across their rows it is no softmax of the outputs.
    return None if found == "softmax" and not whole else found


def _passes(layer) -> bool:
    """Whether a layer only hands on, perhaps in another shape, what an activation gave."""
    kind = type(layer).__name__
    if kind == "TFOpLambda":
        return layer.get_config()["function"] in _PASSING_OPERATORS
    return is_quantizer(layer) or kind in _PASSING or _is_linear(layer)


def _is_linear(layer) -> bool:
    return isinstance(layer, keras.layers.Activation) and layer.activation is keras.activations.linear


def _activation(layer) -> str | None:
    if is_softmax(layer):
        return "softmax"
    if isinstance(layer, HardSigmoid):
        return "hard_sigmoid"
    if type(layer).__name__ == "TFOpLambda":
        return _OPERATORS.get(layer.get_config()["function"])
    return "sigmoid" if is_sigmoid(layer) else _FUNCTIONS.get(getattr(layer, "activation", None))


def keeps_last_axis(tensor) -> bool:
    """Whether a symbolic tensor is a Reshape or Flatten of another that has the same rows of numbers."""
    if type(tensor.node.layer).__name__ not in RESHAPING:
        return False
    source = tensor.node.keras_inputs[0]
    return source.shape[-1] == tensor.shape[-1]


def is_softmax(layer) -> bool:
    """Whether a layer is a softmax of the last axis; at the end of a network it is left out of the file."""
    if isinstance(layer, keras.layers.Softmax):
        ranks = [node.outputs.shape.rank for node in layer.inbound_nodes]
        return all(np.ravel(layer.axis).tolist() in ([-1], [rank - 1]) for rank in ranks or [0])
    return isinstance(layer, keras.layers.Activation) and layer.get_config()["activation"] == "softmax"


def is_sigmoid(layer) -> bool:
    """Whether a layer is the logistic function."""
    return isinstance(layer, keras.layers.Activation) and layer.get_config()["activation"] == "sigmoid"


def is_quantizer(layer) -> bool:
    """Whether a layer is an activation quantizer of any kind."""
    return isinstance(layer, (ActivationQuantizer, MultiBranchQuantizer, PixelQuantizer, GateQuantizer))
