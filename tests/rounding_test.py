"""The rounding rules on values worked out by hand, and against exact fractions."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmx_tf.export.reference import rounding
from mmx_tf.export.reference.fixed_point import exp_of_negative, reciprocal

ACCUMULATORS = st.integers(-(2**31), 2**31 - 1)
MULTIPLIERS = st.floats(2.0**-20, 0.999)


def test_half_away():
    values = np.array([0.5, 1.5, 2.5, -0.5, -2.5, 0.4, -0.6, 7.0])
    assert rounding.half_away(values).tolist() == [1, 2, 3, -1, -3, 0, -1, 7]
    # The float32 below 1/2: adding 1/2 to it would round to 1.
    below = np.nextafter(np.float32(0.5), np.float32(0))
    assert rounding.half_away(below) == 0 and rounding.half_away(below).dtype == np.float32


def test_divide_half_away():
    numerators = [7, -7, 5, -4, 6, 1]
    assert rounding.divide_half_away(numerators, 2).tolist() == [4, -4, 3, -2, 3, 1]
    assert rounding.divide_half_away([4, 5, -4, -5], 3).tolist() == [1, 2, -1, -2]
    assert rounding.divide_half_away([10, 10], np.array([4, 3])).tolist() == [3, 3]


def test_wrap_int32():
    values = [2**31 - 1, 2**31, -(2**31) - 1, 2**32 + 5]
    assert rounding.wrap_int32(values).tolist() == [2**31 - 1, -(2**31), 2**31 - 1, 5]


def test_scale_half_even():
    assert rounding.scale_half_even([1, 3, 5, -1, -3], 0.5).tolist() == [0, 2, 2, 0, -2]
    # 2^24 + 1 lies between two float32 and goes to the even one; 2^24 + 3 goes up to 2^24 + 4.
    assert rounding.scale_half_even([2**24 + 1, 2**24 + 3], 1.0).tolist() == [2**24, 2**24 + 4]
    # One multiplier for each channel.
    scaled = rounding.scale_half_even([[10, 10], [-10, 30]], np.array([0.25, 0.1], np.float32))
    assert scaled.tolist() == [[2, 1], [-2, 3]]


def test_fixed_point():
    mantissas, exponents = rounding.fixed_point([0.75, 1.0, 0.25, 6.0, 0.0])
    assert mantissas.tolist() == [3 << 29, 1 << 30, 1 << 30, 3 << 29, 0]
    assert exponents.tolist() == [0, 1, -1, 3, 0]
    # A fraction that rounds up to 1, the smallest multiplier, and one that is flushed.
    mantissas, exponents = rounding.fixed_point([1 - 2.0**-40, 2.0**-32, 2.0**-33])
    assert mantissas.tolist() == [1 << 30, 1 << 30, 0] and exponents.tolist() == [1, -31, 0]


@pytest.mark.parametrize("multiplier", [-0.5, np.nan, np.inf])
def test_fixed_point_refuses_what_is_no_ratio_of_scales(multiplier):
    with pytest.raises(ValueError, match="scale ratio"):
        rounding.fixed_point(multiplier)


def test_doubling_high_multiply():
    # 2^30 * a * 2 / 2^32 = a / 2: halves go up, also for negative numbers.
    assert rounding.doubling_high_multiply([1, 3, -1, -3, 4], 1 << 30).tolist() == [1, 2, 0, -1, 2]
    assert rounding.doubling_high_multiply([1, 3, -1, -3, 4], 1 << 14, bits=16).tolist() == [1, 2, 0, -1, 2]
    assert rounding.doubling_high_multiply(-(2**31), -(2**31)) == 2**31 - 1
    assert rounding.doubling_high_multiply(-(2**15), -(2**15), bits=16) == 2**15 - 1


def test_shifts():
    assert rounding.truncating_shift([5, -5, -1, 4], 1).tolist() == [2, -2, 0, 2]
    assert rounding.rounding_shift([5, -5, 1, -1, 4], 1).tolist() == [3, -3, 1, -1, 2]
    assert rounding.rounding_shift([6, -6, 5, -5, 7], 2).tolist() == [2, -2, 1, -1, 2]
    assert rounding.rounding_shift([3, -3], 0).tolist() == [3, -3]


def test_double_roundings_at_ties():
    # Times 1/4 is times 1/2 after a halving shift: -6 -> -3 -> -3/2.
    quarter = rounding.fixed_point(0.25)
    values = [6, -6, 2, -2, 4, -4]
    assert rounding.double_rounding_away(values, *quarter).tolist() == [2, -2, 1, -1, 1, -1]
    assert rounding.double_rounding_up(values, *quarter).tolist() == [2, -1, 1, 0, 1, -1]


def test_double_roundings_round_twice():
    # 4 * 0.325 = 1.3, but 4 * 0.65 = 2.6 -> 3 and 3 / 2 = 1.5 -> 2.
    multiplier = rounding.fixed_point(0.325)
    assert rounding.double_rounding_away(4, *multiplier) == 2
    assert rounding.double_rounding_up(4, *multiplier) == 2
    assert rounding.scale_half_even(4, 0.325) == 1
    # -1.3: -2.6 -> -3, and -3 / 2 goes to -2 or -1.
    assert rounding.double_rounding_away(-4, *multiplier) == -2
    assert rounding.double_rounding_up(-4, *multiplier) == -1


def test_multipliers_over_one_shift_left_first_and_wrap():
    multiplier = rounding.fixed_point(6.0)
    assert rounding.double_rounding_away([3, -3], *multiplier).tolist() == [18, -18]
    assert rounding.double_rounding_up([3, -3], *multiplier).tolist() == [18, -18]
    # 2^29 << 3 is 2^32, which is 0 in int32.
    assert rounding.double_rounding_away(2**29, *multiplier) == 0


@given(ACCUMULATORS, MULTIPLIERS)
def test_double_roundings_are_within_one_of_the_exact_product(value, multiplier):
    exact = Fraction(value) * Fraction(multiplier)
    # The mantissa's own error, half of 2^-31 of the multiplier's power of two.
    error = abs(Fraction(value)) * Fraction(multiplier) / 2**31
    for rule in (rounding.double_rounding_away, rounding.double_rounding_up):
        assert abs(int(rule(value, *rounding.fixed_point(multiplier))) - exact) <= 1 + error


@given(ACCUMULATORS, MULTIPLIERS)
def test_double_rounding_away_is_two_roundings_of_exact_fractions(value, multiplier):
    mantissa, exponent = (int(part) for part in rounding.fixed_point(multiplier))
    first = (Fraction(value * mantissa, 2**31) + Fraction(1, 2)).__floor__()
    second = (abs(Fraction(first, 2**-exponent)) + Fraction(1, 2)).__floor__() * (1 if first >= 0 else -1)
    assert rounding.double_rounding_away(value, mantissa, exponent) == second


@given(st.integers(-(2**24), 2**24), st.floats(2.0**-20, 0.9375, width=32))
def test_scale_half_even_is_python_s_round_of_the_float32_product(value, multiplier):
    product = float(np.float32(Fraction(value) * Fraction(multiplier)))
    assert rounding.scale_half_even(value, multiplier) == round(product)


def test_in_lanes():
    values = np.arange(11)
    out = rounding.in_lanes(values, 4, lambda v: v * 10, lambda v: -v)
    assert out.tolist() == [0, 10, 20, 30, 40, 50, 60, 70, -8, -9, -10]
    rows = rounding.in_lanes(values[:10].reshape(2, 5), 4, lambda v: v * 10, lambda v: -v, axis=-1)
    assert rows.tolist() == [[0, 10, 20, 30, -4], [50, 60, 70, 80, -9]]
    # Without an axis the lanes run across rows.
    flat = rounding.in_lanes(values[:10].reshape(2, 5), 4, lambda v: v * 10, lambda v: -v)
    assert flat.tolist() == [[0, 10, 20, 30, 40], [50, 60, 70, -8, -9]]


def test_fixed_point_exponential():
    reals = -np.linspace(0, 31, 500)
    raw = np.round(reals * 2.0**26).astype(np.int64)
    want = np.exp(raw / 2.0**26)
    np.testing.assert_allclose(exp_of_negative(raw, integer_bits=5) / 2.0**31, want, atol=2e-7)
    assert exp_of_negative(np.array([0]), integer_bits=5) == 2**31 - 1


def test_fixed_point_reciprocal():
    numbers = np.array([1.0, 1.5, 2.0, 3.0, 100.25, 511.0])
    inverses, bits = reciprocal((numbers * 2**19).astype(np.int64), integer_bits=12)
    assert bits.tolist() == [0, 0, 1, 1, 6, 8]
    np.testing.assert_allclose(inverses / 2.0**31 / 2.0**bits, 1 / numbers, rtol=1e-8)
