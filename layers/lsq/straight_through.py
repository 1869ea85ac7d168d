"""One-hot forward, softmax backward (paper eq. 5): lets a hard choice of branch be trained.

>>> straight_through_one_hot([0.1, 2.0, 0.3]).numpy().tolist()
[0.0, 1.0, 0.0]
"""

import tensorflow as tf


@tf.custom_gradient
def straight_through_one_hot(alpha: tf.Tensor):
    """hs(alpha): one-hot of the largest entry of the last axis, with the gradient of softmax(alpha).

    Equal entries choose the first of them, as argmax does.

    Args:
      alpha: (..., B) architectural parameters.

    Returns:
      (..., B) one-hot vectors.
    """
    alpha = tf.convert_to_tensor(alpha, tf.float32)
    probabilities = tf.nn.softmax(alpha)

    def gradient(upstream):
        inner = tf.reduce_sum(upstream * probabilities, axis=-1, keepdims=True)
        return probabilities * (upstream - inner)

    return tf.one_hot(tf.argmax(alpha, axis=-1), alpha.shape[-1], dtype=alpha.dtype), gradient
