"""Copies of networks on all replicas of a job.

Networks are built, read and written without a strategy; for the time of a training phase a copy takes a
network's place, and gives its variables back in the end. So nothing but training knows of strategies.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import tf_keras as keras

from mmx_tf.distribution.job import Job
from mmx_tf.layers.batch_norm import BatchNormalization


@contextmanager
def replicated(job: Job, network: keras.Model) -> Iterator[keras.Model]:
    """A network to train in the block, whose variables the given one takes over at its end.

    Args:
      job: of the run; without a strategy the network itself is trained.
      network: functional network, or a search network.
    """
    if job.strategy is None:
        yield network
        return
    twin = copy_in(job, network)
    yield twin
    for variable, trained in zip(network.variables, twin.variables, strict=True):
        variable.assign(trained.read_value())


def copy_in(job: Job, network: keras.Model) -> keras.Model:
    """A copy of a network in the job's scope, in which batch norms of Keras are ours: synchronized."""
    with job.scope():
        if any(type(layer) is keras.layers.BatchNormalization for layer in network.layers):
            twin = keras.models.clone_model(network, clone_function=_copied)
        else:
            twin = type(network).from_config(copy.deepcopy(network.get_config()))
    for variable, value in zip(twin.variables, network.variables, strict=True):
        variable.assign(value.read_value())
    return twin


def _copied(layer):
    kind = type(layer)
    kind = BatchNormalization if kind is keras.layers.BatchNormalization else kind
    return kind.from_config(layer.get_config())
