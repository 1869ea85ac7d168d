"""The arithmetic of batch norm in training, as few XLA-compiled loops.

With N samples of a channel, mean, variance, r = rsqrt(variance + epsilon) and the upstream gradient dy:

    y = (x - mean) * r * gamma + beta
    dbeta = sum(dy),  dgamma = r * sum(dy * (x - mean))
    dx = gamma * r * (dy - dbeta / N - (x - mean) * r * dgamma / N)

Statistics and gradient take one loop over their tensors for two sums by channel. On several replicas N, the
statistics and the sums in dx are those of the whole batch (`layers.replicas`): two messages a batch norm.
"""

import tensorflow as tf

from mmx_tf.layers import replicas
from mmx_tf.layers.fusion import Normalized
from mmx_tf.layers.unrolled_sums import partial_sums, totals


def statistics(x):
    """(mean, biased variance), (channels,) each, of x (batch, ..., channels)."""
    # Sums of squares lose few digits when what is summed is near zero: one image's mean is taken off.
    shift = tf.reduce_mean(tf.reshape(x[:1], [-1, x.shape[-1]]), axis=0)
    samples = _own_samples(x)
    first, second = tf.unstack(totals(_moments(x, shift)))
    offset = first / samples
    return shift + offset, tf.maximum(second / samples - offset * offset, 0.0)


def over_replicas(mean, variance, *, shift):
    """Mean and biased variance of the parts of all replicas together, from those of equally large parts.

    Args:
      mean, variance: (channels,), of this replica's part.
      shift: (channels,), near the mean and equal on all replicas: the running mean. Squares of means that are
        taken off it lose few digits in one message, where sums of plain squares would.
    """
    parts = replicas.count()
    if parts == 1:
        return mean, variance
    offset = mean - shift
    moments = replicas.summed(tf.stack([offset, variance + offset * offset])) / parts
    first, second = tf.unstack(moments)
    return shift + first, tf.maximum(second - first * first, 0.0)


def affine_of(norm: Normalized):
    """(slope, offset), (channels,) each: y = x * slope + offset."""
    slope = norm.gamma * norm.scale
    return slope, norm.beta - norm.mean * slope


def gradients(norm: Normalized, dy):
    """(dx, dgamma, dbeta) of the upstream gradient dy."""
    coefficients, dgamma, dbeta = gradient_coefficients(norm, totals(_gradient_sums(norm.x, dy, norm.mean)))
    return _gradient(norm.x, dy, coefficients), dgamma, dbeta


def gradient_coefficients(norm: Normalized, sums):
    """What turns dy into dx, and the gradients of gamma and beta.

    Args:
      norm: the batch norm.
      sums: (2, channels), the totals of `gradient_summands`.

    Returns:
      (coefficients of `gradient_of`, dgamma (channels,), dbeta (channels,)), the last two of this replica's
      part of the batch: optimizers add up the gradients of variables.
    """
    whole, own = replicas.summed(sums), sums
    dbeta, centred = tf.unstack(whole)
    samples = samples_of(norm.x)
    dgamma = centred * norm.scale
    slope, _ = affine_of(norm)
    tilt = slope * norm.scale * dgamma / samples
    coefficients = (slope, tilt, tilt * norm.mean - slope * dbeta / samples)
    if whole is not own:
        dbeta, dgamma = own[0], own[1] * norm.scale
    return coefficients, dgamma, dbeta


def gradient_summands(x, dy, mean):
    """What is summed by channel for the gradients."""
    return [dy, dy * (x - mean)]


def gradient_of(x, dy, coefficients):
    """dx, element by element."""
    slope, tilt, offset = coefficients
    return slope * dy - tilt * x + offset


def samples_of(x):
    """Number of elements of a channel on all replicas, a float32 scalar."""
    parts = replicas.count()
    return _own_samples(x) * parts if parts > 1 else _own_samples(x)


def _own_samples(x):
    if x.shape.num_elements() is not None:
        return tf.constant(x.shape.num_elements() // x.shape[-1], tf.float32)
    return tf.cast(tf.size(x) // x.shape[-1], tf.float32)


def compiled(function):
    """The function, compiled by XLA for each shape."""
    made = tf.function(function, jit_compile=True, autograph=False)
    # Step sizes are set in a pass without a graph, in which layer after layer has another shape: TensorFlow
    # would take it for a function that is traced anew by mistake, and warn.
    made._omit_frequent_tracing_warning = True
    return made


def affine(x, slope, offset):
    """x * slope + offset by channel."""
    return x * slope + offset


@compiled
def _moments(x, shift):
    def summands(x):
        centred = x - shift
        return [centred, centred * centred]

    return partial_sums(summands, x, channels=x.shape[-1])


@compiled
def _gradient_sums(x, dy, mean):
    return partial_sums(lambda x, dy: gradient_summands(x, dy, mean), x, dy, channels=x.shape[-1])


_gradient = compiled(gradient_of)
