"""The operators that activations become: the part of `handlers` that knows curves and slopes.

`ACTIVATION_HANDLERS` maps the name of a class to (layer, value) -> value, as `handlers.HANDLERS` does, and
`refusal` says why a layer has no integer form. What each operator computes is in `layers.integer.factors`
and `layers.integer.curves`, what was measured of them in BUILD_NOTES.md.
"""

import numpy as np

from mmx_tf.folding import carriers
from mmx_tf.folding.values import Codes, FoldError, Pending, codes_of
from mmx_tf.layers.grid import Grid
from mmx_tf.layers.integer.curves import IntegerElu, IntegerTanh
from mmx_tf.layers.integer.factors import IntegerFactor, on_8_bits, sided
from mmx_tf.layers.integer.layers import IntegerAdd, IntegerRequantize, IntegerRescale
from mmx_tf.layers.quantizers.gates import IntegerLogistic

SMALLEST_RATIO = 2.0**-10
"""Of two scales that XNNPACK's ADD takes."""
LINEAR = 2.0**-12
"""A slope that is as near to 1 changes no code by more than a sixteenth."""


def _relu(layer, value):
    """Fused into the operator before it, else into a multiplication by one."""
    slope, limit = float(layer.negative_slope), layer.max_value
    cap = None if limit is None or float(limit) == 6.0 else float(limit)
    if slope:
        return _leaky(layer, value, slope, cap)
    activation = "relu6" if limit is not None and cap is None else "relu"
    if isinstance(value, Pending) and value.fuses and value.activation == "linear":
        value.activation, value.cap = activation, cap
        return value
    value = codes_of(layer, value)

    def emit(output_grid, activation):
        rescale = IntegerRescale(
            input_grid=value.grid, output_grid=output_grid, activation=activation, name=layer.name
        )
        return rescale(value.tensor)

    return Pending(emit, layer, activation=activation, cap=cap)


def _leaky_relu(layer, value):
    return _leaky(layer, value, float(layer.alpha), None)


def _leaky(layer, value, slope, cap):
    """x + (1 - slope) * relu(-x): two operators of x, which XNNPACK makes one table of."""
    value = codes_of(layer, value)

    def emit(output_grid, activation):
        source = value.grid
        distance = float(np.float32(abs(1 - slope)))
        if distance < LINEAR:
            rescale = IntegerRescale(input_grid=source, output_grid=output_grid, name=layer.name)
            return rescale(value.tensor)
        # On this scale every multiple of the input's step is a code.
        scale = float(np.float32(source.scale) * np.float32(distance))
        side = IntegerFactor(
            codes=[-1 if slope < 1 else 1],
            factor_scale=distance,
            input_grid=source,
            output_grid=sided(max(scale, output_grid.scale * SMALLEST_RATIO), positive=slope < 1),
            name=f"{layer.name}_negative",
        )
        total = IntegerAdd(
            input_grids=(source, side.output_grid), output_grid=output_grid, name=layer.name
        )
        return total([value.tensor, side(value.tensor)])

    return Pending(emit, layer, fuses=False, nonnegative=slope <= 0, cap=cap)


def _prelu(layer, value):
    """relu(x) and slope * min(x, 0), each on the output's steps, and their sum."""
    slopes = layer.alpha.numpy()
    if slopes.size == 1:
        return _leaky(layer, value, float(slopes.item()), None)
    value = codes_of(layer, value)

    def emit(output_grid, activation):
        source, step = value.grid, output_grid.scale
        positive = IntegerRescale(
            input_grid=source, output_grid=sided(step, positive=True), name=f"{layer.name}_positive"
        )
        codes, factor_scale = on_8_bits(slopes)
        tensor, negative_grid = value.tensor, sided(step, positive=False)
        if codes.min() < 0:
            # Then saturation does not tell the sides apart: the sign of x is cut off first.
            source = sided(source.scale, positive=False)
            cut = IntegerRequantize(
                input_grid=value.grid, output_grid=source, name=f"{layer.name}_below"
            )
            tensor, negative_grid = cut(tensor), Grid(step, 0)
        negative = IntegerFactor(
            codes=codes,
            factor_scale=factor_scale,
            input_grid=source,
            output_grid=negative_grid,
            name=f"{layer.name}_negative",
        )
        total = IntegerAdd(
            input_grids=(positive.output_grid, negative_grid), output_grid=output_grid, name=layer.name
        )
        return total([positive(value.tensor), negative(tensor)])

    return Pending(emit, layer, fuses=False)


def _elu(layer, value):
    return _table(IntegerElu, layer, value)


def _activation(layer, value):
    name = layer.get_config()["activation"]
    operator, nonnegative = _TABLES.get(name, (None, False))
    if operator is None:
        raise FoldError(layer, refusal(layer))
    return _table(operator, layer, value, nonnegative=nonnegative)


def _table(operator, layer, value, *, nonnegative=False):
    value = codes_of(layer, value)

    def emit(output_grid, activation):
        return operator(input_grid=value.grid, output_grid=output_grid, name=layer.name)(value.tensor)

    return Pending(emit, layer, fuses=False, nonnegative=nonnegative)


def refusal(layer) -> str:
    """Why an activation of a canonical network has no integer form; empty where it has one."""
    kind, config = type(layer).__name__, layer.get_config()
    if kind == "Activation" and config["activation"] not in _TABLES:
        return f"{config['activation']!r} has no integer operator here."
    return ""


_TABLES = {
    "sigmoid": (IntegerLogistic, True),
    "tanh": (IntegerTanh, False),
    "elu": (IntegerElu, False),
}
ACTIVATION_HANDLERS = {
    "ReLU": _relu,
    "LeakyReLU": _leaky_relu,
    "PReLU": _prelu,
    "EightBitPReLU": _prelu,
    "ELU": _elu,
    "Activation": _activation,
}
