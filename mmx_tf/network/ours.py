"""Networks that mmx_tf made: which call takes a network, and the format that holds it. For errors.

>>> next_step(search)
'It is a search network: call mmx_tf.rebuild(search, search.bit_selection()), fit what that gives, ...'
"""

import os

import tf_keras as keras

from mmx_tf.layers.integer.weighted import WeightedLayer
from mmx_tf.layers.quantizers.activation import ActivationQuantizer
from mmx_tf.layers.quantizers.multi_branch import MultiBranchQuantizer
from mmx_tf.layers.quantizers.weights import QuantizeWrapper


def next_step(model) -> str:
    """One or two sentences for the end of an error."""
    if not isinstance(model, keras.Model):
        return "Give a network of tf_keras, or the path of its file."
    return step_of_ours(model) or (
        "It is a float network: begin with search = mmx_tf.augment(float_model, target_average_bits=4)."
    )


def step_of_ours(model: keras.Model) -> str | None:
    """The sentences for a network that mmx_tf made; None for others."""
    layers = getattr(getattr(model, "network", model), "layers", ())
    if any(isinstance(layer, MultiBranchQuantizer) for layer in layers):
        return (
            "It is a search network: call mmx_tf.rebuild(search, search.bit_selection()), fit what that "
            "gives, and go on with it."
        )
    if any(isinstance(layer, WeightedLayer) for layer in layers):
        return "It is folded already: give it to mmx_tf.convert, or to mmx_tf.verify with its file."
    if any(isinstance(layer, QuantizeWrapper) for layer in layers):
        return "It is a fixed network: call mmx_tf.fold(fixed)."
    if any(isinstance(layer, ActivationQuantizer) for layer in layers):
        return (
            "Its activations are quantized but its weights are not: call mmx_tf.rebuild(search, selection) "
            "without quantized_weights=False."
        )
    return None


def check_saved_as(name: str, filepath: str | os.PathLike, save_format: str = "keras") -> None:
    """Refuses (ValueError) to save a network of ours in a format that does not hold it."""
    if not os.fspath(filepath).endswith(".keras") or save_format != "keras":
        raise ValueError(
            f"{name}.save: filepath is {os.fspath(filepath)!r}; give one that ends with .keras, the one "
            "format for networks with quantizers. Weights alone: save_weights."
        )
