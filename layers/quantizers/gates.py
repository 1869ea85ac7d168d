"""Gates: layers whose output is a factor in 0..1, and the fixed grid that it is quantized on.

Squeeze-excite, swish (x * sigmoid(x)) and hard-swish (x * hard_sigmoid(x)) multiply a tensor by a gate. A
gate's range is known, so nothing is learnt: 256 codes cover it. The same holds for tanh and softmax.

    >>> x = tf.constant([0.0])
    >>> GateQuantizer(scale=LOGISTIC_SCALE)(tf.sigmoid(x)).numpy().tolist()      # k / 256, k in 0..255
    [0.5]
    >>> gate = GateQuantizer(scale=HARD_SIGMOID_SCALE)(HardSigmoid(slope=1 / 6)(x))
"""

import tensorflow as tf
import tf_keras as keras

from mmx_tf.layers.as_written import AsWritten
from mmx_tf.layers.grid import LOWEST, Grid
from mmx_tf.layers.integer import arithmetic, layers
from mmx_tf.layers.lsq import lsq

LOGISTIC_SCALE = 1 / 256
"""TFLite's int8 LOGISTIC has this output scale, with zero point -128, and no other."""

HARD_SIGMOID_SCALE = 1 / 255
"""The saturation of int8 is then the clip at 0 and at 1."""


@keras.saving.register_keras_serializable(package="mmx_tf")
class HardSigmoid(AsWritten, keras.layers.Layer):
    """clip(slope * x + 1/2, 0, 1): of slope 1/6 in MobileNet-v3, 1/5 in Keras 2's "hard_sigmoid".

    Args:
      slope: above 0.

    Raises:
      ValueError: for another slope.
    """

    def __init__(self, *, slope: float, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.slope = float(slope)
        if not self.slope > 0:
            raise ValueError(f"slope is {slope!r}; use a number above 0.")

    def call(self, x):
        """Returns the gate; shape unchanged."""
        return tf.clip_by_value(self.slope * x + 0.5, 0.0, 1.0)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {**super().get_config(), "slope": self.slope}


@keras.saving.register_keras_serializable(package="mmx_tf")
class GateQuantizer(AsWritten, keras.layers.Layer):
    """Quantizes a gate to 256 multiples of a scale, with the straight-through gradient of LSQ for x.

    Args:
      scale: of the grid.
      low: the smallest multiple, in -128..127: 0 for a gate, -128 for a tanh.
    """

    def __init__(self, *, scale: float, low: int = 0, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.scale, self.low = float(scale), int(low)

    @property
    def grid(self) -> Grid:
        """The int8 grid, whose lowest code is that of the smallest multiple."""
        return Grid(self.scale, LOWEST - self.low)

    def call(self, x):
        """Returns x on the grid; shape unchanged."""
        low = self.low
        return lsq.fake_quantize(x, self.grid.scale, low=low, high=low + 255, gradient_scale=0.0)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {**super().get_config(), "scale": self.scale, "low": self.low}


@layers.register
class IntegerLogistic(layers.IntegerLayer):
    """LOGISTIC: codes on `input_grid` -> codes of 1 / (1 + exp(-x)) on the grid of `LOGISTIC_SCALE`."""

    def __init__(self, *, input_grid, output_grid, **kwargs):
        super().__init__(input_grid=input_grid, output_grid=output_grid, **kwargs)
        if self.output_grid != Grid(LOGISTIC_SCALE, LOWEST):
            raise ValueError(f"output_grid is {output_grid}; LOGISTIC has {Grid(LOGISTIC_SCALE, LOWEST)}.")
        self._table = arithmetic.logistic_table(self.input_grid, self.output_grid)

    def call(self, inputs):
        """Looks up codes of any shape."""
        return tf.gather(tf.constant(self._table), tf.cast(inputs, tf.int32) - LOWEST)
