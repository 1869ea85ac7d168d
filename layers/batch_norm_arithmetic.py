"""The arithmetic of batch norm in training, as few XLA-compiled loops.

With N samples of a channel, mean, variance, r = rsqrt(variance + epsilon) and the upstream gradient dy:

    y = (x - mean) * r * gamma + beta
    dbeta = sum(dy),  dgamma = r * sum(dy * (x - mean))
    dx = gamma * r * (dy - dbeta / N - (x - mean) * r * dgamma / N)

Statistics and gradient take one loop over their tensors for two sums by channel, held in one complex number.
"""

import tensorflow as tf

from layers.sources import Normalized
from layers.unrolled_sums import partial_sums


def statistics(x):
    """(mean, biased variance), (channels,) each, of x (batch, ..., channels)."""
    # Sums of squares lose few digits when what is summed is near zero: one image's mean is taken off.
    shift = tf.reduce_mean(tf.reshape(x[:1], [-1, x.shape[-1]]), axis=0)
    samples = samples_of(x)
    first, second = _totals(_moments(x, shift))
    offset = first / samples
    return shift + offset, tf.maximum(second / samples - offset * offset, 0.0)


def affine_of(norm: Normalized):
    """(slope, offset), (channels,) each: y = x * slope + offset."""
    slope = norm.gamma * norm.scale
    return slope, norm.beta - norm.mean * slope


def gradients(norm: Normalized, dy):
    """(dx, dgamma, dbeta) of the upstream gradient dy."""
    samples = samples_of(norm.x)
    dbeta, centred = _totals(_gradient_sums(norm.x, dy, norm.mean))
    dgamma = centred * norm.scale
    slope, _ = affine_of(norm)
    tilt = slope * norm.scale * dgamma / samples
    return _gradient(norm.x, dy, slope, tilt, tilt * norm.mean - slope * dbeta / samples), dgamma, dbeta


def samples_of(x):
    """Number of elements of a channel, a float32 scalar."""
    return tf.cast(tf.size(x) // x.shape[-1], tf.float32)


def compiled(function):
    """The function, compiled by XLA for each shape."""
    return tf.function(function, jit_compile=True, autograph=False)


def affine(x, slope, offset):
    """x * slope + offset by channel."""
    return x * slope + offset


@compiled
def _moments(x, shift):
    def summand(x):
        centred = x - shift
        return tf.complex(centred, centred * centred)

    return _channel_sums(summand, x)


@compiled
def _gradient_sums(x, dy, mean):
    return _channel_sums(lambda x, dy: tf.complex(dy, dy * (x - mean)), x, dy)


@compiled
def _gradient(x, dy, slope, tilt, offset):
    return slope * dy - tilt * x + offset


def _channel_sums(summand, *tensors):
    channels = tensors[0].shape[-1]
    return partial_sums(tf.identity, partial_sums(summand, *tensors, channels=channels), channels=channels)


def _totals(partial):
    total = tf.reduce_sum(tf.reshape(partial, [-1, partial.shape[-1]]), axis=0)
    return tf.math.real(total), tf.math.imag(total)
