"""What the tensors of a network cannot fall below: it decides which codes they get.

A tensor that cannot be negative gets unsigned codes, a hard-swish codes that end at its floor of -0.375, all
others symmetric ones. tanh and softsign get symmetric ones too: their ceilings are as far as their floors.
"""

import math

import tensorflow as tf
import tf_keras as keras

from mmx_tf.layers.activations import CURVES
from mmx_tf.layers.quantizers.gates import HardSigmoid
from mmx_tf.layers.quantizers.smooth_gates import Smooth
from mmx_tf.network.kinds import FLOOR_KEEPING, KINDS

NONNEGATIVE_ACTIVATIONS = ("relu", "relu6", "sigmoid", "hard_sigmoid", "softmax")
"""Those of Keras that are no `CURVES`."""
NONNEGATIVE_FUNCTIONS = ("nn.relu", "nn.relu6", "math.sigmoid", "nn.softmax", "math.abs")
UNKNOWN = -math.inf


def floor_of(layer: keras.layers.Layer, args: tuple, floors: dict[int, float]) -> float:
    """The largest number, at most 0, that a layer's output is known not to fall below.

    Args:
      layer: a layer of a canonical network.
      args: the arguments it is called with.
      floors: what is known so far, tensor id -> floor; missing ids may be anything.

    Returns:
      0 for a tensor that cannot be negative, `UNKNOWN` for one that may have any value.
    """
    kind = type(layer).__name__
    tensors = tf.nest.flatten(args[0])
    known = [floors.get(id(tensor), UNKNOWN) for tensor in tensors]
    if kind == "ReLU":
        slope = float(layer.negative_slope)
        return UNKNOWN if slope and float(layer.threshold) else _floor_of_slope(slope, known[0])
    if kind == "LeakyReLU":
        return _floor_of_slope(layer.alpha, known[0])
    if kind == "ELU":
        return min(-float(layer.alpha), 0.0)
    if kind in KINDS and KINDS[kind].floor is not None:
        return KINDS[kind].floor
    if kind == "Smooth":
        return CURVES[layer.function].floor
    if kind == "Activation":
        name = str(layer.get_config()["activation"])
        if name in CURVES:
            return CURVES[name].floor
        return 0.0 if name in NONNEGATIVE_ACTIVATIONS else UNKNOWN
    if kind == "TFOpLambda":
        return 0.0 if layer.get_config()["function"] in NONNEGATIVE_FUNCTIONS else UNKNOWN
    if kind in FLOOR_KEEPING:
        return min(known)
    if kind == "Add":
        return sum(known)
    if kind == "ScaledAdd":
        return layer.factor * sum(known)
    if kind == "Multiply":
        return _floor_of_product(tensors, known)
    return UNKNOWN


def codes_of(floor: float) -> dict:
    """The arguments `signed` and `floor` of a quantizer for a tensor with this floor."""
    return {"signed": floor < 0, "floor": floor if UNKNOWN < floor < 0 else None}


def _floor_of_slope(slope, known: float) -> float:
    """Of slope * x below zero, where x is not below `known`."""
    return float(slope) * known if float(slope) > 0 else 0.0


def _floor_of_product(tensors, known) -> float:
    if min(known) >= 0:
        return 0.0
    for index, (gate, other) in enumerate((tensors, tensors[::-1])):
        source = gate.node.layer
        if isinstance(source, HardSigmoid) and gate.node.keras_inputs[0] is other:
            # x * (a * x + 1/2) has its minimum at x = -1 / (4 a).
            return -1 / (16 * source.slope)
        if isinstance(source, Smooth) and gate.node.keras_inputs[0] is other:
            return CURVES[source.function].lowest_product
        if _is_gate(source):
            return known[1 - index]
    return UNKNOWN


def _is_gate(layer) -> bool:
    """Whether a layer's output is in 0..1."""
    if isinstance(layer, Smooth):
        return layer.is_gate
    return isinstance(layer, HardSigmoid) or (
        isinstance(layer, keras.layers.Activation)
        and layer.get_config()["activation"] in ("sigmoid", "hard_sigmoid")
    )
