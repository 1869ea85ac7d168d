"""TANH and ELU of int8, and the float operators that a smooth activation is made of.

    codes = tanh(operator, [codes], "xnnpack")             # int8

The int8 ones are tables that every runtime computes alike: the curve in float32, then the nearest code. Float
operators are computed in float64 and rounded to float32 once; a runtime's own may differ in their last
digits, which files leave room for (`layers.integer.smooth`).
"""

import math

import numpy as np
from scipy import special

from mmx_tf.export.reference.bounds import HIGHEST, LOWEST, saturate
from mmx_tf.export.reference.kernels import FLOAT32, computes

EVERY_CODE = np.arange(LOWEST, HIGHEST + 1)


@computes("TANH")
def tanh(operator, inputs, rules):
    """TANH, whose output grid is 1/128 with zero point 0."""
    return _looked_up(operator, inputs, np.tanh)


@computes("ELU")
def elu(operator, inputs, rules):
    """ELU of alpha 1 on any grids."""
    return _looked_up(operator, inputs, _elu)


def _looked_up(operator, inputs, curve):
    source, target = operator.inputs[0], operator.outputs[0]
    reals = (EVERY_CODE - source.zero_point).astype(np.float32) * source.scale
    values = curve(reals.astype(np.float64)).astype(np.float32)
    table = np.rint(values * (np.float32(1) / target.scale)) + target.zero_point
    return saturate(table, (LOWEST, HIGHEST))[inputs[0].astype(np.int64) - LOWEST]


def _elu(x):
    return np.where(x < 0, np.expm1(np.minimum(x, 0)), x)


def _gelu(operator, x):
    if operator.options.approximate:
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return x * special.ndtr(x)


def _leaky_relu(operator, x):
    return np.where(x < 0, x * np.float32(operator.options.alpha), x)


def _unary(kind, function):
    """Registers a function (operator, float64 array) of one tensor."""

    @computes(kind, FLOAT32)
    def compute(operator, inputs, rules):
        return function(operator, inputs[0].astype(np.float64)).astype(np.float32)


def _binary(kind, function):
    """Registers a function of two float32 arrays."""

    @computes(kind, FLOAT32)
    def compute(operator, inputs, rules):
        return function(inputs[0].astype(np.float32), inputs[1].astype(np.float32))


_unary("ABS", lambda operator, x: np.abs(x))
_unary("ELU", lambda operator, x: _elu(x))
_unary("EXP", lambda operator, x: np.exp(x))
_unary("GELU", _gelu)
_unary("LEAKY_RELU", _leaky_relu)
_unary("LOG", lambda operator, x: np.log(x))
_unary("TANH", lambda operator, x: np.tanh(x))
_binary("ADD", np.add)
_binary("DIV", np.divide)
_binary("MAXIMUM", np.maximum)
_binary("MINIMUM", np.minimum)
_binary("MUL", np.multiply)
_binary("SUB", np.subtract)
