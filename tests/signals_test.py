"""Signals and vectors: their canonical networks compute what the user's do, as images of height 1."""

import keras as keras3
import keras3_networks
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from canonical_test import checked, classes_of, functional, names_of

from mmx_tf.files.loading import load_model
from mmx_tf.folding import pixels
from mmx_tf.network import graph
from mmx_tf.network.canonical import UnsupportedLayerError, canonicalize
from mmx_tf.network.keras3 import as_tf_keras

SIGNAL = (24, 3)
ONE_LAYER = {
    "slopes": lambda L: lambda x: L.PReLU("uniform")(L.Conv1D(3, 3)(x)),
    "slopes of channels": lambda L: lambda x: L.PReLU("uniform", shared_axes=[1])(L.Conv1D(3, 3)(x)),
    "conv": lambda L: L.Conv1D(5, 4, strides=3, padding="same", activation="relu"),
    "valid": lambda L: L.Conv1D(5, 4, strides=2, activation="sigmoid"),
    "causal": lambda L: L.Conv1D(5, 4, padding="causal", strides=2),
    "dilated": lambda L: L.Conv1D(5, 3, dilation_rate=4, padding="same"),
    "causal and dilated": lambda L: L.Conv1D(5, 3, dilation_rate=4, padding="causal", use_bias=False),
    "pointwise": lambda L: L.Conv1D(5, 1, padding="causal", activation="relu6"),
    "depthwise": lambda L: L.DepthwiseConv1D(3, strides=2, depth_multiplier=2, padding="same"),
    "depthwise and dilated": lambda L: L.DepthwiseConv1D(3, dilation_rate=3, padding="same"),
    "separable": lambda L: L.SeparableConv1D(5, 3, strides=2, depth_multiplier=2, activation="relu"),
    "separable and causal": lambda L: L.SeparableConv1D(5, 3, padding="causal", dilation_rate=2),
    "max": lambda L: L.MaxPooling1D(3, strides=2, padding="same"),
    "max of one": lambda L: L.MaxPooling1D(1, strides=2),
    "average": lambda L: L.AveragePooling1D(4),
    "average that pads": lambda L: L.AveragePooling1D(5, strides=3, padding="same"),
    "global average": lambda L: L.GlobalAveragePooling1D(),
    "global average that keeps": lambda L: L.GlobalAveragePooling1D(keepdims=True),
    "global max": lambda L: L.GlobalMaxPooling1D(),
    "global max that keeps": lambda L: L.GlobalMaxPooling1D(keepdims=True),
    "padding": lambda L: L.ZeroPadding1D((2, 3)),
    "cropping": lambda L: L.Cropping1D((2, 3)),
    "longer": lambda L: L.UpSampling1D(3),
    "dense": lambda L: L.Dense(4, activation="relu"),
    "dense with a softmax": lambda L: L.Dense(4, activation="softmax"),
    "softmax over the steps": lambda L: L.Softmax(axis=1),
    "batch norm": lambda L: L.BatchNormalization(axis=2),
    "normalization": lambda L: L.Normalization(axis=2, mean=[0.5, 1.0, 2.0], variance=[1.0, 2.0, 3.0]),
    "rescaling": lambda L: L.Rescaling(0.25, offset=-1.0),
    "relu": lambda L: L.ReLU(6.0),
    "dropout": lambda L: L.Dropout(0.5, noise_shape=(None, 1, 3)),
    "flatten": lambda L: L.Flatten(),
    "reshape": lambda L: L.Reshape((8, -1)),
    "reshape to an image": lambda L: L.Reshape((4, 6, 3)),
}


@pytest.mark.parametrize("case", ONE_LAYER)
def test_a_layer_of_signals_is_one_of_images(case):
    model = functional(lambda x: ONE_LAYER[case](keras.layers)(x), SIGNAL)
    network = checked(model)
    assert network.output_shape == model.output_shape and network.input_shape == model.input_shape
    assert not any(name.endswith("1D") for name in classes_of(network))


# Of causal separable convolutions and a noise_shape for batches of any size Keras 3 has none.
IN_KERAS3 = sorted({*ONE_LAYER} - {"separable and causal", "dropout"})


@pytest.mark.parametrize("case", IN_KERAS3)
def test_so_is_one_of_keras_3(case):
    network = keras3_networks.functional(lambda x: ONE_LAYER[case](keras3.layers)(x), SIGNAL)
    imported = keras3_networks.assert_equal(network)
    signals = np.random.default_rng(1).normal(size=(4, *SIGNAL)).astype(np.float32)
    np.testing.assert_allclose(canonicalize(imported)(signals), network(signals), rtol=1e-5, atol=1e-5)


def merged(L, x):
    """All that merges signals, with vectors and images too."""
    y = L.Conv1D(3, 3, padding="same", activation="relu")(x)
    gate = L.Dense(3, activation="sigmoid")(L.GlobalAveragePooling1D()(y))
    y = L.Multiply()([y, L.Reshape((1, 3))(gate)])
    y = L.Add()([x, y, gate])
    y = L.Concatenate(axis=1)([y, x])
    return L.Concatenate()([y, y])


OPERATORS = {
    "merged": lambda x: merged(keras.layers, x),
    "added": lambda x: x + keras.layers.ReLU()(x),
    "scaled": lambda x: tf.nn.relu6(2.0 * x - 1.0),
    "mean of the steps": lambda x: tf.reduce_mean(x, axis=1),
    "means that are kept": lambda x: x * tf.reduce_mean(x, [1], keepdims=True),
    "joined": lambda x: tf.concat([x, tf.nn.relu(x)], axis=1),
    "an axis more": lambda x: keras.layers.Conv2D(2, 3)(tf.expand_dims(x, -1)),
    "an axis less": lambda x: tf.squeeze(keras.layers.Conv1D(1, 3)(x), axis=-1),
    "reshaped": lambda x: keras.layers.Conv1D(2, 3)(tf.reshape(x, (-1, 12, 6))),
    "of no layer": lambda x: keras.layers.Conv1D(2, 1)(tf.reverse(x, axis=[1])),
}


@pytest.mark.parametrize("case", OPERATORS)
def test_operators_mean_the_axes_of_signals(case):
    checked(functional(OPERATORS[case], SIGNAL))


OPERATORS_OF_KERAS3 = {
    "merged": lambda x: merged(keras3.layers, x),
    "mean of the steps": lambda x: keras3.ops.mean(x, axis=1),
    "largest of the steps": lambda x: keras3.ops.max(x, 1, keepdims=True),
    "joined": lambda x: keras3.ops.concatenate([x, 2 * x], axis=1),
    "pooled": lambda x: keras3.ops.max_pool(keras3.ops.average_pool(x, 2), 3, strides=2),
    "padded": lambda x: keras3.ops.pad(x, ((0, 0), (2, 1), (0, 0))),
    "an axis more": lambda x: keras3.ops.expand_dims(x, -1),
    "axes less": lambda x: keras3.ops.squeeze(keras3.ops.expand_dims(x, (1, -1)), (1, -1)),
}


@pytest.mark.parametrize("case", OPERATORS_OF_KERAS3)
def test_so_do_those_of_keras_3(case):
    network = keras3_networks.functional(OPERATORS_OF_KERAS3[case], SIGNAL)
    imported = keras3_networks.assert_equal(network)
    signals = np.random.default_rng(1).normal(size=(4, *SIGNAL)).astype(np.float32)
    np.testing.assert_allclose(canonicalize(imported)(signals), network(signals), rtol=1e-5, atol=1e-5)


def test_between_layers_of_signals_nothing_is_reshaped():
    layers = keras.layers

    def body(x):
        for name in "abc":
            x = layers.Conv1D(3, 3, padding="same", name=name)(x)
            x = layers.BatchNormalization(name=f"{name}_norm")(x)
            x = layers.ReLU(name=f"{name}_relu")(x)
        return layers.Flatten(name="flat")(layers.MaxPooling1D(name="pool")(x))

    layers_of = ["image_image", *(f"{name}{of}" for name in "abc" for of in ("", "_norm", "_relu"))]
    assert names_of(checked(functional(body, SIGNAL))) == [*layers_of, "pool", "flat"]


def test_a_reshaping_of_the_users_and_ours_are_one():
    layers = keras.layers
    network = checked(functional(lambda x: layers.Conv1D(2, 3)(layers.Reshape((6, 12))(x)), SIGNAL))
    assert [layer.output_shape[1:] for layer in network.layers[1:]] == [(1, 6, 12), (1, 4, 2), (4, 2)]


def test_an_image_without_channels_is_rescaled_in_front_of_its_reshaping():
    layers = keras.layers

    def body(x):
        image = layers.Rescaling(1 / 255, name="scale")(layers.Reshape((8, 8, 1))(x))
        return layers.Conv2D(2, 3, name="conv")(image)

    network = checked(functional(body, (8, 8)))
    assert classes_of(network) == ["Rescaling", "Reshape", "Conv2D"]
    assert pixels.pixel_layer(network, network.inputs[0], (1.0, 0.0)) == ("conv", (1 / 255, 0.0))


@pytest.mark.parametrize("axis", [0, (0, 1), -1])
def test_a_constraint_holds_along_the_same_axes_of_a_kernel(axis):
    layers = keras.layers
    constraint = keras.constraints.MaxNorm(0.1, axis=axis)
    for layer, name in (
        (layers.Conv1D(4, 5, kernel_constraint=constraint), "kernel"),
        (layers.DepthwiseConv1D(5, depthwise_constraint=constraint), "depthwise_kernel"),
    ):
        model = functional(layer, SIGNAL)
        ours = getattr(canonicalize(model).layers[2], name)
        theirs = getattr(model.layers[1], name)
        expected = theirs.constraint(theirs)
        assert np.abs(expected - theirs).max() > 0.01
        np.testing.assert_allclose(ours.constraint(ours)[0], expected, rtol=1e-6)


def test_a_vector_stays_one():
    layers = keras.layers
    network = checked(functional(lambda x: layers.Dense(3)(layers.Dense(4, activation="relu")(x)), (12,)))
    assert classes_of(network) == ["Dense", "ReLU", "Dense"]


def test_a_network_of_signals_is_loaded_from_a_file_of_keras_3(tmp_path):
    L = keras3.layers
    network = keras3.Sequential(
        [keras3.Input(SIGNAL), L.SeparableConv1D(4, 3, activation="relu"), L.GlobalMaxPooling1D(), L.Dense(2)]
    )
    network.save(tmp_path / "signal.keras")
    signals = np.random.default_rng(1).normal(size=(4, *SIGNAL)).astype(np.float32)
    canonical = canonicalize(load_model(tmp_path / "signal.keras"))
    np.testing.assert_allclose(canonical(signals), network(signals), rtol=1e-5, atol=1e-5)


REFUSED = {
    "Conv1D": (lambda L: L.Conv1D(3, 3, groups=3, name="bad"), "has groups=3.*DepthwiseConv1D"),
    "LSTM": (lambda L: L.LSTM(2, name="bad"), "feeds its state back.*Use Conv1D"),
    "GRU": (lambda L: L.GRU(2, name="bad"), "feeds its state back.*Use Conv1D"),
    "LayerNormalization": (
        lambda L: L.LayerNormalization(name="bad"),
        "divides.*each example.*BatchNormalization",
    ),
    "MultiHeadAttention": (
        lambda L: lambda x: L.MultiHeadAttention(2, 4, name="bad")(x, x),
        "multiplies activations.*Use convolutions",
    ),
    "TimeDistributed": (
        lambda L: L.TimeDistributed(L.Dense(2), name="bad"),
        "wraps a layer.*Call that layer on .None, length",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_refused_is_named_with_reason_and_way_out(kind, tmp_path):
    layer, message = REFUSED[kind]
    with pytest.raises(UnsupportedLayerError, match=f"Layer 'bad' .{kind}. {message}"):
        canonicalize(functional(layer(keras.layers), SIGNAL))
    of_keras3 = keras3_networks.functional(layer(keras3.layers), SIGNAL)
    with pytest.raises(UnsupportedLayerError, match=f"'bad' .{kind}.*{message}"):
        canonicalize(as_tf_keras(of_keras3))
    of_keras3.save(tmp_path / "refused.keras")
    with pytest.raises(UnsupportedLayerError, match=f"'bad' .{kind}.*{message}"):
        canonicalize(load_model(tmp_path / "refused.keras"))


def test_a_nested_model_of_another_rank_is_refused():
    layers = keras.layers
    inner = keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(2, 3)], name="inner")
    with pytest.raises(UnsupportedLayerError, match=r"'inner' .*called on .*Reshape\(\(8, 8, 1\)\)"):
        canonicalize(functional(inner, (8, 8)))


def test_the_axes_of_each_layer_are_told_by_what_it_is_called_on():
    """A Reshape may make an image of height 1 of a signal, which is no signal for the layers behind it."""
    layers = keras.layers

    def body(x):
        image = layers.Reshape((1, 24, 3))(layers.Conv1D(3, 3, padding="same")(x))
        return layers.Concatenate(axis=2)([image, layers.ReLU()(image)])

    network = checked(functional(body, SIGNAL))
    assert network.output_shape == (None, 1, 48, 3)
    assert [node.layer.axis for node in graph.nodes(network) if hasattr(node.layer, "axis")] == [2]
