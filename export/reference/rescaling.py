"""Operators that move numbers from one grid to another: QUANTIZE, DEQUANTIZE, and MEAN over height and width.

    codes = quantize(operator, [image], "xnnpack")         # int8

TFLite's optimized kernels work in vectors and finish what is left behind them one by one, by another rule:
some codes depend on their position in the batch (QUANTIZE) or on their channel (MEAN, on one thread).
"""

import numpy as np

from mmx_tf.export.reference import rounding
from mmx_tf.export.reference.bounds import HIGHEST, LOWEST, saturate
from mmx_tf.export.reference.kernels import INT8, computes

ALL_CODES = (LOWEST, HIGHEST)
# Values per step of TFLite's vector loops, on int8 and on float32.
LANES, FLOAT_LANES = 16, 8


def _requantized(operator):
    ratio = operator.inputs[0].scale / operator.outputs[0].scale
    return 2.0**-8 <= ratio <= 2.0**7


@computes("MEAN")
def mean(operator, inputs, rules):
    """MEAN over height and width, [N, H, W, C] -> [N, C] or [N, 1, 1, C].

    Three rules: XNNPACK scales the sum of raw codes in float32; TFLite's optimized kernel, taken with
    keepDims, scales the sum of raw codes and subtracts a zero point that it has rounded by itself; its
    reference kernel scales the sum of shifted codes with a truncated multiplier.
    """
    codes, axes = inputs[0], inputs[1]
    if codes.ndim != 4 or sorted(int(axis) % 4 for axis in np.atleast_1d(axes)) != [1, 2]:
        raise ValueError(
            f"operator {operator.index} (MEAN) reduces axes {np.atleast_1d(axes).tolist()} of shape "
            f"{codes.shape}; use 1 and 2 of [N, H, W, C]."
        )
    source, target, keep = operator.inputs[0], operator.outputs[0], bool(operator.options.keepDims)
    count = codes.shape[1] * codes.shape[2]
    sums = codes.sum(axis=(1, 2), keepdims=keep, dtype=np.int64)
    if rules == "xnnpack":
        scale = source.scale / target.scale * (np.float32(1) / np.float32(count))
        offset = np.float32(target.zero_point) - np.float32(count * source.zero_point) * scale
        return saturate(np.rint(sums.astype(np.float32) * scale + offset), ALL_CODES)
    if rules == "builtin" and keep:
        shift = np.float32(source.zero_point) * source.scale / target.scale
        offset = target.zero_point - int(np.trunc(shift + np.copysign(np.float32(0.5), shift)))
        ratio = source.scale / (np.float32(count) * target.scale)
        values = _scale(sums, ratio, rules, axis=-1)
        return saturate(values + offset, ALL_CODES)
    mantissa, exponent = rounding.fixed_point(np.float64(source.scale) / np.float64(target.scale))
    # The division by the count goes into the multiplier, as far as its bits allow, rounded down.
    shift = min(count.bit_length() - 1, 32, 31 + int(exponent))
    mantissa, exponent = (mantissa << shift) // count, exponent - shift
    values = rounding.double_rounding_away(sums - count * source.zero_point, mantissa, exponent)
    return saturate(values + target.zero_point, ALL_CODES)


@computes("QUANTIZE", ("FLOAT32", "INT8"))
@computes("QUANTIZE", ("UINT8", "INT8"), in_xnnpack=False)
@computes("QUANTIZE", INT8, in_xnnpack=_requantized)
def quantize(operator, inputs, rules):
    """QUANTIZE: float32 -> int8, or int8 or uint8 codes of one grid -> int8 codes of another."""
    values, source, target = inputs[0], operator.inputs[0], operator.outputs[0]
    if source.type == "FLOAT32":
        steps = _steps(values, target.scale, rules)
    elif rules == "xnnpack":
        # One multiplier with 8 fractional bits; halves up.
        multiplier = int(np.rint(np.float32(256) * (source.scale / target.scale)))
        steps = (_shifted(source, values) * multiplier + 128) >> 8
    else:
        ratio = np.float64(source.scale) / np.float64(target.scale)
        steps = _scale(_shifted(source, values), ratio, rules)
    return saturate(steps + target.zero_point, ALL_CODES)


@computes("DEQUANTIZE", ("INT8", "FLOAT32"))
@computes("DEQUANTIZE", ("UINT8", "FLOAT32"))
def dequantize(operator, inputs, rules):
    """DEQUANTIZE: int8 or uint8 codes -> float32, (q - z) * s rounded once.

    The vectors of TFLite's optimized kernel compute q * s - z * s instead and round three times.
    """
    source = operator.inputs[0]
    zero_point = np.float32(source.zero_point)

    def once(codes):
        return (codes - zero_point) * source.scale

    def vectorized(codes):
        return codes * source.scale + np.float32(-source.zero_point * np.float64(source.scale))

    codes = inputs[0].astype(np.float32)
    return rounding.in_lanes(codes, FLOAT_LANES, vectorized, once) if rules == "builtin" else once(codes)


def _steps(values, scale, rules):
    """float32 values / scale -> whole steps."""

    def times_inverse(numbers):
        return np.rint(numbers * (np.float32(1) / scale))

    if rules == "xnnpack":
        return times_inverse(values)
    if rules == "reference":
        return rounding.half_away(values / scale)
    # What is left behind the vectors is divided in float64.
    return rounding.in_lanes(
        values, FLOAT_LANES, times_inverse, lambda rest: rounding.half_away(rest / np.float64(scale))
    )


def _scale(values, ratio, rules, *, axis=None):
    """Integers * a real ratio in fixed point; `axis` as in `rounding.in_lanes`."""
    mantissa, exponent = rounding.fixed_point(ratio)

    def leftover(numbers):
        return rounding.double_rounding_away(numbers, mantissa, exponent)

    def vectorized(numbers):
        return rounding.double_rounding_up(numbers, mantissa, exponent)

    if rules != "builtin":
        return leftover(values)
    return rounding.in_lanes(values, LANES, vectorized, leftover, axis=axis)


def _shifted(tensor, codes):
    return codes.astype(np.int64) - tensor.zero_point
