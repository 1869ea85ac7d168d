"""What Keras's compile and fit say of a loss means the same in the steps of a search."""

import inspect

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

import mmx_tf
from mmx_tf.layers.branches import MIXED
from mmx_tf.metamix import algorithm, target

pytestmark = pytest.mark.broad

CLASSES = 4
WEIGHTS = {0: 1.0, 1: 0.5, 2: 3.0, 3: 0.0}


def network(*, activation=None, regularizer=None, activity=None, outputs=CLASSES):
    keras.utils.set_random_seed(5)
    inputs = keras.Input((16, 16, 1))
    x = keras.layers.Conv2D(4, 3, strides=2, activation="relu")(inputs)
    x = keras.layers.Conv2D(4, 3, kernel_regularizer=regularizer, activity_regularizer=activity)(x)
    x = keras.layers.Conv2D(4, 1, activation="relu")(keras.layers.ReLU()(x))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(outputs, activation=activation, name="logits")(x))


def new_search(**options):
    return mmx_tf.augment(
        network(**options), bit_widths=(8, 4, 2), target_average_bits=3, meta_epochs=0, regularizer_weight=0.5
    )


@pytest.fixture(scope="module")
def batch(digits):
    images, labels = next(iter(digits.train(batch_size=16, seed=0)))
    return images, labels % CLASSES


def compiled(search, loss, **options):
    """Weights and step sizes stay; alphas move by minus their gradient."""
    still = {"optimizer": keras.optimizers.SGD(0.0), "step_optimizer": keras.optimizers.SGD(0.0)}
    search.compile(**still, alpha_optimizer=keras.optimizers.SGD(1.0), loss=loss, **options)
    return search


def alpha_gradient(search, images, labels, weights=None):
    search(images[:1], branch=0)
    gradient, _ = algorithm.alpha_gradient(search, (images, labels, weights), search.targets[0].alpha, None)
    return gradient.numpy()


def by_hand(search, images, per_example, regularization=lambda: 0.0):
    """Gradient of mean_i w_i l_i + lambda r(alpha), where `per_example` gives w_i l_i of the outputs."""
    alpha = search.targets[0].alpha
    with tf.GradientTape() as tape:
        tape.watch(alpha)
        outputs = search(images, training=True, branch=MIXED, alpha=alpha)
        loss = tf.reduce_mean(per_example(outputs)) + regularization()
        loss += 0.5 * target.regularizer(search.budget, alpha)
    return tape.gradient(loss, alpha).numpy()


def _built_in_losses():
    for name, kind in sorted(vars(keras.losses).items()):
        if inspect.isclass(kind) and issubclass(kind, keras.losses.Loss) and kind is not keras.losses.Loss:
            yield pytest.param(kind, id=name)


def _labels_for(kind, labels):
    if "Sparse" in kind.__name__:
        return labels
    shares = tf.one_hot(labels, CLASSES)
    return 2 * shares - 1 if "Hinge" in kind.__name__ else shares


@pytest.fixture(scope="module")
def softmax_search():
    return new_search(activation="softmax")


@pytest.mark.parametrize("kind", list(_built_in_losses()))
def test_alpha_gradients_by_name_and_by_function_equal_those_by_object(kind, softmax_search, batch):
    images, labels = batch
    labels, search = _labels_for(kind, labels), softmax_search
    expected = alpha_gradient(compiled(search, kind()), images, labels)
    assert np.abs(expected).max() > 0
    for loss in (kind.__name__, kind().name.removesuffix("_loss"), kind().fn):
        found = alpha_gradient(compiled(search, loss), images, labels)
        np.testing.assert_array_equal(found, expected, err_msg=f"{loss}")


def test_the_alpha_gradient_is_that_of_the_mean_over_the_batch(batch):
    """By name Keras's function gives a vector, whose gradient is that of its sum: 16 times too large."""
    images, labels = batch
    search = compiled(new_search(), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    found = alpha_gradient(search, images, labels)

    def crossentropy(outputs):
        return -tf.gather(tf.nn.log_softmax(outputs), labels, batch_dims=1)

    np.testing.assert_allclose(found, by_hand(search, images, crossentropy), rtol=1e-4, atol=1e-7)


def probabilities_loss(labels, outputs):
    """A loss as people write it: a vector, one number per image."""
    return -tf.math.log(tf.gather(outputs, tf.cast(tf.reshape(labels, [-1]), tf.int32), batch_dims=1))


@pytest.mark.parametrize("loss", ["sparse_categorical_crossentropy", probabilities_loss])
@pytest.mark.parametrize("eagerly", [False, True])
def test_class_weights_reach_the_bit_search_step(loss, eagerly, batch):
    images, labels = batch
    search = compiled(new_search(activation="softmax"), loss, run_eagerly=eagerly)
    search(images[:1], branch=0)
    factors = tf.gather([WEIGHTS[i] for i in range(CLASSES)], labels)
    expected = by_hand(search, images, lambda outputs: factors * probabilities_loss(labels, outputs))
    search.fit(images, labels, batch_size=16, class_weight=WEIGHTS, shuffle=False, verbose=0)
    np.testing.assert_allclose(-search.targets[0].alpha.numpy(), expected, rtol=2e-4, atol=1e-7)


def test_a_batch_of_one_image_has_its_class_weight(batch):
    images, labels = batch[0][:1], tf.constant([2])
    search = compiled(new_search(activation="softmax"), "sparse_categorical_crossentropy", run_eagerly=True)
    search(images, branch=0)
    expected = by_hand(search, images, lambda outputs: 3.0 * probabilities_loss(labels, outputs))
    search.fit(images, labels, class_weight=WEIGHTS, verbose=0)
    np.testing.assert_allclose(-search.targets[0].alpha.numpy(), expected, rtol=2e-4, atol=1e-7)


def test_sample_weights_and_the_regularization_losses_of_layers(batch):
    """An activity regularizer depends on the alphas; a kernel's does not and only shows in the log."""
    images, labels = batch
    search = new_search(activation="softmax", activity=keras.regularizers.L2(0.01))
    compiled(search, "sparse_categorical_crossentropy")
    weights = tf.linspace(0.0, 2.0, 16)
    found = alpha_gradient(search, images, labels, weights)
    expected = by_hand(
        search,
        images,
        lambda outputs: weights * probabilities_loss(labels, outputs),
        regularization=lambda: tf.add_n(search.losses),
    )
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-7)
    plain = by_hand(search, images, lambda outputs: weights * probabilities_loss(labels, outputs))
    assert np.abs(found - plain).max() > 10 * np.abs(found - expected).max()


def test_kernel_regularizers_train_weights_and_stand_in_both_losses(batch):
    images, labels = batch
    logs = []
    for strength in (0.0, 0.1):
        search = new_search(regularizer=keras.regularizers.L2(strength) if strength else None)
        compiled(search, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        kernel = next(v for v in search.meta_weights if v.shape == (3, 3, 4, 4))
        logs.append(search.fit(images, labels, batch_size=16, verbose=0).history)
    penalty = 0.1 * float(tf.reduce_sum(kernel**2))
    for name in ("loss", "search_loss"):
        assert logs[1][name][0] - logs[0][name][0] == pytest.approx(penalty, rel=1e-3)


@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_reductions_mean_what_they_mean_in_fit(reduction, batch):
    images, labels = batch
    search = new_search(activation="softmax")
    loss = keras.losses.SparseCategoricalCrossentropy(reduction=reduction)
    found = alpha_gradient(compiled(search, loss), images, labels)
    expected = by_hand(search, images, lambda outputs: 16 * probabilities_loss(labels, outputs))
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-6)


SAME = {
    "a list": {"loss": ["sparse_categorical_crossentropy"]},
    "a dict": {"loss": {"logits": "sparse_categorical_crossentropy"}, "metrics": {"logits": "accuracy"}},
    "loss_weights": {"loss": "sparse_categorical_crossentropy", "loss_weights": [1.0]},
    "eagerly": {"loss": "sparse_categorical_crossentropy", "run_eagerly": True},
    "two steps at once": {"loss": "sparse_categorical_crossentropy", "steps_per_execution": 2},
}


@pytest.fixture(scope="module")
def trained_alphas(batch):
    images, labels = batch
    search = compiled(new_search(activation="softmax"), keras.losses.SparseCategoricalCrossentropy())
    search.fit(images, labels, batch_size=8, shuffle=False, verbose=0)
    return search.targets[0].alpha.numpy()


@pytest.mark.slow
@pytest.mark.parametrize("options", SAME.values(), ids=SAME)
def test_ways_of_saying_the_same_train_the_same_alphas(options, batch, trained_alphas):
    images, labels = batch
    search = compiled(new_search(activation="softmax"), **options)
    search.fit(images, labels, batch_size=8, shuffle=False, verbose=0)
    np.testing.assert_allclose(search.targets[0].alpha.numpy(), trained_alphas, rtol=1e-4, atol=1e-7)


def test_loss_weights_scale_the_task_loss_alone(batch):
    images, labels = batch
    search = compiled(new_search(activation="softmax"), "sparse_categorical_crossentropy", loss_weights=3.0)
    found = alpha_gradient(search, images, labels)
    expected = by_hand(search, images, lambda outputs: 3 * probabilities_loss(labels, outputs))
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-7)


@pytest.mark.parametrize("loss", ["binary_crossentropy", "mse", "mae", "huber"])
@pytest.mark.parametrize("shape", [(16,), (16, 1)])
def test_labels_of_one_number_an_image(loss, shape, batch):
    """Keras broadcasts labels (N,) to outputs (N, 1); a loss that is called by hand makes (N, N) of them."""
    images, labels = batch
    labels = tf.reshape(tf.cast(labels % 2, tf.float32), shape)
    search = new_search(activation="sigmoid", outputs=1)
    found = alpha_gradient(compiled(search, loss), images, labels)
    expected = alpha_gradient(search, images, tf.reshape(labels, (16, 1)))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-8)


def test_a_joint_search_weighs_its_loss_as_fit_does(batch):
    images, labels = batch
    search = mmx_tf.augment(
        network(activation="softmax"), bit_widths=(8, 4), target_average_bits=5, meta_training=False
    )
    compiled(search, "sparse_categorical_crossentropy")
    search(images[:1], branch=0)
    history = search.fit(images, labels, batch_size=16, class_weight=WEIGHTS, verbose=0).history
    assert history["loss"][0] == pytest.approx(history["search_loss"][0], rel=1e-5)
    expected = by_hand_loss(search, images, labels)
    assert history["loss"][0] == pytest.approx(expected, rel=1e-4)


def by_hand_loss(search, images, labels):
    """Mean weighted cross entropy of the mix at equal alphas; the weights are still those of the start."""
    alpha = tf.zeros_like(search.targets[0].alpha)
    outputs = search(images, training=True, branch=MIXED, alpha=alpha)
    factors = tf.gather([WEIGHTS[i] for i in range(CLASSES)], labels)
    return float(tf.reduce_mean(factors * probabilities_loss(labels, outputs)))
