"""Arguments of `compile` and `fit` on which Keras fails without a word, or with one that does not help.

>>> check_objects("search.compile", "loss", keras.losses.MeanSquaredError)
Traceback (most recent call last):
    ...
TypeError: search.compile: loss has the class MeanSquaredError: give an object, MeanSquaredError().
"""

import inspect
import numbers
from collections.abc import Mapping

import tensorflow as tf
import tf_keras as keras

from mmx_tf.network import keras3_twins

KERAS_WORDS = ("accuracy", "acc", "crossentropy", "ce")
"""Names of metrics that Keras's `compile` reads by itself."""
INTEGERS = ("epochs", "initial_epoch", "batch_size", "steps_per_epoch", "validation_steps")


def check_objects(where: str, name: str, given) -> None:
    """Looks at what `compile` is given as `name`: optimizer, loss, metrics or weighted_metrics.

    Raises:
      TypeError: for a class where an object of it is needed.
      ValueError: for the name of a metric that Keras does not know.
    """
    for one in tf.nest.flatten(given):
        if inspect.isclass(one):
            raise TypeError(
                f"{where}: {name} has the class {one.__name__}: give an object, {one.__name__}()."
            )
        if isinstance(one, str) and name.endswith("metrics") and not _is_metric(one):
            raise ValueError(
                f"{where}: {name} has {one!r}, which Keras does not know: give 'accuracy', or an object of "
                "tf_keras.metrics."
            )


def _is_metric(name: str) -> bool:
    try:
        # Keras gives an unknown name back.
        return name in KERAS_WORDS or not isinstance(keras.metrics.get(name), str)
    except ValueError:
        return False


def check(where: str, options: Mapping, classes: int | None, *, several: bool = False) -> None:
    """Looks at what `fit` is given beside its data.

    Args:
      where: the call, for errors.
      options: the arguments of `fit`.
      classes: number of classes, None where the loss is not one of classes.
      several: whether the network has several outputs.

    Raises:
      TypeError: for class weights that are no dict, callbacks that are no callbacks, numbers that are not
        integers.
      ValueError: for class weights that leave a class out, or of several outputs, and a validation_split that
        is no share.
    """
    weights = options.get("class_weight")
    if weights is not None and not isinstance(weights, Mapping):
        raise TypeError(
            f"{where}: class_weight is a {type(weights).__name__}: give a dict, class -> weight, such as "
            "dict(enumerate(weights))."
        )
    if several and weights is not None:
        raise ValueError(
            f"{where}: class_weight is for networks of one output: give sample_weight, in a dict by the "
            "names of the outputs."
        )
    missing = sorted(set(range(classes or 0)) - set(weights or range(classes or 0)))
    if missing:
        raise ValueError(
            f"{where}: class_weight has no weight for class {', '.join(map(str, missing))}: give one for "
            f"each of 0 to {classes - 1}, 1.0 where nothing is to change."
        )
    for one in callbacks(options.get("callbacks")):
        if not isinstance(one, keras.callbacks.Callback):
            raise TypeError(f"{where}: callbacks hold {one!r}: give objects of tf_keras.callbacks.")
    split = options.get("validation_split") or 0.0
    if not isinstance(split, numbers.Real) or not 0.0 <= split < 1.0:
        raise ValueError(
            f"{where}: validation_split={split!r}: a share of the images, 0 or more and below 1."
        )
    for name in INTEGERS:
        value = options.get(name)
        if value is not None and not isinstance(value, numbers.Integral):
            raise TypeError(f"{where}: {name}={value!r}: give an integer.")


def callbacks(given) -> list:
    """The callbacks that Keras's fit takes in a list, alone, or in a CallbackList; twins of Keras 3's."""
    if isinstance(given, keras.callbacks.CallbackList):
        return list(given.callbacks)
    return keras3_twins.twin(tf.nest.flatten(given or []), "callbacks")
