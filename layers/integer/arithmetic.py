"""The integer arithmetic of XNNPACK's int8 operators, as pure TensorFlow functions, equal in every bit.

Tensors hold int8 codes q as float32, so that they compare directly with the tensors of a .tflite file. Each
function names the rule it reproduces; the rules were read from XNNPACK's sources (microparams-init.c and the
qs8 kernels) and checked against LiteRT over all codes. They are not one rule:

    convolution, dense, multiply   float32(acc) * float32 multiplier, round half to even
    add                            two 21-bit fixed-point multipliers, round half up
    int8 -> int8 QUANTIZE          one multiplier with 8 fractional bits (!), round half up
    multiply by the constant 1     a requantization with the full float32 multiplier, round half to even
    mean                           float32(sum) * scale + offset, both in float32, round half to even
    logistic                       a table: the curve in float64, then float32 and round half to even

Constants are computed with numpy in float32, in XNNPACK's order, never in the graph: TensorFlow's graph
optimizer replaces a division by a constant with a multiplication by its reciprocal.
"""

import numpy as np
import tensorflow as tf

from mmx_tf.layers.grid import HIGHEST, LOWEST, Grid

ACTIVATIONS = {"linear": (None, None), "relu": (0.0, None), "relu6": (0.0, 6.0), "relu_n1_to_1": (-1.0, 1.0)}
EXACT_FLOAT32 = 2**24
ONE = Grid(1.0, 0)


def activation_bounds(activation, grid):
    """(lowest, highest) code of a fused activation: its real bounds quantized on the output `grid`.

    XNNPACK adds the zero point in float32 before it rounds, half to even. ValueError for an unknown
    activation.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation is {activation!r}; use one of {sorted(ACTIVATIONS)}.")

    def quantize(value):
        code = np.float32(value) / np.float32(grid.scale) + np.float32(grid.zero_point)
        return int(np.rint(np.clip(code, LOWEST, HIGHEST)))

    low, high = ACTIVATIONS[activation]
    return (LOWEST if low is None else quantize(low), HIGHEST if high is None else quantize(high))


def clip(codes, bounds):
    """Saturate `codes` to the inclusive `bounds` (lowest, highest)."""
    return tf.clip_by_value(codes, float(bounds[0]), float(bounds[1]))


def quantize(values, grid):
    """Float tensor -> codes on `grid`; the same rule as `Grid.quantize`, whose docstring gives it."""
    inverse = np.float32(1) / np.float32(grid.scale)
    # float64 holds the product of two float32 exactly, so this is the float32 product; the casts keep the
    # graph optimizer from merging the constant with one that the caller multiplied by.
    scaled = tf.cast(tf.cast(values, tf.float64) * np.float64(inverse), tf.float32)
    return clip(tf.round(scaled) + float(grid.zero_point), (LOWEST, HIGHEST))


def weight_multipliers(input_grid, weight_scales, output_grid):
    """Requantization multipliers, float32 [channels]: (s_in * s_w) / s_out in float32, in this order.

    ValueError when one is 256 or more: XNNPACK refuses such an operator.
    """
    product = np.float32(input_grid.scale) * np.asarray(weight_scales, np.float32)
    multipliers = product / np.float32(output_grid.scale)
    if not np.all(multipliers < 256):
        raise ValueError(
            f"s_in * s_w / s_out is {float(np.max(multipliers)):.6g}; XNNPACK needs less than 256. "
            "Use a larger output scale."
        )
    return multipliers.astype(np.float32)


def requantize_accumulator(accumulator, multipliers, zero_point, bounds):
    """int32 accumulator (a tensor of integers; int32, float32 or float64) -> codes.

    Rule: convert to float32 (half to even above 2^24), multiply by the float32 multiplier, round half to
    even, add the zero point, clamp. `multipliers`: float32 tensor or array that broadcasts over the last
    axis.
    """
    scaled = tf.cast(accumulator, tf.float32) * multipliers
    # Clamping first keeps huge values inside float32's exact integers; rounding is monotonic, so the order is
    # free.
    low, high = bounds[0] - zero_point, bounds[1] - zero_point
    return tf.round(tf.clip_by_value(scaled, float(low), float(high))) + float(zero_point)


def add_constants(grid_a, grid_b, output_grid):
    """(multiplier_a, multiplier_b, shift) of XNNPACK's int8 add.

    The larger of the two scale ratios gets a multiplier in [2^20, 2^21]; both share one shift.
    ValueError when a ratio is outside [2^-10, 2^8): the operator would not be delegated.
    """
    ratios = [np.float32(grid.scale) / np.float32(output_grid.scale) for grid in (grid_a, grid_b)]
    for ratio in ratios:
        _check_ratio("add", ratio, -10, 8)
    shift = 20 - (int(np.frexp(max(ratios))[1]) - 1)
    multiplier_a, multiplier_b = (int(np.rint(np.ldexp(np.float64(ratio), shift))) for ratio in ratios)
    return multiplier_a, multiplier_b, shift


def add(codes_a, codes_b, *, grid_a, grid_b, output_grid, activation="linear"):
    """Element-wise sum of two code tensors on their own grids -> codes on `output_grid`."""
    multiplier_a, multiplier_b, shift = add_constants(grid_a, grid_b, output_grid)
    shifted_a = tf.cast(codes_a, tf.int32) - grid_a.zero_point
    shifted_b = tf.cast(codes_b, tf.int32) - grid_b.zero_point
    total = shifted_a * multiplier_a + shifted_b * multiplier_b + (1 << (shift - 1))
    codes = tf.bitwise.right_shift(total, tf.constant(shift, tf.int32)) + output_grid.zero_point
    return clip(tf.cast(codes, tf.float32), activation_bounds(activation, output_grid))


def multiply_multiplier(grid_a, grid_b, output_grid):
    """float32((s_a * s_b) / s_out); ValueError outside [2^-16, 2^8): the operator would not be delegated."""
    multiplier = np.float32(grid_a.scale) * np.float32(grid_b.scale) / np.float32(output_grid.scale)
    _check_ratio("multiply", multiplier, -16, 8)
    return multiplier


def multiply(codes_a, codes_b, *, grid_a, grid_b, output_grid, activation="linear"):
    """Element-wise product (broadcasting) of two code tensors -> codes on `output_grid`.

    Rule: float32((a - z_a) * (b - z_b)) * float32((s_a * s_b) / s_out), round half to even.
    """
    multiplier = multiply_multiplier(grid_a, grid_b, output_grid)
    # In int32, because the graph optimizer would turn float (a * b) * constant into a * (b * constant).
    shifted_a = tf.cast(codes_a, tf.int32) - grid_a.zero_point
    product = shifted_a * (tf.cast(codes_b, tf.int32) - grid_b.zero_point)
    codes = requantize_accumulator(product, multiplier, output_grid.zero_point, (LOWEST, HIGHEST))
    return clip(codes, activation_bounds(activation, output_grid))


def requantize_multiplier(input_grid, output_grid):
    """The int multiplier (in 1/256) of an int8 -> int8 QUANTIZE: round half to even of 256 * (s_in / s_out).

    ValueError when s_in / s_out is outside [2^-8, 2^7]: the operator would not be delegated.
    """
    ratio = np.float32(input_grid.scale) / np.float32(output_grid.scale)
    _check_ratio("int8 -> int8 QUANTIZE", ratio, -8, 7)
    return int(np.rint(np.float32(256) * ratio))


def requantize(codes, *, input_grid, output_grid):
    """Codes on `input_grid` -> codes on `output_grid` as the QUANTIZE operator does it.

    The ratio of the scales is rounded to a multiple of 1/256, so it is exact only where s_in / s_out is one.
    """
    multiplier = requantize_multiplier(input_grid, output_grid)
    scaled = (codes - float(input_grid.zero_point)) * float(multiplier)
    return clip(tf.floor((scaled + 128.0) * (1 / 256)) + float(output_grid.zero_point), (LOWEST, HIGHEST))


def rescale_multiplier(input_grid, output_grid):
    """float32 s_in / s_out of `rescale`; ValueError outside [2^-16, 2^8)."""
    return multiply_multiplier(input_grid, ONE, output_grid)


def rescale(codes, *, input_grid, output_grid, activation="linear"):
    """Codes on `input_grid` -> codes on `output_grid` as a MUL by the constant 1 does it.

    Rule: float32(q - z_in) * float32(s_in / s_out), round half to even: what a fake quantizer computes in
    training.
    """
    multiplier = rescale_multiplier(input_grid, output_grid)
    # The casts keep the multiplier apart from constants before it, as in `multiply`.
    shifted = tf.cast(codes, tf.int32) - input_grid.zero_point
    bounds = activation_bounds(activation, output_grid)
    return requantize_accumulator(shifted, multiplier, output_grid.zero_point, bounds)


def mean(codes, *, input_grid, output_grid, keepdims=False):
    """Mean over height and width of NHWC codes -> codes on `output_grid`.

    Rule: the sum of the raw codes in int32; scale = (s_in / s_out) * (1 / (H*W)) and offset = z_out -
    (H*W*z_in) * scale in float32; then round half to even of float32(sum) * scale + offset.
    """
    count = int(codes.shape[1]) * int(codes.shape[2])
    ratio = np.float32(input_grid.scale) / np.float32(output_grid.scale)
    scale = ratio * (np.float32(1) / np.float32(count))
    offset = np.float32(output_grid.zero_point) - np.float32(count * input_grid.zero_point) * scale
    total = tf.reduce_sum(tf.cast(codes, tf.int32), axis=[1, 2], keepdims=keepdims)
    return clip(tf.round(tf.cast(total, tf.float32) * scale + offset), (LOWEST, HIGHEST))


def logistic_table(input_grid, output_grid):
    """float32 [256]: the code of 1 / (1 + exp(-x)) for each input code, lowest first.

    Rule: x is float32, the curve is computed in float64 and rounded to float32; then round half to even of
    curve * (1 / s_out) + z_out in float32. From |x| = 100 on it is 0 or 1.
    """
    codes = np.arange(LOWEST, HIGHEST + 1)
    reals = (codes - input_grid.zero_point).astype(np.float32) * np.float32(input_grid.scale)
    limited = np.clip(reals.astype(np.float64), -100, 100)
    curve = (np.exp(limited) / (1 + np.exp(limited))).astype(np.float32)
    curve = np.where(reals > 100, np.float32(1), np.where(reals < -100, np.float32(0), curve))
    inverse = np.float32(1) / np.float32(output_grid.scale)
    table = np.rint(curve * inverse + np.float32(output_grid.zero_point))
    return np.clip(table, LOWEST, HIGHEST).astype(np.float32)


def _check_ratio(operator, ratio, lowest_exponent, highest_exponent):
    if not 2.0**lowest_exponent <= ratio < 2.0**highest_exponent:
        raise ValueError(
            f"{operator}: the ratio of input to output scale is {float(ratio):.6g}; XNNPACK needs it in "
            f"[2^{lowest_exponent}, 2^{highest_exponent}). Bring the two scales closer together."
        )
