"""The canonical form computes what the user's network computes, and leaves that network alone."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from mmx_tf.network import graph
from mmx_tf.network.canonical import canonicalize
from mmx_tf.network.kinds import WEIGHTED

layers = keras.layers


def classes_of(network):
    return [type(layer).__name__ for layer in network.layers[1:]]


def names_of(network):
    return [layer.name for layer in network.layers[1:]]


def weighted_layers(network):
    return [node.layer for node in graph.nodes(network) if type(node.layer).__name__ in WEIGHTED]


def functional(body, shape=(8, 8, 3)):
    inputs = keras.Input(shape, name="image")
    return keras.Model(inputs, body(inputs))


def checked(model, seed=0):
    """Canonicalizes with random weights; asserts equal outputs and an untouched model."""
    rng = np.random.default_rng(seed)
    # Positive values serve batch-norm variances too; images of both signs exercise the activations.
    model.set_weights([rng.uniform(0.2, 1, w.shape) * rng.choice([0.5, 0.7]) for w in model.get_weights()])
    images = rng.normal(size=(2, *model.inputs[0].shape[1:])).astype(np.float32)
    expected, weights, config = model(images), model.get_weights(), model.get_config()
    variables = [id(v) for v in model.variables]
    network = canonicalize(model)
    for ours, theirs in zip(tf.nest.flatten(network(images)), tf.nest.flatten(expected), strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-6, atol=1e-6)
        assert np.ptp(theirs.numpy()) > 0
    # Training the canonical network must not reach the user's.
    network.set_weights([w * 0 for w in network.get_weights()])
    np.testing.assert_array_equal(model(images), expected)
    assert [id(v) for v in model.variables] == variables
    assert model.get_config() == config
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    assert len({layer.name for layer in network.layers}) == len(network.layers)
    return network


@pytest.mark.parametrize("activation", ["relu", "relu6", "sigmoid", "tanh", tf.nn.relu6, layers.ReLU(2.0)])
def test_an_activation_inside_a_layer_becomes_a_layer(activation):
    network = checked(functional(layers.Conv2D(4, 3, strides=2, activation=activation, name="c")))
    assert names_of(network) == ["c", "c_activation"]
    assert network.get_layer("c").get_config()["activation"] == "linear"


@pytest.mark.parametrize(
    ("activation", "limit"),
    [("relu", None), ("relu6", 6.0), (tf.nn.relu, None), (tf.nn.relu6, 6.0), (keras.activations.relu, None)]
    + [(layers.ReLU(6.0), 6.0)],
)
def test_relu_has_one_spelling(activation, limit):
    for body in (layers.Conv2D(2, 1, activation=activation), layers.Activation(activation)):
        if isinstance(activation, layers.Layer) and isinstance(body, layers.Activation):
            continue
        relu = checked(functional(body)).layers[-1]
        assert type(relu) is layers.ReLU
        assert relu.max_value == limit and relu.negative_slope == 0 and relu.threshold == 0


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "softmax", tf.nn.sigmoid])
def test_other_activation_layers_stay(activation):
    assert classes_of(checked(functional(layers.Activation(activation)))) == ["Activation"]


@pytest.mark.parametrize(
    "body",
    [
        layers.Activation("swish"),
        tf.nn.silu,
        lambda x: x * tf.sigmoid(x),
        layers.DepthwiseConv2D(1, activation="swish", name="d"),
    ],
)
def test_swish_is_a_product(body):
    network = checked(functional(body))
    assert [kind for kind in classes_of(network) if kind != "DepthwiseConv2D"] == ["Activation", "Multiply"]
    assert network.layers[-2].get_config()["activation"] == "sigmoid"


@pytest.mark.parametrize(
    ("body", "slope"),
    [
        (lambda x: layers.ReLU(6.0)(x + 3.0) * (1.0 / 6.0), 1 / 6),
        (lambda x: tf.nn.relu6(3.0 + x) / 6.0, 1 / 6),
        (lambda x: layers.ReLU(1.0)(layers.Rescaling(0.25, 0.5)(x)) * 1.0, 0.25),
        (layers.Activation("hard_sigmoid"), 0.2),
    ],
)
def test_hard_sigmoid_has_one_spelling(body, slope):
    network = checked(functional(body))
    assert classes_of(network) == ["HardSigmoid"]
    assert network.layers[-1].slope == pytest.approx(slope)


@pytest.mark.parametrize(
    "body",
    [
        lambda x: layers.ReLU(6.0)(x + 2.0) * (1.0 / 6.0),
        lambda x: layers.ReLU(5.0)(x + 3.0) * (1.0 / 6.0),
        lambda x: layers.ReLU(6.0)(layers.Rescaling(-1.0, 3.0)(x)) * (1.0 / 6.0),
        lambda x: layers.ReLU(6.0)(x + 3.0) * (1.0 / 6.0) + 0.1,
        lambda x: layers.ReLU()(x + 3.0) * (1.0 / 6.0),
    ],
)
def test_what_is_like_a_hard_sigmoid_but_none_is_left(body):
    kinds = classes_of(checked(functional(body)))
    assert kinds in (["Rescaling", "ReLU", "Rescaling"], ["HardSigmoid", "Rescaling"])


def test_arithmetic_with_numbers_is_a_rescaling():
    network = checked(functional(lambda x: -(5 - ((x * 2.0 - 1.0) / 4.0 + 3))))
    assert classes_of(network) == ["Rescaling"] * 6
    found = [(layer.scale, layer.offset) for layer in network.layers[1:]]
    assert found == [(2.0, 0.0), (1.0, -1.0), (0.25, 0.0), (1.0, 3.0), (-1.0, 5.0), (-1.0, 0.0)]


def test_keywords_may_come_in_any_order():
    network = checked(functional(lambda x: tf.subtract(y=tf.multiply(y=[1.0, -2.0, 3.0], x=x), x=1.0)))
    found = [(layer.scale, layer.offset) for layer in network.layers[1:]]
    assert found == [([1.0, -2.0, 3.0], 0.0), (-1.0, 1.0)]
    mean = checked(functional(lambda x: tf.reduce_mean(keepdims=True, axis=[1, 2], input_tensor=x)))
    assert classes_of(mean) == ["GlobalAveragePooling2D"] and mean.layers[-1].keepdims


@pytest.mark.parametrize("merge", [layers.Add, layers.Multiply])
def test_a_vector_meets_an_image_channel_by_channel(merge):
    network = checked(functional(lambda x: merge(name="m")([layers.GlobalAveragePooling2D()(x), x])))
    assert classes_of(network) == ["GlobalAveragePooling2D", "Reshape", merge.__name__]
    assert names_of(network)[-2:] == ["m_reshape", "m"]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_initialised_the_weights_is_not_needed():
    own = layers.Conv2D(2, 1, kernel_initializer=lambda shape, dtype=None: tf.ones(shape))
    assert classes_of(checked(functional(own))) == ["Conv2D"]


def test_a_division_by_zero_is_left_to_tensorflow():
    network = functional(lambda x: layers.Conv2D(2, 1)(x) / 0.0)
    assert classes_of(canonicalize(network)) == ["Conv2D", "TFOpLambda"]


def test_normalization_by_constants_is_a_rescaling():
    mean, variance = [0.5, -1.0, 0.0], [4.0, 0.25, 1.0]
    (network,) = [checked(functional(layers.Normalization(mean=mean, variance=variance)))]
    assert classes_of(network) == ["Rescaling"]
    np.testing.assert_allclose(network.layers[-1].scale, [0.5, 2.0, 1.0])
    np.testing.assert_allclose(network.layers[-1].offset, [-0.25, 2.0, 0.0])
    same = checked(functional(layers.Normalization(mean=1.0, variance=4.0))).layers[-1]
    assert (same.scale, same.offset) == (0.5, -0.5)
    inverted = checked(functional(layers.Normalization(mean=1.0, variance=4.0, invert=True))).layers[-1]
    assert (inverted.scale, inverted.offset) == (2.0, 1.0)


@pytest.mark.parametrize("keepdims", [False, True])
def test_global_max_pooling_is_a_window_as_large_as_the_image(keepdims):
    network = checked(functional(layers.GlobalMaxPooling2D(keepdims=keepdims, name="g")))
    assert classes_of(network) == ["MaxPooling2D"] + ["Flatten"] * (not keepdims)
    assert names_of(network)[-1] == "g"


def test_linear_activations_are_dropped():
    network = checked(
        functional(lambda x: layers.Activation("linear")(layers.Conv2D(2, 1)(layers.Activation(None)(x))))
    )
    assert classes_of(network) == ["Conv2D"]


@pytest.mark.parametrize(
    "layer",
    [
        layers.ReLU(),
        layers.ReLU(6.0),
        layers.ReLU(negative_slope=0.1, threshold=0.2),
        layers.DepthwiseConv2D(3, depth_multiplier=2, dilation_rate=2),
        layers.DepthwiseConv2D(3, strides=2, padding="same", use_bias=False),
        layers.BatchNormalization(),
        layers.BatchNormalization(scale=False, center=False),
        layers.GlobalAveragePooling2D(),
        layers.GlobalAveragePooling2D(keepdims=True),
        layers.AveragePooling2D(3, strides=2, padding="same"),
        layers.MaxPooling2D(2),
        layers.ZeroPadding2D(((0, 1), (2, 3))),
        layers.Flatten(),
        layers.Reshape((4, 16, 3)),
        layers.Dropout(0.5),
        layers.Rescaling(1 / 127.5, offset=-1.0),
        layers.Softmax(),
    ],
    ids=lambda layer: layer.name,
)
def test_a_layer_that_stays_as_it_is(layer):
    network = checked(functional(layer))
    assert classes_of(network) == [type(layer).__name__]
    assert network.layers[1] is not layer
    if not isinstance(layer, layers.Rescaling):
        # Dropout's generator is of the kind whose state a checkpoint can hold.
        generator = {"rng_type": "stateful"} if isinstance(layer, layers.Dropout) else {}
        assert network.layers[1].get_config() == layer.get_config() | generator


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"depth_multiplier": 2, "dilation_rate": 2, "activation": "relu6", "use_bias": False},
        {"strides": 2, "padding": "same", "activation": "sigmoid"},
    ],
)
def test_separable_convolution_is_a_depthwise_and_a_pointwise(options):
    network = checked(functional(layers.SeparableConv2D(5, 3, name="s", **options)))
    activation = ["s_activation"] if "activation" in options else []
    assert names_of(network) == ["s_depthwise", "s_pointwise", *activation]
    assert [layer.name for layer in weighted_layers(network)] == ["s_depthwise", "s_pointwise"]
    assert not network.get_layer("s_depthwise").use_bias
    assert network.get_layer("s_pointwise").use_bias == options.get("use_bias", True)


@pytest.mark.parametrize("merge", [layers.Add, layers.Multiply])
def test_three_inputs_are_merged_two_at_a_time(merge):
    def body(x):
        return merge(name="m")([layers.Conv2D(3, 1, name=name)(x) for name in "abcd"])

    network = checked(functional(body))
    assert [name for name in names_of(network) if name not in "abcd"] == ["m_2", "m_3", "m"]
    assert [len(network.get_layer(name).input) for name in ("m_2", "m_3", "m")] == [2, 2, 2]


@pytest.mark.parametrize("merge", [layers.Add, layers.Multiply])
def test_two_inputs_stay_one_layer(merge):
    network = checked(functional(lambda x: merge(name="m")([x, layers.Conv2D(3, 1)(x)])))
    assert names_of(network)[1:] == ["m"]


def test_concatenate_takes_any_number():
    network = checked(
        functional(lambda x: layers.Concatenate()([x, layers.ReLU()(x), layers.Conv2D(1, 1)(x)]))
    )
    assert classes_of(network).count("Concatenate") == 1


def test_operators_with_a_layer_of_their_own_become_it():
    def body(x):
        y = tf.nn.relu6(features=layers.Conv2D(3, 1)(x)) + x
        y = tf.concat([tf.math.multiply(y, y=x), keras.activations.relu(y)], axis=-1)
        gate = tf.reduce_mean(y, axis=[1, 2], keepdims=True)
        return tf.reduce_mean(gate * y, [1, 2])

    network = checked(functional(body))
    assert classes_of(network) == [
        "Conv2D", "ReLU", "Add", "Multiply", "ReLU", "Concatenate", "GlobalAveragePooling2D", "Multiply",
        "GlobalAveragePooling2D",
    ]  # fmt: skip


def test_other_operators_are_passed_through():
    def body(x):
        y = layers.Conv2D(3, 1)(1 / x)
        # A mean over one axis and a sum of two shapes are not what the layers compute.
        return tf.sin(y) + tf.reduce_mean(y, axis=1, keepdims=True)

    network = checked(functional(body))
    assert classes_of(network).count("Conv2D") == 1
    assert set(classes_of(network)) == {"Conv2D", "TFOpLambda"}


def test_a_dense_layer_on_an_image_is_a_pointwise_convolution():
    network = checked(functional(lambda x: layers.Dense(5, activation="relu", name="d")(x)))
    assert classes_of(network) == ["Conv2D", "ReLU"]
    assert network.get_layer("d").kernel_size == (1, 1)


def test_a_sequential_classifier():
    network = checked(
        keras.Sequential(
            [
                layers.Input((8, 8, 3)),
                layers.Rescaling(2.0),
                layers.Conv2D(4, 3, activation="relu"),
                layers.BatchNormalization(),
                layers.MaxPooling2D(),
                layers.Flatten(),
                layers.Dense(3, activation="softmax"),
            ]
        )
    )
    assert not isinstance(network, keras.Sequential)
    assert classes_of(network)[-2:] == ["Dense", "Activation"]


def test_nested_models_are_flattened_and_repeated_names_told_apart():
    def block():
        return keras.Sequential(
            [layers.Input((8, 8, 3)), layers.Conv2D(3, 1, activation="relu", name="conv")], name=None
        )

    network = checked(functional(lambda x: layers.Conv2D(2, 1, name="conv_1")(block()(block()(x)))))
    assert classes_of(network) == ["Conv2D", "ReLU", "Conv2D", "ReLU", "Conv2D"]
    assert [layer.name for layer in weighted_layers(network)] == ["conv", "conv_1_1", "conv_1"]


def test_our_names_give_way_to_the_users():
    network = checked(
        functional(
            lambda x: layers.Conv2D(2, 1, name="a_activation")(
                layers.Conv2D(2, 1, activation="relu", name="a")(x)
            )
        )
    )
    assert names_of(network) == ["a", "a_activation_1", "a_activation"]
    assert isinstance(network.get_layer("a_activation"), layers.Conv2D)


def test_a_layer_without_weights_may_be_called_twice():
    relu = layers.ReLU(name="relu")
    network = checked(functional(lambda x: relu(layers.Conv2D(3, 1, name="c")(relu(x)))))
    assert names_of(network) == ["relu", "c", "relu_1"]


def test_two_outputs():
    checked(functional(lambda x: [layers.Conv2D(3, 1)(x), layers.ReLU()(x)]))


def test_an_input_in_a_dict():
    inputs = keras.Input((8, 8, 3), name="image")
    outputs = layers.Conv2D(2, 1)(inputs)
    images = np.ones((1, 8, 8, 3), np.float32)
    network = canonicalize(keras.Model({"image": inputs}, outputs))
    np.testing.assert_array_equal(network(images), keras.Model(inputs, outputs)(images))


def test_frozen_layers_are_trainable_again_and_train_as_usual():
    base = keras.Sequential([layers.Input((8, 8, 3)), layers.Conv2D(2, 1), layers.BatchNormalization()])
    base.trainable = False
    norm = layers.BatchNormalization()
    model = functional(lambda x: norm(base(x, training=False), training=False))
    network = checked(model)
    assert len(network.trainable_weights) == 6
    assert not base.trainable
    network.set_weights(model.get_weights())
    images = np.random.default_rng(0).normal(3, 1, (4, 8, 8, 3)).astype(np.float32)
    assert not np.allclose(network(images, training=True), network(images))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_mixed_precision_becomes_float32():
    policy = "mixed_bfloat16"
    model = functional(
        lambda x: layers.Dense(2, dtype=policy)(layers.Activation("relu", dtype=policy)(layers.Flatten()(x)))
    )
    network = canonicalize(model)
    assert {layer.compute_dtype for layer in network.layers} == {"float32"}
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
    np.testing.assert_allclose(network(images), tf.cast(model(images), tf.float32), atol=0.05)
