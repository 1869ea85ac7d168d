"""Networks of Keras 3 as tf_keras networks, up to the integer file."""

import keras
import numpy as np
import pytest
import tf_keras
from keras3_networks import SHAPE, L, assert_equal, functional, small_cnn, with_random_weights

import mmx_tf
from mmx_tf.network.keras3 import as_tf_keras

pytestmark = pytest.mark.broad


def test_a_sequential_network_keeps_names_and_weights():
    network = small_cnn()
    imported = assert_equal(network)
    assert [layer.name for layer in imported.layers] == ["image", *(layer.name for layer in network.layers)]
    for layer in network.layers:
        for one, other in zip(layer.get_weights(), imported.get_layer(layer.name).get_weights(), strict=True):
            np.testing.assert_array_equal(other, one)


@pytest.mark.parametrize("name", ["MobileNetV2", "MobileNetV3Small"])
def test_networks_of_keras_applications(name):
    build = getattr(keras.applications, name)
    assert_equal(build(weights=None, input_shape=(32, 32, 3), classes=7, classifier_activation=None))


def test_nested_shared_and_several_outputs():
    base = keras.Sequential([keras.Input(SHAPE), L.Conv2D(3, 3, padding="same"), L.BatchNormalization()])
    shared, swish = L.Conv2D(3, 1), L.Activation("hard_silu")

    def body(x):
        x = shared(base(swish(shared(base(swish(x)), training=False))))
        return [L.GlobalAveragePooling2D()(x), x]

    imported = assert_equal(functional(body))
    assert len(imported.weights) == 8  # once each, as in the original


class OwnStep(keras.Model):
    def train_step(self, data):
        raise NotImplementedError


def test_a_model_class_of_the_users_own_is_functional_if_it_leaves_the_forward_pass_to_keras():
    inputs = keras.Input(SHAPE)
    assert_equal(OwnStep(inputs, L.Conv2D(2, 1)(inputs)))


def test_training_behaviour_is_kept():
    def body(x):
        return [L.Dropout(0.5)(x), L.BatchNormalization()(x), L.BatchNormalization()(x, training=False)]

    images = np.random.default_rng(1).uniform(1, 2, (4, *SHAPE)).astype("float32")
    network = as_tf_keras(functional(body))
    dropped, normalized, frozen = network(images, training=True)
    assert 0.3 < np.mean(dropped == 0) < 0.7
    assert abs(np.mean(normalized)) < 1e-3
    np.testing.assert_allclose(frozen, images / np.sqrt(1 + 1e-3), rtol=1e-5)


def test_mixed_precision_becomes_float32():
    policy = keras.DTypePolicy("mixed_bfloat16")
    imported = as_tf_keras(functional(lambda x: L.Conv2D(2, 1, dtype=policy)(x)))
    assert imported.layers[-1].dtype == imported.layers[-1].compute_dtype == "float32"


def test_bops_are_those_of_the_twin():
    network = small_cnn()
    # Stem 8*8*4*27 = 6912, depthwise 6*6*4*9 = 1296, pointwise 36*24 = 864, logits 30 multiplications.
    assert mmx_tf.count_bops(network) == (6912 + 30) * 64 + (1296 + 864) * 16


class Subclass(keras.Model):
    def call(self, x):
        return x


@pytest.mark.parametrize(
    ("network", "message"),
    [(Subclass(), "input shape is not known"), (keras.Sequential([L.Conv2D(2, 3)]), "has no known graph")],
    ids=["subclassed", "not built"],
)
def test_networks_without_a_graph_are_refused(network, message):
    with pytest.raises(ValueError, match=message):
        mmx_tf.augment(network)


def test_anything_else_is_left_alone():
    network = tf_keras.Sequential([tf_keras.Input(SHAPE), tf_keras.layers.Conv2D(2, 3)])
    assert as_tf_keras(network) is network
    assert as_tf_keras(3) == 3


def fit_one_step(model, images, labels):
    loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer="sgd", loss=loss)
    model.fit(images, labels, batch_size=len(images), epochs=1, verbose=0)


def test_from_keras_3_to_an_exact_file():
    network = with_random_weights(small_cnn())
    before = network.get_weights()
    search = mmx_tf.augment(network, bit_widths=(8, 4), target_average_bits=6)
    images = np.random.default_rng(2).uniform(-1, 1, (16, *SHAPE)).astype("float32")
    labels = np.arange(16) % 5
    fit_one_step(search, images, labels)
    fixed = mmx_tf.rebuild(search, search.bit_selection())
    fit_one_step(fixed, images, labels)
    folded = mmx_tf.fold(fixed)
    data = mmx_tf.convert(folded)
    report = mmx_tf.verify(folded, data, [(images, labels)])
    assert report.code_disagreement == 0
    for one, other in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(other, one)
