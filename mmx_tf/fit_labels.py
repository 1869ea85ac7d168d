"""Which labels a loss takes: Keras's cross entropies compute on, or give NaN, for labels that are no classes.

>>> allowed(model.compiled_loss, (None, 10))        # SparseCategoricalCrossentropy
Allowed(low=0, high=9)
"""

import typing

import tensorflow as tf
import tf_keras as keras

from mmx_tf import guards
from mmx_tf.losses import SmoothedCrossentropy

_SPARSE = (keras.losses.SparseCategoricalCrossentropy,)
_SHARES = (
    keras.losses.BinaryCrossentropy, keras.losses.CategoricalCrossentropy,
    keras.losses.BinaryFocalCrossentropy, keras.losses.CategoricalFocalCrossentropy,
)  # fmt: skip


class Allowed(typing.NamedTuple):
    """Smallest and largest label that a loss takes."""

    low: int
    high: int


def allowed(compiled_loss, output_shape: tuple) -> Allowed | None:
    """The labels that the loss of a compiled model takes; None where all numbers are labels.

    Args:
      compiled_loss: of a compiled keras.Model.
      output_shape: of the network's one output, with the classes last.
    """
    losses = tf.nest.flatten(compiled_loss._user_losses)
    if len(losses) != 1:
        return None
    loss = keras.losses.get(losses[0])
    if isinstance(loss, SmoothedCrossentropy) or _is_one_of(loss, _SPARSE):
        ignored = getattr(loss, "_fn_kwargs", {}).get("ignore_class")
        return None if ignored is not None else Allowed(0, output_shape[-1] - 1)
    return Allowed(0, 1) if _is_one_of(loss, _SHARES) else None


def checked(labels, allowed: Allowed):
    """Labels, given alone or in a structure for one output, that fail the step if they are not allowed."""
    return tf.nest.map_structure(
        lambda part: guards.checked_labels(part, low=allowed.low, high=allowed.high), labels
    )


def told(allowed: Allowed | None) -> str:
    """The labels that a loss takes, in words."""
    if allowed is None:
        return "give numbers."
    return f"it takes {allowed.low} to {allowed.high}. Give the network's own classes, numbered from 0."


def _is_one_of(loss, classes) -> bool:
    """Whether a loss is an object of one of Keras's classes, or the function of one."""
    return isinstance(loss, classes) or any(loss is kind().fn for kind in classes)
