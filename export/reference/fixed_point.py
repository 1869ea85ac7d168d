"""exp and 1 / x in 32-bit fixed point, as gemmlowp defines them for TFLite's reference softmax.

    raw = exp_of_negative(np.array([-(1 << 26)]), integer_bits=5)       # exp(-1) * 2^31
    inverse, bits = reciprocal(np.array([3 << 19]), integer_bits=12)    # 1 / 3 = inverse / 2^31 / 2^bits

A number with `integer_bits` is an int32 worth raw * 2^(integer_bits - 31). Arrays are int64 that hold int32
values.
"""

import numpy as np

from mmx_tf.export.reference.rounding import INT32, doubling_high_multiply, rounding_shift

EXP_MINUS_EIGHTH, ONE_THIRD = 1895147668, 715827883
# exp(-2^exponent) for the bits of the exponent's quarters: -1/4, -1/2, -1, ..., -16.
EXP_OF_POWERS = {-2: 1672461947, -1: 1302514674, 0: 790015084, 1: 290630308, 2: 39332535, 3: 720401, 4: 242}
# Newton's start for 1 / (1 + x): 48/17 - 32/17 * half the denominator, with 2 integer bits.
FORTY_EIGHT_SEVENTEENTHS, MINUS_THIRTY_TWO_SEVENTEENTHS = 1515870810, -1010580540
NEWTON_STEPS = 3


def exp_of_negative(raw, *, integer_bits):
    """exp of numbers <= 0 with `integer_bits` (at most 5) -> with 0 integer bits; exp(0) is 2^31 - 1."""
    raw = np.asarray(raw, np.int64)
    fraction = 31 - integer_bits
    quarter = np.int64(1) << (fraction - 2)
    rest = (raw & (quarter - 1)) - quarter
    result = _exp_between_quarter_and_zero(_saturating_left_shift(rest, integer_bits))
    powers = rest - raw
    for exponent, factor in EXP_OF_POWERS.items():
        if exponent < integer_bits:
            chosen = (powers & (np.int64(1) << (fraction + exponent))) != 0
            result = np.where(chosen, doubling_high_multiply(result, factor), result)
    return np.where(raw == 0, INT32.max, result)


def _exp_between_quarter_and_zero(raw):
    # Taylor's series round -1/8.
    x = raw + (1 << 28)
    x2 = doubling_high_multiply(x, x)
    x3, x4 = doubling_high_multiply(x2, x), doubling_high_multiply(x2, x2)
    cubic = doubling_high_multiply(rounding_shift(x4, 2) + x3, ONE_THIRD) + x2
    series = rounding_shift(cubic, 1)
    return EXP_MINUS_EIGHTH + doubling_high_multiply(EXP_MINUS_EIGHTH, x + series)


def reciprocal(raw, *, integer_bits):
    """1 / x of numbers x > 0 with `integer_bits` -> (inverse of x's leading fraction, bits of x over 1).

    x = f * 2^bits with f in [1, 2); the inverse is 1 / f with 0 integer bits.
    """
    raw = np.asarray(raw, np.int64)
    headroom = 32 - np.frexp(raw.astype(np.float64))[1].astype(np.int64)
    fraction = (raw << headroom) - (np.int64(1) << 31)
    return _one_over_one_plus(fraction), integer_bits - headroom


def _one_over_one_plus(raw):
    # (1 + x) / 2 with 0 integer bits; 1 is 2^31 - 1 there. Both are positive, so half goes up.
    half = (raw + INT32.max + 1) >> 1
    x = FORTY_EIGHT_SEVENTEENTHS + doubling_high_multiply(half, MINUS_THIRTY_TWO_SEVENTEENTHS)
    for _ in range(NEWTON_STEPS):
        missing = (1 << 29) - doubling_high_multiply(half, x)
        # A product of two numbers with 2 integer bits has 4; back to 2.
        x = x + _saturating_left_shift(doubling_high_multiply(x, missing), 2)
    return _saturating_left_shift(x, 1)


def _saturating_left_shift(raw, bits):
    return np.clip(raw << bits, INT32.min, INT32.max)
