"""1x1 convolutions with a stride, whose gradient oneDNN computes beyond its memory."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

import mmx_tf
from mmx_tf.layers import strided_pointwise
from mmx_tf.training.compute_dtype import convolutions_in


def in_a_process(code: str, *, seconds: float) -> int:
    """Exit code of a program with oneDNN on, which hangs at times instead of dying."""
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", code]
    try:
        return subprocess.run(command, env=environment, capture_output=True, timeout=seconds).returncode
    except subprocess.TimeoutExpired:
        return -1


RAW = """
import numpy as np, tensorflow as tf
rng = np.random.default_rng(0)
for channels in (1, 2, 3, 4, 5, 6, 7):
    x = rng.normal(size=(4, 60, 60, channels)).astype("float32")
    upstream = rng.normal(size=(4, 30, 30, 8)).astype("float32")
    got = tf.raw_ops.Conv2DBackpropFilter(
        input=x, filter_sizes=[1, 1, channels, 8], out_backprop=upstream, strides=[1, 2, 2, 1], padding="SAME"
    )
    want = np.einsum("bhwc,bhwo->co", x[:, ::2, ::2], upstream)
    np.testing.assert_allclose(got[0, 0], want, rtol=1e-3, atol=1e-2)
"""

OURS = """
import numpy as np, tf_keras as keras, mmx_tf
inputs = keras.Input((60, 60, 3))
x = keras.layers.Conv2D(3, 1, strides=2, name="first")(inputs)
x = keras.layers.Conv2D(8, 1, strides=2, name="second")(keras.layers.ReLU()(x))
x = keras.layers.GlobalAveragePooling2D()(x)
network = keras.Model(inputs, keras.layers.Dense(4, name="last")(x))
rng = np.random.default_rng(0)
images, labels = rng.normal(size=(8, 60, 60, 3)).astype("float32"), np.arange(8) % 4
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
search = mmx_tf.augment(network, meta_epochs=0)
search.compile(loss=loss)
search.fit(images, labels, batch_size=4, verbose=0)
fixed = mmx_tf.rebuild(search, search.bit_selection())
fixed.save("{folder}/fixed.keras")
for network in (fixed, mmx_tf.fold_for_training(fixed), mmx_tf.load_model("{folder}/fixed.keras")):
    network.compile("sgd", loss)
    network.fit(images, labels, batch_size=4, verbose=0)
"""


@pytest.fixture(scope="module")
def raw_tensorflow_fails():
    if in_a_process(RAW, seconds=120) == 0:
        pytest.skip("TensorFlow's own gradient of these layers is right on this machine: nothing to avoid.")


@pytest.mark.slow
def test_training_survives_what_kills_tensorflow(raw_tensorflow_fails, tmp_path):
    assert in_a_process(OURS.format(folder=tmp_path), seconds=600) == 0


def pointwise(kind, *, channels=3, size=9, strides=2, padding="same", **options):
    inputs = keras.Input((size, size, channels))
    options = {"strides": strides, "padding": padding, **options}
    if kind == "depthwise":
        layer = keras.layers.DepthwiseConv2D(options.pop("kernel_size", 1), depth_multiplier=4, **options)
    else:
        layer = keras.layers.Conv2D(4, options.pop("kernel_size", 1), activation="relu", **options)
    return keras.Model(inputs, layer(inputs)), layer


CASES = [
    ("conv", {}, True),
    ("conv", {"channels": 15}, True),
    ("conv", {"channels": 16}, False),
    ("conv", {"strides": 1}, False),
    ("conv", {"strides": 3, "size": 12, "padding": "valid"}, True),
    ("conv", {"kernel_size": 2}, False),
    ("conv", {"use_bias": False}, True),
    ("depthwise", {"channels": 1}, True),
    ("depthwise", {"channels": 2}, False),
]


@pytest.mark.parametrize(("kind", "options", "endangered"), CASES)
def test_outputs_and_gradients_are_those_of_the_strided_layer(kind, options, endangered):
    network, layer = pointwise(kind, **options)
    assert strided_pointwise.is_endangered(layer) == endangered
    x = np.random.default_rng(0).normal(size=(2, *network.input_shape[1:])).astype(np.float32)
    # By hand, since the gradient of the layer itself is what cannot be trusted.
    if endangered:
        step = layer.strides[0]
        kernel = layer.get_weights()[0][0, 0].astype(np.float64)
        pixels = x[:, ::step, ::step].astype(np.float64)
        want = pixels @ kernel
        kept = want > 0 if kind == "conv" else np.ones_like(want, bool)
        by_kernel = np.einsum("bhwc,bhwo->co", pixels, kept.astype(np.float64))
        by_x = np.zeros_like(x)
        by_x[:, ::step, ::step] = kept.astype(np.float64) @ kernel.T
    config, weights = network.get_config(), network.get_weights()
    strided_pointwise.avoid_damage(network)
    strided_pointwise.avoid_damage(network)  # once more changes nothing
    assert ("call" in vars(layer)) == endangered
    assert network.get_config() == config
    for one, other in zip(network.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(one, other)
    if not endangered:
        return
    inputs = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = network(inputs)
    found_kernel, found_x = tape.gradient(outputs, [layer.trainable_variables[0], inputs])
    np.testing.assert_allclose(outputs, np.where(kept, want, 0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found_kernel[0, 0], by_kernel, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found_x, by_x, rtol=1e-5, atol=1e-6)
    assert tuple(layer.strides) == (step, step)


def calls_of_strided_gradients(function, *args) -> list[int]:
    """The stride of every gradient of a filter in the graph of a function."""
    graph = tf.function(function).get_concrete_function(*args).graph
    graphs = [graph, *(f.graph for f in graph._functions.values() if hasattr(f, "graph"))]
    return [
        list(operation.get_attr("strides"))[1]
        for each in graphs
        for operation in each.get_operations()
        if operation.type.endswith("BackpropFilter")
    ]


def network_of_both():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 1, strides=2, name="first")(inputs)
    x = keras.layers.Conv2D(4, 1, strides=2, name="second")(x)
    x = keras.layers.Conv2D(4, 2, name="third")(x)
    return keras.Model(inputs, keras.layers.Flatten()(x))


def gradients_of(network, **kwargs):
    kernels = [v for v in network.trainable_variables if v.shape.rank == 4]

    def gradients(images):
        with tf.GradientTape() as tape:
            value = tf.reduce_sum(network(images, training=True, **kwargs) ** 2)
        return tape.gradient(value, kernels)

    return gradients


def test_every_network_of_ours_avoids_it(tmp_path):
    """The strides in the graphs that are trained, since numbers show the kernel only where it is used."""
    images = tf.constant(np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32))
    float_network = network_of_both()
    assert calls_of_strided_gradients(gradients_of(float_network), images) == [1, 2, 2]
    search = mmx_tf.augment(float_network)
    search(images, branch=0)
    search.save(tmp_path / "search.keras")
    fixed = mmx_tf.rebuild(search, search.selection_of([1] * len(search.quantizers)))
    fixed(images, training=True)
    fixed.save(tmp_path / "fixed.keras")
    for network, kwargs in [
        (search, {"branch": 0}),
        (search, {"branch": "mixed"}),
        (mmx_tf.load_model(tmp_path / "search.keras"), {"branch": 0}),
        (fixed, {}),
        (mmx_tf.load_model(tmp_path / "fixed.keras"), {}),
        (mmx_tf.fold_for_training(fixed), {}),
    ]:
        assert calls_of_strided_gradients(gradients_of(network, **kwargs), images) == [1, 1, 1]
    with convolutions_in("bfloat16", fixed):
        assert calls_of_strided_gradients(gradients_of(fixed), images) == [1, 1, 1]
    # The user's own is left alone.
    assert calls_of_strided_gradients(gradients_of(float_network), images) == [1, 2, 2]


def test_built_in_networks_avoid_it():
    network = mmx_tf.models.build("resnet18", input_shape=(32, 32, 3), num_classes=3, width=0.1)
    names = {layer.name for layer in network.layers if "call" in vars(layer)}
    assert names == {"conv3_block1_0_conv", "conv4_block1_0_conv"}  # of 6 and 13 channels, not that of 26
