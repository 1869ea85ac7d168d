"""The operators that activations become: curves, and slopes by several operators.

What each operator computes is in `mmx_tf.layers.integer.factors` and `mmx_tf.layers.integer.curves`, what was
measured of them in docs/design/export.md.
"""

import tf_keras as keras

from mmx_tf.folding.registry import folds, refuses
from mmx_tf.folding.values import Pending, codes_of
from mmx_tf.layers.activations import CURVES, GATE_OF
from mmx_tf.layers.grid import Grid
from mmx_tf.layers.integer.curves import IntegerElu, IntegerTanh
from mmx_tf.layers.integer.factors import IntegerFactor, on_8_bits, sided
from mmx_tf.layers.integer.layers import IntegerAdd, IntegerMul, IntegerRequantize, IntegerRescale
from mmx_tf.layers.integer.smooth import IntegerCurve
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


@folds("ReLU")
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


@folds("LeakyReLU")
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


@folds("PReLU", "EightBitPReLU")
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


@folds("ELU")
def _elu(layer, value):
    if float(layer.alpha) == 1.0:
        return _table(layer, value, IntegerElu)
    return _table(layer, value, IntegerCurve, curve="elu", alpha=float(layer.alpha))


@folds("Smooth")
def _smooth(layer, value):
    return _curve(layer, value, layer.function)


@folds("Activation")
def _activation(layer, value):
    name = layer.get_config()["activation"]
    if name == "softmax":
        return _table(layer, value, IntegerSoftmax, nonnegative=True)
    if name in _TABLES:
        return _table(layer, value, _TABLES[name], nonnegative=name == "sigmoid")
    return _curve(layer, value, name)


def _curve(layer, value, name):
    return _table(layer, value, IntegerCurve, nonnegative=CURVES[name].floor == 0, curve=name)


def _table(layer, value, operator, *, nonnegative=False, **options):
    value = codes_of(layer, value)

    def emit(output_grid, activation):
        table = operator(input_grid=value.grid, output_grid=output_grid, name=layer.name, **options)
        return table(value.tensor)

    return Pending(emit, layer, fuses=False, nonnegative=nonnegative)


_TABLES = {"sigmoid": IntegerLogistic, "tanh": IntegerTanh, "elu": IntegerElu}
"""Keras's activation -> the layer of its operator."""


@refuses("ReLU")
def _refusal_of_relu(layer) -> str:
    slope, threshold = float(layer.negative_slope), float(layer.threshold)
    if slope and threshold:
        return f"it has threshold={threshold:g} and negative_slope={slope:g}: use one of them, the other 0."
    return _refusal_of_slope("negative_slope", slope)


@refuses("LeakyReLU")
def _refusal_of_leaky_relu(layer) -> str:
    return _refusal_of_slope("alpha", float(layer.alpha))


def _refusal_of_slope(argument: str, slope: float) -> str:
    if abs(slope) <= STEEPEST:
        return ""
    return (
        f"it has {argument}={slope:g}, where codes of 8 bits do not tell x apart: use a slope in "
        f"-{STEEPEST:g}..{STEEPEST:g}."
    )


@refuses("Activation")
def _refusal_of_activation(layer) -> str:
    name = layer.get_config()["activation"]
    if is_softmax(layer):
        return _refusal_of_softmax(layer)
    if name in (*_TABLES, *CURVES):
        return ""
    of_keras = {*_TABLES, *_OTHERWISE, *(set(CURVES) & set(vars(keras.activations)))}
    return f"{name!r} has no operator: use one of {', '.join(sorted(of_keras))}."


@refuses("Softmax")
def _refusal_of_softmax(layer) -> str:
    axis, rank = getattr(layer, "axis", -1), len(layer.output_shape)
    axes = [axis] if isinstance(axis, int) else list(axis)
    if [axis % rank for axis in axes] != [rank - 1]:
        return (
            f"it takes the softmax of axis {axis}, and TFLite of the last one: use axis=-1 behind a Permute."
        )
    return ""


_OTHERWISE = ("relu", "swish", "hard_sigmoid", *GATE_OF)
"""Activations that a canonical network has in another form."""
