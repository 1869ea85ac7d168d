"""Running a functional Keras network call by call, with a say in every call.

Every transformation here (augment, rebuild, fold) and the search network's own forward passes go through
`replay`: it visits the layer calls of a network in graph order and lets the caller decide what each one
does. Nested models are inlined.

    >>> outputs = replay(float_model, float_model.inputs, lambda layer, args, kwargs: layer(*args, **kwargs))
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras


@tf.autograph.experimental.do_not_convert
def replay(network: keras.Model, inputs, call: Callable[[keras.layers.Layer, tuple, dict], Any]):
    """Runs a network with `call(layer, args, kwargs)` in place of every `layer(*args, **kwargs)`.

    Args:
      network: a functional or built Sequential model.
      inputs: what takes the place of the model's inputs: a tensor, or a list of them in order. Anything
        can stand for a tensor, as long as `call` understands it.
      call: computes a layer's output from its arguments, whose tensors have been replaced.

    Returns:
      What stands for the model's outputs: a single value, or several in a list, a tuple or a dict, as the
      model was built with them.
    """
    inputs = inputs if isinstance(inputs, (list, tuple)) else [inputs]
    values = dict(zip((id(tensor) for tensor in network.inputs), inputs, strict=True))

    def replaced(tensor):
        return values.get(id(tensor), tensor)

    calls = nodes(network)
    last_taken_by = _last_taken_by(network, calls)
    for index, node in enumerate(calls):
        args = tf.nest.map_structure(replaced, tuple(node.call_args))
        kwargs = tf.nest.map_structure(replaced, dict(node.call_kwargs))
        if is_network(node.layer):
            results = replay(node.layer, args[0], call)
        else:
            results = call(node.layer, args, kwargs)
        outputs = tf.nest.flatten(node.outputs)
        results = [results] if len(outputs) == 1 else tf.nest.flatten(results)
        values.update(zip((id(tensor) for tensor in outputs), results, strict=True))
        # Run eagerly, a network would otherwise hold the activations of all its layers at once.
        for taken in last_taken_by.get(index, ()):
            values.pop(taken, None)

    outputs = [values[id(tensor)] for tensor in network.outputs]
    if len(outputs) == 1:
        return outputs[0]
    # Keras keeps a dict's values in the order of its sorted keys.
    return tf.nest.pack_sequence_as(network._nested_outputs, outputs)


def _last_taken_by(network, calls) -> dict[int, list[int]]:
    """Index of a call -> ids of the tensors that no later call takes and that are no outputs."""
    last = {
        id(argument): index
        for index, node in enumerate(calls)
        for argument in tf.nest.flatten((node.call_args, node.call_kwargs))
    }
    for tensor in network.outputs:
        last.pop(id(tensor), None)
    by_call: dict[int, list[int]] = {}
    for tensor, index in last.items():
        by_call.setdefault(index, []).append(tensor)
    return by_call


def inputs_like(network: keras.Model) -> list:
    """New symbolic inputs, of the shapes and with the names of a network's."""
    return [keras.Input(tensor.shape[1:], name=tensor.node.layer.name) for tensor in network.inputs]


def single(inputs: list):
    """The one of a list of one, or the list: what keras.Model takes for a network's inputs."""
    return inputs[0] if len(inputs) == 1 else inputs


def input_names(network: keras.Model) -> list[str]:
    """The user's names of a network's inputs, in their order: the keys of a dict, or those of the layers."""
    given = network._nested_inputs
    return sorted(given) if isinstance(given, dict) else list(network.input_names)


def nodes(network: keras.Model) -> list:
    """The layer calls (Keras nodes) of a network in graph order, input layers left out."""
    by_depth = network._nodes_by_depth
    ordered = [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]
    return [node for node in ordered if not node.is_input]


def is_network(layer: keras.layers.Layer) -> bool:
    """Whether a layer is a functional or Sequential model whose graph is known."""
    return isinstance(layer, keras.Model) and bool(getattr(layer, "_is_graph_network", False))


def running_statistics(network: keras.Model) -> list[tf.Variable]:
    """Moving mean and variance of every batch norm, in the order of the layers."""
    return [
        variable
        for layer in network.layers
        if isinstance(layer, keras.layers.BatchNormalization)
        for variable in (layer.moving_mean, layer.moving_variance)
    ]


def non_finite(network: keras.Model) -> Iterator[tuple[keras.layers.Layer, tf.Variable, int]]:
    """(layer, variable, how many of its numbers are NaN or infinite) for variables that have such numbers."""
    for layer in network.layers:
        for variable, values in zip(layer.weights, layer.get_weights(), strict=True):
            count = np.count_nonzero(~np.isfinite(values)) if values.dtype.kind == "f" else 0
            if count:
                yield layer, variable, count


def ends(network: keras.Model) -> set[str]:
    """Names of the layers that end a network: what they give is an output, and no other layer takes it."""
    uses = consumers(network)
    return {tensor.node.layer.name for tensor in network.outputs if set(uses[id(tensor)]) == {None}}


def upstream(network: keras.Model, tensors) -> list:
    """The layers of a network that symbolic tensors of it depend on, in graph order."""
    wanted, found = {id(tensor) for tensor in tensors}, []
    for node in reversed(nodes(network)):
        if any(id(output) in wanted for output in tf.nest.flatten(node.outputs)):
            wanted |= {id(argument) for argument in tf.nest.flatten((node.call_args, node.call_kwargs))}
            found.append(node.layer)
    return found[::-1]


def upstream_inputs(network: keras.Model, tensor) -> list:
    """The input layers of a network that a symbolic tensor of it depends on."""
    wanted = {id(tensor)}
    for node in reversed(nodes(network)):
        if any(id(output) in wanted for output in tf.nest.flatten(node.outputs)):
            wanted |= {id(argument) for argument in tf.nest.flatten((node.call_args, node.call_kwargs))}
    return [image.node.layer for image in network.inputs if id(image) in wanted]


def consumers(network: keras.Model) -> dict[int, list]:
    """Maps the id of each symbolic tensor to the layers that take it, once per use.

    The network's outputs count as uses too: they appear as None. Nested models must have been inlined.
    """
    calls = nodes(network)
    tensors = [*network.inputs, *tf.nest.flatten([node.outputs for node in calls])]
    uses: dict[int, list] = {id(tensor): [] for tensor in tensors}
    for node in calls:
        # Numbers and None are among the arguments too.
        for argument in tf.nest.flatten((node.call_args, node.call_kwargs)):
            if id(argument) in uses:
                uses[id(argument)].append(node.layer)
    for tensor in network.outputs:
        uses[id(tensor)].append(None)
    return uses
