"""A Keras layer that quantizes an activation tensor to one bit-width with a learned step size.

>>> quantizer = ActivationQuantizer(bits=4, signed=False)
>>> quantizer(tf.nn.relu(images)).shape          # the first call sets the step size from its input
TensorShape([32, 16, 16, 1])
"""

import math

import tensorflow as tf
import tf_keras as keras

from mmx_tf.layers.as_written import AsWritten
from mmx_tf.layers.fusion import SetByFirstBatch, source_of
from mmx_tf.layers.lsq import lsq
from mmx_tf.layers.quantizers.activation_codes import ActivationCodes


@keras.saving.register_keras_serializable(package="mmx_tf")
class StepSizeFloor(keras.constraints.Constraint):
    """Keeps step sizes at or above `lsq.STEP_SIZE_FLOOR` after every optimizer update."""

    def __call__(self, step_size):
        """Returns the step sizes, raised to the floor where they fell below it."""
        return tf.maximum(step_size, lsq.STEP_SIZE_FLOOR)


def add_step_sizes(layer: keras.layers.Layer, shape: tuple[int, ...], name: str = "step_size"):
    """Adds a trainable, positive step size variable of `shape` to a layer."""
    return layer.add_weight(
        name,
        shape=shape,
        initializer="ones",
        constraint=StepSizeFloor(),
        aggregation=tf.VariableAggregation.MEAN,
    )


FUSED_FROM_ELEMENTS = 1024
"""Elements of one example from which on a fused quantizer repays its compilation."""


def elements_of_one_example(x: tf.Tensor) -> int:
    """Elements of x without its batch axis, LSQ's N.

    Raises:
      ValueError: if a dimension other than the batch is unknown.
    """
    if None in x.shape[1:]:
        raise ValueError(
            f"activation of shape {x.shape}: only the batch size may be unknown; build the model with a "
            "fixed image size."
        )
    return math.prod(x.shape[1:])


@keras.saving.register_keras_serializable(package="mmx_tf")
class ActivationQuantizer(SetByFirstBatch, AsWritten, keras.layers.Layer):
    """Quantizes its input to `bits` bits: fake_quantize(x, s) with a trainable scalar step size s.

    The step size is initialised from the first batch that is seen, before it is used: by LSQ's rule, or, for
    a *carrier* (the 8-bit grid of a tensor that feeds an addition, a pooling or several consumers), so that
    nothing of that batch is clipped. LSQ's rule is made for few bits: at 8 bits its range is about 22 to 32
    times the mean, and most codes of a carrier would go unused.

    Attributes:
      bits: bit-width, an integer in 2..8.
      signed: whether there are codes below zero (see `lsq.code_range`).
      floor: what the input does not fall below, for codes that end there (see
        `layers.quantizers.activation_codes`); None for symmetric or unsigned ones.
      covering: whether the initial step size covers the first batch instead of following LSQ's rule.
      uses: calls of the layer in its network, whose tensors share the grid: the first step size is the
        largest that one of them asks for.
      codes: the `ActivationCodes` of the three.
      low, high: smallest and largest code; where there is a floor, at the step size of the moment.
      step_size: scalar variable (after build).
      initialized: boolean scalar variable (after build).
    """

    def __init__(
        self,
        *,
        bits: int,
        signed: bool,
        floor: float | None = None,
        covering: bool = False,
        uses: int = 1,
        **kwargs,
    ):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.codes = ActivationCodes(bits=bits, signed=signed, floor=floor)
        self.bits = int(bits)
        self.floor = floor
        self.signed = bool(signed)
        self.covering = bool(covering)
        self.uses = int(uses)

    def set_bits(self, bits: int) -> None:
        """Gives it another bit-width where it is folded from now on; what is traced keeps the old one."""
        self.codes = ActivationCodes(bits=bits, signed=self.signed, floor=self.floor)
        self.bits = int(bits)

    @property
    def low(self) -> int:
        """Smallest code."""
        return self._range[0]

    @property
    def high(self) -> int:
        """Largest code."""
        return self._range[1]

    @property
    def _range(self) -> tuple[int, int]:
        step_size = None if self.floor is None else self.step_size
        return tuple(int(code) for code in self.codes.range_at(step_size))

    def build(self, input_shape):
        """Creates the step size and its initialised flag."""
        self.step_size = add_step_sizes(self, ())
        self.initialized = self.add_weight(
            "initialized", shape=(), dtype=tf.bool, initializer="zeros", trainable=False
        )
        if self.uses > 1:
            self.unseen = self.add_weight(
                "unseen",
                shape=(),
                dtype=tf.int32,
                initializer=keras.initializers.Constant(self.uses),
                trainable=False,
            )
        super().build(input_shape)

    def call(self, x):
        """Returns x on the grid; shape unchanged."""
        self.initialize_once(x)
        elements = elements_of_one_example(x)
        low, high = self.codes.range_at(self.step_size)
        return lsq.fake_quantize(
            source_of(x),
            lsq.limit_shrinking(self.step_size),
            low=low,
            high=high,
            gradient_scale=lsq.gradient_scale(elements, self.codes.highest),
            fused=elements >= FUSED_FROM_ELEMENTS,
        )

    def set_step_size(self, value: float) -> None:
        """Sets the step size, which then is no longer initialised from data."""
        self.step_size.assign(value)
        self.initialized.assign(True)

    def get_config(self):
        """Returns the constructor's arguments."""
        own = {"bits": self.bits, "signed": self.signed, "floor": self.floor}
        return {**super().get_config(), **own, "covering": self.covering, "uses": self.uses}

    def initialize(self, x):
        """Sets the step size from x; for several uses, from the largest that one of them asks for."""
        rule = self.codes.covering_step_size if self.covering else self.codes.initial_step_size
        step_size = rule(x)
        if self.uses == 1:
            self.set_step_size(step_size)
            return
        # The largest of the tensors that share the grid, once all have been seen.
        first = tf.equal(self.unseen, self.uses)
        self.step_size.assign(tf.where(first, step_size, tf.maximum(self.step_size, step_size)))
        self.initialized.assign(tf.less_equal(self.unseen.assign_sub(1), 0))
