"""What a training step of a notebook's `fit` looks at, so that nothing is trained on what is no number.

TensorFlow goes on with NaN, and so does a search: its bits then mean nothing. The checks are part of the
step, in front of what they guard: a step that fails one changes no weight.

    >>> with told({"loss": "lower the learning rate."}):     # around the whole fit
    ...     float(finite(tf.constant(0.5)))                  # in the step
    0.5
"""

import contextlib
import re

import tensorflow as tf
import tf_keras as keras

from mmx_tf.fitting.given import check_shape, images_of
from mmx_tf.network.graph import single

_MARK = "mmx_tf guard:"


class GuardedError(ValueError):
    """A check of a step has failed; `kind` is "images", "shape", "labels", "weights" or "loss".

    Labels of output i of several have the kind "labels_i".
    """

    def __init__(self, kind: str, message: str):
        super().__init__(message)
        self.kind = kind


@tf.autograph.experimental.do_not_convert
def checked_images(images, network: keras.Model) -> tf.Tensor | list[tf.Tensor]:
    """Images of the network's shape, also where TensorFlow did not know it; finite, or the step fails.

    Those of several inputs are a list in the network's order, however they were given.

    Raises:
      ValueError: for a known shape that is another.
    """
    return single([_checked(one, network, index) for index, one in enumerate(images_of(images, network))])


def _checked(images, network: keras.Model, index: int) -> tf.Tensor:
    images = tf.convert_to_tensor(images)
    check_shape(images.shape, network, index)
    expected = network.inputs[index].shape[1:]
    checks = []
    if not images.shape[1:].is_fully_defined():
        found = tf.shape(images)
        # The rank may be unknown too: what is missing counts as 0.
        sizes = tf.concat([found, tf.zeros_like(expected)], axis=0)[1 : len(expected) + 1]
        same = tf.reduce_all(sizes == expected) & tf.equal(tf.size(found), len(expected) + 1)
        checks.append(_check(same, "shape", found))
    if images.dtype.is_floating:
        checks.append(_check(tf.reduce_all(tf.math.is_finite(images)), "images"))
    with tf.control_dependencies(checks):
        return tf.cast(tf.ensure_shape(images, (None, *expected)), tf.float32)


@tf.autograph.experimental.do_not_convert
def shaped(images, network: keras.Model) -> tf.Tensor | list[tf.Tensor]:
    """Images as float32 whose static shape is the network's; their values are left alone.

    Those of several inputs are as for `checked_images`.
    """
    parts = zip(images_of(images, network), network.inputs, strict=True)
    return single(
        [tf.cast(tf.ensure_shape(one, (None, *taken.shape[1:])), tf.float32) for one, taken in parts]
    )


@tf.autograph.experimental.do_not_convert
def checked_labels(labels, *, low: float, high: float, kind: str = "labels") -> tf.Tensor:
    """Labels in low..high, or the step fails with a check of this kind."""
    labels = tf.convert_to_tensor(labels)
    if labels.dtype == tf.bool:
        return labels
    smallest, largest = tf.reduce_min(labels), tf.reduce_max(labels)
    inside = tf.logical_and(smallest >= tf.cast(low, labels.dtype), largest <= tf.cast(high, labels.dtype))
    with tf.control_dependencies([_check(inside, kind, smallest, largest)]):
        return tf.identity(labels)


@tf.autograph.experimental.do_not_convert
def checked_weights(weights) -> tf.Tensor | None:
    """Weights of examples that are finite, or the step fails; None without such weights."""
    if weights is None:
        return None
    weights = tf.convert_to_tensor(weights)
    if not weights.dtype.is_floating:
        return weights
    with tf.control_dependencies([_check(tf.reduce_all(tf.math.is_finite(weights)), "weights")]):
        return tf.identity(weights)


@tf.autograph.experimental.do_not_convert
def finite(loss: tf.Tensor) -> tf.Tensor:
    """The loss, and by way of it all gradients, if it is finite; otherwise the step fails."""

    @tf.custom_gradient
    def checked(loss):
        check = _check(tf.reduce_all(tf.math.is_finite(loss)), "loss", tf.reduce_mean(loss))

        def gradient(upstream):
            with tf.control_dependencies([check]):
                return tf.identity(upstream)

        with tf.control_dependencies([check]):
            return tf.identity(loss), gradient

    return checked(loss)


@contextlib.contextmanager
def told(expected: dict[str, str]):
    """Tells what a check in the block has found.

    Args:
      expected: kind of check -> what is expected, and what to do.

    Raises:
      GuardedError: in place of TensorFlow's error.
    """
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        found = re.search(rf"{_MARK}(\w+)\]((?: \[[^\]]*\])*)", str(error))
        if not found:
            raise
        kind, values = found.group(1), re.findall(r"\[([^\]]*)\]", found.group(2))
        raise GuardedError(kind, _sentence(kind, values, expected[kind])) from None


def _sentence(kind: str, values: list[str], expected: str) -> str:
    found = {
        "images": "images hold values that are NaN or infinite",
        "shape": f"images have shape ({', '.join(values[0].split()) if values else '?'})",
        "weights": "weights of examples hold values that are NaN or infinite",
        "labels": f"labels go from {' to '.join(values)}",
        "loss": f"the loss is {values[0] if values else 'no number'}",
    }[kind.partition("_")[0]]
    return f"{found}; {expected}"


def _check(condition, kind: str, *values) -> tf.Operation:
    """An operation that fails where the condition is false; run eagerly, the error comes at once."""
    if not tf.executing_eagerly():
        return tf.debugging.Assert(condition, [f"{_MARK}{kind}", *values], summarize=8)
    if not bool(condition):
        shown = "".join(f" [{value.numpy()}]" for value in values)
        # As TensorFlow words it in a graph.
        raise tf.errors.InvalidArgumentError(None, None, f"assertion failed: [{_MARK}{kind}]{shown}")
    return tf.no_op()
