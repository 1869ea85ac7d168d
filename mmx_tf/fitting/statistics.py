"""Batch norm's running statistics, estimated anew from some batches of training images.

    mean = 1/T sum_t mean_t        variance = 1/T sum_t variance_t        over T batches of equal size

Moving averages of training lag behind weights that move. At few bits they also average over step sizes that
are not the last ones. Here all T batches see the same weights. Wu and Johnson 2021 (arXiv 2105.07576),
section 3, compare both.

>>> reestimate_batch_norm(fixed, train_ds.take(2))
2
"""

from collections.abc import Iterable

import tensorflow as tf
import tf_keras as keras


def reestimate_batch_norm(network: keras.Model, batches: Iterable) -> int:
    """Sets the running statistics of a network to their means over batches, with the weights of now.

    Each batch runs in training mode: as in training, a layer sees inputs that were normalized by the batch. A
    batch norm that is frozen, or whose momentum is 1, keeps its statistics.

    Args:
      network: a float or fixed network.
      batches: arrays of images (batch, ...), or tuples that begin with one. All batches have the same size,
        because each counts the same in the mean.

    Returns:
      The number of batches.

    Raises:
      ValueError: if there is no batch.
    """
    norms = [
        layer
        for layer in network.submodules
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable and layer.momentum < 1
    ]
    running = [v for norm in norms for v in (norm.moving_mean, norm.moving_variance)]
    shares = [1.0 - norm.momentum for norm in norms for _ in range(2)]
    sums = [tf.Variable(tf.zeros_like(variable), trainable=False) for variable in running]

    @tf.function(autograph=False)
    def add(images):
        # From zero, what Keras makes of a batch is (1 - momentum) times the batch's own statistics.
        for variable in running:
            variable.assign(tf.zeros_like(variable))
        network(images, training=True)
        for total, variable in zip(sums, running, strict=True):
            total.assign_add(variable)

    before, count = [tf.identity(variable) for variable in running], 0
    try:
        for batch in batches:
            add(batch[0] if isinstance(batch, tuple) else batch)
            count += 1
        if not count:
            raise ValueError(f"{network.name}: there is no batch to estimate batch norm's statistics from.")
        before = [total / (share * count) for total, share in zip(sums, shares, strict=True)]
    finally:
        # An error leaves them as they were.
        for variable, value in zip(running, before, strict=True):
            variable.assign(value)
    return count
