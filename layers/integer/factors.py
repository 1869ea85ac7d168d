"""Multiplication by constants, and the leaky activations that are made of it.

    negative = IntegerFactor(codes=[-1], factor_scale=0.8, input_grid=x, output_grid=n)   # 0.8 * relu(-x)
    leaky = IntegerAdd(input_grids=(x, n), output_grid=y)                                 # plus x

int8's saturation cuts one side off where the output's zero point is its lowest or its highest code.
"""

import numpy as np
import tensorflow as tf

from mmx_tf.layers.grid import HIGHEST, LOWEST, Grid
from mmx_tf.layers.integer import arithmetic
from mmx_tf.layers.integer.layers import IntegerLayer, register


@register
class IntegerFactor(IntegerLayer):
    """MUL by a constant tensor: codes times `codes` * `factor_scale`.

    Args:
      codes: int8 array that broadcasts against one example's codes, such as [C] or [H, W, C]. None only when
        a saved model is loaded, which fills it in.
      factor_scale: of the constants' grid, whose zero point is 0.
      factor_shape: of `codes`; needed without them.

    Raises:
      ValueError: for codes outside of +-127, or scales for which XNNPACK has no multiplier.
    """

    def __init__(self, *, factor_scale, codes=None, factor_shape=None, **kwargs):
        super().__init__(**kwargs)
        self.factor_grid = Grid(factor_scale, 0)
        self.factor_shape = tuple(np.shape(codes)) if codes is not None else tuple(factor_shape)
        self.codes = self.add_weight(
            name="codes", shape=self.factor_shape, dtype=tf.int8, initializer="zeros", trainable=False
        )
        arithmetic.multiply_multiplier(self.input_grid, self.factor_grid, self.output_grid)
        if codes is not None:
            if np.abs(codes).max(initial=0) > HIGHEST:
                raise ValueError(f"{self.name}: a constant's code is {np.abs(codes).max()}; use +-{HIGHEST}.")
            self.set_weights([np.asarray(codes, np.int8)])

    def call(self, inputs):
        """Multiplies codes [N, ...]."""
        return arithmetic.multiply(
            inputs,
            self.codes,
            grid_a=self.input_grid,
            grid_b=self.factor_grid,
            output_grid=self.output_grid,
        )

    def get_config(self):
        """Config with scale and shape; the codes are saved as the layer's weights."""
        own = {"factor_scale": self.factor_grid.scale, "factor_shape": list(self.factor_shape)}
        return {**super().get_config(), **own}


def sided(scale: float, *, positive: bool) -> Grid:
    """The grid of one side of zero: int8's saturation takes the place of max(x, 0), or of min(x, 0)."""
    return Grid(scale, LOWEST if positive else HIGHEST)


def on_8_bits(factors, *, smallest_scale=0.0) -> tuple[np.ndarray, float]:
    """(int8 codes, scale) of real factors: symmetric, so that the largest one has the code 127.

    Args:
      factors: array of numbers.
      smallest_scale: what the scale is at least; where that is what counts, codes are smaller.
    """
    factors = np.asarray(factors, np.float32)
    largest = np.abs(factors).max(initial=0)
    scale = np.float32(largest) / np.float32(HIGHEST) if largest else np.float32(1)
    scale = max(scale, np.float32(smallest_scale))
    return np.rint(factors / scale).astype(np.int8), float(scale)
