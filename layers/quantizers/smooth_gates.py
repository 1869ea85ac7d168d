"""Smooth functions that Keras has no layer of: the gates of mish and softsign, and the approximate GELU.

mish, x * tanh(softplus(x)), and softsign, x / (1 + |x|), are products of x and a gate in 0..1, as swish is.

    >>> gate = Smooth(function="mish_gate")
    >>> mish = keras.layers.Multiply()([x, gate(x)])
"""

import tensorflow as tf
import tf_keras as keras

from mmx_tf.layers.as_written import AsWritten

FUNCTIONS = {
    "gelu_approximate": lambda x: tf.nn.gelu(x, approximate=True),
    "mish_gate": lambda x: tf.tanh(tf.nn.softplus(x)),
    "softsign_gate": lambda x: 1.0 / (1.0 + tf.abs(x)),
}
GATE_OF = {"mish": "mish_gate", "softsign": "softsign_gate"}
"""Keras's activation -> the function that x is multiplied by."""


@keras.saving.register_keras_serializable(package="mmx_tf")
class Smooth(AsWritten, keras.layers.Layer):
    """One of `FUNCTIONS`.

    Args:
      function: its name.

    Raises:
      ValueError: for another name.
    """

    def __init__(self, *, function: str, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        if function not in FUNCTIONS:
            raise ValueError(f"function is {function!r}; use one of {', '.join(FUNCTIONS)}.")
        self.function = function

    @property
    def is_gate(self) -> bool:
        """Whether the output is in 0..1."""
        return self.function in GATE_OF.values()

    def call(self, x):
        """Returns the function of x; shape unchanged."""
        return FUNCTIONS[self.function](x)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {**super().get_config(), "function": self.function}
