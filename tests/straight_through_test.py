"""One-hot forward, softmax gradient backward (paper eq. 5), by hand and against a numpy Jacobian."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mmx_tf.layers.lsq.straight_through import straight_through_one_hot

ALPHA = st.floats(-5, 5, width=32, allow_subnormal=False)


def gradient_of(function, alpha):
    with tf.GradientTape() as tape:
        tape.watch(alpha)
        value = function(alpha)
    return tape.gradient(value, alpha).numpy()


@pytest.mark.parametrize(
    "alpha, one_hot",
    [
        ([0.1, 2.0, 0.3], [0, 1, 0]),
        ([-3.0, -1.0], [0, 1]),
        ([0.0, 0.0, 0.0], [1, 0, 0]),  # equal: the first
        ([-1.0, 4.0, 4.0], [0, 1, 0]),
        ([[1.0, 2.0], [2.0, 1.0]], [[0, 1], [1, 0]]),
        ([0.7], [1]),
    ],
)
def test_forward_is_the_one_hot_of_the_largest(alpha, one_hot):
    got = straight_through_one_hot(alpha)
    assert got.dtype == tf.float32
    assert got.numpy().tolist() == one_hot


@pytest.mark.parametrize("target, sign", [(100.0, 1.0), (2000.0, -1.0)])
def test_bops_gradient_by_hand(target, sign):
    # r = |op * bw * sum_j hs_j b_j - target| with op * bw = 120. Equal alpha: softmax 1/3, mean of b is 5, so
    # d r / d alpha = 120 * (8 - 5, 4 - 5, 3 - 5) / 3 * sign. The first branch is chosen: 120 * 8 = 960 BOPs.
    def gap(alpha):
        bits = tf.reduce_sum(straight_through_one_hot(alpha) * [8.0, 4.0, 3.0])
        assert float(bits) == 8.0
        return tf.abs(120.0 * bits - target)

    got = gradient_of(gap, tf.zeros(3))
    np.testing.assert_allclose(got, sign * 120 * np.array([1, -1 / 3, -2 / 3]), rtol=1e-6)


def test_unequal_alpha_by_hand():
    # softmax = (1/4, 3/4); upstream (8, 4): mean 5; gradient = (3/4, -3/4) of (8 - 5) / 4 and 3 (4 - 5) / 4.
    got = gradient_of(
        lambda alpha: tf.reduce_sum(straight_through_one_hot(alpha) * [8.0, 4.0]),
        tf.constant([0.0, np.log(3.0)], tf.float32),
    )
    np.testing.assert_allclose(got, [0.75, -0.75], rtol=1e-6)


@settings(deadline=None, max_examples=50)
@given(arrays(np.float32, (3, 4), elements=ALPHA), arrays(np.float32, (3, 4), elements=ALPHA))
def test_gradient_is_the_softmax_jacobian_row_by_row(alpha, upstream):
    got = gradient_of(lambda a: tf.reduce_sum(straight_through_one_hot(a) * upstream), tf.constant(alpha))
    exponentials = np.exp(alpha.astype(np.float64))
    for row, p in enumerate(exponentials / exponentials.sum(axis=1, keepdims=True)):
        jacobian = np.diag(p) - np.outer(p, p)
        np.testing.assert_allclose(got[row], jacobian @ upstream[row], rtol=1e-4, atol=1e-5)


@settings(deadline=None, max_examples=50)
@given(arrays(np.float32, (2, 3), elements=ALPHA))
def test_a_constant_cost_gives_no_gradient(alpha):
    got = gradient_of(lambda a: tf.reduce_sum(5.0 * straight_through_one_hot(a)), tf.constant(alpha))
    np.testing.assert_allclose(got, np.zeros((2, 3)), atol=1e-5)


def test_far_apart_alpha_and_graph_mode_stay_finite():
    alpha = tf.constant([[1e4, -1e4, 0.0]])
    traced = tf.function(lambda a: tf.reduce_sum(straight_through_one_hot(a) * [[8.0, 4.0, 3.0]]))
    assert float(traced(alpha)) == 8.0
    np.testing.assert_array_equal(gradient_of(traced, alpha), np.zeros((1, 3)))
