"""The canonical form of a user's network, which the rest of the project works on.

A canonical network is functional and flat; it computes what the user's network computes. Nested models are
inlined; a SeparableConv2D is a DepthwiseConv2D and a 1x1 Conv2D, a Dense on an image is a 1x1 Conv2D; a
signal (length, channels) is an image of height 1, a Conv1D a Conv2D (`mmx_tf.network.signals`); an activation
inside a layer is a layer of its own; ReLU and hard-sigmoid have one spelling, swish, mish and softsign are
products, linear activations are gone, and what acts in training alone but for Dropout; Add, Multiply, Maximum
and Minimum take two inputs; resizings, slices and averages are layers of ours; a TensorFlow operator is the
layer that equals it, where there is one; a softmax at the end is the last layer; every layer is called once,
and one that is called twice is two with equal weights. Everything is float32 and trainable,
whatever was frozen: quantization changes what each layer sees, so each has to follow. All layers are new, so
the user's network is left untouched.
"""

import functools
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
import tf_keras as keras
from absl import logging

from mmx_tf.layers import keras_defaults
from mmx_tf.network import canonical_layers, ends, graph, image_operators, merging, refused, tf_operators
from mmx_tf.network.kinds import (
    BUILDABLE,
    IN_TRAINING,
    KINDS,
    PER_CHANNEL,
    TWO_INPUTS,
    UnsupportedLayerError,
)
from mmx_tf.network.signals import Signals
from mmx_tf.notation import some


@keras_defaults.float32()
def canonicalize(network: keras.Model) -> keras.Model:
    """Returns the canonical form of a functional or Sequential network, with its weights.

    Args:
      network: built model whose inputs are images (batch, height, width, channels) or (batch, height, width),
        signals (batch, length, channels) or vectors (batch, features). Inputs and outputs keep their shapes.
        Inputs that are a dict are named by its keys, in a list of their order.

    Raises:
      ValueError: if the network is not functional, is not built, or has inputs of other shapes.
      UnsupportedLayerError: for a layer that cannot be handled.
    """
    _check_network(network)
    _check_modes(network)
    _check_nested(network)
    seen: set[int] = set()
    shared: dict[int, str] = {}
    names = _Names(network)
    signals = Signals(names)

    def call(layer, args, kwargs):
        if id(layer) in seen and layer.weights:
            shared[id(layer)] = layer.name
        seen.add(id(layer))
        _check_layer(layer)
        _check_call(layer, args, kwargs)
        kwargs = {key: value for key, value in kwargs.items() if key != "training"}
        if type(layer).__name__ == "SlicingOpLambda":
            return image_operators.sliced(layer, args, names)
        if type(layer).__name__ == "TFOpLambda":
            equal = tf_operators.as_layer(layer, args, kwargs)
            if equal is not None:
                layer, args, kwargs = equal[0], (equal[1],), {}
            args, kwargs = tf.nest.map_structure(_in_float32, (args, kwargs))
        if type(layer).__name__ in TWO_INPUTS:
            return merging.chain(layer, args[0], names, signals)
        if type(layer).__name__ == "Average":
            return merging.average(layer, args[0], names, signals)
        first = tf.nest.flatten(args[0])[0]
        clones = canonical_layers.clones(layer, names, shape=getattr(first, "shape", None))
        value = args[0]
        for clone in clones:
            value = signals.called(clone, value, functools.partial(_called, clone, names, args[1:], kwargs))
            args, kwargs = args[:1], {}
        canonical_layers.copy_weights(layer, clones)
        if isinstance(value, (list, tuple)):
            raise UnsupportedLayerError(
                layer,
                f"gives {len(value)} tensors.",
                "Quantizers follow single tensors: use layers with one output each.",
            )
        return value

    inputs = [
        keras.Input(tensor.shape[1:], name=names.own(name))
        for name, tensor in zip(graph.input_names(network), network.inputs, strict=True)
    ]
    canonical = keras.Model(graph.single(inputs), graph.replay(network, inputs, call), name=network.name)
    _check_used(canonical)
    _tell_of_shared(network, list(shared.values()))
    return ends.with_softmaxes_last(canonical)


def _check_used(network) -> None:
    """Refuses an input that no layer takes: the file could not have it."""
    uses = graph.consumers(network)
    for tensor in network.inputs:
        if not uses[id(tensor)]:
            raise ValueError(
                f"model {network.name!r} does not use its input {tensor.node.layer.name!r}: leave it out of "
                "keras.Model(inputs=...)."
            )


def problems(network: keras.Model) -> Iterator[tuple[str, str]]:
    """(layer's name, sentence) for every layer that `canonicalize` would refuse by its kind or activation."""
    for node in _all_nodes(network) if graph.is_network(network) else ():
        if graph.is_network(node.layer):
            continue
        try:
            _check_layer(node.layer)
            canonical_layers.check_activation(node.layer)
        except UnsupportedLayerError as error:
            yield error.layer_name, str(error)


def _in_float32(value):
    """A constant of a TensorFlow operator in the network's type; what is no such constant is left alone."""
    is_constant = isinstance(value, tf.Tensor) and value.dtype.is_floating
    return tf.cast(value, tf.float32) if is_constant else value


def _tell_of_shared(network, layers) -> None:
    if layers:
        logging.warning(
            "%d layer(s) of %s with weights are called more than once (%s): each call has bits of its own "
            "and becomes a layer with weights of its own. They are equal at first, and differ after weight "
            "training.",
            len(layers), network.name, some(layers),
        )  # fmt: skip


def _called(clone, names, others, kwargs, value):
    """What a layer makes of a value; others, kwargs: what else it is called with."""
    gate = canonical_layers.gate_of(clone, names)
    if gate is not None:
        return keras.layers.Multiply(name=clone.name)([value, gate(value)])
    if type(clone).__name__ == "Rescaling":
        gate = canonical_layers.hard_sigmoid_of(clone, value)
        if gate is not None:
            clone, value = gate
    return clone(value, *others, **kwargs)


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
    for shape in (tuple(tensor.shape) for tensor in network.inputs):
        if len(shape) in (2, 3, 4) and None not in shape[1:]:
            continue
        raise ValueError(
            f"model {network.name!r} takes inputs of shape {shape}; taken are images (None, height, width, "
            "channels) or (None, height, width), signals (None, length, channels) and vectors (None, "
            "features) of fixed size."
        )


def _check_modes(network) -> None:
    """Refuses nested models that are called with training=True; tells of calls with training=False."""
    fixed = []
    for node in _all_nodes(network):
        mode = node.call_kwargs.get("training")
        if mode is True:
            raise UnsupportedLayerError(
                node.layer,
                "is called with training=True, also when the network is not trained.",
                "A deployed network has no training mode: build the network without this argument.",
            )
        if mode is False and (graph.is_network(node.layer) or type(node.layer).__name__ in IN_TRAINING):
            fixed.append(node.layer.name)
    if fixed:
        logging.warning(
            "%d layer(s) of %s are called with training=False (%s); bit selection and weight training "
            "let their batch norms follow the batches, since quantization changes what each one sees.",
            len(fixed), network.name, some(fixed),
        )  # fmt: skip


def _check_nested(network) -> None:
    """Refuses nested models that Keras gives an axis which the tensor they are called on lacks."""
    for node in _all_nodes(network):
        if not graph.is_network(node.layer):
            continue
        for found, wanted in zip(tf.nest.flatten(node.call_args[0]), node.layer.inputs, strict=True):
            if found.shape.rank != wanted.shape.rank:
                raise UnsupportedLayerError(
                    node.layer,
                    f"takes {tuple(wanted.shape)} and is called on a tensor of shape {tuple(found.shape)}.",
                    f"Put a Reshape({tuple(wanted.shape[1:])}) in front of it.",
                )


def _all_nodes(network) -> Iterator:
    for node in graph.nodes(network):
        yield node
        if graph.is_network(node.layer):
            yield from _all_nodes(node.layer)


def _check_layer(layer):
    kind = type(layer).__name__
    # A custom class may have the name of a Keras one. Those of ours come from networks of Keras 3.
    known = type(layer).__module__.startswith(("tf_keras.", "mmx_tf.layers."))
    if known and refused.sentences(kind):
        raise UnsupportedLayerError(layer, *refused.sentences(kind))
    if not known or kind not in KINDS:
        raise UnsupportedLayerError(
            layer,
            "cannot be handled.",
            f"Allowed are {', '.join(BUILDABLE)}. Rewrite the layer with these, or "
            "leave it out of the network (data augmentation belongs in the input pipeline).",
        )
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        raise UnsupportedLayerError(layer, "is channels_first.", "Build it with data_format='channels_last'.")
    if kind != "Conv2D" and getattr(layer, "groups", 1) != 1:
        raise UnsupportedLayerError(
            layer,
            f"has groups={layer.groups}.",
            f"Use groups=1, or a Depthwise{kind} for one group a channel.",
        )


def _check_call(layer, args, kwargs):
    if type(layer).__name__ == "Dense" and args[0].shape.rank not in (2, 3, 4):
        raise UnsupportedLayerError(
            layer,
            f"takes a tensor of shape {tuple(args[0].shape)}.",
            "A dense layer here takes (None, features), (None, length, channels) or (None, height, width, "
            "channels): put a Flatten or a Reshape in front of it.",
        )
    if type(layer).__name__ in PER_CHANNEL:
        _check_per_channel(layer, tuple(args[0].shape))


def _check_per_channel(layer, shape):
    """A constant per channel, or one for all, on images and vectors: what the file has an operator for."""
    if len(shape) not in (2, 3, 4):
        raise UnsupportedLayerError(
            layer,
            f"takes a tensor of shape {shape}.",
            "Here it takes (None, features), (None, length, channels) or (None, height, width, channels): "
            "put it before the Reshape.",
        )
    axes = getattr(layer, "axis", None)
    if axes is not None and [axis % len(shape) for axis in np.ravel(axes)] not in ([], [len(shape) - 1]):
        raise UnsupportedLayerError(layer, f"normalizes axis {axes}.", "Build it with axis=-1, the channels.")
    if type(layer).__name__ == "Rescaling":
        for name in ("scale", "offset"):
            found = np.shape(getattr(layer, name))
            if found not in ((), (1,), shape[-1:]):
                raise UnsupportedLayerError(
                    layer, f"has a {name} of shape {found}.", f"Use a number, or {shape[-1]} of them."
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
    names = {*network.input_names, *graph.input_names(network)}
    for node in graph.nodes(network):
        names |= _layer_names(node.layer) if graph.is_network(node.layer) else {node.layer.name}
    return names
