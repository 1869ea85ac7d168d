"""How TFLite's runtimes turn a wide integer into a narrow one: the rounding rules of int8 kernels.

A product of scales is no integer, so each kernel multiplies its accumulator with a real number and rounds.
The runtimes do it in four ways, which differ next to halves:

    half_away(-1.5)                                      # -2: C's round()
    scale_half_even(-6, 0.25)                            # -2: float32 product, half to even (XNNPACK)
    double_rounding_away(-6, *fixed_point(0.25))         # -2: -3 / 2, half away from zero (gemmlowp)
    double_rounding_up(-6, *fixed_point(0.25))           # -1: -3 / 2, half up (ruy on x86)

A fixed-point multiplier is a mantissa in [2^30, 2^31) and an exponent: mantissa * 2^(exponent - 31). Both
fixed-point rules round twice: 4 * 0.325 is 1.3, but 4 * 0.65 = 2.6 -> 3, and 3 / 2 -> 2.
Integer arithmetic is exact in int64, float32 operations run in the stated order; arguments broadcast.
"""

import numpy as np

INT32 = np.iinfo(np.int32)


def half_away(values):
    """Float array -> the nearest integers in the same float type, halves away from zero (C's `round`)."""
    values = np.asarray(values)
    whole = np.trunc(values)
    # The difference is exact, where adding 0.5 would round 0.49999997 up.
    return whole + np.copysign(np.abs(values - whole) >= 0.5, values).astype(values.dtype)


def divide_half_away(numerators, denominators):
    """Integer arrays, denominators > 0 -> int64 quotients, halves away from zero for even denominators.

    The integer rule of the pooling kernels: (|n| + d // 2) // d with the sign of n.
    """
    numerators = np.asarray(numerators, np.int64)
    return np.sign(numerators) * ((np.abs(numerators) + denominators // 2) // denominators)


def wrap_int32(values):
    """int64 array -> int32 array modulo 2^32, which is what an int32 register keeps."""
    return np.asarray(values, np.int64).astype(np.int32)


def scale_half_even(values, multipliers):
    """int32 values * float32 multipliers -> float32 integers, halves to even.

    The value becomes a float32 first (half to even above 2^24), the product is rounded to float32, then to an
    integer: three roundings, all to even.
    """
    return np.rint(np.asarray(values).astype(np.float32) * np.asarray(multipliers, np.float32))


def fixed_point(multipliers):
    """Real multipliers >= 0 -> (mantissas, exponents), both int64: mantissa * 2^(exponent - 31).

    The mantissa is rounded half away from zero. Multipliers under 2^-32 become (0, 0): the kernels flush them
    too. ValueError for a negative or non-finite multiplier.
    """
    multipliers = np.asarray(multipliers, np.float64)
    if not (np.isfinite(multipliers).all() and (multipliers >= 0).all()):
        raise ValueError(f"multipliers are {multipliers}; a scale ratio is finite and not negative.")
    fractions, exponents = np.frexp(multipliers)
    mantissas = half_away(fractions * 2.0**31).astype(np.int64)
    # A fraction that rounds up to 1 moves to the next exponent.
    carried = mantissas == 2**31
    mantissas, exponents = np.where(carried, mantissas // 2, mantissas), exponents.astype(np.int64) + carried
    flushed = exponents < -31
    return np.where(flushed, 0, mantissas), np.where(flushed, 0, exponents)


def doubling_high_multiply(left, right, *, bits=32):
    """left * right * 2 / 2^bits of signed `bits`-wide integers -> int64, halves up.

    lowest * lowest, the one product out of range, saturates.
    """
    left, right = np.asarray(left, np.int64), np.asarray(right, np.int64)
    product = left * right
    nudge = np.where(product >= 0, 1 << (bits - 2), 1 - (1 << (bits - 2)))
    lowest = -(1 << (bits - 1))
    saturated = (left == lowest) & (right == lowest)
    return np.where(saturated, -lowest - 1, truncating_shift(product + nudge, bits - 1))


def truncating_shift(values, bits):
    """int64 values / 2^bits, rounded towards zero (C's division)."""
    values = np.asarray(values, np.int64)
    return np.sign(values) * (np.abs(values) >> bits)


def rounding_shift(values, bits):
    """int64 values / 2^bits, halves away from zero; bits >= 0."""
    values, bits = np.asarray(values, np.int64), np.asarray(bits, np.int64)
    mask = (np.int64(1) << bits) - 1
    threshold = (mask >> 1) + (values < 0)
    return (values >> bits) + ((values & mask) > threshold)


def double_rounding_away(values, mantissas, exponents):
    """int32 values * fixed-point multipliers -> int64: halves up after the product, then away from zero.

    The rule of gemmlowp: the product keeps its high 32 bits, and the right shift rounds once more. All of
    TFLite's reference kernels have it that scale in fixed point, and most of its optimized ones.
    """
    return rounding_shift(_high_product(values, mantissas, exponents), _right(exponents))


def double_rounding_up(values, mantissas, exponents):
    """int32 values * fixed-point multipliers -> int64: halves up after the product, then up again.

    The rule of ruy's kernels for AVX, AVX2 and AVX-512, behind the optimized convolution and dense kernels.
    """
    bits = _right(exponents)
    return (_high_product(values, mantissas, exponents) + ((np.int64(1) << bits) >> 1)) >> bits


def _high_product(values, mantissas, exponents):
    shifted = wrap_int32(np.asarray(values, np.int64) << np.maximum(exponents, 0))
    return doubling_high_multiply(shifted, mantissas)


def _right(exponents):
    return np.maximum(-np.asarray(exponents, np.int64), 0)


def in_lanes(values, lanes, vectorized, leftover, *, axis=None):
    """Apply `vectorized` to as many values as fill whole groups of `lanes`, `leftover` to the rest.

    TFLite's optimized kernels round vectors and what is left behind them by different rules. axis: None
    counts through the flattened array, -1 along the last axis. Both functions keep shapes.
    """
    if axis is None:
        return in_lanes(values.reshape(-1), lanes, vectorized, leftover, axis=-1).reshape(values.shape)
    cut = values.shape[axis] // lanes * lanes
    return np.concatenate([vectorized(values[..., :cut]), leftover(values[..., cut:])], axis=axis)
