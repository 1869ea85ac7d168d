"""Which labels a loss takes: Keras's cross entropies compute on, or give NaN, for labels that are no classes.

>>> allowed(keras.losses.SparseCategoricalCrossentropy(), (None, 10))
Allowed(low=0, high=9)

Losses are those of one output: of Keras, ours or the user's own; None where an output has none. What a model
of several outputs is given for each is in `mmx_tf.fitting.outputs`.
"""

import inspect
import typing

import tensorflow as tf
import tf_keras as keras
from absl import logging

from mmx_tf.fitting import guards
from mmx_tf.fitting.losses import ProbabilityCrossentropy, SmoothedCrossentropy

_SPARSE = (keras.losses.SparseCategoricalCrossentropy,)
_BINARY = (keras.losses.BinaryCrossentropy, keras.losses.BinaryFocalCrossentropy)
_ONE_HOT = (keras.losses.CategoricalCrossentropy, keras.losses.CategoricalFocalCrossentropy)
_SHARES = (*_BINARY, *_ONE_HOT)
_ERRORS = (keras.losses.MeanSquaredError, keras.losses.MeanAbsoluteError)
_NUMBERS = (*_ERRORS, keras.losses.Huber, keras.losses.LogCosh)


class Allowed(typing.NamedTuple):
    """Smallest and largest label that a loss takes."""

    low: int
    high: int


def allowed(loss, output_shape: tuple) -> Allowed | None:
    """The labels that a loss takes; None where all numbers are labels.

    Args:
      loss: of an output.
      output_shape: of that output, with the batch first and the classes last.
    """
    if loss is None:
        return None
    if _is_sparse(loss):
        ignored = getattr(loss, "_fn_kwargs", {}).get("ignore_class")
        return None if ignored is not None else Allowed(0, output_shape[-1] - 1)
    return Allowed(0, 1) if _is_one_of(loss, _SHARES) else None


def classes(loss, output_shape: tuple) -> int | None:
    """The number of classes of which each image has one; None for other losses. Arguments as `allowed`'s."""
    if loss is None or len(output_shape) != 2:
        return None
    if output_shape[-1] == 1:
        return 2 if _is_one_of(loss, _BINARY) else None
    return output_shape[-1] if _is_sparse(loss) or _is_one_of(loss, _ONE_HOT) else None


def checked(labels, allowed: Allowed, *, kind: str = "labels"):
    """Labels of an output, also in a structure, that fail the step if they are not allowed.

    Args:
      labels: of a batch.
      allowed: those that the loss takes.
      kind: of the check, by which `guards.told` finds what is expected.
    """
    return tf.nest.map_structure(
        lambda part: guards.checked_labels(part, low=allowed.low, high=allowed.high, kind=kind), labels
    )


def check_shape(loss, output_shape: tuple, labels, *, of: str = "") -> None:
    """Refuses labels whose shape is not what a loss of Keras's takes.

    Keras broadcasts what does not fit: one number for an image is then compared with each of its outputs.

    Args:
      loss, output_shape: as for `allowed`.
      labels: the first batch's, or what is known of them; those without a shape pass.
      of: names the output for messages, such as " of output 'box'".

    Raises:
      ValueError: names both shapes, and the loss that takes these labels, where there is one.
    """
    shape = tf.TensorShape(getattr(labels, "shape", None))
    if loss is None or shape.rank is None or not _is_kerass(loss):
        return
    outputs = tf.TensorShape([None, *output_shape[1:]])
    wanted, advice = [outputs], "give these"
    places = "for each pixel" if outputs.rank > 2 else "for each image"
    if _is_sparse(loss):
        # Keras takes any number of axes of length 1 behind.
        while shape.rank > len(outputs) and shape[-1] == 1:
            shape = shape[:-1]
        wanted = [outputs[:-1], outputs[:-1].concatenate(1)]
        advice = f"it takes one class number {places}"
        if shape.is_compatible_with(outputs):
            advice += ": give labels.argmax(-1), or the loss CategoricalCrossentropy"
    elif _is_one_of(loss, _ONE_HOT):
        advice = (
            f"it takes one-hot ones: give tf.one_hot(labels, {outputs[-1]}), or the loss "
            "SparseCategoricalCrossentropy"
        )
    elif outputs[-1] == 1:
        wanted.append(outputs[:-1])
    if not any(shape.is_compatible_with(one) for one in wanted):
        expected = tuple(["N", *wanted[0].as_list()[1:]])
        raise ValueError(
            f"labels{of} have shape {tuple(shape)}, and the loss takes ones of shape "
            f"({', '.join(map(str, expected))}{',' if len(expected) == 1 else ''}); {advice}."
        )


def warn_of_logits(loss, activation: str | None, *, of: str = "") -> None:
    """Warns of a cross entropy that takes probabilities for logits or logits for probabilities.

    Args:
      loss: of an output.
      activation: what that output ends with, such as "softmax"; None for logits.
      of: as for `check_shape`.
    """
    if loss is None or not _is_one_of(loss, (*_SPARSE, *_SHARES)):
        return
    from_logits = bool(getattr(loss, "_fn_kwargs", {}).get("from_logits", False))
    if from_logits == (activation is not None):
        ends = f"ends with a {activation}" if activation else "ends without softmax or sigmoid"
        takes = "logits" if from_logits else "probabilities"
        logging.warning(
            "the loss%s takes %s, but the network %s: it will train for something else. Give the loss "
            "from_logits=%s.", of, takes, f"{ends} there" if of else ends, not from_logits,
        )  # fmt: skip


def decides_each(loss) -> bool:
    """Whether a loss is that of decisions of yes or no, one for each number of an output."""
    return isinstance(loss, ProbabilityCrossentropy) or _is_one_of(loss, _BINARY)


def are_numbers(loss) -> bool:
    """Whether labels are numbers to predict: the loss is a squared or absolute error or one like them."""
    return loss is not None and _is_one_of(loss, _NUMBERS)


def told(allowed: Allowed | None) -> str:
    """The labels that a loss takes, in words."""
    if allowed is None:
        return "give numbers."
    return f"it takes {allowed.low} to {allowed.high}. Give the network's own classes, numbered from 0."


def _is_kerass(loss) -> bool:
    """Whether a loss is one of Keras's, or ours like it; a user's own may take labels of any shape."""
    if inspect.ismethod(loss):
        return False  # Of a loss object, whose settings it does not tell.
    module = getattr(loss, "__module__", None) or type(loss).__module__
    return module.startswith(("tf_keras.", "mmx_tf."))


def _is_sparse(loss) -> bool:
    return isinstance(loss, SmoothedCrossentropy) or _is_one_of(loss, _SPARSE)


def _is_one_of(loss, classes) -> bool:
    """Whether a loss is an object of one of Keras's classes, or the function of one."""
    return isinstance(loss, classes) or any(loss is kind().fn for kind in classes)
