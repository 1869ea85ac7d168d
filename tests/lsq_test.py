"""LSQ's forward pass and gradients: by hand, and against float64 numpy (lsq_reference)."""

import lsq_reference as reference
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mmx_tf.layers.fusion import Source
from mmx_tf.layers.lsq import lsq

BITS = st.integers(2, 8)
STEP_RANGE = (2**-10, 8)
STEPS = st.floats(*STEP_RANGE, width=32)
SHAPE = (3, 4, 5)
no_deadline = settings(deadline=None)  # the first example pays for tracing


def tensors(low, high, shape=SHAPE):
    return arrays(np.float32, shape, elements=st.floats(low, high, width=32, allow_subnormal=False))


def run(x, step_size, low, high, *, gradient_scale=1.0, upstream=None, fused=False):
    """(q, dx, ds) of sum(upstream * q) as numpy arrays."""
    x, step_size = tf.constant(x, tf.float32), tf.constant(step_size, tf.float32)
    upstream = tf.ones_like(x) if upstream is None else tf.constant(upstream, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch([x, step_size])
        arguments = {"low": low, "high": high, "gradient_scale": gradient_scale, "fused": fused}
        quantized = lsq.fake_quantize(x, step_size, **arguments)
        assert quantized.shape == x.shape
        total = tf.reduce_sum(upstream * quantized)
    return [value.numpy() for value in (quantized, *tape.gradient(total, [x, step_size]))]


@pytest.mark.parametrize("fused", [False, True])
def test_golden_vector(fused):
    x, low, high = [-1.0, 0.2, 0.5, 2.6, 100.0], *lsq.code_range(3, signed=False)
    quantized, dx, _ = run(x, 0.5, low, high, fused=fused)
    assert quantized.tolist() == [0.0, 0.0, 0.5, 2.5, 3.5]
    assert dx.tolist() == [0.0, 1.0, 1.0, 1.0, 0.0]
    per_element = [run(x, 0.5, low, high, upstream=np.eye(5)[i], fused=fused)[2] for i in range(5)]
    np.testing.assert_allclose(per_element, [0, -0.4, 0, -0.2, 7], atol=1e-6)


@pytest.mark.parametrize("fused", [False, True])
def test_signed_by_hand(fused):
    # v = (-4, -3.4, -3, -1.25, 0.75, 3, 3.25), codes -3..3.
    x = np.array([-8, -6.8, -6, -2.5, 1.5, 6, 6.5])
    quantized, dx, ds = run(x, 2.0, -3, 3, fused=fused)
    assert quantized.tolist() == [-6, -6, -6, -2, 2, 6, 6]
    assert dx.tolist() == [0, 0, 1, 1, 1, 1, 0]
    assert ds == pytest.approx(-3 - 3 + 0 + 0.25 + 0.25 + 0 + 3)


@pytest.mark.parametrize("fused", [False, True])
def test_rounds_half_to_even(fused):
    v = np.array([0.5, 1.5, 2.5, 3.5, -0.5, -1.5, -2.5, -3.5])
    assert (run(v * 0.25, 0.25, -7, 7, fused=fused)[0] / 0.25).tolist() == [0, 2, 2, 4, 0, -2, -2, -4]


def test_gradient_scale_is_for_the_step_size_alone():
    x, upstream = [-1.0, 0.2, 0.5, 2.6, 100.0], [1.0, 2.0, 3.0, 4.0, 5.0]
    plain, scaled = (run(x, 0.5, 0, 7, upstream=upstream, gradient_scale=g) for g in (1.0, 0.25))
    np.testing.assert_array_equal(scaled[1], plain[1])
    assert plain[2] == pytest.approx(2 * -0.4 + 4 * -0.2 + 5 * 7)
    assert scaled[2] == pytest.approx(0.25 * plain[2])


@no_deadline
@given(
    arrays(np.int32, SHAPE, elements=st.integers(-2000, 2000)), st.integers(-4, 4), BITS, st.booleans(),
    arrays(np.int32, SHAPE, elements=st.integers(-8, 8)),
)  # fmt: skip
def test_equals_float64_exactly_where_float32_is_exact(sixteenths, exponent, bits, signed, upstream):
    # Steps are powers of two and x multiples of s / 16: no rounding error anywhere, ties and ends included.
    step_size, (low, high) = 2.0**exponent, lsq.code_range(bits, signed=signed)
    x = sixteenths / 16 * step_size
    quantized, dx, ds = run(x, step_size, low, high, upstream=upstream)
    np.testing.assert_array_equal(quantized, reference.quantize(x, step_size, low, high))
    want = reference.gradients(x, step_size, upstream, low=low, high=high)
    np.testing.assert_array_equal(dx, want[0])
    assert ds == want[1]


PER_TENSOR_OR_CHANNEL = st.one_of(STEPS, tensors(*STEP_RANGE, (1, 1, 5)), tensors(*STEP_RANGE, (1, 4, 5)))


@no_deadline
@given(
    tensors(-50, 50), tensors(-2, 2), PER_TENSOR_OR_CHANNEL, BITS, st.booleans(),
    st.floats(0.125, 1, width=32),
)  # fmt: skip
def test_equals_float64_for_any_step_scalar_or_per_channel(x, upstream, step_size, bits, signed, scale):
    low, high = lsq.code_range(bits, signed=signed)
    x = reference.away_from_decisions(x, step_size, low, high)
    quantized, dx, ds = run(x, step_size, low, high, upstream=upstream, gradient_scale=scale)
    np.testing.assert_allclose(quantized, reference.quantize(x, step_size, low, high), rtol=1e-6)
    want = reference.gradients(x, step_size, upstream, low=low, high=high, gradient_scale=scale)
    np.testing.assert_array_equal(dx, want[0].astype(np.float32))
    assert ds.shape == np.shape(step_size)
    # round(v) - v loses v's float32 digits: v is at most about 255 inside, so 1e-5 an element.
    np.testing.assert_allclose(ds, want[1], rtol=1e-5, atol=60 * 2 * 3e-5)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), BITS, st.booleans(), st.booleans())
def test_fused_equals_plain(seed, bits, signed, per_channel):
    rng = np.random.default_rng(seed)
    x, upstream = rng.normal(0, 3, (2, *SHAPE)).astype(np.float32)
    step_size = np.exp(rng.uniform(-4, 1, (1, 1, 5) if per_channel else ())).astype(np.float32)
    low, high = lsq.code_range(bits, signed=signed)
    arguments = {"upstream": upstream, "gradient_scale": 0.3}
    plain = run(x, step_size, low, high, **arguments)
    fused = run(x, step_size, low, high, **arguments, fused=True)
    np.testing.assert_array_equal(fused[0], plain[0])
    np.testing.assert_array_equal(fused[1], plain[1])
    np.testing.assert_allclose(fused[2], plain[2], rtol=1e-5, atol=1e-4)  # sums in another order


@no_deadline
@given(tensors(-50, 50), STEPS, BITS, st.booleans())
def test_values_lie_on_a_grid_that_holds_zero(x, step_size, bits, signed):
    low, high = lsq.code_range(bits, signed=signed)
    assert low <= 0 < high and high - low < 2**bits
    x.flat[0] = 0.0
    quantized = run(x, step_size, low, high)[0]
    assert quantized.flat[0] == 0.0
    codes = np.rint(quantized / np.float64(step_size))
    np.testing.assert_array_equal(quantized, (codes * np.float32(step_size)).astype(np.float32))
    assert codes.min() >= low and codes.max() <= high
    np.testing.assert_array_equal(run(quantized, step_size, low, high)[0], quantized)


@pytest.mark.parametrize("fused", [False, True])
def test_a_scalar_is_a_tensor_of_any_shape_too(fused):
    quantized, dx, ds = run(2.6, 0.5, 0, 7, fused=fused)
    assert (quantized, dx) == (2.5, 1.0)
    assert ds == pytest.approx(-0.2, abs=1e-6)


@pytest.mark.parametrize(
    "bits, unsigned, symmetric",
    [(2, 3, 1), (3, 7, 3), (4, 15, 7), (5, 31, 15), (6, 63, 31), (7, 127, 63), (8, 255, 127)],
)
def test_code_ranges(bits, unsigned, symmetric):
    assert lsq.code_range(bits, signed=False) == (0, unsigned)
    # 8-bit signed activations use all of int8: the container saturates at -128 by itself.
    assert lsq.code_range(bits, signed=True) == (-128 if bits == 8 else -symmetric, symmetric)
    assert lsq.weight_code_range(bits) == (-symmetric, symmetric)


@pytest.mark.parametrize("bits", [1, 9, 0, -4, 4.5, "4", None])
def test_refuses_bits_outside_2_to_8(bits):
    with pytest.raises(ValueError, match="an activation bit-width is an integer in 2..8"):
        lsq.code_range(bits, signed=False)
    with pytest.raises(ValueError, match="a weight bit-width is an integer in 2..8"):
        lsq.weight_code_range(bits)


def test_initial_step_size_by_hand():
    x = tf.constant([[1.0, -2.0], [3.0, -6.0]])
    assert float(lsq.initial_step_size(x, high=4)) == 3.0  # 2 * mean(1, 2, 3, 6) / sqrt(4)
    per_column = lsq.initial_step_size(x, high=4, axes=[0])
    assert per_column.numpy().tolist() == [[2.0, 4.0]]
    assert float(lsq.initial_step_size(tf.zeros(3), high=7)) == np.float32(lsq.STEP_SIZE_FLOOR)


def test_gradient_scale_by_hand():
    assert lsq.gradient_scale(8, 2) == 0.25
    assert lsq.gradient_scale(12, 3) == pytest.approx(1 / 6)


# mix_branches: three unsigned branches of 8, 4 and 3 bits.
MIX_RANGES = [(0, 255), (0, 15), (0, 7)]
MIX_STEPS = [0.25, 0.5, 1.0]


def run_mix(x, steps, probabilities, ranges, *, upstream=None, fused=False):
    """(mix, dx, dalpha, ds) of sum(upstream * mix) with softmax(alpha) = probabilities."""
    x, steps = (tf.constant(value, tf.float32) for value in (x, steps))
    alpha = tf.constant(np.log(np.maximum(probabilities, 1e-30)), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch([x, steps, alpha])
        mixed = lsq.mix_branches(x, steps, alpha, ranges=ranges, fused=fused)
        total = tf.reduce_sum(mixed * (1.0 if upstream is None else upstream))
    dx, dalpha, ds = tape.gradient(total, [x, alpha, steps])
    return mixed.numpy(), dx.numpy(), dalpha.numpy(), ds


def softmax_gradient(probabilities, sums):
    """d alpha_j = p_j (sum_j - mean) for the branches' sums of upstream * q."""
    p, sums = np.asarray(probabilities), np.asarray(sums)
    return p * (sums - p @ sums)


@pytest.mark.parametrize("fused", [False, True])
def test_mix_by_hand(fused):
    # 8 bits: (0, .25, 2.5, 63.75, 10); 4 bits: (0, .5, 2.5, 7.5, 7.5); 3 bits: (0, 0, 3, 7, 7).
    x, p = [-1.0, 0.3, 2.6, 100.0, 10.0], [1 / 8, 2 / 8, 5 / 8]
    mixed, dx, dalpha, ds = run_mix(x, MIX_STEPS, p, MIX_RANGES, fused=fused)
    np.testing.assert_allclose(mixed, [0.0, 0.15625, 2.8125, 14.21875, 7.5], rtol=1e-6)
    np.testing.assert_allclose(dx, [0.0, 1.0, 1.0, 0.0, 0.125], rtol=1e-6)  # 10 is inside 8 bits' range alone
    # Branch sums 76.5, 18, 17 have the mean 24.6875.
    np.testing.assert_allclose(dalpha, [51.8125 / 8, -6.6875 / 4, -7.6875 * 5 / 8], rtol=1e-5)
    assert ds is None  # the bit-search step holds the step sizes fixed
    weighted = run_mix(x, MIX_STEPS, p, MIX_RANGES, upstream=[9, 4, 2, 0, -1], fused=fused)
    np.testing.assert_allclose(weighted[1], [0.0, 4.0, 2.0, 0.0, -0.125], rtol=1e-6)
    sums = [1 + 5 - 10, 2 + 5 - 7.5, 0 + 6 - 7]
    np.testing.assert_allclose(weighted[2], softmax_gradient(p, sums), rtol=1e-5)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.booleans(), st.integers(1, 5))
def test_mix_is_the_weighted_sum_of_the_branches(seed, signed, branches):
    rng = np.random.default_rng(seed)
    x, upstream = rng.normal(0, 3, (2, *SHAPE)).astype(np.float32)
    steps = np.exp(rng.uniform(-4, 1, branches)).astype(np.float32)
    p = rng.dirichlet(np.ones(branches))
    ranges = [lsq.code_range(bits, signed=signed) for bits in (8, 4, 3, 2, 6)[:branches]]
    branches = [run(x, s, *r, upstream=upstream) for s, r in zip(steps, ranges, strict=True)]
    for fused in (False, True):
        mixed, dx, dalpha, ds = run_mix(x, steps, p, ranges, upstream=upstream, fused=fused)
        np.testing.assert_allclose(mixed, sum(w * b[0] for w, b in zip(p, branches, strict=True)), atol=1e-5)
        np.testing.assert_allclose(dx, sum(w * b[1] for w, b in zip(p, branches, strict=True)), atol=1e-5)
        sums = [np.sum(upstream * b[0], dtype=np.float64) for b in branches]
        np.testing.assert_allclose(dalpha, softmax_gradient(p, sums), rtol=1e-4, atol=1e-4)
        assert ds is None


def test_mix_of_one_sure_branch_is_that_branch_bit_for_bit():
    x = np.random.default_rng(0).normal(0, 3, SHAPE).astype(np.float32)
    mixed = run_mix(x, MIX_STEPS, [0.0, 1.0, 0.0], MIX_RANGES)[0]
    np.testing.assert_array_equal(mixed, run(x, 0.5, 0, 15)[0])


def test_limit_shrinking_clips_positive_gradients_to_the_step_size():
    step_size = tf.Variable([0.5, 0.5, 0.5])
    with tf.GradientTape() as tape:
        value = lsq.limit_shrinking(step_size)
        loss = tf.reduce_sum(value * [0.2, 3.0, -3.0])
    np.testing.assert_array_equal(value, [0.5, 0.5, 0.5])
    np.testing.assert_allclose(tape.gradient(loss, step_size), [0.2, 0.5, -3.0])


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("bounds, rectifier", [((0.0, 6.0), tf.nn.relu6), ((0.0, np.inf), tf.nn.relu)])
def test_bounds_are_a_rectifier_in_front_bit_for_bit(fused, bounds, rectifier):
    rng = np.random.default_rng(0)
    x = tf.constant(np.concatenate([rng.normal(2, 4, (3, 40)), [[0.0, 6.0, -0.0, 7.5] * 10]]), tf.float32)
    upstream = tf.constant(rng.normal(0, 1, x.shape), tf.float32)
    step_size, alpha = tf.constant(0.45), tf.constant([0.1, 0.2, -0.3])
    plain = {"low": 0, "high": 15, "gradient_scale": 0.5}
    mixed = {"step_sizes": MIX_STEPS, "alpha": alpha, "ranges": MIX_RANGES}
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([x, step_size, alpha])
        got = lsq.fake_quantize(Source(x, bounds), step_size, **plain, fused=fused)
        want = lsq.fake_quantize(rectifier(x), step_size, **plain)
        got_mix = lsq.mix_branches(Source(x, bounds), **mixed, fused=fused)
        want_mix = lsq.mix_branches(rectifier(x), **mixed)
        totals = [tf.reduce_sum(upstream * value) for value in (got, want, got_mix, want_mix)]
    np.testing.assert_array_equal(got, want)
    np.testing.assert_allclose(got_mix, want_mix, rtol=1e-6)
    dx = [tape.gradient(total, x) for total in totals]
    np.testing.assert_array_equal(dx[0], dx[1])
    np.testing.assert_allclose(dx[2], dx[3], rtol=1e-6)
    ds = [tape.gradient(total, step_size) for total in totals[:2]]
    np.testing.assert_allclose(ds[0], ds[1], rtol=1e-5)
    dalpha = [tape.gradient(total, alpha) for total in totals[2:]]
    np.testing.assert_allclose(dalpha[0], dalpha[1], rtol=1e-4)
