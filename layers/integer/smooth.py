"""Activations without an int8 operator as one table of 256 codes: GELU, SELU, softplus and their like.

No int8 operator computes these. In the file such a curve is DEQUANTIZE, a few float operators and QUANTIZE,
of which XNNPACK makes one table when it loads the file: it folds up to ten pointwise operators between two
8-bit tensors, whatever types lie between. It costs what a ReLU of its own costs.

    curve = IntegerCurve(curve="gelu", input_grid=x, output_grid=y)
    curve.steps                     # (Step("GELU", options={"approximate": False}),)

Float kernels round in their last digits, each runtime its own. That changes a code only next to a half, so no
value may be that near to one: where one is, the whole curve is moved by the smallest multiple of 1/128 of a
step that helps. Codes are then the same in every runtime.
"""

import numpy as np

from mmx_tf.layers.activations import CURVES, Step
from mmx_tf.layers.grid import Grid
from mmx_tf.layers.integer.curves import TableLayer, codes_on, reals_of
from mmx_tf.layers.integer.layers import register

GATE_SCALE = 1 / 255
ERROR = 3e-6
"""What a float kernel may be off by, for values up to 1, and of larger ones the share. Measured: 7e-7."""
SHIFTS = tuple(sign * count / 128 for count in range(17) for sign in (1, -1))


@register
class IntegerCurve(TableLayer):
    """One of `CURVES` (`layers.activations`): codes on `input_grid` -> codes of the curve on `output_grid`.

    Args:
      curve: its name.
      alpha: of "elu"; of "above" the threshold.

    Attributes:
      steps: the float operators between DEQUANTIZE and QUANTIZE.

    Raises:
      ValueError: for another curve.
    """

    def __init__(self, *, curve, alpha=1.0, **kwargs):
        if curve not in CURVES:
            raise ValueError(f"curve is {curve!r}; use one of {', '.join(CURVES)}.")
        self.curve, self.alpha = curve, float(alpha)
        super().__init__(**kwargs)

    def computed_table(self):
        """The curve, moved off the halves, rounded half to even."""
        grid = self.output_grid
        reals = reals_of(self.input_grid).astype(np.float64)
        values = CURVES[self.curve].function(reals, self.alpha, grid)
        shift = shift_off_halves(values, grid)
        self.steps = CURVES[self.curve].steps(self.alpha, grid)
        if shift:
            self.steps += (Step("ADD", shift * grid.scale),)
        return codes_on(values + shift * grid.scale, grid)

    def get_config(self):
        """Config with the curve."""
        return {**super().get_config(), "curve": self.curve, "alpha": self.alpha}


def shift_off_halves(values: np.ndarray, grid: Grid) -> float:
    """By what part of a step to move float64 values, so that none is as near to a half as kernels may err.

    0 where none is; else the smallest of `SHIFTS` that helps, or the best one.
    """
    positions = values / np.float64(np.float32(grid.scale))
    errors = ERROR * np.maximum(1, np.abs(values)) / grid.scale

    def room(shift):
        moved = positions + shift
        return (np.abs(moved - np.floor(moved) - 0.5) / errors).min()

    return next((shift for shift in SHIFTS if room(shift) > 1), max(SHIFTS, key=room))
