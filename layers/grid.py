"""The grid of an int8 tensor: real value = scale * (code - zero_point).

A b-bit activation lives in an int8 container: its step size is the scale, and the zero point is chosen so
that the saturation of int8 is the upper clip of the quantizer. For unsigned 4-bit codes 0..15:

    >>> grid = Grid.low_bit(step_size=0.1, highest_code=15)
    >>> grid.zero_point, grid.quantize(99.0)          # 127 - 15; everything above 1.5 becomes code 127
    (112, np.int8(127))
"""

import math
from dataclasses import dataclass

import numpy as np

LOWEST, HIGHEST = -128, 127


@dataclass(frozen=True)
class Grid:
    """Scale (> 0, a number that float32 holds) and zero point (an int in -128..127) of one int8 tensor.

    The scale is rounded to float32 here, once, so that every later user sees the number that the file holds.
    """

    scale: float
    zero_point: int

    def __post_init__(self):
        scale, zero_point = float(np.float32(self.scale)), int(self.zero_point)
        if not (math.isfinite(scale) and scale > 0):
            raise ValueError(f"Grid.scale is {self.scale!r}; it must be a positive finite float32.")
        if zero_point != self.zero_point or not LOWEST <= zero_point <= HIGHEST:
            raise ValueError(f"Grid.zero_point is {self.zero_point!r}; use an int in {LOWEST}..{HIGHEST}.")
        object.__setattr__(self, "scale", scale)
        object.__setattr__(self, "zero_point", zero_point)

    @classmethod
    def low_bit(cls, *, step_size, highest_code):
        """The grid whose int8 saturation is the upper clip at `highest_code` (15 for unsigned 4-bit)."""
        return cls(step_size, HIGHEST - highest_code)

    @classmethod
    def lower_clip(cls, *, step_size, lowest_code):
        """The grid whose int8 saturation is the lower clip at `lowest_code` (-7 for signed 4-bit)."""
        return cls(step_size, LOWEST - lowest_code)

    def quantize(self, values):
        """Float array -> int8 codes: round half to even of value * (1 / scale) in float32, saturating.

        The product with the float32 reciprocal, not a division, is what XNNPACK's float-to-int8 QUANTIZE
        computes.
        """
        inverse = np.float32(1) / np.float32(self.scale)
        codes = np.rint(np.asarray(values, np.float32) * inverse).astype(np.float64) + self.zero_point
        return np.clip(codes, LOWEST, HIGHEST).astype(np.int8)

    def dequantize(self, codes):
        """Codes (any integer or float dtype) -> float32 array: (code - zero_point) * scale."""
        return (np.asarray(codes, np.float32) - np.float32(self.zero_point)) * np.float32(self.scale)

    def get_config(self):
        """Plain numbers for a Keras config."""
        return {"scale": self.scale, "zero_point": self.zero_point}


def as_grid(value):
    """A Grid from a Grid or from the dict of `Grid.get_config`; TypeError for anything else."""
    if isinstance(value, Grid):
        return value
    if isinstance(value, dict):
        return Grid(value["scale"], value["zero_point"])
    raise TypeError(f"expected a layers.grid.Grid or its config dict, got {value!r}")
