"""MobileNet-v3-large beside Keras's own, and its small-image variant."""

import numpy as np
import pytest
import tf_keras as keras
from networks import randomize_statistics

from mmx_tf import models

pytestmark = pytest.mark.broad

SHAPE, WIDTH = (64, 96, 3), 0.75


@pytest.fixture(scope="module")
def keras_own():
    keras.utils.set_random_seed(0)
    own = keras.applications.MobileNetV3Large(
        input_shape=SHAPE, alpha=WIDTH, weights=None, classifier_activation=None, include_preprocessing=False
    )
    randomize_statistics(own, 0)
    return own


@pytest.fixture(scope="module")
def ours():
    # 64x96 pixels in the published stem: every border case of the strided filters, in little time.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mmx_tf.models.rules.SMALL_IMAGE_BELOW", 64)
        return models.build("mobilenet_v3_large", input_shape=SHAPE, num_classes=1000, width=WIDTH)


def test_every_layer_with_weights_is_keras_applications_own(keras_own, ours):
    mine = [layer for layer in ours.layers if layer.weights]
    theirs = [layer for layer in keras_own.layers if layer.weights]
    assert [(layer.name, type(layer)) for layer in mine] == [(layer.name, type(layer)) for layer in theirs]
    for layer, other in zip(mine, theirs, strict=True):
        assert [w.shape for w in layer.weights] == [w.shape for w in other.weights]
        config, expected = layer.get_config(), other.get_config()
        for key in ("strides", "padding", "momentum", "epsilon", "filters", "kernel_size", "use_bias"):
            assert config.get(key) == expected.get(key), (layer.name, key)


def test_equal_weights_give_equal_logits(keras_own, ours):
    for layer in keras_own.layers:
        if layer.weights:
            ours.get_layer(layer.name).set_weights(layer.get_weights())
    images = np.random.default_rng(1).uniform(-1, 1, (2, *SHAPE)).astype(np.float32)
    logits = ours(images).numpy()
    assert logits.std() > 1e-3
    np.testing.assert_array_equal(logits, keras_own(images).numpy())


@pytest.mark.parametrize("size", [97, 98])
def test_odd_images_are_padded_as_keras_does(size):
    """Both filter sizes with stride 2, on the even and odd sizes that such images come to."""
    own = keras.applications.MobileNetV3Large(
        input_shape=(size, size, 3), weights=None, include_preprocessing=False
    )
    network = models.build("mobilenet_v3_large", input_shape=(size, size, 3), num_classes=1000)
    for block in (1, 3, 6, 12):
        name = f"expanded_conv_{block}/depthwise"
        assert network.get_layer(f"{name}/pad").padding == own.get_layer(f"{name}/pad").padding, name
        assert network.get_layer(name).output_shape == own.get_layer(name).output_shape


def test_keras_imagenet_weights_come_from_the_cache_folder(keras_own, tmp_path, monkeypatch):
    folder = tmp_path / ".keras" / "models"
    folder.mkdir(parents=True)
    # Of smaller images, which have no part in the weights.
    keras_own.save_weights(folder / "weights_mobilenet_v3_large_224_0.75_float.h5", save_format="h5")
    monkeypatch.setenv("HOME", str(tmp_path))
    # Keras checks the file's hash, which only the published one has.
    monkeypatch.setattr("tf_keras.src.utils.data_utils.validate_file", lambda *_, **__: True)
    network = models.build("mobilenet_v3_large", input_shape=(224, 224, 3), num_classes=1000, width=0.75)
    models.load_imagenet_weights("mobilenet_v3_large", network)
    for mine, theirs in zip(network.get_weights(), keras_own.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize(
    ("size", "classes", "width", "message"),
    [
        (224, 10, 1.0, "1000 classes"),
        (192, 1000, 1.0, "colour images of 224 pixels"),
        (224, 1000, 0.5, "0.75, 1.0; this MobileNet-v3-large .*8 channels"),
    ],
)
def test_imagenet_weights_that_do_not_exist_are_refused(size, classes, width, message):
    network = models.build(
        "mobilenet_v3_large", input_shape=(size, size, 3), num_classes=classes, width=width
    )
    with pytest.raises(models.ModelError, match=message):
        models.load_imagenet_weights("mobilenet_v3_large", network)


def test_small_images_keep_their_resolution_in_the_first_two_reductions():
    network = models.build("mobilenet_v3_large", input_shape=(32, 32, 3), num_classes=10, width=0.5)
    assert network.get_layer("Conv").output_shape == (None, 32, 32, 16)
    assert network.get_layer("expanded_conv_1/depthwise/pad").padding == ((1, 1), (1, 1))
    assert network.get_layer("expanded_conv_1/depthwise").output_shape == (None, 32, 32, 32)
    assert network.get_layer("Conv_1").output_shape == (None, 4, 4, 480)
    assert network.output_shape == (None, 10)
    # Keras's network of this width: strides have no parameters.
    own = keras.applications.MobileNetV3Large(
        input_shape=(32, 32, 3), alpha=0.5, weights=None, classes=10, include_preprocessing=False
    )
    assert network.count_params() == own.count_params()


def test_hard_swish_by_hand(ours):
    """x * relu6(x + 3) / 6: zero up to -3, lowest at -1.5 (-1.5 * 1.5 / 6 = -0.375), the identity from 3."""
    x = np.array([-4.0, -3.0, -1.5, 0.0, 1.0, 3.0, 5.0], np.float32)
    y = x
    for suffix in ("hard_sigmoid/add_3", "hard_sigmoid/relu6", "hard_sigmoid"):
        y = ours.get_layer(f"Conv_2/{suffix}")(y)
    y = ours.get_layer("Conv_2/hard_swish")([x, y])
    np.testing.assert_allclose(y, [0.0, 0.0, -0.375, 0.0, 4 / 6, 3.0, 5.0], rtol=1e-6)
