"""Networks whose `call` is Python of the user's own, as functional ones of the same layers and weights.

A subclassed `keras.Model`, and layers of the user's own inside of any network, are called on a symbolic
input: the layers and operators that they call in turn are the graph of a functional network, which is copied.
What such a `call` does in training alone is not seen, as of a layer that drops a branch at random; the log
names all that is read so.

    >>> network = as_functional(float_model)     # functional networks come back as they are
    >>> network is float_model
    True
"""

import collections
import contextlib
import inspect
import sys

import numpy as np
import tensorflow as tf
import tf_keras as keras
from absl import logging

from mmx_tf.network import graph, keras3
from mmx_tf.notation import some

EXAMPLES = 2
CLOSE = 1e-4
"""Largest difference, beside the largest output, of two ways to compute the same sums in float32."""
_KNOWN = ("tf_keras.", "keras.", "mmx_tf.", "layers.")
_OWN_VARIABLES = (
    "_trainable_weights", "_non_trainable_weights", "_trainable_variables", "_non_trainable_variables",
)  # fmt: skip
"""Attributes that hold a layer's own variables, and none of the layers in it: of tf_keras, and of Keras 3."""


class _UntracedError(ValueError):
    """A layer whose call does not work on a symbolic tensor."""


def as_functional(model):
    """The functional network of a subclassed one, or of one with layers of the user's own.

    Args:
      model: a network of tf_keras or Keras 3. A subclassed one has been called, or built.

    Returns:
      A functional network of new layers with the model's names and weights; what was given, where it is one
      already, has layers that cannot be read so, or is no model.

    Raises:
      ValueError: for a subclassed model whose input shape is not known, whose call does not work on a
        symbolic input, or computes something else there.
    """
    of_keras3 = keras3.is_keras3(model)
    if not of_keras3 and not isinstance(model, keras.Model):
        return model
    whole = _is_own(model) and not _has_graph(model)
    if not whole and not (_has_graph(model) and any(map(_is_open, _layers(model)))):
        return model
    read = []
    with _unique_names(model):
        try:
            found = _traced(model, sys.modules["keras"] if of_keras3 else keras, whole, read)
        except _UntracedError:
            if whole:
                raise
            return model  # Its layer is refused by name.
    _check_equal(found, model)
    logging.warning(
        "%s is read by calling it on a symbolic input (%s). What these do in training alone is left out.",
        model.name, some(list(dict.fromkeys(read))),
    )  # fmt: skip
    return found


def _is_own(layer) -> bool:
    return not f"{type(layer).__module__}.".startswith(_KNOWN)


def _has_graph(model) -> bool:
    return graph.is_network(model) or (keras3.is_keras3(model) and keras3.graph_of(model) is not None)


def _is_open(layer) -> bool:
    """Whether a layer is of the user's own and has no variables but those of the layers in it."""
    own = hasattr(layer, "call") and _is_own(layer) and not _has_graph(layer)
    return own and not any(getattr(layer, kind, ()) for kind in _OWN_VARIABLES)


def _layers(network):
    """Layers of a functional network and of those inside of it."""
    for layer in network.layers:
        yield layer
        if _has_graph(layer):
            yield from _layers(layer)


@contextlib.contextmanager
def _unique_names(model):
    """Meanwhile no two layers have one name, as they may in subclassed models alone."""
    layers = list(model._flatten_layers(include_self=False))
    attribute = "name" if keras3.is_keras3(model) else "_name"
    given = [(layer, layer.name) for layer in {id(layer): layer for layer in layers}.values()]
    count, taken = collections.Counter(), {name for _, name in given}
    for layer, name in given:
        count[name] += 1
        new = name
        while count[name] > 1 and new in taken:
            new += f"_{count[name]}"
        taken.add(new)
        setattr(layer, attribute, new)
    try:
        yield
    finally:
        for layer, name in given:
            setattr(layer, attribute, name)


def _traced(model, library, whole: bool, read: list[str]):
    """The functional copy of a model; `whole`: its own call is read too."""

    def call(layer, args, kwargs):
        if keras3.is_keras3(layer) and _has_graph(layer):
            return _replayed(layer, args[0], call)
        if not _is_open(layer):
            return layer(*args, **kwargs)
        read.append(f"{layer.name} ({type(layer).__name__})")
        return _call(layer, args, kwargs)

    if whole:
        inputs = library.Input(_input_shape(model), name="input")
        read.append(f"{model.name} ({type(model).__name__})")
        outputs = _call(model, (inputs,), {})
    else:
        if len(model.inputs) != 1:
            raise _UntracedError("It has several inputs.")
        inputs = _input_like(model, library)
        outputs = _replayed(model, inputs, call)
    network = library.Model(inputs, outputs, name=model.name)
    while any(map(_is_open, _layers(network))):
        inputs = _input_like(network, library)
        network = library.Model(inputs, _replayed(network, inputs, call), name=model.name)
    copy = library.models.clone_model(network)
    copy.set_weights(network.get_weights())
    return copy


def _input_like(network, library):
    (given,) = network.inputs
    layer = given.node.layer if library is keras else given._keras_history.operation
    return library.Input(given.shape[1:], name=layer.name)


def _replayed(network, inputs, call):
    if not keras3.is_keras3(network):
        return graph.replay(network, inputs, call)
    return keras3.graph_of(network)._run_through_graph(
        inputs, operation_fn=lambda layer: lambda *args, **kwargs: call(layer, args, kwargs)
    )


def _call(layer, args, kwargs):
    """What a layer's call makes of symbolic tensors, when training is not known."""
    kwargs = {key: value for key, value in kwargs.items() if key != "training" and value is not None}
    if "training" in inspect.signature(layer.call).parameters:
        kwargs["training"] = None
    try:
        return layer.call(*args, **kwargs)
    except _UntracedError:
        raise
    except Exception as error:  # Whatever Python there is in a call of the user's.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise _UntracedError(
            f"{type(layer).__name__} {layer.name!r} cannot be called on a symbolic input ({reason}). "
            f"{_lines(layer)} give a functional network, where a call is of layers and operators alone."
        ) from error


def _lines(model, shape="(height, width, channels)") -> str:
    return f"`inputs = keras.Input({shape})` and `model = keras.Model(inputs, {model.name}.call(inputs))`"


def _input_shape(model) -> tuple:
    """Of one example that a subclassed model was called on, or built for."""
    what = f"model {model.name!r} ({type(model).__name__}) is subclassed"
    if keras3.is_keras3(model):
        shapes = list((getattr(model, "_build_shapes_dict", None) or {}).values())
    else:
        spec = getattr(model, "_saved_model_inputs_spec", None)
        shapes = [getattr(model, "_build_input_shape", None) if spec is None else spec]
    shapes = [getattr(shape, "shape", shape) for shape in shapes]
    if not shapes or shapes[0] is None:
        raise ValueError(
            f"{what}, and its input shape is not known: call it on a batch first, or {_lines(model)} give a "
            "functional network."
        )
    of_sizes = isinstance(shapes[0], tf.TensorShape) or (
        isinstance(shapes[0], list | tuple)
        and all(size is None or isinstance(size, int) for size in shapes[0])
    )
    if len(shapes) != 1 or not of_sizes:
        raise ValueError(f"{what}, and was called on several tensors: give a functional network of them.")
    return tuple(shapes[0])[1:]


def _check_equal(found, model) -> None:
    """Refuses (ValueError) a network that computes something else than the model it was read of."""
    shape = [size or 1 for size in found.inputs[0].shape[1:]]
    images = np.random.default_rng(0).normal(size=(EXAMPLES, *shape)).astype(np.float32)
    pairs = zip(*(tf.nest.flatten(one(images, training=False)) for one in (found, model)), strict=True)
    for ours, theirs in pairs:
        ours, theirs = np.asarray(ours, np.float32), np.asarray(theirs, np.float32)
        close = CLOSE * (1 + np.abs(theirs).max())
        if ours.shape != theirs.shape or not np.allclose(ours, theirs, rtol=0, atol=close):
            raise ValueError(
                f"model {model.name!r} ({type(model).__name__}) gives other outputs than the layers and "
                "operators that it calls on a symbolic input: it depends on more than its input. "
                f"{_lines(model, tuple(shape))} give what is there."
            )
