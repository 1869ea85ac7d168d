"""Several losses weigh in both steps of a search as Keras's loss_weights say."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from several_heads import LOSSES, detector, joined

import mmx_tf
from mmx_tf.layers.branches import MIXED
from mmx_tf.metamix import algorithm, target

pytestmark = pytest.mark.broad

LAMBDA = 0.5


@pytest.fixture(scope="module")
def batch(digits):
    images, classes, box = joined(digits.train(batch_size=16, seed=0).take(1))
    return tf.constant(images), {"class": tf.constant(classes), "box": tf.constant(box)}


def new_search(outputs=list, **options):
    keras.utils.set_random_seed(5)
    return mmx_tf.augment(
        detector(outputs), bit_widths=(8, 4, 2), target_average_bits=4, regularizer_weight=LAMBDA, **options
    )


def compiled(search, loss=LOSSES, rate=0.0, **options):
    steps = {"optimizer": keras.optimizers.SGD(rate), "step_optimizer": keras.optimizers.SGD(0.0)}
    search.compile(**steps, alpha_optimizer=keras.optimizers.SGD(1.0), loss=loss, **options)
    return search


def alpha_gradient(search, images, labels, weights=None):
    search(images, branch=0)
    gradient, loss = algorithm.alpha_gradient(
        search, (images, labels, weights), search.targets[0].alpha, None
    )
    return gradient.numpy(), float(loss)


def losses_by_hand(outputs, labels, factors=(1.0, 1.0)):
    """(cross entropy, mean squared error), each a mean over the batch of what `factors` weigh."""
    probabilities = tf.gather(outputs[0], tf.cast(labels["class"], tf.int32), batch_dims=1)
    squares = tf.reduce_mean(tf.square(outputs[1] - labels["box"]), axis=1)
    return tf.reduce_mean(-tf.math.log(probabilities) * factors[0]), tf.reduce_mean(squares * factors[1])


def gradient_by_hand(search, images, labels, weights, factors=(1.0, 1.0)):
    alpha = search.targets[0].alpha
    with tf.GradientTape() as tape:
        tape.watch(alpha)
        outputs = tf.nest.flatten(search(images, training=True, branch=MIXED, alpha=alpha))
        outputs = outputs if outputs[0].shape[-1] == 10 else outputs[::-1]
        parts = losses_by_hand(outputs, labels, factors)
        task = weights[0] * parts[0] + weights[1] * parts[1]
        loss = task + LAMBDA * target.regularizer(search.budget, alpha)
    return tape.gradient(loss, alpha).numpy(), float(task)


@pytest.mark.parametrize(
    ("options", "weights"),
    [
        ({}, (1, 1)),
        ({"loss_weights": {"class": 0.5, "box": 20.0}}, (0.5, 20)),
        ({"loss_weights": {"box": 7.0}}, (1, 7)),
        ({"loss_weights": [2.0, 3.0]}, (2, 3)),
        ({"loss": {"box": "mse"}}, (0, 1)),
        ({"loss": ["sparse_categorical_crossentropy", "mean_squared_error"], "loss_weights": [1, 0]}, (1, 0)),
        ({"loss": {"class": keras.losses.SparseCategoricalCrossentropy(), "box": keras.losses.mse}}, (1, 1)),
    ],
    ids=["none", "dict", "one of them", "list", "one loss", "losses in a list", "objects"],
)
def test_the_gradient_of_alpha_is_that_of_the_weighted_sum(options, weights, batch):
    images, labels = batch
    search = compiled(new_search(), **options)
    found, loss = alpha_gradient(search, images, labels)
    expected, by_hand = gradient_by_hand(search, images, labels, weights)
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-7)
    assert loss == pytest.approx(by_hand, rel=1e-5) and np.abs(found).max() > 0
    # The other head alone would give another gradient.
    if all(weights):
        alone, _ = gradient_by_hand(search, images, labels, (weights[0], 0))
        assert np.abs(alone - expected).max() > 1e-3 * np.abs(expected).max()


def test_outputs_in_a_dict_are_weighed_by_their_keys(batch):
    images, labels = batch
    search = compiled(new_search(dict), loss_weights={"class": 0.5, "box": 20.0})
    found, _ = alpha_gradient(search, images, labels)
    expected, _ = gradient_by_hand(search, images, labels, (0.5, 20.0))
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-7)


def test_sample_weights_weigh_the_output_that_they_are_given_for(batch):
    images, labels = batch
    ramp = tf.linspace(0.0, 2.0, 16)
    search = compiled(new_search())
    for weights, factors in (({"box": ramp}, (1.0, ramp)), ([ramp, None], (ramp, 1.0)), (ramp, (ramp, ramp))):
        found, _ = alpha_gradient(search, images, labels, weights)
        expected, _ = gradient_by_hand(search, images, labels, (1, 1), factors)
        np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-7)


def test_a_bit_meta_step_moves_weights_by_the_weighted_sum(batch):
    """Steps of SGD are linear in the gradient: that of both losses is the sum of those of each."""
    images, labels = batch
    moved = []
    for weights in ([2.0, 3.0], [1.0, 0.0], [0.0, 1.0]):
        search = compiled(new_search(batch_norm_update="none"), rate=1.0, loss_weights=weights)
        search(images, branch=0)
        before = [variable.numpy() for variable in search.meta_weights]
        search.bit_meta_step(images, labels)
        moved.append([v.numpy() - value for v, value in zip(search.meta_weights, before, strict=True)])
    names = [variable.name for variable in search.meta_weights]
    for name, both, of_class, of_box in zip(names, *moved, strict=True):
        np.testing.assert_allclose(both, 2 * of_class + 3 * of_box, rtol=1e-3, atol=1e-6, err_msg=name)
        # Each head follows its own loss alone.
        assert ("class" not in name) or not of_box.any(), name
        assert ("box" not in name) or not of_class.any(), name


def test_a_step_of_fit_is_the_step_by_hand(batch):
    """In `fit` labels, losses and weights go the way of all data; alpha moves by minus its gradient."""
    images, labels = batch
    search = compiled(new_search(meta_epochs=0), loss_weights={"class": 0.5, "box": 20.0})
    search(images, branch=0)
    ramp = np.linspace(0.0, 2.0, 16).astype(np.float32)
    expected, loss = gradient_by_hand(search, images, labels, (0.5, 20.0), (1.0, ramp))
    history = search.fit(
        images, labels, batch_size=16, sample_weight={"box": ramp}, shuffle=False, verbose=0
    ).history
    np.testing.assert_allclose(-search.targets[0].alpha.numpy(), expected, rtol=2e-4, atol=1e-6)
    assert history["search_loss"][0] == pytest.approx(loss, rel=1e-4)


def test_a_joint_search_logs_the_weighted_sum(batch):
    images, labels = batch
    search = compiled(new_search(meta_training=False), loss_weights={"class": 0.5, "box": 20.0})
    history = search.fit(images, labels, batch_size=16, shuffle=False, verbose=0).history
    parts = 0.5 * history["class_loss"][0] + 20 * history["box_loss"][0]
    assert history["loss"][0] == pytest.approx(parts, rel=1e-5)
    assert history["search_loss"][0] == pytest.approx(parts, rel=1e-5)
