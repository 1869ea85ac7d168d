"""Operators with a curve: HARD_SWISH, LOGISTIC, SOFTMAX, and RELU and RELU6 as operators of their own.

    codes = hard_swish(operator, [codes], "builtin")       # int8

An int8 input takes 256 values only, so every element-wise curve is computed once per code and looked up.
XNNPACK takes LOGISTIC alone; the rest is computed by TFLite's kernels, in fixed point or from float32 tables.
"""

import numpy as np

from mmx_tf.export.reference import rounding
from mmx_tf.export.reference.bounds import BOUNDS, HIGHEST, LOWEST, real_bounds, saturate
from mmx_tf.export.reference.fixed_point import exp_of_negative, reciprocal
from mmx_tf.export.reference.kernels import computes

ALL_CODES = (LOWEST, HIGHEST)
EVERY_CODE = np.arange(LOWEST, HIGHEST + 1)
INT16 = np.iinfo(np.int16)
# Softmax's fixed point: integer bits of the scaled differences and of the sum of exponentials.
DIFFERENCE_BITS, SUM_BITS = 5, 12


@computes("RELU", in_xnnpack=False)
def relu(operator, inputs, rules):
    """RELU: the code on the output grid, at least that of 0."""
    return _bounded(operator, inputs, rules, "RELU")


@computes("RELU6", in_xnnpack=False)
def relu6(operator, inputs, rules):
    """RELU6: the code on the output grid, between those of 0 and 6."""
    return _bounded(operator, inputs, rules, "RELU6")


def _bounded(operator, inputs, rules, activation):
    source, target = operator.inputs[0], operator.outputs[0]
    ratio = np.float64(source.scale / target.scale)
    table = rounding.double_rounding_away(EVERY_CODE - source.zero_point, *rounding.fixed_point(ratio))
    bounds = real_bounds(BOUNDS[activation], target, rules)
    return _look_up(saturate(table + target.zero_point, bounds), inputs[0])


@computes("LOGISTIC")
def logistic(operator, inputs, rules):
    """LOGISTIC: 1 / (1 + exp(-x)), whose output grid is 1/256 with zero point -128.

    XNNPACK computes the curve in float64 and rounds half to even, TFLite in float32 and half away from zero.
    """
    source, target = operator.inputs[0], operator.outputs[0]
    inverse = np.float32(1) / target.scale
    reals = (EVERY_CODE - source.zero_point).astype(np.float32) * source.scale
    if rules == "xnnpack":
        exponentials = np.exp(np.clip(reals, -100, 100).astype(np.float64))
        curve = (exponentials / (1 + exponentials)).astype(np.float32)
        curve = np.where(reals > 100, np.float32(1), np.where(reals < -100, np.float32(0), curve))
        table = np.rint(curve * inverse + np.float32(target.zero_point))
    else:
        curve = np.float32(1) / (np.float32(1) + _exp(-reals))
        table = rounding.half_away(curve * inverse) + target.zero_point
    return _look_up(saturate(table, ALL_CODES), inputs[0])


@computes("HARD_SWISH", in_xnnpack=False)
def hard_swish(operator, inputs, rules):
    """HARD_SWISH: x * relu6(x + 3) / 6 in 16-bit fixed point.

    ValueError when the input scale is 128 times the output scale or more, which the kernel refuses.
    """
    source, target = operator.inputs[0], operator.outputs[0]
    # Codes get 7 fractional bits; the gate counts in units of 3 / 2^15: it saturates where relu6 does.
    fine = np.float32(1 / 128) * source.scale
    output_mantissa, output_exponent = _int16_multiplier(fine / target.scale)
    gate_mantissa, gate_exponent = _int16_multiplier(fine / np.float32(3 / 32768))
    if output_exponent > 0:
        raise ValueError(
            f"operator {operator.index} (HARD_SWISH): the input scale {source.scale} is 128 times the output "
            f"scale {target.scale} or more."
        )
    shifted = (EVERY_CODE - source.zero_point).astype(np.int64) << 7
    scaled = rounding.doubling_high_multiply(shifted, output_mantissa, bits=16)
    # A left shift saturates in two parts around the multiplication, so that it loses no low bit.
    gate = _saturate16(shifted << max(gate_exponent - 1, 0))
    gate = rounding.doubling_high_multiply(gate, gate_mantissa, bits=16)
    if gate_exponent > 0:
        gate = _saturate16(gate << 1)
    gate = rounding.rounding_shift(gate, max(-gate_exponent, 0))
    gate = (gate + (1 << 15)) >> 1
    product = rounding.truncating_shift(gate * scaled, 15)
    table = rounding.rounding_shift(product, -output_exponent) + target.zero_point
    return _look_up(saturate(table, ALL_CODES), inputs[0])


@computes("SOFTMAX", in_xnnpack=False)
def softmax(operator, inputs, rules):
    """SOFTMAX over the last axis; the output grid is 1/256 with zero point -128.

    The optimized kernel sums float32 exponentials from left to right; the reference kernel is fixed point.
    ValueError where that one would abort the process.
    """
    source, target, beta = operator.inputs[0], operator.outputs[0], np.float32(operator.options.beta)
    codes = inputs[0].astype(np.int64)
    differences = codes - codes.max(axis=-1, keepdims=True)
    if rules == "reference":
        return _fixed_point_softmax(operator, differences, np.float64(beta) * np.float64(source.scale))
    shares = exponentials(operator)[-differences]
    sums = np.cumsum(shares, axis=-1, dtype=np.float32)[..., -1:]
    inverse = np.float32(1) / (sums * target.scale)
    return saturate(rounding.half_away(shares * inverse) + target.zero_point, ALL_CODES)


def exponentials(operator):
    """float32 [256]: exp of minus 0, 1, ... 255 steps of a SOFTMAX's input, times its beta."""
    scale = -operator.inputs[0].scale * np.float32(operator.options.beta)
    return _exp(scale * np.arange(256, dtype=np.float32))


def _fixed_point_softmax(operator, differences, real_scale):
    fraction = 31 - DIFFERENCE_BITS
    mantissa, exponent = rounding.fixed_point(min(real_scale * 2.0**fraction, 2.0**31 - 1))
    # Differences below this scale to less than -32, the end of the format: their exponentials count as 0.
    radius = (2**DIFFERENCE_BITS - 1) * 2.0**fraction / 2.0 ** float(exponent)
    counted = differences >= -np.floor(radius)
    scaled = rounding.double_rounding_away(np.where(counted, differences, 0), mantissa, exponent)
    exponentials = np.where(counted, exp_of_negative(scaled, integer_bits=DIFFERENCE_BITS), 0)
    sums = rounding.rounding_shift(exponentials, SUM_BITS).sum(axis=-1, keepdims=True)
    inverses, bits_over_one = reciprocal(sums, integer_bits=SUM_BITS)
    if bits_over_one.max(initial=0) > 8:
        raise ValueError(
            f"operator {operator.index} (SOFTMAX): exponentials of a row sum up to 512 or more, on which "
            "TFLite's reference kernel aborts. Use other rules, or a larger input scale."
        )
    products = rounding.doubling_high_multiply(inverses, exponentials)
    return saturate(rounding.rounding_shift(products, bits_over_one + 31 - 8) + LOWEST, ALL_CODES)


def _int16_multiplier(ratio):
    """A real ratio -> (16-bit mantissa, exponent), both int."""
    mantissa, exponent = rounding.fixed_point(np.float64(ratio))
    return min(int(mantissa + (1 << 15)) >> 16, INT16.max), int(exponent)


def _saturate16(values):
    return np.clip(values, INT16.min, INT16.max)


def _exp(reals):
    """exp of float32, rounded once from float64: C's expf except where that misses the nearest float32."""
    return np.exp(reals.astype(np.float64)).astype(np.float32)


def _look_up(table, codes):
    return table[codes.astype(np.int64) - LOWEST]
