"""The teacher of a search, as `SearchModel.compile` is given one, checked."""

import numbers

import tensorflow as tf
import tf_keras as keras

from mmx_tf.fitting import labels
from mmx_tf.fitting.teacher import Teacher


def teacher_of(search, network, weight, temperature, losses) -> Teacher:
    """The teacher that a network is for a search.

    Args:
      search: not compiled yet.
      network: functional network of tf_keras.
      weight, temperature: of `Teacher`.
      losses: of the search's outputs; by a binary cross entropy each output decides for itself.

    Raises:
      TypeError: if the teacher is not a network of tf_keras.
      ValueError: for several inputs or outputs, other shapes than the search's, numbers out of range.
    """
    where = f"{search.name}.compile"
    if not isinstance(network, keras.Model) or not getattr(network, "inputs", None):
        raise TypeError(
            f"{where}: teacher is a {type(network).__name__}: give a functional or built Sequential network "
            "of tf_keras, such as mmx_tf.load_model gives."
        )
    if len(search.network.outputs) > 1 or len(search.network.inputs) > 1:
        raise ValueError(f"{where}: teacher: networks of one input and one output can be taught.")
    for name, ours, theirs in (
        ("inputs", search.network.input_shape, network.input_shape),
        ("outputs", search.network.output_shape, network.output_shape),
    ):
        if not tf.TensorShape(ours).is_compatible_with(theirs):
            raise ValueError(
                f"{where}: the {name} of the teacher {network.name!r} have the shape {theirs}, those of the "
                f"search {ours}: both have to be the same."
            )
    if len(search.network.output_shape) != 2:
        raise ValueError(
            f"{where}: teacher: outputs of shape {search.network.output_shape} cannot be taught; (None, "
            "classes) can."
        )
    if not _is_number(weight) or not 0 <= weight <= 1:
        raise ValueError(f"{where}: distillation_weight={weight!r}: a number from 0 to 1.")
    if not _is_number(temperature) or not 0 < temperature < float("inf"):
        raise ValueError(f"{where}: distillation_temperature={temperature!r}: a number above 0.")
    return Teacher(
        network,
        student=search.network,
        weight=weight,
        temperature=temperature,
        yes_or_no=labels.decides_each(losses[0]),
    )


def _is_number(value) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
