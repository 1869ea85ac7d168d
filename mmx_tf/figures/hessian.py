"""Traces of the loss's Hessian by Hutchinson's estimator, one for each weight tensor.

With v of independent signs +-1 (Rademacher), E[v^T H v] = tr H. One vector over all tensors serves all of
them: for tensor l the estimate is v_l^T (H v)_l, whose terms with other tensors' v have mean 0. H v is the
gradient of (gradient of the loss) * v: two backward passes, no Hessian.

    >>> kernel = tf.Variable([1.0, 2.0])
    >>> quadratic = lambda batch: tf.reduce_sum(batch * kernel**2)        # its Hessian is diag(2, 6)
    >>> (trace,) = hutchinson_traces(quadratic, [kernel], [(tf.constant([1.0, 3.0]),)], samples=4, seed=0)
    >>> trace.mean, trace.standard_error
    (8.0, 0.0)

Quantizers have gradients of their own making, which have no second derivative that means anything, so this is
for networks without them: the float network, as in Hessian-aware quantization (HAWQ-V2, arXiv 1911.03852). In
training batch norm couples the images of a batch, and its compiled pass has a first derivative alone:
`classification_traces` calls the network as in inference, where batch norm is a factor and an offset.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import tensorflow as tf
import tf_keras as keras
from absl import logging

from mmx_tf.fitting.losses import classification_loss
from mmx_tf.layers import strided_pointwise
from mmx_tf.layers.quantizers.weights import kernel_attribute
from mmx_tf.run.float_network import gives_probabilities

LOGGED_PARTS = 4


@dataclasses.dataclass(frozen=True)
class Trace:
    """An estimate: the mean over the samples, and its standard error (None with one sample)."""

    mean: float
    standard_error: float | None


def hutchinson_traces(
    loss: Callable[..., tf.Tensor],
    variables: Sequence[tf.Variable],
    batches: Iterable[tuple],
    *,
    samples: int,
    seed: int,
) -> list[Trace]:
    """The traces of the Hessian of the mean loss, block by block.

    Args:
      loss: (*batch) -> scalar mean loss of a batch, a function of `variables`, twice differentiable.
      variables: the blocks.
      batches: batches of equal weight, iterated once for each sample.
      samples: vectors v, 1 or more; a sample's v is the same for all batches.
      seed: what the vectors depend on.

    Returns:
      A `Trace` for each variable.
    """

    @tf.function(reduce_retracing=True)
    def products(number, *batch):
        signs = [
            tf.cast(
                2 * tf.random.stateless_uniform(v.shape, [seed, number * len(variables) + i], 0, 2, tf.int32)
                - 1,
                v.dtype,
            )
            for i, v in enumerate(variables)
        ]
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                value = loss(*batch)
            gradients = inner.gradient(value, variables, unconnected_gradients="zero")
            directional = tf.add_n([tf.reduce_sum(g * s) for g, s in zip(gradients, signs, strict=True)])
        found = outer.gradient(directional, variables, unconnected_gradients="zero")
        return tf.stack([tf.reduce_sum(h * s) for h, s in zip(found, signs, strict=True)])

    rows = []
    for number in range(samples):
        rows.append(np.mean([products(tf.constant(number), *batch) for batch in batches], axis=0))
        if (number + 1) % max(1, samples // LOGGED_PARTS) == 0:
            logging.info("Hessian: %d of %d samples", number + 1, samples)
    means = np.mean(rows, axis=0, dtype=np.float64)
    if samples == 1:
        return [Trace(float(mean), None) for mean in means]
    errors = np.std(rows, axis=0, ddof=1, dtype=np.float64) / math.sqrt(samples)
    return [Trace(float(mean), float(error)) for mean, error in zip(means, errors, strict=True)]


def classification_traces(
    network: keras.Model, batches: Iterable[tuple], *, samples: int, seed: int
) -> dict[str, Trace]:
    """The Hessian traces of a classifier's kernels: layer name -> `Trace` of the mean cross entropy.

    Args:
      network: canonical float network, called as in inference.
      batches: (images, labels), all of one size.
      samples, seed: as for `hutchinson_traces`.
    """
    strided_pointwise.avoid_damage(network)
    kernels = {
        layer.name: getattr(layer, kernel_attribute(layer))
        for layer in network.layers
        if kernel_attribute(layer)
    }
    cross_entropy = classification_loss(from_logits=not gives_probabilities(network))

    def loss(images, labels):
        return cross_entropy(labels, network(images, training=False))

    traces = hutchinson_traces(loss, list(kernels.values()), batches, samples=samples, seed=seed)
    return dict(zip(kernels, traces, strict=True))
