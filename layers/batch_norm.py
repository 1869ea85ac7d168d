"""Batch normalization whose training pass on a CPU is a few loops at the speed of memory.

    y = (x - mean) * rsqrt(variance + epsilon) * gamma + beta        mean and variance of each channel

TensorFlow's CPU kernels for it take about as long as the convolutions of a MobileNet. Here they are
XLA-compiled loops (`layers.batch_norm_arithmetic`). A quantizer that takes y computes y by itself
(`layers.fusion`), so that neither y nor what a ReLU makes of it need be kept.

>>> layer = BatchNormalization.from_config(keras.layers.BatchNormalization(name="bn").get_config())
"""

import tensorflow as tf
import tf_keras as keras

from mmx_tf.layers import batch_norm_arithmetic as arithmetic
from mmx_tf.layers import fusion, replicas
from mmx_tf.layers.as_written import AsWritten

FAST_FROM_ELEMENTS = 2048
"""Elements of one example from which on the compiled loops repay their compilation."""


@keras.saving.register_keras_serializable(package="mmx_tf")
class BatchNormalization(AsWritten, keras.layers.BatchNormalization):
    """keras.layers.BatchNormalization, faster in training on a CPU and otherwise the same.

    Keras's own call does the rest: small tensors, inference, accelerators, other axes and types, and all
    options that Keras's fused form does not have (renorm).

    On several replicas of a `tf.distribute` strategy, statistics and gradients are always those of the whole
    batch, on all devices.

    Raises:
      ValueError: on several replicas, for an axis, a type or an unknown shape that is left to Keras.
    """

    def add_weight(self, *args, **kwargs):
        """Keras's, but that running statistics, which are equal on all replicas, are read from the first.

        Keras would average them, and on several machines every look at them would be a message to all.
        """
        if kwargs.get("synchronization") is tf.VariableSynchronization.ON_READ:
            kwargs["aggregation"] = tf.VariableAggregation.ONLY_FIRST_REPLICA
        return super().add_weight(*args, **kwargs)

    def call(self, inputs, mask=None, training=None):
        """Normalizes inputs (batch, height, width, channels); shape unchanged."""
        if training is True and self.trainable and self._is_ours(inputs):
            return self._normalize(inputs)
        own = self.synchronized
        try:
            # Keras's form of vectors, which has no fused kernels, can do it by itself.
            self.synchronized = own or replicas.count() > 1
            return super().call(inputs, mask=mask, training=training)
        finally:
            self.synchronized = own

    def _is_ours(self, inputs) -> bool:
        possible = (
            list(self.axis) == [inputs.shape.rank - 1]
            and inputs.dtype == tf.float32
            and None not in inputs.shape[1:]
        )
        if replicas.count() > 1:
            if self.fused and not possible:
                raise ValueError(
                    f"batch norm {self.name!r} of {inputs.dtype.name} {inputs.shape}, axis "
                    f"{list(self.axis)}: on several replicas it needs float32 images of a known size, "
                    "channels last."
                )
            return bool(self.fused)
        return (
            bool(self.fused)
            and possible
            and inputs.shape[1:].num_elements() >= FAST_FROM_ELEMENTS
            and not tf.config.list_logical_devices("GPU")
            and not tf.config.list_logical_devices("TPU")
        )

    def _normalize(self, inputs):
        channels = inputs.shape[-1]
        gamma = tf.convert_to_tensor(self.gamma) if self.scale else tf.ones([channels])
        beta = tf.convert_to_tensor(self.beta) if self.center else tf.zeros([channels])
        shift = tf.convert_to_tensor(self.moving_mean)
        output, mean, variance = normalize(inputs, gamma, beta, epsilon=self.epsilon, shift=shift)
        samples = arithmetic.samples_of(inputs)
        # TensorFlow's kernels, too, keep the variance of the population, not of the sample.
        population = variance * samples / tf.maximum(samples - 1.0, 1.0)
        for moving, new in ((self.moving_mean, mean), (self.moving_variance, population)):
            moving.assign_sub((moving - new) * (1.0 - self.momentum))
        return output


def normalize(x, gamma, beta, *, epsilon: float, shift=0.0):
    """Batch norm in training, with its gradients for x, gamma and beta.

    Args:
      x: float32 (batch, ..., channels); only the batch may be unknown.
      gamma, beta: (channels,).
      epsilon: added to the variance.
      shift: (channels,), as for `arithmetic.over_replicas`.

    Returns:
      (y of x's shape, mean (channels,), biased variance (channels,)). No gradient flows through the last two.
    """
    mean, variance = arithmetic.over_replicas(*arithmetic.statistics(tf.stop_gradient(x)), shift=shift)
    norm = fusion.Normalized(x, gamma, beta, mean, tf.math.rsqrt(variance + epsilon))

    @tf.custom_gradient
    def of(x, gamma, beta):
        def gradient(upstream):
            return arithmetic.gradients(norm, upstream)

        return _affine(x, *arithmetic.affine_of(norm)), gradient

    output = of(x, gamma, beta)
    fusion.remember(output, norm)
    return output, mean, variance


_affine = arithmetic.compiled(arithmetic.affine)
