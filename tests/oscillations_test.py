"""Dampening of oscillations: its gradient by hand and against TensorFlow's, its schedule, whole networks."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import small_network

import mmx_tf
from mmx_tf.training.optimizers import weight_optimizer
from mmx_tf.training.oscillations import pull
from mmx_tf.training.tuned import TunedSGD

pytestmark = pytest.mark.heavy


def test_the_pull_by_hand():
    """s = 0.5, codes -3..3: 0.2 -> 0, 0.3 -> 0.5, -1.2 -> -1; 1.6 and -9 lie beyond 1.5 and -1.5."""
    found = pull(tf.constant([0.2, 0.3, -1.2, 1.5, 1.6, -9.0]), tf.constant(0.5), low=-3, high=3)
    np.testing.assert_allclose(found, [0.4, -0.4, -0.4, 0.0, 0.0, 0.0], atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-3, 3, width=32), min_size=4, max_size=4), st.floats(0.125, 2, width=32))
def test_it_is_the_gradient_of_the_papers_term(weights, step):
    kernel, s = tf.constant(weights), tf.constant(step)
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        nearest = s * tf.clip_by_value(tf.round(kernel / s), -7.0, 7.0)
        clipped = tf.clip_by_value(kernel, -7.0 * s, 7.0 * s)
        loss = tf.reduce_sum((tf.stop_gradient(nearest) - clipped) ** 2)
    np.testing.assert_allclose(pull(kernel, s, low=-7, high=7), tape.gradient(loss, kernel), atol=1e-5)


def fixed_network(digits):
    keras.utils.set_random_seed(4)
    search = mmx_tf.augment(small_network(), target_average_bits=4.0)
    search(next(iter(digits.train(batch_size=32, seed=0)))[0], branch=0)
    return mmx_tf.rebuild(search, search.selection_of([1] * len(search.quantizers)))


def test_kernels_alone_are_pulled_and_more_towards_the_end(digits):
    """Without other gradients and a rate of 1 each kernel goes lambda(t) * 2 (w - w_hat) per step."""
    fixed = fixed_network(digits)
    optimizer = TunedSGD(1.0, dampening=0.1, dampening_steps=2)
    optimizer.dampen(fixed)
    optimizer.build(fixed.trainable_variables)
    wrappers = [layer for layer in fixed.layers if hasattr(layer, "quantize_config")]
    assert len(wrappers) == 5
    for share in (0.0, 0.5, 1.0, 1.0):
        before = {v.name: v.numpy() for v in fixed.trainable_variables}
        optimizer.apply_gradients([(tf.zeros_like(v), v) for v in fixed.trainable_variables])
        for wrapper in wrappers:
            kernel, grid = wrapper.quantize_config.kernel, wrapper.quantize_config.quantizer
            own = before.pop(kernel.name)
            scaled = np.float64(own) / grid.step_size.numpy()
            inside = (scaled >= grid.low) & (scaled <= grid.high)
            apart = np.where(inside, own - grid.step_size.numpy() * np.round(scaled), 0.0)
            np.testing.assert_allclose(kernel, own - 0.1 * share * 2 * apart, atol=1e-6)
            assert share == 0.0 or np.abs(apart).max() > 1e-3
        unmoved = {v.name: v.numpy() for v in fixed.trainable_variables if v.name in before}
        assert unmoved.keys() == before.keys()
        for name, value in before.items():
            np.testing.assert_array_equal(unmoved[name], value)


def test_the_pull_is_clipped_with_the_gradients(digits):
    fixed = fixed_network(digits)
    moves = {}
    for norm in (None, 1e-3):
        start = [v.numpy() for v in fixed.trainable_variables]
        optimizer = TunedSGD(1.0, dampening=1.0, global_clipnorm=norm)
        optimizer.dampen(fixed)
        optimizer.build(fixed.trainable_variables)
        optimizer.apply_gradients([(tf.zeros_like(v), v) for v in fixed.trainable_variables])
        squares = 0.0
        for variable, value in zip(fixed.trainable_variables, start, strict=True):
            squares += np.sum(np.float64(variable.numpy() - value) ** 2)
            variable.assign(value)
        moves[norm] = np.sqrt(squares)
    assert moves[None] > 0.01 and moves[1e-3] == pytest.approx(1e-3, rel=1e-2)


@pytest.mark.slow
def test_training_with_it_leaves_weights_nearer_to_their_codes(digits, tmp_path):
    distances, states = {}, {}
    for dampening in (0.0, 1.0):
        fixed = fixed_network(digits)
        tuning = {"dampening": dampening, "dampening_steps": 4} if dampening else {}
        optimizer = weight_optimizer(
            "sgd", fixed.trainable_variables, 0.05, momentum=0.9, nesterov=True, **tuning
        )
        if dampening:
            optimizer.dampen(fixed)
        fixed.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        fixed.fit(digits.train(batch_size=64, seed=0).take(8), verbose=0)
        states[dampening] = len(optimizer.variables)
        wrappers = [layer for layer in fixed.layers if hasattr(layer, "quantize_config")]
        pulls = [
            pull(w.quantize_config.kernel, q.step_size, low=q.low, high=q.high).numpy()
            for w in wrappers
            for q in [w.quantize_config.quantizer]
        ]
        distances[dampening] = np.mean([np.abs(part).mean() for part in pulls])
    assert distances[1.0] < 0.7 * distances[0.0]
    # Its checkpoints hold no more than Keras's, and its file is loaded as any other.
    assert states[1.0] == states[0.0] > len(fixed.trainable_variables)
    fixed.save(tmp_path / "fixed.keras")
    assert mmx_tf.load_model(tmp_path / "fixed.keras").count_params() == fixed.count_params()
