"""The arithmetic rules on hand-computed values; tflite_test.py compares them with LiteRT."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mmx_tf.layers.grid import Grid
from mmx_tf.layers.integer import arithmetic
from mmx_tf.layers.integer.weighted import finer_codes

CODES = st.integers(-128, 127)
SCALES = st.floats(1e-3, 1.0)
GRIDS = st.builds(Grid, SCALES, CODES)


def floats(*values):
    return tf.constant(values, tf.float32)


def test_grid_zero_point_makes_saturation_the_clip():
    unsigned = Grid.low_bit(step_size=0.5, highest_code=15)
    assert unsigned == Grid(0.5, 112)
    assert unsigned.quantize([0.0, 0.5, 7.5, 99.0]).tolist() == [112, 113, 127, 127]
    signed = Grid.lower_clip(step_size=0.5, lowest_code=-7)
    assert signed == Grid(0.5, -121)
    assert signed.quantize([-99.0, -3.5, 0.0]).tolist() == [-128, -128, -121]


def test_grid_rounds_half_to_even_and_holds_the_float32_scale():
    assert Grid(1.0, 0).quantize([0.5, 1.5, 2.5, -0.5, -1.5]).tolist() == [0, 2, 2, 0, -2]
    assert Grid(0.1, 0).scale == float(np.float32(0.1))
    assert Grid(0.25, -3).dequantize([-3, -2, 5]).tolist() == [0.0, 0.25, 2.0]


@pytest.mark.parametrize("scale, zero_point", [(0.0, 0), (-1.0, 0), (np.nan, 0), (1.0, 128), (1.0, 0.5)])
def test_grid_refuses_what_int8_cannot_hold(scale, zero_point):
    with pytest.raises(ValueError, match="Grid"):
        Grid(scale, zero_point)


def test_requantize_accumulator_rounds_half_to_even_and_saturates():
    accumulators = floats(1, 3, 5, -1, -3, 1000, -1000)
    codes = arithmetic.requantize_accumulator(accumulators, np.float32(0.5), 10, (-128, 127))
    assert codes.numpy().tolist() == [10, 12, 12, 10, 8, 127, -128]


def test_requantize_accumulator_converts_large_integers_like_cvtepi32_ps():
    # 2^24 + 1 is halfway between two float32 and goes to the even one, 2^24; 2^24 + 3 goes up to 2^24 + 4.
    accumulators = tf.constant([2**24 + 1, 2**24 + 3], tf.float64)
    codes = arithmetic.requantize_accumulator(accumulators, np.float32(2.0**-22), 0, (-128, 127))
    assert codes.numpy().tolist() == [4, 4]
    assert tf.cast(accumulators, tf.float32).numpy().tolist() == [2.0**24, 2.0**24 + 4]


def test_multipliers_follow_the_float32_order():
    product = np.float32(0.1) * np.float32(0.3)
    want = product / np.float32(0.7)
    got = arithmetic.weight_multipliers(Grid(0.1, 0), [0.3], Grid(0.7, 0))
    assert got.dtype == np.float32 and got.tolist() == [want]


def test_add_uses_21_bit_multipliers_and_rounds_half_up():
    # Ratios 1 and 0.5: the larger gets 2^20 at shift 20, the other 2^19.
    grids = {"grid_a": Grid(0.2, 0), "grid_b": Grid(0.1, 3), "output_grid": Grid(0.2, -4)}
    assert arithmetic.add_constants(*grids.values()) == (2**20, 2**19, 20)
    # 10 + 0.5 * (4 - 3) = 10.5 -> 11 and 10 + 0.5 * (2 - 3) = 9.5 -> 10: up, not to even.
    codes = arithmetic.add(floats(10, 10, 127), floats(4, 2, 127), **grids)
    assert codes.numpy().tolist() == [11 - 4, 10 - 4, 127]
    relu = arithmetic.add(floats(-20, 10), floats(3, 3), activation="relu", **grids)
    assert relu.numpy().tolist() == [-4, 6]


def test_requantize_has_eight_fractional_bits_and_rounds_half_up():
    assert arithmetic.requantize_multiplier(Grid(0.1, 0), Grid(0.3, 0)) == 85
    # 85/256 of 100 is 33.2, of 127 42.17; the exact ratio 1/3 gives 33.3 and 42.33: the same codes here ...
    grids = {"input_grid": Grid(0.1, 0), "output_grid": Grid(0.3, 0)}
    assert arithmetic.requantize(floats(100, 127), **grids).numpy().tolist() == [33, 42]
    # ... but at a small ratio the rounded multiplier is visible: 6.5/256 becomes 6/256.
    grids = {"input_grid": Grid(6.5, 0), "output_grid": Grid(256.0, 0)}
    assert arithmetic.requantize(floats(60, 100), **grids).numpy().tolist() == [1, 2]
    assert arithmetic.rescale(floats(60, 100), **grids).numpy().tolist() == [2, 3]
    # Ties: ratio 1/2 is exact; half goes up.
    grids = {"input_grid": Grid(0.5, 0), "output_grid": Grid(1.0, 0)}
    assert arithmetic.requantize(floats(1, 3, -1, -3), **grids).numpy().tolist() == [1, 2, 0, -1]
    assert arithmetic.rescale(floats(1, 3, -1, -3), **grids).numpy().tolist() == [0, 2, 0, -2]


def test_requantize_to_the_same_scale_only_moves_and_clips():
    codes = floats(*range(-128, 128))
    grids = {"input_grid": Grid(0.3, 120), "output_grid": Grid(0.3, -125)}
    want = np.clip(np.arange(-128, 128) - 120 - 125, -128, 127)
    assert arithmetic.requantize(codes, **grids).numpy().tolist() == want.tolist()


def test_mean_sums_before_it_scales():
    codes = tf.reshape(floats(1, 2, 3, 5), (1, 2, 2, 1))
    # (1 + 2 + 3 + 5 - 4 * 1) / 4 = 1.75, times 0.5 / 0.25 = 3.5 -> 4 (even), plus zero point 10.
    got = arithmetic.mean(codes, input_grid=Grid(0.5, 1), output_grid=Grid(0.25, 10))
    assert got.numpy().tolist() == [[14.0]]


def test_activation_bounds_are_quantized_on_the_output_grid():
    assert arithmetic.activation_bounds("linear", Grid(0.1, 5)) == (-128, 127)
    assert arithmetic.activation_bounds("relu", Grid(0.1, 112)) == (112, 127)
    assert arithmetic.activation_bounds("relu6", Grid(0.5, -128)) == (-128, -116)
    with pytest.raises(ValueError, match="relu6"):
        arithmetic.activation_bounds("elu", Grid(0.1, 0))


def test_ratios_that_xnnpack_refuses_are_errors():
    with pytest.raises(ValueError, match="QUANTIZE"):
        arithmetic.requantize_multiplier(Grid(1e-4, 0), Grid(1.0, 0))
    with pytest.raises(ValueError, match="add"):
        arithmetic.add_constants(Grid(1.0, 0), Grid(1e-4, 0), Grid(1.0, 0))
    with pytest.raises(ValueError, match="256"):
        arithmetic.weight_multipliers(Grid(1.0, 0), [1.0], Grid(1e-3, 0))


def test_finer_codes_keep_the_weights():
    codes, scales = finer_codes([[-7, 3], [0, 7]], [0.18, 0.36], bits=4)
    assert codes.tolist() == [[-126, 54], [0, 126]] and codes.dtype == np.int8
    np.testing.assert_allclose(scales, [0.01, 0.02], rtol=1e-6)
    with pytest.raises(ValueError, match="4-bit"):
        finer_codes([8], [1.0], bits=4)


@settings(max_examples=50, deadline=None)
@given(st.lists(CODES, min_size=1, max_size=8), GRIDS, GRIDS)
def test_rescale_is_the_nearest_code(codes, source, target):
    assume(2**-16 <= source.scale / target.scale < 2**8)  # what XNNPACK takes; other ratios are refused
    got = arithmetic.rescale(floats(*codes), input_grid=source, output_grid=target).numpy()
    exact = (np.array(codes) - source.zero_point) * (source.scale / target.scale) + target.zero_point
    exact = np.clip(exact, -128, 127)
    assert np.max(np.abs(got - exact)) <= 0.5 + 1e-4


@settings(max_examples=15, deadline=None)
@given(st.lists(CODES, min_size=2, max_size=8), GRIDS, GRIDS, GRIDS)
def test_graph_and_eager_agree_when_the_optimizer_sees_constants(codes, first, second, target):
    arguments = {"grid_a": first, "grid_b": second, "output_grid": target}
    try:
        arithmetic.multiply_multiplier(first, second, target)
    except ValueError:
        return
    product = tf.function(lambda a, b: arithmetic.multiply(a, b, **arguments))
    a, b = floats(*codes), floats(*reversed(codes))
    assert product(a, b).numpy().tolist() == arithmetic.multiply(a, b, **arguments).numpy().tolist()
