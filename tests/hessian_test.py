"""Hutchinson's traces against exact Hessians."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from networks import randomize_statistics, small_network

from mmx_tf.figures import hessian
from mmx_tf.network import canonical

NOTHING = [()]


def test_a_diagonal_hessian_needs_one_sample():
    # Loss sum d w^2 / 2: H = diag(d), and v^T H v = sum d for every v of signs.
    one, two = tf.Variable([1.0, -2.0], dtype=tf.float64), tf.Variable([[3.0]], dtype=tf.float64)

    def loss():
        weights = tf.constant([2.0, 5.0], tf.float64)
        return tf.reduce_sum(weights * one**2) / 2 - tf.reduce_sum(3.0 * two**2) / 2

    traces = hessian.hutchinson_traces(loss, [one, two], NOTHING, samples=1, seed=0)
    assert [trace.mean for trace in traces] == [7.0, -3.0]
    assert traces[0].standard_error is None


def test_coupled_blocks_are_unbiased_and_the_error_says_how_far_off():
    # H of (x, y) with x of two: [[2, 1, 1], [1, 4, 1], [1, 1, 6]]; the blocks' traces are 6 and 6.
    matrix = tf.constant([[2.0, 1.0, 1.0], [1.0, 4.0, 1.0], [1.0, 1.0, 6.0]], tf.float64)
    x, y = tf.Variable([0.5, 1.0], dtype=tf.float64), tf.Variable([2.0], dtype=tf.float64)

    def loss(factor):
        w = tf.concat([x, y], 0)
        return factor * tf.tensordot(w, tf.linalg.matvec(matrix, w), 1) / 2

    batches = [(tf.constant(0.5, tf.float64),), (tf.constant(1.5, tf.float64),)]  # mean factor 1
    traces = hessian.hutchinson_traces(loss, [x, y], batches, samples=400, seed=3)
    for trace in traces:
        assert abs(trace.mean - 6.0) < 4 * trace.standard_error
    # x: v^T H v = 6 + 2 v1 v2 + v1 v3 + v2 v3, variance 4 + 1 + 1; y: 6 + v1 v3 + v2 v3, variance 2.
    expected = [(6 / 400) ** 0.5, (2 / 400) ** 0.5]
    assert [trace.standard_error for trace in traces] == pytest.approx(expected, rel=0.1)
    again = hessian.hutchinson_traces(loss, [x, y], batches, samples=400, seed=3)
    assert again == traces


def test_a_network_with_batch_norm_and_depthwise_layer_against_its_exact_hessian(digits):
    keras.utils.set_random_seed(1)
    network = canonical.canonicalize(small_network())
    randomize_statistics(network, 2)
    images, labels = next(iter(digits.train(batch_size=16, seed=0, augment=False)))
    estimates = hessian.classification_traces(network, [(images, labels)], samples=300, seed=0)
    assert list(estimates) == ["stem", "depthwise", "project", "expand", "logits"]

    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    kernels = {name: network.get_layer(name).trainable_weights[0] for name in ("depthwise", "logits")}
    for name, kernel in kernels.items():
        with tf.GradientTape(persistent=True) as outer:
            with tf.GradientTape() as inner:
                loss = cross_entropy(labels, network(images, training=False))
            gradient = tf.reshape(inner.gradient(loss, kernel), [-1])
        exact = np.trace(tf.reshape(outer.jacobian(gradient, kernel), [gradient.shape[0]] * 2))
        found = estimates[name]
        assert found.standard_error < 0.25 * abs(exact)
        assert abs(found.mean - exact) < 4 * found.standard_error
