"""SUB: the difference of two code tensors, and the larger and the smaller of two without leaving XNNPACK.

XNNPACK has no int8 MAXIMUM. On one grid max(a, b) = b + relu(a - b) and min(a, b) = a - relu(a - b), where
every number is a whole number of steps, so that no kernel has anything to round: relu(a - b) is in
0..255, on a grid of the same scale whose zero is at -128.

    excess = IntegerSub(input_grids=(g, g), output_grid=Grid(g.scale, -128), activation="relu")([a, b])
    larger = IntegerAdd(input_grids=(g, excess_grid), output_grid=g)([b, excess])
"""

import tensorflow as tf

from mmx_tf.layers.grid import Grid
from mmx_tf.layers.integer import arithmetic
from mmx_tf.layers.integer.layers import BinaryLayer, IntegerRescale, form_of, register


def subtract(codes_a, codes_b, *, grid_a, grid_b, output_grid, activation="linear"):
    """Element-wise difference of two code tensors on their own grids -> codes on `output_grid`.

    Rule: that of XNNPACK's add with the second multiplier below zero; half up.
    """
    multiplier_a, multiplier_b, shift = arithmetic.add_constants(grid_a, grid_b, output_grid)
    shifted_a = tf.cast(codes_a, tf.int32) - grid_a.zero_point
    shifted_b = tf.cast(codes_b, tf.int32) - grid_b.zero_point
    total = shifted_a * multiplier_a - shifted_b * multiplier_b + (1 << (shift - 1))
    codes = tf.bitwise.right_shift(total, tf.constant(shift, tf.int32)) + output_grid.zero_point
    return arithmetic.clip(tf.cast(codes, tf.float32), arithmetic.activation_bounds(activation, output_grid))


@form_of("Subtract")
@register
class IntegerSub(BinaryLayer):
    """SUB of two code tensors: the first less the second."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        arithmetic.add_constants(*self.input_grids, self.output_grid)

    def call(self, inputs):
        """`inputs`: a list of two code tensors."""
        first, second = inputs
        return subtract(first, second, **self._arguments())


@register
class IntegerScale(IntegerRescale):
    """MUL by the constant 1 on a grid whose scale is `factor`: factor * x. Fused linear|relu|relu6."""

    def __init__(self, *, factor, **kwargs):
        self.factor = float(factor)
        super().__init__(**kwargs)

    @property
    def constant_grid(self):
        """A grid whose code 1 is the factor."""
        return Grid(self.factor, 0)

    def call(self, inputs):
        """Scale codes of any shape."""
        return arithmetic.multiply(
            inputs,
            1.0,
            grid_a=self.input_grid,
            grid_b=self.constant_grid,
            output_grid=self.output_grid,
            activation=self.activation,
        )

    def get_config(self):
        """Config with the factor."""
        return {**super().get_config(), "factor": self.factor}
