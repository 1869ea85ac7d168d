"""Which tensors of a network cannot be negative: these get unsigned codes."""

import tensorflow as tf
import tf_keras as keras

NONNEGATIVE_ACTIVATIONS = ("relu", "relu6", "sigmoid", "hard_sigmoid", "softmax", "softplus", "exponential")
NONNEGATIVE_FUNCTIONS = ("nn.relu", "nn.relu6", "math.sigmoid", "nn.softmax", "math.abs")
SIGN_KEEPING = (
    "Add", "Multiply", "Concatenate", "GlobalAveragePooling2D", "AveragePooling2D", "MaxPooling2D",
    "ZeroPadding2D", "Cropping2D", "Flatten", "Reshape", "Dropout",
)  # fmt: skip


def is_nonnegative(layer: keras.layers.Layer, args: tuple, nonnegative: dict[int, bool]) -> bool:
    """Whether a layer's output cannot be below zero.

    Args:
      layer: a layer of a canonical network.
      args: the arguments it is called with.
      nonnegative: what is known so far, tensor id -> answer; missing ids count as signed.
    """
    kind = type(layer).__name__
    if kind == "ReLU":
        return float(layer.negative_slope) == 0.0 and float(layer.threshold) >= 0.0
    if kind in ("Softmax", "HardSigmoid"):
        return True
    if kind == "Activation":
        return layer.get_config()["activation"] in NONNEGATIVE_ACTIVATIONS
    if kind == "TFOpLambda":
        return layer.get_config()["function"] in NONNEGATIVE_FUNCTIONS
    if kind in SIGN_KEEPING:
        return all(nonnegative.get(id(tensor), False) for tensor in tf.nest.flatten(args[0]))
    return False
