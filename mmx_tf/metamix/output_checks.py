"""The outputs of a network that is augmented: their names, and those that no file can have."""

from collections.abc import Mapping

import tf_keras as keras

from mmx_tf.export.comparing.outputs import Outputs
from mmx_tf.network import graph
from mmx_tf.network.heads import is_softmax


def output_names(float_model) -> list[str]:
    """The names by which Keras finds losses and labels of a network's outputs in a dict.

    They are those of the last layers, in the network's order; of outputs that are given in a dict its keys,
    sorted.

    Args:
      float_model: functional or Sequential network of tf_keras or Keras 3.

    Raises:
      ValueError: for outputs in nested lists or dicts, keys that are no texts, or two outputs of one name.
    """
    # A Sequential model of Keras 3 has no such list.
    names = list(getattr(float_model, "output_names", None) or [float_model.layers[-1].name])
    if len(names) == 1:
        return names
    structure = _structure(float_model)
    parts = list(structure.values() if isinstance(structure, Mapping) else structure)
    if any(isinstance(part, list | tuple | Mapping) for part in parts):
        raise ValueError(
            f"model {float_model.name!r} has outputs in a structure of several levels: give keras.Model its "
            "outputs in one list, or in one dict."
        )
    if isinstance(structure, Mapping):
        names = sorted(structure, key=str)
    if not all(isinstance(name, str) for name in names):
        raise ValueError(
            f"model {float_model.name!r} has outputs in a dict with the keys {names}: give keras.Model a "
            "dict whose keys are texts."
        )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            f"model {float_model.name!r} has several outputs with the name {twice[0]!r}: give the layers "
            "that end it names of their own."
        )
    return names


def _structure(float_model):
    """The outputs as `keras.Model` was given them."""
    if isinstance(float_model, keras.Model):
        return float_model._nested_outputs
    return getattr(float_model, "_functional", float_model)._outputs_struct


def check_outputs(network: keras.Model, names: list[str]) -> None:
    """Refuses outputs that would be one tensor of the file, and the image itself.

    Args:
      network: canonical network.
      names: of its outputs, for messages.

    Raises:
      ValueError: names the outputs.
    """
    if len(names) < 2:
        return
    images = {id(tensor) for tensor in network.inputs}
    ends, known = graph.ends(network), {}
    for name, tensor in zip(names, network.outputs, strict=True):
        if id(tensor) in images:
            raise ValueError(
                f"output {name!r} of model {network.name!r} is its input itself: leave it out, "
                f"{_rest(names, name)}."
            )
        source = _stored(tensor, ends)
        if id(source) in known:
            raise ValueError(
                f"outputs {known[id(source)]!r} and {name!r} of model {network.name!r} are one tensor in "
                f"the file, which has no Dropout and no final softmax: leave one out, {_rest(names, name)}."
            )
        known[id(source)] = name


def _stored(tensor, ends: set[str]):
    """The tensor that the file has of an output."""
    layer = tensor.node.layer
    while type(layer).__name__ == "Dropout" or (is_softmax(layer) and layer.name in ends):
        tensor = tensor.node.call_args[0]
        layer = tensor.node.layer
    return tensor


def _rest(names: list[str], name: str) -> str:
    others = Outputs(tuple(other for other in names if other != name))
    return f"and give keras.Model {others.quoted} alone"
