"""Smooth activations as one table of 256 codes: GELU, SELU, softplus and their like.

No int8 operator computes these. In the file such a curve is DEQUANTIZE, a few float operators and QUANTIZE,
of which XNNPACK makes one table when it loads the file: it folds up to ten pointwise operators between two
8-bit tensors, whatever types lie between. It costs what a ReLU of its own costs.

    curve = IntegerCurve(curve="gelu", input_grid=x, output_grid=y)
    curve.steps                     # (Step("GELU", options={"approximate": False}),)

Float kernels round in their last digits, each runtime its own. That changes a code only next to a half, so no
value may be that near to one: where one is, the whole curve is moved by the smallest multiple of 1/128 of a
step that helps. Codes are then the same in every runtime.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping

import numpy as np
from scipy import special

from mmx_tf.layers.grid import HIGHEST, Grid
from mmx_tf.layers.integer.curves import TableLayer, codes_on, reals_of
from mmx_tf.layers.integer.layers import register

GATE_SCALE = 1 / 255
SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805
LARGEST = 80.0
"""Above it exp leaves float32; softplus is the identity there."""
STEEP = 2.0**20
ERROR = 3e-6
"""What a float kernel may be off by, for values up to 1, and of larger ones the share. Measured: 7e-7."""
SHIFTS = tuple(sign * count / 128 for count in range(17) for sign in (1, -1))


@dataclasses.dataclass(frozen=True)
class Step:
    """One float operator: of the value alone, or of the value and a constant.

    Attributes:
      kind: the builtin operator, such as "EXP".
      constant: the other operand, None without one.
      constant_first: whether it is the left one.
      options: fields of the operator's options.
    """

    kind: str
    constant: float | None = None
    constant_first: bool = False
    options: Mapping = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Curve:
    """A smooth function by the operators that compute it.

    Attributes:
      function: (float64 array, alpha, output grid) -> array.
      steps: (alpha, output grid) -> operators.
      floor: what it is not below at alpha 1, at most 0 and rounded down in the last digit.
    """

    function: Callable
    steps: Callable
    floor: float


def elu(x, alpha=1.0):
    """x above zero, alpha * (exp(x) - 1) below."""
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def gelu(x):
    """x * Phi(x) with the distribution function Phi of the normal distribution."""
    return x * special.ndtr(x)


def gelu_approximate(x):
    """GELU by a tanh, as Hendrycks and Gimpel 2016 approximate it."""
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def softplus(x):
    """log(1 + exp(x))."""
    return np.logaddexp(x, 0)


def largest_exponent(grid: Grid) -> float:
    """What exp takes to the code beyond the highest one."""
    return math.log(grid.scale * (HIGHEST + 1 - grid.zero_point))


_SOFTPLUS = (Step("EXP"), Step("ADD", 1.0), Step("LOG"))
CURVES = {
    "elu": Curve(
        lambda x, alpha, grid: elu(x, alpha),
        lambda alpha, grid: (Step("ELU"), Step("LEAKY_RELU", options={"alpha": alpha})),
        floor=-1.0,
    ),
    "selu": Curve(
        lambda x, alpha, grid: SELU_SCALE * elu(x, SELU_ALPHA),
        lambda alpha, grid: (
            Step("ELU"),
            Step("LEAKY_RELU", options={"alpha": SELU_ALPHA}),
            Step("MUL", SELU_SCALE),
        ),
        floor=-1.7581,
    ),
    "gelu": Curve(
        lambda x, alpha, grid: gelu(x),
        lambda alpha, grid: (Step("GELU", options={"approximate": False}),),
        floor=-0.17,
    ),
    "gelu_approximate": Curve(
        lambda x, alpha, grid: gelu_approximate(x),
        lambda alpha, grid: (Step("GELU", options={"approximate": True}),),
        floor=-0.1701,
    ),
    "softplus": Curve(
        lambda x, alpha, grid: softplus(np.minimum(x, LARGEST)),
        lambda alpha, grid: (Step("MINIMUM", LARGEST), *_SOFTPLUS),
        floor=0.0,
    ),
    "exponential": Curve(
        lambda x, alpha, grid: np.exp(np.minimum(x, largest_exponent(grid))),
        lambda alpha, grid: (Step("MINIMUM", largest_exponent(grid)), Step("EXP")),
        floor=0.0,
    ),
    # Exact steps of 0 and 1, but for an x that is the threshold to six digits.
    "above": Curve(
        lambda x, alpha, grid: np.clip((x - alpha) * STEEP, 0, 1),
        lambda alpha, grid: (
            Step("SUB", alpha),
            Step("MUL", STEEP),
            Step("MINIMUM", 1.0),
            Step("MAXIMUM", 0.0),
        ),
        floor=0.0,
    ),
    "mish_gate": Curve(
        lambda x, alpha, grid: np.tanh(softplus(x)),
        lambda alpha, grid: (Step("MINIMUM", LARGEST), *_SOFTPLUS, Step("TANH")),
        floor=0.0,
    ),
    "softsign_gate": Curve(
        lambda x, alpha, grid: 1 / (1 + np.abs(x)),
        lambda alpha, grid: (Step("ABS"), Step("ADD", 1.0), Step("DIV", 1.0, constant_first=True)),
        floor=0.0,
    ),
}


@register
class IntegerCurve(TableLayer):
    """One of `CURVES`: codes on `input_grid` -> codes of the curve on `output_grid`.

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
