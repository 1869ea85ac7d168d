"""Networks of Keras 3 for the tests, and the comparison of one with its import."""

import keras
import numpy as np
import tf_keras

from mmx_tf.network.keras3 import as_tf_keras

L = keras.layers
SHAPE = (8, 8, 3)


def functional(body, shape=SHAPE):
    inputs = keras.Input(shape, name="image")
    return keras.Model(inputs, body(inputs))


def with_random_weights(network):
    """The network with weights that all matter: none is 0 or 1, and activations keep their size."""
    random = np.random.default_rng(0)
    for variable in network.weights:
        shape = variable.shape
        if variable.name == "kernel" or "kernel" in variable.name:
            value = random.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape)
        else:
            value = random.uniform(0.5, 1.5, shape)
        variable.assign(value.astype("float32"))
    return network


def assert_equal(network):
    """Imports a network of one image input and compares it with the original."""
    imported = as_tf_keras(with_random_weights(network))
    assert isinstance(imported, tf_keras.Model)
    images = np.random.default_rng(1).uniform(-2, 2, (4, *network.inputs[0].shape[1:])).astype("float32")
    expected, given = network(images), imported(images)
    single = not isinstance(expected, (list, tuple))
    for one, other in zip([expected] if single else expected, [given] if single else given, strict=True):
        assert one.shape == other.shape
        assert np.std(one) > 0
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-5)
    for one, other in zip(network.get_weights(), imported.get_weights(), strict=True):
        np.testing.assert_array_equal(other, one)
    return imported


def small_cnn():
    return keras.Sequential(
        [
            keras.Input(SHAPE, name="image"),
            L.Conv2D(4, 3, padding="same", use_bias=False, name="stem"),
            L.BatchNormalization(name="stem_norm"),
            L.ReLU(name="stem_relu"),
            L.DepthwiseConv2D(3, activation="relu", name="depthwise"),
            L.Conv2D(6, 1, activation="relu", name="pointwise"),
            L.GlobalAveragePooling2D(name="pool"),
            L.Dropout(0.2, name="drop"),
            L.Dense(5, name="logits"),
        ]
    )
