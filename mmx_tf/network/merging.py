"""Layers that take several tensors, as steps that take two: what the exported operators do.

Each function gives the tensor that stands for the layer's output in the canonical network. `names` hands
out names of layers, and `signals` knows which tensors stand for signals.
"""

import functools

import tf_keras as keras

from mmx_tf.layers.image_layers import ScaledAdd
from mmx_tf.network.signals import Signals


def chain(layer, values, names, signals: Signals):
    """a + b + c as (a + b) + c: the exported addition and product take two tensors."""
    return _two_at_a_time(values, names, signals, names.own(layer.name), type(layer))


def average(layer, values, names, signals: Signals):
    """(a + b + c) / 3 as ((a + b) + c) * (1 / 3), the last step in one operator."""
    scaled = functools.partial(ScaledAdd, factor=1 / len(values))
    return _two_at_a_time(values, names, signals, names.own(layer.name), keras.layers.Add, last_step=scaled)


def _two_at_a_time(values, names, signals, name, step, *, last_step=None):
    rank = max(value.shape.rank for value in values)
    values = [signals.image(value) for value in values]
    total, *others = (_of_rank(rank if rank != 3 else 4, value, name, names) for value in values)
    for count, value in enumerate(others, start=2):
        last = count == len(values)
        make = last_step or step if last else step
        total = make(name=name if last else names.new(f"{name}_{count}"))([total, value])
    return signals.signal(total) if rank == 3 else total


def _of_rank(rank, value, name, names):
    """Keras puts the axes that a smaller tensor lacks behind the batch; TFLite would put them in front."""
    missing = rank - value.shape.rank
    if not missing:
        return value
    shape = (*[1] * missing, *value.shape[1:])
    return keras.layers.Reshape(shape, name=names.new(f"{name}_reshape"))(value)
