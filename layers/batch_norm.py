"""Batch normalization whose training pass on a CPU is a few loops at the speed of memory.

    y = (x - mean) * rsqrt(variance + epsilon) * gamma + beta        mean and variance of each channel

TensorFlow's CPU kernels for it take about as long as the convolutions of a MobileNet. Here they are
XLA-compiled loops (`layers.batch_norm_arithmetic`). A quantizer that takes y computes y by itself
(`layers.sources`), so that neither y nor what a ReLU makes of it need be kept.

>>> layer = BatchNormalization.from_config(keras.layers.BatchNormalization(name="bn").get_config())
"""

import tensorflow as tf
import tf_keras as keras

from layers import batch_norm_arithmetic as arithmetic
from layers import sources

FAST_FROM_ELEMENTS = 2048
"""Elements of one example from which on the compiled loops repay their compilation."""


@keras.saving.register_keras_serializable(package="mmx_tf")
class BatchNormalization(keras.layers.BatchNormalization):
    """keras.layers.BatchNormalization, the same but for its speed in training on a CPU.

    Small tensors, inference, accelerators, other axes and types, and all options that Keras's fused form does
    not have (synchronized statistics, renorm) are left to Keras.
    """

    def call(self, inputs, mask=None, training=None):
        """Normalizes inputs (batch, height, width, channels); shape unchanged."""
        if not (training is True and self.trainable and self._is_fast(inputs)):
            return super().call(inputs, mask=mask, training=training)
        return self._normalize(inputs)

    def _is_fast(self, inputs) -> bool:
        return (
            bool(self.fused)
            and list(self.axis) == [inputs.shape.rank - 1]
            and inputs.dtype == tf.float32
            and None not in inputs.shape[1:]
            and inputs.shape[1:].num_elements() >= FAST_FROM_ELEMENTS
            and not tf.config.list_logical_devices("GPU")
            and not tf.config.list_logical_devices("TPU")
        )

    @tf.autograph.experimental.do_not_convert
    def _normalize(self, inputs):
        channels = inputs.shape[-1]
        gamma = tf.convert_to_tensor(self.gamma) if self.scale else tf.ones([channels])
        beta = tf.convert_to_tensor(self.beta) if self.center else tf.zeros([channels])
        output, mean, variance = normalize(inputs, gamma, beta, epsilon=self.epsilon)
        samples = arithmetic.samples_of(inputs)
        # TensorFlow's kernels, too, keep the variance of the population, not of the sample.
        population = variance * samples / tf.maximum(samples - 1.0, 1.0)
        for moving, new in ((self.moving_mean, mean), (self.moving_variance, population)):
            moving.assign_sub((moving - new) * (1.0 - self.momentum))
        return output


def normalize(x, gamma, beta, *, epsilon: float):
    """Batch norm in training, with its gradients for x, gamma and beta.

    Args:
      x: float32 (batch, ..., channels); only the batch may be unknown.
      gamma, beta: (channels,).
      epsilon: added to the variance.

    Returns:
      (y of x's shape, mean (channels,), biased variance (channels,)). No gradient flows through the last two.
    """
    mean, variance = arithmetic.statistics(tf.stop_gradient(x))
    norm = sources.Normalized(x, gamma, beta, mean, tf.math.rsqrt(variance + epsilon))

    @tf.custom_gradient
    def of(x, gamma, beta):
        def gradient(upstream):
            return arithmetic.gradients(norm, upstream)

        return _affine(x, *arithmetic.affine_of(norm)), gradient

    output = of(x, gamma, beta)
    sources.remember(output, norm)
    return output, mean, variance


_affine = arithmetic.compiled(arithmetic.affine)
