"""Keras's global settings of types leave networks, training and files alone."""

import contextlib

import keras as keras3
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

import mmx_tf

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@contextlib.contextmanager
def settings(
    policy=None, floatx="float32", keras3_policy=None, keras3_floatx="float32", channels_first=False
):
    """Keras's global settings, put back in the end."""
    try:
        keras.backend.set_floatx(floatx)
        keras.mixed_precision.set_global_policy(policy)
        keras.backend.set_image_data_format("channels_first" if channels_first else "channels_last")
        keras3.config.set_floatx(keras3_floatx)
        keras3.config.set_dtype_policy(keras3_policy or keras3_floatx)
        yield
    finally:
        keras.backend.set_floatx("float32")
        keras.mixed_precision.set_global_policy(None)
        keras.backend.set_image_data_format("channels_last")
        keras3.config.set_floatx("float32")
        keras3.config.set_dtype_policy("float32")


SETTINGS = {
    "mixed_float16": {"policy": "mixed_float16"},
    "mixed_bfloat16": {"policy": "mixed_bfloat16"},
    "floatx float64": {"floatx": "float64"},
    "floatx float16": {"floatx": "float16"},
    "floatx float16, channels first": {"floatx": "float16", "channels_first": True},
    "Keras 3": {"keras3_policy": "mixed_float16", "keras3_floatx": "float64"},
}


def tiny_network():
    """Three weighted layers with what a setting might touch: batch norm, ReLU6, an addition, pooling."""
    inputs = keras.Input((8, 8, 1), name="image")
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same", use_bias=False, name="stem")(inputs)
    x = keras.layers.BatchNormalization(momentum=0.8, name="stem_bn")(x)
    x = shortcut = keras.layers.ReLU(6.0, name="stem_relu")(x)
    x = keras.layers.Add(name="add")([keras.layers.Conv2D(4, 1, name="middle")(x), shortcut])
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, keras.layers.Dense(10, name="logits")(x), name="tiny")


@pytest.fixture(scope="module")
def digits():
    return mmx_tf.data.load("digits", image_size=8)


@pytest.fixture(scope="module")
def float_model():
    keras.utils.set_random_seed(0)
    return tiny_network()


def the_whole_path(float_model, digits, folder):
    """Everything that a notebook does: what it sees of it, and its models."""
    keras.utils.set_random_seed(3)
    batches = digits.train(batch_size=32, seed=0).take(2)
    search = mmx_tf.augment(float_model, target_average_bits=4.5, meta_epochs=0)
    search.compile(optimizer=keras.optimizers.SGD(2**-6), loss=LOSS, metrics=["accuracy"])
    # Arrays, which Keras casts to floatx.
    images, labels = (np.concatenate(parts) for parts in zip(*batches.as_numpy_iterator(), strict=True))
    history = search.fit(images, labels, batch_size=32, shuffle=False, verbose=0).history
    search.save(folder / "search.keras")
    search = mmx_tf.load_model(folder / "search.keras")
    fixed = mmx_tf.rebuild(search, search.bit_selection())
    # A power of two is the same rate in all types.
    fixed.compile(optimizer=keras.optimizers.SGD(2**-6, momentum=0.5), loss=LOSS, metrics=["accuracy"])
    fixed.fit(batches, verbose=0)
    on_folded_graph = mmx_tf.fold_for_training(fixed)
    on_folded_graph.compile(optimizer=keras.optimizers.SGD(2**-8), loss=LOSS, run_eagerly=True)
    on_folded_graph.fit(batches, verbose=0)
    fixed.save(folder / "fixed.keras")
    fixed = mmx_tf.load_model(folder / "fixed.keras")
    folded = mmx_tf.fold(fixed)
    folded.save(folder / "folded.keras")
    folded = mmx_tf.load_model(folder / "folded.keras")
    file = mmx_tf.convert(folded)
    report = mmx_tf.verify(folded, file, digits.evaluation(batch_size=60, limit=60))
    assert report.code_disagreement == 0
    assert all(tensor.differing == 0 for tensor in report.tensors)
    found = {
        "bops": mmx_tf.count_bops(float_model),
        "history": history,
        "logits": search.predict(images[:8], verbose=0).tolist(),
        "file": file,
    }
    return found, (search, fixed, folded, on_folded_graph)


@pytest.fixture(scope="module")
def expected(float_model, digits, tmp_path_factory):
    return the_whole_path(float_model, digits, tmp_path_factory.mktemp("expected"))[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "built_under_it"),
    [
        ("mixed_float16", False),
        ("mixed_bfloat16", True),
        ("floatx float64", True),
        ("floatx float16, channels first", False),
        ("Keras 3", False),
    ],
)
def test_settings_of_types_change_no_bit(name, built_under_it, float_model, digits, expected, tmp_path):
    with settings(**SETTINGS[name]):
        before = keras.backend.floatx(), keras.mixed_precision.global_policy().name
        if built_under_it:
            network = tiny_network()
            network.set_weights(float_model.get_weights())
            assert network.get_layer("stem").compute_dtype != "float32"
            float_model = network
        found, models = the_whole_path(float_model, digits, tmp_path)
        assert (keras.backend.floatx(), keras.mixed_precision.global_policy().name) == before
    assert found == expected
    for model in models:
        assert {v.dtype for v in model.variables if v.dtype.is_floating} == {tf.float32}


@pytest.mark.parametrize("name", ["mixed_float16", "floatx float16"])
def test_a_network_that_was_built_in_float16_becomes_float32(name):
    with settings(**SETTINGS[name]):
        network = tiny_network()
        search = mmx_tf.augment(network)
    plain = tiny_network()
    plain.set_weights([np.asarray(value, np.float32) for value in network.get_weights()])
    images = np.random.default_rng(0).normal(size=(4, 8, 8, 1)).astype(np.float32)
    np.testing.assert_array_equal(search(images, branch=0), mmx_tf.augment(plain)(images, branch=0))


def mixed_operators(dtype):
    """Operators as networks of mixed precision have them."""
    inputs = keras.Input((8, 8, 3), dtype="uint8")
    x = tf.cast(inputs, dtype) * tf.constant(1 / 128, dtype) - tf.constant([1.0, 0.5, 0.25], dtype)
    x = keras.layers.Conv2D(4, 3, name="one")(x)
    x = tf.maximum(x, tf.constant(-0.5, dtype))
    x = keras.layers.Conv2D(4, 3, name="two")(tf.nn.relu6(x))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, tf.cast(keras.layers.Dense(3)(x), tf.float32))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_casts_and_constants_of_mixed_precision(dtype):
    with settings(policy=f"mixed_{dtype}"):
        network = mixed_operators(dtype)
        search = mmx_tf.augment(network, allow_unexportable=True)  # tf.maximum
    with settings():
        plain = mixed_operators("float32")
    plain.set_weights(network.get_weights())
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3)).astype(np.float32)
    kinds = [type(layer).__name__ for layer in search.network.layers]
    assert kinds.count("TFOpLambda") == 1  # tf.maximum
    canonical = mmx_tf.augment(plain, allow_unexportable=True)
    np.testing.assert_array_equal(search(images, branch=0), canonical(images, branch=0))


def test_a_normalization_keeps_its_numbers():
    mean, variance = [0.1, 0.2, 0.3], [1.1, 1.2, 1.3]

    def network():
        inputs = keras.Input((8, 8, 3))
        x = keras.layers.Normalization(mean=mean, variance=variance, name="normalization")(inputs)
        x = keras.layers.Conv2D(4, 3, name="one")(x)
        x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3, name="two")(x))
        return keras.Model(inputs, keras.layers.Dense(3)(x))

    with settings(policy="mixed_bfloat16"):
        search = mmx_tf.augment(network())
    scale = search.network.get_layer("normalization").scale
    np.testing.assert_allclose(scale, 1 / np.sqrt(np.float32(variance)), rtol=1e-6)


@pytest.mark.parametrize("setting", ["mixed_float16", "mixed_bfloat16", "float64", "float16"])
def test_networks_of_keras_3_under_its_settings(setting):
    def network():
        layers = keras3.layers
        inputs = keras3.Input((8, 8, 3))
        x = layers.Conv2D(4, 3, activation="relu", name="one")(inputs)
        x = layers.Conv2D(4, 3, name="two")(x)
        x = keras3.ops.cast(layers.GlobalAveragePooling2D()(x), "float32")
        return keras3.Model(inputs, layers.Dense(3, name="three")(x))

    mixed = {"keras3_policy": setting} if "mixed" in setting else {"keras3_floatx": setting}
    with settings(**mixed):
        under = network()
        search = mmx_tf.augment(under)
    plain = network()
    plain.set_weights([np.asarray(value, np.float32) for value in under.get_weights()])
    images = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype(np.float32)
    np.testing.assert_array_equal(search(images, branch=0), mmx_tf.augment(plain)(images, branch=0))
    assert search.network.inputs[0].dtype == tf.float32


@pytest.mark.parametrize(
    ("kind", "name"), [("mobilenet_v2", "mixed_float16"), ("resnet18", "floatx float16, channels first")]
)
def test_built_in_networks_are_float32(kind, name):
    with settings(**SETTINGS[name]):
        network = mmx_tf.models.build(kind, input_shape=(32, 32, 3), num_classes=3, width=0.1)
    assert network.input_shape == (None, 32, 32, 3) and network.inputs[0].dtype == tf.float32
    assert {layer.compute_dtype for layer in network.layers} == {"float32"}


def test_an_optimizer_with_loss_scaling_is_let_be(float_model):
    """A search's gradients are not scaled, and so none is divided."""
    trained, images = [], np.random.default_rng(0).normal(size=(8, 8, 8, 1)).astype(np.float32)
    for wrap in (lambda optimizer: optimizer, keras.mixed_precision.LossScaleOptimizer):
        keras.utils.set_random_seed(3)
        search = mmx_tf.augment(float_model)
        search.compile(optimizer=wrap(keras.optimizers.SGD(2**-6)), loss=LOSS, run_eagerly=True)
        search.fit(images, np.arange(8), verbose=0)
        trained.append(search.network.get_weights())
    for one, other in zip(*trained, strict=True):
        np.testing.assert_array_equal(one, other)
