"""Activations that no int8 operator computes: whatever is known of one, in its entry of `CURVES`.

    "log_sigmoid": Curve(
        function=lambda x, alpha, grid: -softplus(np.minimum(-x, LARGEST)),
        steps=lambda alpha, grid: (
            Step("MUL", -1.0), Step("MINIMUM", LARGEST), *_SOFTPLUS, Step("MUL", -1.0)
        ),
        floor=-math.inf,
        trained=tf.math.log_sigmoid,
        tensorflow="math.log_sigmoid",
        keras3="log_sigmoid",
    ),

Such an activation needs nothing else. Its layer in training is Keras's own Activation, or a `Smooth`
(`layers.quantizers.smooth_gates`). Networks are read by the names that the entry gives
(`network.tf_operators`, `network.keras3_layers`), and carriers have its floor (`network.floors`). The file
has its steps, of which XNNPACK makes one table (`layers.integer.smooth`).

The function need not be smooth: a tanh of straight lines is (Step("MINIMUM", 1.0), Step("MAXIMUM", -1.0)).
An operator that no entry has yet needs its float kernel in `export.reference.curves` besides.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf
from scipy import special

from mmx_tf.layers.grid import HIGHEST, Grid

SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805
LARGEST = 80.0
"""Above it exp leaves float32; softplus is the identity there."""
STEEP = 2.0**20


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curve:
    """A function of single numbers: its values, the operators that compute it, and its names elsewhere.

    Attributes:
      function: (float64 array, alpha, output grid) -> array.
      steps: (alpha, output grid) -> operators.
      floor: what it is not below at alpha 1, at most 0 and rounded down in the last digit; -inf for none.
      trained: tensor -> tensor, what training computes; None where Keras 2 has the activation by this name.
      gate_of: Keras's activation that is x times this function, whose values are in 0..1 then; "" for others.
      lowest_product: the floor of that activation.
      tensorflow: the function of TensorFlow with no other argument that computes it, or what it is the gate
        of, as a network names it: "math.softplus". "" without one.
      keras3: the name of the same among Keras 3's activations; "" without one.
    """

    function: Callable
    steps: Callable
    floor: float
    trained: Callable | None = None
    gate_of: str = ""
    lowest_product: float = -math.inf
    tensorflow: str = ""
    keras3: str = ""

    @property
    def spelling(self) -> Callable | None:
        """TensorFlow's function itself, as `activation=` takes it."""
        return functools.reduce(getattr, self.tensorflow.split("."), tf) if self.tensorflow else None


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
        function=lambda x, alpha, grid: elu(x, alpha),
        steps=lambda alpha, grid: (Step("ELU"), Step("LEAKY_RELU", options={"alpha": alpha})),
        floor=-1.0,
        tensorflow="nn.elu",
        keras3="elu",
    ),
    "selu": Curve(
        function=lambda x, alpha, grid: SELU_SCALE * elu(x, SELU_ALPHA),
        steps=lambda alpha, grid: (
            Step("ELU"),
            Step("LEAKY_RELU", options={"alpha": SELU_ALPHA}),
            Step("MUL", SELU_SCALE),
        ),
        floor=-1.7581,
        tensorflow="nn.selu",
        keras3="selu",
    ),
    # tf.nn.gelu has an argument that tells the two apart.
    "gelu": Curve(
        function=lambda x, alpha, grid: gelu(x),
        steps=lambda alpha, grid: (Step("GELU", options={"approximate": False}),),
        floor=-0.17,
        keras3="gelu",
    ),
    "gelu_approximate": Curve(
        function=lambda x, alpha, grid: gelu_approximate(x),
        steps=lambda alpha, grid: (Step("GELU", options={"approximate": True}),),
        floor=-0.1701,
        trained=lambda x: tf.nn.gelu(x, approximate=True),
    ),
    "softplus": Curve(
        function=lambda x, alpha, grid: softplus(np.minimum(x, LARGEST)),
        steps=lambda alpha, grid: (Step("MINIMUM", LARGEST), *_SOFTPLUS),
        floor=0.0,
        tensorflow="math.softplus",
        keras3="softplus",
    ),
    "exponential": Curve(
        function=lambda x, alpha, grid: np.exp(np.minimum(x, largest_exponent(grid))),
        steps=lambda alpha, grid: (Step("MINIMUM", largest_exponent(grid)), Step("EXP")),
        floor=0.0,
        tensorflow="math.exp",
        keras3="exponential",
    ),
    # Exact steps of 0 and 1, but for an x that is the threshold to six digits; it is made of a ReLU's.
    "above": Curve(
        function=lambda x, alpha, grid: np.clip((x - alpha) * STEEP, 0, 1),
        steps=lambda alpha, grid: (
            Step("SUB", alpha),
            Step("MUL", STEEP),
            Step("MINIMUM", 1.0),
            Step("MAXIMUM", 0.0),
        ),
        floor=0.0,
    ),
    "mish_gate": Curve(
        function=lambda x, alpha, grid: np.tanh(softplus(x)),
        steps=lambda alpha, grid: (Step("MINIMUM", LARGEST), *_SOFTPLUS, Step("TANH")),
        floor=0.0,
        trained=lambda x: tf.tanh(tf.nn.softplus(x)),
        gate_of="mish",
        lowest_product=-0.3089,
        keras3="mish",
    ),
    "softsign_gate": Curve(
        function=lambda x, alpha, grid: 1 / (1 + np.abs(x)),
        steps=lambda alpha, grid: (Step("ABS"), Step("ADD", 1.0), Step("DIV", 1.0, constant_first=True)),
        floor=0.0,
        trained=lambda x: 1.0 / (1.0 + tf.abs(x)),
        gate_of="softsign",
        tensorflow="nn.softsign",
        keras3="softsign",
    ),
}
NAMES = {name: curve.gate_of or ("" if curve.trained else name) for name, curve in CURVES.items()}
"""What Keras 2 calls the activation that an entry is or is the gate of; "" where Keras 2 lacks it."""
GATE_OF = {curve.gate_of: name for name, curve in CURVES.items() if curve.gate_of}
"""Keras's activation -> the function that x is multiplied by."""
