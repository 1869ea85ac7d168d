"""Layers that act in training alone are left out of a network, and one line of the log names them."""

import keras as keras_3
import numpy as np
import pytest
import tf_keras
from listening import logged

import mmx_tf
from mmx_tf.network.canonical import UnsupportedLayerError, canonicalize
from mmx_tf.network.keras3_layers import LAYERS
from mmx_tf.network.kinds import DROPPED

SHAPE = (8, 8, 3)
ARGUMENTS = {
    "RandomFlip": {},
    "RandomRotation": {"factor": 0.2},
    "RandomZoom": {"height_factor": 0.3},
    "RandomTranslation": {"height_factor": 0.3, "width_factor": 0.3},
    "RandomContrast": {"factor": 0.5},
    "RandomBrightness": {"factor": 0.5, "value_range": (0.0, 1.0)},
    "GaussianNoise": {"stddev": 0.5},
    "GaussianDropout": {"rate": 0.5},
    "AlphaDropout": {"rate": 0.5},
    "SpatialDropout1D": {"rate": 0.5},
    "SpatialDropout2D": {"rate": 0.5},
    "SpatialDropout3D": {"rate": 0.5},
    "ActivityRegularization": {"l2": 0.1},
}
RANKS = {"SpatialDropout1D": (24, 8), "SpatialDropout3D": (8, 8, 3, 1)}
"""What the image is shaped to for a layer of another rank."""


def network(kind, keras):
    """Two convolutions with a layer between them."""
    layers = keras.layers
    image = keras.Input(SHAPE, name="image")
    x = layers.Conv2D(3, 3, padding="same", name="first")(image)
    x = layers.Reshape(RANKS[kind])(x) if kind in RANKS else x
    x = getattr(layers, kind)(**ARGUMENTS[kind], name="acts")(x)
    x = layers.Reshape(SHAPE)(x) if kind in RANKS else x
    x = layers.Conv2D(4, 3, name="second")(x)
    return keras.Model(image, layers.Dense(2, name="logits")(layers.GlobalAveragePooling2D()(x)), name="net")


def augmented_in_a_model(keras):
    """Data augmentation as tutorials have it: a Sequential model of its own in front."""
    layers = keras.layers
    augmentation = keras.Sequential([keras.Input(SHAPE), layers.RandomFlip(), layers.RandomRotation(0.2)])
    image = keras.Input(SHAPE)
    x = layers.Conv2D(4, 3)(layers.Conv2D(3, 3)(augmentation(image)))
    return keras.Model(image, layers.Dense(2)(layers.Flatten()(x)))


@pytest.fixture
def images():
    return np.random.default_rng(0).normal(size=(3, *SHAPE)).astype(np.float32)


def test_every_kind_is_tried():
    assert set(ARGUMENTS) == set(DROPPED) and set(DROPPED) < set(LAYERS)


@pytest.mark.parametrize("kind", DROPPED)
def test_a_tf_keras_network_goes_without_them(kind, images):
    model = network(kind, tf_keras)
    used = model(images, training=False)
    assert np.any(model(images, training=True) != used) or kind == "ActivityRegularization"
    canonical = canonicalize(model)
    assert "acts" not in [layer.name for layer in canonical.layers]
    np.testing.assert_array_equal(canonical(images, training=True), used)
    with logged() as lines:
        mmx_tf.augment(model, target_average_bits=6)
    assert lines.count("1 layer(s) of net act in training alone and are left out: acts.") == 1


# Keras 3 cannot write its RandomBrightness as .h5.
FILES = [(kind, suffix) for kind in DROPPED for suffix in ("keras", "h5")]
FILES.remove(("RandomBrightness", "h5"))


@pytest.mark.parametrize(("kind", "suffix"), FILES)
@pytest.mark.filterwarnings("ignore")
def test_a_file_of_keras_3_goes_without_them(kind, suffix, tmp_path, images):
    model = network(kind, keras_3)
    model.save(tmp_path / f"net.{suffix}")
    with logged() as lines:
        loaded = mmx_tf.load_model(tmp_path / f"net.{suffix}")
    assert [line for line in lines if "act in training alone and are left out: acts." in line]
    assert "acts" not in [layer.name for layer in loaded.layers]
    np.testing.assert_allclose(loaded(images), model(images, training=False), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("keras", [tf_keras, keras_3], ids=["tf_keras", "Keras 3"])
def test_a_model_that_does_nothing_but_augment_is_left_out(keras, tmp_path, images):
    model = augmented_in_a_model(keras)
    model.save(tmp_path / "net.keras")
    with logged() as lines:
        search = mmx_tf.augment(tmp_path / "net.keras", target_average_bits=6)
    (line,) = [line for line in lines if "left out" in line]
    assert "2 layer(s)" in line and "random_flip" in line and "random_rotation" in line
    loaded = canonicalize(mmx_tf.load_model(tmp_path / "net.keras"))
    np.testing.assert_allclose(loaded(images), model(images, training=False), rtol=1e-5, atol=1e-6)
    assert len(search.quantizers) == 1


def test_one_that_acts_at_all_times_is_refused():
    image = tf_keras.Input(SHAPE)
    x = tf_keras.layers.GaussianNoise(0.5, name="noise")(image, training=True)
    with pytest.raises(UnsupportedLayerError, match="'noise'.*is called with training=True"):
        canonicalize(tf_keras.Model(image, tf_keras.layers.Conv2D(2, 1)(x)))
