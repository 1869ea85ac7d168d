"""Replaying a network call by call gives what the network itself gives."""

import gc
import weakref

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from mmx_tf.network import graph

layers = keras.layers


def run(layer, args, kwargs):
    return layer(*args, **kwargs)


def images(seed=0, shape=(2, 8, 8, 3)):
    return tf.constant(np.random.default_rng(seed).normal(size=shape), tf.float32)


def assert_replay_equals(model, *inputs):
    expected = tf.nest.flatten(model(list(inputs) if len(inputs) > 1 else inputs[0]))
    actual = graph.replay(model, list(inputs) if len(inputs) > 1 else inputs[0], run)
    actual = actual if isinstance(actual, list) else [actual]
    for ours, theirs in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
        assert np.ptp(theirs.numpy()) > 0


def classifier():
    return keras.Sequential(
        [layers.Input((8, 8, 4)), layers.Conv2D(2, 3, name="head_conv"), layers.Flatten(), layers.Dense(3)]
    )


def test_a_functional_model():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, padding="same")(inputs)
    x = layers.Add()([x, layers.Conv2D(4, 1)(inputs)])
    assert_replay_equals(keras.Model(inputs, layers.Concatenate()([x, inputs])), images())


def test_values_are_kept_no_longer_than_a_call_takes_them():
    inputs = keras.Input((8, 8, 3))
    x = shortcut = layers.Conv2D(4, 1, name="first")(inputs)
    for name in ("second", "third"):
        x = layers.Conv2D(4, 1, name=name)(x)
    model = keras.Model(inputs, layers.Add(name="add")([x, shortcut]))
    made, alive = {}, {}

    def call(layer, args, kwargs):
        gc.collect()
        alive[layer.name] = {name for name, value in made.items() if value() is not None}
        value = Value()
        made[layer.name] = weakref.ref(value)
        return value

    graph.replay(model, Value(), call)
    # The addition is called while its two inputs are there, and nothing else.
    assert alive["add"] == {"first", "third"}


class Value:
    """Stands for a tensor; unlike one, it can be watched for its end."""


def test_nested_functional_and_sequential_models_are_inlined():
    inner_input = keras.Input((8, 8, 3))
    inner = keras.Model(inner_input, layers.Conv2D(4, 1, name="inner_conv")(inner_input), name="inner")
    model = keras.Sequential([layers.Input((8, 8, 3)), inner, layers.ReLU(), classifier()])
    assert_replay_equals(model, images())
    called = []
    graph.replay(model, images(), lambda layer, *rest: (called.append(layer.name), run(layer, *rest))[1])
    assert [name for name in called if "conv" in name] == ["inner_conv", "head_conv"]
    assert "inner" not in called


def test_a_model_called_twice_gives_each_call_its_own_input():
    inputs = keras.Input((8, 8, 4))
    inner = classifier()
    assert_replay_equals(
        keras.Model(inputs, layers.Concatenate()([inner(inputs), inner(-inputs)])), images(shape=(2, 8, 8, 4))
    )


def test_a_list_of_inputs_and_a_list_of_outputs():
    first, second = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    total = layers.Add()([first, second])
    model = keras.Model([first, second], [total, layers.GlobalAveragePooling2D()(first)])
    assert_replay_equals(model, images(0), images(1))


def test_a_nested_model_with_two_inputs_and_two_outputs():
    left, right = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    inner = keras.Model([left, right], [layers.Subtract()([left, right]), layers.ReLU()(right)])
    inputs = keras.Input((8, 8, 3))
    difference, positive = inner([layers.Conv2D(3, 1)(inputs), inputs])
    assert_replay_equals(keras.Model(inputs, [positive, difference]), images())


@pytest.mark.parametrize(
    "operation",
    [
        tf.nn.relu6,
        lambda x: x * 2 + 1,
        lambda x: 1.0 - x,
        lambda x: tf.add(x, y=x),
        lambda x: tf.nn.relu(features=x),
        lambda x: tf.concat([x, -x], axis=-1),
        lambda x: tf.split(x, 3, axis=-1)[1],
    ],
    ids=["relu6", "arithmetic", "constant_first", "tensor_as_keyword", "keyword", "list", "several_outputs"],
)
def test_operators(operation):
    inputs = keras.Input((8, 8, 3))
    assert_replay_equals(keras.Model(inputs, operation(layers.Conv2D(3, 1)(inputs))), images())


def test_the_input_itself_may_be_an_output():
    inputs = keras.Input((8, 8, 3))
    assert_replay_equals(keras.Model(inputs, [inputs, layers.ReLU()(inputs)]), images())


def test_anything_can_stand_for_a_tensor():
    inputs = keras.Input((8, 8, 3))
    x = layers.ReLU(name="a")(inputs)
    model = keras.Model(inputs, layers.Add(name="c")([x, layers.ReLU(name="b")(x)]))

    def spell(layer, args, kwargs):
        return f"{layer.name}({','.join(tf.nest.flatten(args))})"

    assert graph.replay(model, "image", spell) == "c(a(image),b(a(image)))"


def test_too_few_inputs_are_refused():
    first, second = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    with pytest.raises(ValueError):
        graph.replay(keras.Model([first, second], layers.Add()([first, second])), [images()], run)


def test_consumers_counts_every_use_and_the_outputs():
    inputs = keras.Input((8, 8, 3))
    x = layers.ReLU(name="relu")(inputs)
    y = layers.Add(name="twice")([x, x])
    z = tf.add(inputs, y=x)
    uses = graph.consumers(keras.Model(inputs, [y, z, x]))

    def names(tensor):
        return sorted("output" if layer is None else layer.name for layer in uses[id(tensor)])

    operator = z.node.layer.name
    assert names(inputs) == sorted(["relu", operator])
    assert names(x) == sorted(["twice", "twice", operator, "output"])
    assert names(y) == names(z) == ["output"]


def test_consumers_of_operators_with_constants():
    inputs = keras.Input((8, 8, 3))
    doubled = inputs * 2.0
    total = doubled + inputs
    uses = graph.consumers(keras.Model(inputs, total))
    assert uses[id(inputs)] == [doubled.node.layer, total.node.layer]
    assert uses[id(doubled)] == [total.node.layer]


def test_is_network():
    assert graph.is_network(classifier())
    assert not graph.is_network(keras.Sequential([layers.Dense(3)]))
    assert not graph.is_network(layers.Dense(3))
