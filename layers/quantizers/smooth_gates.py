"""Functions that Keras has no layer of: the gates of mish and softsign, the approximate GELU and their like.

mish, x * tanh(softplus(x)), and softsign, x / (1 + |x|), are products of x and a gate in 0..1, as swish is.

    >>> gate, x = Smooth(function="mish_gate"), tf.constant([0.0])
    >>> keras.layers.Multiply()([x, gate(x)]).numpy().tolist()           # mish
    [0.0]
"""

import tf_keras as keras

from mmx_tf.layers.activations import CURVES, NAMES
from mmx_tf.layers.as_written import AsWritten

FUNCTIONS = {name: curve.trained for name, curve in CURVES.items() if curve.trained}


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
        return bool(CURVES[self.function].gate_of)

    def call(self, x):
        """Returns the function of x; shape unchanged."""
        return FUNCTIONS[self.function](x)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {**super().get_config(), "function": self.function}


def layer_of(curve: str, name: str) -> keras.layers.Layer:
    """The layer that one of `CURVES` is in a network that is read; of a gate, what it is the gate of."""
    known = NAMES[curve]
    return keras.layers.Activation(known, name=name) if known else Smooth(function=curve, name=name)
