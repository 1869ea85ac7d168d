"""Networks of Keras 3 as networks of tf_keras: the same graph, the same weights, the same outputs.

TensorFlow's own `keras` is Keras 3, this project's training is on tf_keras, and neither takes the other's
models. A network of Keras 3 is rebuilt here call by call: its layers are those of
`mmx_tf.network.keras3_layers`, its operators (`x + y`, `keras.ops.relu(x)`) the layers that
`mmx_tf.network.keras3_operators` gives for them.

    >>> network = as_tf_keras(keras.applications.MobileNetV2(weights=None))

Keras 3 itself is not imported here: whoever has such a model has imported it, with the backend of their
choice.
"""

import inspect
import sys

import tensorflow as tf
import tf_keras as keras

from mmx_tf.layers import keras_defaults
from mmx_tf.network import keras3_operators
from mmx_tf.network.keras3_layers import Keras3Error, Names, as_steps, check_kind, is_dropped
from mmx_tf.network.kinds import tell_of_dropped


def is_keras3(network) -> bool:
    """Whether something is a model of Keras 3."""
    return isinstance(network, getattr(sys.modules.get("keras"), "Model", ()))


@keras_defaults.float32()
def as_tf_keras(network) -> keras.Model:
    """The tf_keras network that equals a network of Keras 3; anything else is given back as it is.

    Args:
      network: functional or built Sequential model of Keras 3, whose layers and models may be shared or
        nested. It is left untouched.

    Returns:
      A functional model with the network's layer names, all float32. Outputs are a list, or a dict where the
      network's are, where there are several.

    Raises:
      UnsupportedLayerError: for a layer or an operation that tf_keras lacks, or has with another meaning.
      ValueError: if the network has no known graph.
    """
    if not is_keras3(network):
        return network
    run = _Import()
    imported = run.network(network)
    tell_of_dropped(network.name, run.dropped)
    return imported


class _Import:
    """One network's import; a layer or model that is called several times becomes one layer or model."""

    def __init__(self):
        self._imported: dict[int, list] = {}
        self.dropped: list[str] = []

    def network(self, network) -> keras.Model:
        graph = _graph(network)
        names = Names(operation.name for operation in graph.operations)
        keys = graph._inputs_struct if isinstance(graph._inputs_struct, dict) else {}
        keys = {id(tensor): key for key, tensor in keys.items()}
        values = {id(tensor): _input(tensor, names, keys.get(id(tensor))) for tensor in graph.inputs}
        inputs = list(values.values())

        def replaced(value):
            return values.get(id(value), value)

        for depth in sorted(graph._nodes_by_depth, reverse=True):
            for node in graph._nodes_by_depth[depth]:
                if node.is_input:
                    continue
                args = tf.nest.map_structure(replaced, tuple(node.arguments.args))
                kwargs = tf.nest.map_structure(replaced, dict(node.arguments.kwargs))
                results = tf.nest.flatten(self._call(node, args, kwargs, names))
                values.update(zip((id(tensor) for tensor in node.outputs), results, strict=True))
        outputs = _single([values[id(tensor)] for tensor in graph.outputs])
        if len(graph.outputs) > 1 and isinstance(graph._outputs_struct, dict):
            outputs = tf.nest.map_structure(replaced, graph._outputs_struct)
        return keras.Model(_single(inputs), outputs, name=Names().own(network.name))

    def _call(self, node, args, kwargs, names):
        operation = node.operation
        if not isinstance(operation, sys.modules["keras"].Layer):
            return keras3_operators.call(operation, args, kwargs, node.outputs, names)
        if not is_keras3(operation) and not is_dropped(operation):
            check_kind(operation)
        inputs, options = _arguments(operation, args, kwargs)
        if is_dropped(operation):
            if operation.name not in self.dropped:
                self.dropped.append(operation.name)
            return inputs
        if id(operation) in self._imported:
            return _run(self._imported[id(operation)], inputs, options)
        steps = [self.network(operation)] if is_keras3(operation) else as_steps(operation, names)
        outputs = _run(steps, inputs, options)
        if not is_keras3(operation):
            _copy_weights(operation, steps)
        self._imported[id(operation)] = steps
        return outputs


def graph_of(network):
    """The functional model that knows a Keras 3 network's calls; None without one."""
    # A class of the user's own may be functional as long as it leaves the forward pass to Keras.
    if type(network).call.__module__.startswith("keras.src.models."):
        graph = getattr(network, "_functional", network)
        if hasattr(graph, "_nodes_by_depth"):
            return graph
    return None


def _graph(network):
    graph = graph_of(network)
    if graph is not None:
        return graph
    raise ValueError(
        f"model {network.name!r} ({type(network).__name__}, Keras 3) has no known graph: give a functional "
        "model or a Sequential one that is built (start it with an Input of fixed size)."
    )


def _input(tensor, names: Names, key: str | None):
    layer = tensor._keras_history.operation
    if layer.sparse or getattr(layer, "ragged", False):
        raise Keras3Error(layer, "is sparse or ragged.", "Give the network a dense Input.")
    batch_size, *shape = tensor.shape
    dtype = "float32" if "float" in tensor.dtype else tensor.dtype
    return keras.Input(shape, batch_size=batch_size, dtype=dtype, name=names.own(key or layer.name))


def _arguments(layer, args, kwargs):
    """(tensors, keyword arguments) with which the imported layer is called."""
    kwargs = {key: value for key, value in kwargs.items() if value is not None}
    inputs = args[0] if args else kwargs.pop("inputs", None)
    training = kwargs.pop("training", None)
    if inputs is None or isinstance(inputs, dict) or len(args) > 1 or kwargs:
        raise Keras3Error(
            layer, f"is called with {list(kwargs) or 'other arguments'}.", "Call it with a tensor or a list."
        )
    # Keras 3 records a layer's default as if the user had given it; tf_keras would keep to it in training.
    parameter = inspect.signature(type(layer).call).parameters.get("training")
    if training is None or (parameter is not None and training == parameter.default):
        return inputs, {}
    return inputs, {"training": training}


def _single(tensors: list):
    """tf_keras tells a model of one tensor from a model of a list of one."""
    return tensors[0] if len(tensors) == 1 else tensors


def _run(steps, inputs, options):
    first, *others = steps
    value = first(inputs, **options)
    for step in others:
        value = step(value)
    return value


def _copy_weights(layer, steps) -> None:
    """Sets the weights of the first step, which is the only one to have any."""
    values = layer.get_weights()
    shapes = [tuple(value.shape) for value in values]
    expected = [tuple(variable.shape) for variable in getattr(steps[0], "weights", ())]
    if shapes != expected:
        raise Keras3Error(
            layer,
            f"has weights of shapes {shapes}, and the layer of tf_keras {expected}.",
            "Build it as Keras does.",
        )
    if values:
        steps[0].set_weights(values)
    if isinstance(steps[0], keras.layers.Normalization):
        steps[0].finalize_state()
