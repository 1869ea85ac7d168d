"""Activations that are one table operator: TANH and ELU. An int8 tensor has 256 codes, so each is a table.

    tanh = IntegerTanh(input_grid=x, output_grid=Grid(TANH_SCALE, 0))

XNNPACK computes the table itself, in float32, when it loads the file.
"""

import numpy as np
import tensorflow as tf

from mmx_tf.layers.grid import HIGHEST, LOWEST, Grid
from mmx_tf.layers.integer.layers import IntegerLayer, register

TANH_SCALE = 1 / 128
"""TFLite's int8 TANH has this output scale, with zero point 0, and no other."""
EVERY_CODE = np.arange(LOWEST, HIGHEST + 1)


def reals_of(grid: Grid) -> np.ndarray:
    """float32 [256]: what the codes of a grid stand for, lowest first."""
    return (EVERY_CODE - grid.zero_point).astype(np.float32) * np.float32(grid.scale)


def codes_on(values: np.ndarray, grid: Grid) -> np.ndarray:
    """float32 [256] codes of float32 values: round half to even of value * (1 / scale), saturating."""
    inverse = np.float32(1) / np.float32(grid.scale)
    return np.clip(np.rint(values * inverse) + grid.zero_point, LOWEST, HIGHEST).astype(np.float32)


class TableLayer(IntegerLayer):
    """Base: an operator that looks up a code for each of the input's 256 codes."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.table = self.computed_table()

    def computed_table(self) -> np.ndarray:
        """float32 [256] codes, that of the lowest input code first."""
        raise NotImplementedError

    def call(self, inputs):
        """Looks up codes of any shape."""
        return tf.gather(tf.constant(self.table), tf.cast(inputs, tf.int32) - LOWEST)


@register
class IntegerTanh(TableLayer):
    """TANH: codes on `input_grid` -> codes of tanh(x) on the grid of `TANH_SCALE`."""

    def computed_table(self):
        """The curve in float32, rounded half to even; ValueError for another output grid."""
        if self.output_grid != Grid(TANH_SCALE, 0):
            raise ValueError(f"output_grid is {self.output_grid}; TANH has {Grid(TANH_SCALE, 0)}.")
        curve = np.tanh(reals_of(self.input_grid).astype(np.float64)).astype(np.float32)
        return codes_on(curve, self.output_grid)


@register
class IntegerElu(TableLayer):
    """ELU of alpha 1: x above zero, exp(x) - 1 below."""

    def computed_table(self):
        """The curve in float32, rounded half to even."""
        reals = reals_of(self.input_grid)
        below = np.expm1(np.minimum(reals, 0).astype(np.float64)).astype(np.float32)
        curve = np.where(reals < 0, below, reals)
        return codes_on(curve, self.output_grid)
