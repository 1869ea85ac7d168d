"""PReLU with slopes on a grid of 8 bits: what the file's constants hold.

    >>> quantized = EightBitPReLU(shared_axes=[1, 2])      # slopes -127..127 times max|slope| / 127

A single slope, shared by all, needs no grid: it is a scale of the file.
"""

import tensorflow as tf
import tf_keras as keras

from mmx_tf.layers.as_written import AsWritten
from mmx_tf.layers.grid import HIGHEST


@keras.saving.register_keras_serializable(package="mmx_tf")
class EightBitPReLU(AsWritten, keras.layers.PReLU):
    """Keras's PReLU, whose slopes are rounded to 8 bits with a straight-through gradient."""

    def call(self, inputs):
        """max(x, 0) + slope * min(x, 0); shape unchanged."""
        slopes = self.alpha if self.alpha.shape.num_elements() == 1 else on_their_grid(self.alpha)
        return tf.nn.relu(inputs) - slopes * tf.nn.relu(-inputs)


def on_their_grid(slopes: tf.Tensor) -> tf.Tensor:
    """Slopes rounded to the symmetric grid of 8 bits that the largest one spans, of their own gradient."""
    slopes = tf.convert_to_tensor(slopes)
    largest = tf.reduce_max(tf.abs(slopes))
    scale = tf.where(largest > 0, largest, 1.0) / float(HIGHEST)
    return slopes + tf.stop_gradient(tf.round(slopes / scale) * scale - slopes)


def fixed_twin(layer: keras.layers.Layer) -> keras.layers.Layer:
    """A new layer without the weights of `layer`, of its class, but for a PReLU, whose slopes are rounded."""
    kind = EightBitPReLU if type(layer) is keras.layers.PReLU else type(layer)
    return kind.from_config(layer.get_config())
