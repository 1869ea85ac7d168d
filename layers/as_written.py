"""Layers that TensorFlow traces as they are written.

AutoGraph translates the source of every function that a traced step calls, in case that it branches on a
tensor in Python. Ours do not: they use tf.cond. Left to AutoGraph, they cost each process seconds before its
first step, a third of the time to the first step of weight training.

    class Rounding(AsWritten, keras.layers.Layer): ...
"""

import tensorflow as tf


class AsWritten:
    """Mixed in before a Keras layer, whose `call` has no Python branch on a tensor."""

    # Not around `call`: from its signature Keras tells which arguments to pass.
    @tf.autograph.experimental.do_not_convert
    def __call__(self, *args, **kwargs):
        """Keras's call of a layer."""
        return super().__call__(*args, **kwargs)
