"""Codes that follow the step size: those of a tensor that has a floor, such as a hard-swish."""

import lsq_reference as reference
import numpy as np
import pytest
import tensorflow as tf

from mmx_tf.layers.branches import MIXED
from mmx_tf.layers.lsq import lsq
from mmx_tf.layers.quantizers.activation import FUSED_FROM_ELEMENTS, ActivationQuantizer
from mmx_tf.layers.quantizers.activation_codes import ActivationCodes
from mmx_tf.layers.quantizers.multi_branch import MultiBranchQuantizer

FLOOR = -0.375
SMALL, LARGE = (4, 4, 3), (32, 32, 4)


def hard_swish(shape, *, scale=2.0, seed=0):
    x = np.random.default_rng(seed).normal(0, scale, shape).astype(np.float32)
    return x * np.clip(x + 3, 0, 6) / 6


@pytest.mark.parametrize(
    ("bits", "step_size", "expected"),
    [
        (4, 0.1, (-4, 11)),  # 3.75 rounds to 4
        (4, 0.25, (-2, 13)),  # 1.5 rounds half to even
        (8, 0.02, (-19, 236)),  # 18.75
        (3, 0.125, (-3, 4)),
        (4, 1.0, (0, 15)),  # the sliver is less than half a step: unsigned codes
        (4, 0.05, (-7, 8)),  # 7.5 would leave fewer codes above zero than symmetric ones have
        (4, 0.001, (-7, 8)),
        (8, 0.001, (-127, 128)),
    ],
)
def test_ranges_by_hand(bits, step_size, expected):
    low, high = ActivationCodes(bits, True, FLOOR).range_at(step_size)
    assert (float(low), float(high)) == expected
    assert high - low == 2**bits - 1 == ActivationCodes(bits, True, FLOOR).highest


def test_without_a_floor_codes_are_those_of_lsq():
    for bits in range(2, 9):
        for signed in (False, True):
            codes = ActivationCodes(bits, signed)
            assert codes.range_at(None) == lsq.code_range(bits, signed=signed)
            assert codes.highest == lsq.code_range(bits, signed=signed)[1]


@pytest.mark.parametrize("floor", [0.0, 0.1, float("nan"), -float("inf")])
def test_a_floor_is_a_number_below_zero(floor):
    with pytest.raises(ValueError, match=f"floor={floor!r} with signed=True: a floor is a number below 0"):
        ActivationQuantizer(bits=4, signed=True, floor=floor)


def test_unsigned_codes_have_no_floor():
    with pytest.raises(ValueError, match="floor=-0.375 with signed=False"):
        MultiBranchQuantizer(bit_widths=(8, 4), signed=False, floor=FLOOR)


def test_values_and_gradients_by_hand():
    # s = 1/4: codes -2..13. x / s = -1.5, -4, 0.8, 12.8, 36.
    quantizer = ActivationQuantizer(bits=4, signed=True, floor=FLOOR)
    quantizer.build((None, 5))
    quantizer.set_step_size(0.25)
    assert (quantizer.low, quantizer.high) == (-2, 13)
    x = tf.constant([[-0.375, -1.0, 0.2, 3.2, 9.0]])
    upstream = tf.constant([[1.0, 1.0, 1.0, 1.0, -1.0]])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = quantizer(x)
    dx, ds = tape.gradient(y, [x, quantizer.step_size], output_gradients=upstream)
    np.testing.assert_allclose(y, [[-0.5, -0.5, 0.25, 3.25, 3.25]])
    np.testing.assert_array_equal(dx, [[1, 0, 1, 1, 0]])
    # round(v) - v = -0.5, 0.2, 0.2 inside; -2 below and 13 above; g = 1 / sqrt(5 * 15).
    expected = (-0.5 + -2 + 0.2 + 0.2 - 13) / np.sqrt(5 * 15)
    np.testing.assert_allclose(ds, expected, rtol=1e-5)


@pytest.mark.parametrize("shape", [SMALL, LARGE], ids=["plain", "fused"])
@pytest.mark.parametrize("traced", [False, True])
def test_the_codes_follow_the_step_size(shape, traced):
    """Also in a function that was traced at another step size."""
    assert np.prod(SMALL) < FUSED_FROM_ELEMENTS <= np.prod(LARGE)
    quantizer = ActivationQuantizer(bits=4, signed=True, floor=FLOOR)
    x = hard_swish((2, *shape))
    quantizer(x)
    call = tf.function(quantizer) if traced else quantizer
    for step_size, (low, high) in ((0.1, (-4, 11)), (0.25, (-2, 13)), (1.0, (0, 15)), (0.05, (-7, 8))):
        quantizer.set_step_size(step_size)
        assert (quantizer.low, quantizer.high) == (low, high)
        np.testing.assert_allclose(call(x), reference.quantize(x, step_size, low, high), atol=1e-6)


@pytest.mark.parametrize("shape", [SMALL, LARGE], ids=["plain", "fused"])
def test_branches_are_the_fixed_quantizers_and_the_mix_is_of_them(shape):
    x, bits = hard_swish((2, *shape)), (8, 4, 3)
    quantizer = MultiBranchQuantizer(bit_widths=bits, signed=True, floor=FLOOR)
    outputs = []
    for branch, width in enumerate(bits):
        fixed = ActivationQuantizer(bits=width, signed=True, floor=FLOOR)
        outputs.append(fixed(x))
        np.testing.assert_array_equal(quantizer(x, branch=branch), outputs[-1])
        np.testing.assert_array_equal(quantizer(x, branch=tf.constant(branch)), outputs[-1])
        assert quantizer.ranges[branch] == (fixed.low, fixed.high)
        assert fixed.low < 0 and float(fixed.step_size) == pytest.approx(
            2 * np.abs(x).mean() / np.sqrt(2**width - 1), rel=1e-5
        )
    mix = quantizer(x, branch=MIXED, alpha=tf.zeros(len(bits)))
    np.testing.assert_allclose(mix, np.mean(outputs, axis=0), atol=1e-6)


@pytest.mark.parametrize("largest", [6.0, 0.5, 0.3, 0.01])
def test_a_carrier_covers_its_first_batch(largest):
    """Down to half a step: z is rounded. Positive values below the floor's size leave the grid symmetric."""
    x = np.concatenate([np.linspace(max(FLOOR, -5 * largest), largest, 500), [largest]]).astype(np.float32)
    quantizer = ActivationQuantizer(bits=8, signed=True, floor=FLOOR, covering=True)
    y = quantizer(x[np.newaxis])
    step_size = float(quantizer.step_size)
    assert np.abs(y - x).max() <= step_size * (1 + 1e-4)
    # Symmetric codes would take 2 * largest / 255 or more wherever the positive side is the longer one.
    assert step_size <= max(largest + 0.375, 2 * np.abs(x).max() * 255 / 254) / 255 * 1.0001


def test_hard_swish_is_closer_to_itself_than_with_symmetric_codes():
    x = hard_swish((8, 16, 16, 4))
    error = {}
    for floor in (None, FLOOR):
        quantizer = ActivationQuantizer(bits=4, signed=True, floor=floor)
        quantizer(x)
        # At the best step size of each.
        steps = np.linspace(0.05, 1.5, 60)
        error[floor] = min(np.mean((_at(quantizer, s, x) - x) ** 2) for s in steps)
    assert error[FLOOR] < 0.5 * error[None]


def _at(quantizer, step_size, x):
    quantizer.set_step_size(step_size)
    return quantizer(x).numpy()
