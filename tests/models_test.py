import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from networks import randomize_statistics

from mmx_tf import models

pytestmark = pytest.mark.broad


def randomize(model: keras.Model, seed: int) -> None:
    """Random weights of every kind, batch-norm statistics included (variances stay positive)."""
    rng = np.random.default_rng(seed)
    model.set_weights([rng.uniform(0.2, 1.0, w.shape) * 0.3 for w in model.get_weights()])


@pytest.fixture(scope="module")
def keras_own():
    own = keras.applications.MobileNetV2(
        input_shape=(96, 96, 3), alpha=0.35, weights=None, classes=1000, classifier_activation=None
    )
    randomize(own, 0)
    return own


@pytest.fixture(scope="module")
def ours():
    """Built once: its layers are read, and whoever reads its weights sets them."""
    return models.build("mobilenet_v2", input_shape=(96, 96, 3), num_classes=1000, width=0.35)


def test_it_is_keras_applications_mobilenet_v2_layer_by_layer(keras_own, ours):
    assert [(layer.name, type(layer)) for layer in ours.layers[1:]] == [
        (layer.name, type(layer)) for layer in keras_own.layers[1:-2]
    ] + [
        ("global_average_pooling2d", keras.layers.GlobalAveragePooling2D),
        ("predictions", keras.layers.Dense),
    ]
    for layer in ours.layers[1:]:
        if "pooling" in layer.name:
            continue
        config, theirs = layer.get_config(), keras_own.get_layer(layer.name).get_config()
        for key in ("strides", "padding", "momentum", "epsilon", "max_value", "filters", "kernel_size"):
            assert config.get(key) == theirs.get(key), (layer.name, key)


def test_equal_weights_give_equal_logits(keras_own, ours):
    for layer in keras_own.layers:
        if layer.weights:
            ours.get_layer(layer.name).set_weights(layer.get_weights())
    images = np.random.default_rng(1).uniform(-1, 1, (2, 96, 96, 3)).astype(np.float32)
    np.testing.assert_array_equal(ours(images).numpy(), keras_own(images).numpy())


def test_keras_imagenet_weights_come_from_the_cache_folder(keras_own, ours, tmp_path, monkeypatch):
    folder = tmp_path / ".keras" / "models"
    folder.mkdir(parents=True)
    keras_own.save_weights(
        folder / "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_96.h5", save_format="h5"
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    randomize(ours, 1)
    models.load_imagenet_weights("mobilenet_v2", ours)
    for mine, theirs in zip(ours.get_weights(), keras_own.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_weights_that_cannot_be_fetched_are_a_clear_error(ours, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    # A port at which nobody listens: the download fails at once, with or without a network.
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(models.ModelError, match=r"~/\.keras/models and could not be.*0\.35_96\.h5"):
        models.load_imagenet_weights("mobilenet_v2", ours)


@pytest.mark.parametrize(
    ("shape", "classes", "width", "message"),
    [
        ((96, 96, 3), 10, 0.35, "1000 classes"),
        ((32, 32, 3), 1000, 0.35, "96, 128, 160, 192, 224"),
        ((96, 96, 3), 1000, 0.6, "0.35, 0.5, 0.75, 1.0, 1.3, 1.4"),
    ],
)
def test_imagenet_weights_that_do_not_exist_are_refused(shape, classes, width, message):
    model = models.build("mobilenet_v2", input_shape=shape, num_classes=classes, width=width)
    with pytest.raises(models.ModelError, match=message):
        models.load_imagenet_weights("mobilenet_v2", model)


def test_small_images_keep_their_resolution_in_the_first_two_reductions():
    model = models.build("mobilenet_v2", input_shape=(32, 32, 3), num_classes=10, width=0.5)
    assert model.get_layer("Conv1").output_shape == (None, 32, 32, 16)
    assert model.get_layer("block_1_pad").padding == ((1, 1), (1, 1))
    assert model.get_layer("block_1_depthwise").output_shape == (None, 32, 32, 48)
    assert model.get_layer("Conv_1").output_shape == (None, 4, 4, 1280)
    # The parameter count of Keras's MobileNet-v2 of width 0.5 with 10 classes.
    assert model.count_params() == 719_034


@pytest.fixture(scope="module", params=models.NAMES)
def small(request):
    return models.build(request.param, input_shape=(16, 16, 1), num_classes=10, width=0.35)


def test_logits_and_gradients_are_finite_and_every_weight_is_reached(small):
    images = tf.random.stateless_uniform([8, 16, 16, 1], (0, 1), -1.0, 1.0)
    with tf.GradientTape() as tape:
        logits = small(images, training=True)
        loss = tf.reduce_mean(
            keras.losses.sparse_categorical_crossentropy(tf.range(8), logits, from_logits=True)
        )
    gradients = tape.gradient(loss, small.trainable_variables)
    assert logits.shape == (8, 10)
    assert all(bool(tf.reduce_all(tf.math.is_finite(gradient))) for gradient in gradients)


def test_a_built_network_saves_and_loads(small, tmp_path):
    randomize_statistics(small, 2)
    small.save(tmp_path / "net.keras")
    images = np.linspace(-1, 1, 16 * 16, dtype=np.float32).reshape(1, 16, 16, 1)
    loaded = keras.models.load_model(tmp_path / "net.keras")
    np.testing.assert_array_equal(loaded(images).numpy(), small(images).numpy())


@pytest.mark.parametrize(
    ("name", "variant", "pixels", "left"),
    [
        ("mobilenet_v1", "published", 64, 2),
        ("mobilenet_v2", "published", 64, 2),
        ("mobilenet_v3_large", "published", 64, 2),
        ("resnet18", "published", 64, 2),
        ("mobilenet_v1", "small_images", 96, 12),
    ],
)
def test_a_variant_that_is_asked_for_has_its_strides_at_any_size(name, variant, pixels, left):
    shape = (pixels, pixels, 3)
    network = models.build(name, input_shape=shape, num_classes=2, width=0.25, variant=variant)
    pooling = [layer for layer in network.layers if "GlobalAverage" in type(layer).__name__]
    assert pooling[-1].input_shape[1:3] == (left, left)


def test_a_network_of_one_variant_refuses_others():
    with pytest.raises(models.ModelError, match="resnet8 has one variant.*'published'.*network_variant"):
        models.build("resnet8", input_shape=(32, 32, 3), num_classes=10, variant="published")
    with pytest.raises(models.ModelError, match="'big'; allowed are auto, published, small_images"):
        models.build("resnet18", input_shape=(32, 32, 3), num_classes=10, variant="big")


def test_bad_requests_are_named():
    for name, shape, classes, width, message in [
        (
            "vgg",
            (32, 32, 3),
            10,
            1.0,
            "'vgg'.*mobilenet_v1, mobilenet_v2, mobilenet_v3_large, resnet8, resnet18",
        ),
        ("mobilenet_v3_large", (8, 8, 3), 10, 1.0, r"mobilenet_v3_large.*\(8, 8, 3\).*16 pixels"),
        ("mobilenet_v3_large", (32, 32, 3), 1, 1.0, "num_classes=1"),
        ("resnet18", (15, 32, 3), 10, 1.0, r"resnet18.*\(15, 32, 3\).*16 pixels"),
        ("resnet18", (32, 32, 3), 10, -1.0, "width multiplier"),
        ("mobilenet_v2", (8, 8, 3), 10, 1.0, r"\(8, 8, 3\).*16 pixels"),
        ("mobilenet_v2", (32, 32), 10, 1.0, r"\(height, width, channels\)"),
        ("mobilenet_v2", (32, 32, 3), 1, 1.0, "num_classes=1"),
        ("mobilenet_v2", (32, 32, 3), 10, 0.0, "width multiplier"),
    ]:
        with pytest.raises(models.ModelError, match=message):
            models.build(name, input_shape=shape, num_classes=classes, width=width)
