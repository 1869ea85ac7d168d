"""The operators that activations become: the part of `handlers` that knows curves and slopes.

`ACTIVATION_HANDLERS` maps the name of a class to (layer, value) -> value, as `handlers.HANDLERS` does, and
`refusal` says why a layer has no integer form. What each operator computes is in `layers.integer.factors`
and `layers.integer.curves`, what was measured of them in BUILD_NOTES.md.
"""

import tf_keras as keras

from mmx_tf.folding.values import FoldError, Pending, codes_of
from mmx_tf.layers.grid import Grid
from mmx_tf.layers.integer.curves import IntegerElu, IntegerTanh
from mmx_tf.layers.integer.factors import IntegerFactor, on_8_bits, sided
from mmx_tf.layers.integer.layers import IntegerAdd, IntegerMul, IntegerRequantize, IntegerRescale
from mmx_tf.layers.integer.smooth import CURVES, IntegerCurve
from mmx_tf.layers.integer.softmax import IntegerSoftmax
from mmx_tf.layers.quantizers.gates import IntegerLogistic
from mmx_tf.network.heads import is_softmax

SMALLEST_RATIO = 2.0**-10
"""Of two scales that XNNPACK's ADD takes."""
SMALLEST_PRODUCT = 2.0**-15
"""Of the scales of MUL's inputs beside its output's: twice what XNNPACK takes."""
STEEPEST = 8.0
"""Beyond it, the step of few bits may be further above that of 8 bits than XNNPACK's operators allow."""
LINEAR = 2.0**-12
"""A slope that is as near to 1 changes no code by more than a sixteenth."""


def _unless_refused(handle):
    """A handler that says why a layer has no integer form."""

    def handle_or_refuse(layer, value):
        reason = refusal(layer)
        if reason:
            raise FoldError(layer, reason, advice="")
        return handle(layer, value)

    return handle_or_refuse


def _relu(layer, value):
    """Fused into the operator before it, else into a multiplication by one."""
    slope, limit = float(layer.negative_slope), layer.max_value
    plain = not slope and not float(layer.threshold)
    cap = None if limit is None or (plain and float(limit) == 6.0) else float(limit)
    if slope:
        return _leaky(layer, value, slope, cap)
    if float(layer.threshold):
        return _thresholded(layer, value, float(layer.threshold), cap)
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
        distance = Grid(abs(1 - slope), 0).scale if slope != 1 else 0.0
        if distance < LINEAR:
            rescale = IntegerRescale(input_grid=source, output_grid=output_grid, name=layer.name)
            return rescale(value.tensor)
        # On this scale every multiple of the input's step is a code.
        scale = Grid(source.scale * distance, 0).scale
        side = IntegerFactor(
            codes=[-1 if slope < 1 else 1],
            factor_scale=distance,
            input_grid=source,
            output_grid=sided(max(scale, output_grid.scale * SMALLEST_RATIO), positive=slope < 1),
            name=f"{layer.name}_negative",
        )
        total = IntegerAdd(input_grids=(source, side.output_grid), output_grid=output_grid, name=layer.name)
        return total([value.tensor, side(value.tensor)])

    return Pending(emit, layer, fuses=False, nonnegative=slope <= 0, cap=cap)


def _thresholded(layer, value, threshold, cap):
    """x times 1 above the threshold, and 0 up to it."""
    value = codes_of(layer, value)

    def emit(output_grid, activation):
        above = IntegerCurve(
            curve="above",
            alpha=threshold,
            input_grid=value.grid,
            output_grid=Grid.low_bit(step_size=1.0, highest_code=1),
            name=f"{layer.name}_above",
        )
        product = IntegerMul(
            input_grids=(value.grid, above.output_grid),
            output_grid=output_grid,
            name=layer.name,
        )
        return product([value.tensor, above(value.tensor)])

    return Pending(emit, layer, fuses=False, nonnegative=True, cap=cap)


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
        # Slopes below it change no code.
        smallest = SMALLEST_PRODUCT * step / source.scale
        codes, factor_scale = on_8_bits(slopes, smallest_scale=smallest)
        tensor, negative_grid = value.tensor, sided(step, positive=False)
        if codes.min() < 0:
            # Then saturation does not tell the sides apart: the sign of x is cut off first.
            source = sided(source.scale, positive=False)
            cut = IntegerRequantize(input_grid=value.grid, output_grid=source, name=f"{layer.name}_below")
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
    if float(layer.alpha) == 1.0:
        return _table(layer, value, IntegerElu)
    return _table(layer, value, IntegerCurve, curve="elu", alpha=float(layer.alpha))


def _smooth(layer, value):
    return _curve(layer, value, layer.function)


def _softmax(layer, value):
    return _table(layer, value, IntegerSoftmax, nonnegative=True)


def _activation(layer, value):
    name = layer.get_config()["activation"]
    if name == "softmax":
        return _softmax(layer, value)
    if name in _TABLES:
        return _table(layer, value, _TABLES[name], nonnegative=name == "sigmoid")
    return _curve(layer, value, name)


def _curve(layer, value, name):
    return _table(layer, value, IntegerCurve, nonnegative=CURVES[name].nonnegative, curve=name)


def _table(layer, value, operator, *, nonnegative=False, **options):
    value = codes_of(layer, value)

    def emit(output_grid, activation):
        table = operator(input_grid=value.grid, output_grid=output_grid, name=layer.name, **options)
        return table(value.tensor)

    return Pending(emit, layer, fuses=False, nonnegative=nonnegative)


_TABLES = {"sigmoid": IntegerLogistic, "tanh": IntegerTanh, "elu": IntegerElu}
"""Keras's activation -> the layer of its operator."""

ACTIVATION_HANDLERS = {
    name: _unless_refused(handle)
    for name, handle in {
        "ReLU": _relu,
        "LeakyReLU": _leaky_relu,
        "PReLU": _prelu,
        "EightBitPReLU": _prelu,
        "ELU": _elu,
        "Smooth": _smooth,
        "Softmax": _softmax,
        "Activation": _activation,
    }.items()
}


def refusal(layer: keras.layers.Layer) -> str:
    """Why an activation of a canonical network has no integer form, and what to use; empty if it has one."""
    kind = type(layer).__name__
    argument = {"ReLU": "negative_slope", "LeakyReLU": "alpha"}.get(kind)
    slope = float(getattr(layer, argument)) if argument else 0.0
    if kind == "ReLU" and slope and float(layer.threshold):
        return (
            f"it has threshold={float(layer.threshold):g} and negative_slope={slope:g}: use one of them, the "
            "other 0."
        )
    if abs(slope) > STEEPEST:
        return (
            f"it has {argument}={slope:g}, where codes of 8 bits do not tell x apart: use a slope in "
            f"-{STEEPEST:g}..{STEEPEST:g}."
        )
    if is_softmax(layer):
        return _refusal_of_softmax(layer)
    if kind == "Activation" and layer.get_config()["activation"] not in (*_TABLES, *CURVES):
        known = ", ".join(sorted((*_TABLES, *_OF_KERAS)))
        return f"{layer.get_config()['activation']!r} has no operator: use one of {known}."
    return ""


def _refusal_of_softmax(layer) -> str:
    axis, rank = getattr(layer, "axis", -1), len(layer.output_shape)
    axes = [axis] if isinstance(axis, int) else list(axis)
    if [axis % rank for axis in axes] != [rank - 1]:
        return (
            f"it takes the softmax of axis {axis}, and TFLite of the last one: use axis=-1 behind a Permute."
        )
    return ""


_OF_KERAS = ("gelu", "selu", "softplus", "exponential", "mish", "softsign", "relu", "swish", "hard_sigmoid")
