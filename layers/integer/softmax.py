"""Softmax inside of a network: TFLite's int8 SOFTMAX over the last axis, as its optimized kernel computes it.

XNNPACK does not take the operator, so the kernel's rule is reproduced: exponentials of the differences from
the row's largest code come from a float32 table, are added up from left to right in float32, and each is
multiplied by the sum's reciprocal.
"""

import numpy as np
import tensorflow as tf

from mmx_tf.layers.grid import HIGHEST, LOWEST, Grid
from mmx_tf.layers.integer.layers import IntegerLayer, form_of, register
from mmx_tf.layers.quantizers.gates import LOGISTIC_SCALE


@form_of("Softmax")
@register
class IntegerSoftmax(IntegerLayer):
    """SOFTMAX: codes on `input_grid` -> codes of the probabilities on the grid of LOGISTIC.

    Raises:
      ValueError: for another output grid, which the operator does not have.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        if self.output_grid != Grid(LOGISTIC_SCALE, LOWEST):
            raise ValueError(
                f"output_grid is {self.output_grid}; SOFTMAX has {Grid(LOGISTIC_SCALE, LOWEST)}."
            )
        steps = -np.float32(self.input_grid.scale) * np.arange(256, dtype=np.float32)
        self._exponentials = np.exp(steps.astype(np.float64)).astype(np.float32)

    def call(self, inputs):
        """Probabilities of the last axis, whose length is known, in codes."""
        largest = tf.reduce_max(inputs, axis=-1, keepdims=True)
        exponentials = tf.gather(self._exponentials, tf.cast(largest - inputs, tf.int32))
        with tf.device("/CPU:0"):
            # From left to right, which a sum is not; an operation that the graph optimizer leaves alone.
            total = tf.cumsum(exponentials, axis=-1)[..., -1:]
        scaled = _product(exponentials, _reciprocal(total))
        # Half away from zero; adding 1/2 first would round 0.49999997 up.
        whole = tf.floor(scaled)
        codes = whole + tf.cast(scaled - whole >= 0.5, tf.float32) + float(LOWEST)
        return tf.minimum(codes, float(HIGHEST))


# float64 holds these exactly, or to more digits than a second rounding sees. The casts keep the graph
# optimizer from making a quotient of a product with a reciprocal, which changed 3 codes of 200,000.


def _reciprocal(total):
    return tf.cast((1 / LOGISTIC_SCALE) / tf.cast(total, tf.float64), tf.float32)


def _product(first, second):
    return tf.cast(tf.cast(first, tf.float64) * tf.cast(second, tf.float64), tf.float32)
