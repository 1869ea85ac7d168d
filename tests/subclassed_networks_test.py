"""Subclassed models and layers of the user's own: read by calling them, with their weights and outputs."""

import keras as keras3
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import mmx_tf
from mmx_tf.network.subclassed import as_functional

IMAGES = np.random.default_rng(0).normal(size=(32, 12, 12, 3)).astype(np.float32)
LIBRARIES = {"tf_keras": tf_keras, "keras 3": keras3}


def classes(keras):
    """A layer that drops its branch at random, blocks whose layers have the same names, a network of them."""
    L = keras.layers
    relu = tf.nn.relu if keras is tf_keras else keras3.ops.relu

    class DropPath(L.Layer):
        def call(self, x, training=None):
            return x * float(np.random.rand() > 0.5) if training else x

    class Block(L.Layer):
        def __init__(self, width, **kwargs):
            super().__init__(**kwargs)
            self.conv = L.Conv2D(width, 3, padding="same", name="conv")
            self.norm = L.BatchNormalization(name="norm")
            self.drop = DropPath()

        def call(self, x, training=False):
            return x + self.drop(relu(self.norm(self.conv(x), training=training)), training=training)

    class Network(keras.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.stem = L.Conv2D(6, 3, strides=2, activation="relu", name="stem")
            self.blocks = [Block(6) for _ in range(2)]
            self.head = keras.Sequential(
                [L.GlobalAveragePooling2D(), L.Dropout(0.2), L.Dense(4, name="logits")]
            )

        def call(self, x, training=False):
            x = self.stem(x)
            for block in self.blocks:
                x = block(x, training=training)
            return self.head(x, training=training)

    return Block, Network


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_subclassed_network_goes_all_the_way(library, warnings):
    _, network = classes(LIBRARIES[library])
    model = network(name="mine")
    expected = np.asarray(model(IMAGES))
    names, weights = [layer.name for layer in model._flatten_layers()], model.get_weights()
    functional = as_functional(model)
    assert any(
        "mine is read by calling it on a symbolic input (mine (Network), block" in line for line in warnings
    )
    np.testing.assert_allclose(functional(IMAGES), expected, rtol=1e-5, atol=1e-5)
    assert (functional.name, functional.output_shape, functional.input_shape) == (
        "mine", (None, 4), (None, 12, 12, 3),
    )  # fmt: skip
    # The user's layers keep names, weights and places.
    assert names == [layer.name for layer in model._flatten_layers()] and names.count("conv") == 2
    search = mmx_tf.augment(model, bit_widths=(8, 4), target_average_bits=6)
    search(IMAGES, branch=0)
    fixed = mmx_tf.rebuild(search, search.selection_of([0] * len(search.quantizers)))
    fixed(IMAGES, training=True)
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    np.testing.assert_array_equal(np.asarray(model(IMAGES)), expected)
    folded = mmx_tf.fold(fixed)
    report = mmx_tf.verify(folded, mmx_tf.convert(folded), [(IMAGES, np.arange(32) % 4)])
    assert (report.code_disagreement, report.partitions) == (0.0, 1)


@pytest.mark.parametrize("library", LIBRARIES)
def test_layers_of_ones_own_in_a_functional_network_are_read(library):
    keras = LIBRARIES[library]
    block, _ = classes(keras)
    inner_inputs = keras.Input((12, 12, 3), name="inner_image")
    inner = keras.Model(inner_inputs, block(3, name="inside")(inner_inputs), name="inner")
    inputs = keras.Input((12, 12, 3), name="image")
    x = block(3, name="outside")(inner(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2, name="logits")(keras.layers.Flatten()(x)), name="own")
    functional = as_functional(model)
    np.testing.assert_allclose(functional(IMAGES), model(IMAGES), rtol=1e-5, atol=1e-5)
    found = mmx_tf.check_network(model)
    assert found.exportable and sum(layer.kind == "Conv2D" for layer in found.layers) == 2
    assert found.file.partitions == 1


def subclassed(call, **layers):
    def __init__(self, **kwargs):  # noqa: N807
        tf_keras.Model.__init__(self, **kwargs)
        for name, layer in layers.items():
            setattr(self, name, layer)

    return type("Mine", (tf_keras.Model,), {"__init__": __init__, "call": call})(name="mine")


def random_of(self, x):
    return self.dense(x + np.random.normal())


def branching(self, x):
    return self.dense(x) if tf.reduce_sum(x) > 0 else x


def eager(self, x):
    return self.dense(x.numpy())


@pytest.mark.parametrize(
    ("call", "given", "message"),
    [
        (random_of, IMAGES[:, 0, 0], "'mine' .Mine. gives other outputs than the layers .*keras.Input.*3,"),
        (branching, IMAGES[:, 0, 0], "Mine 'mine' cannot be called on a symbolic input .*mine.call.inputs."),
        (eager, IMAGES[:, 0, 0], "Mine 'mine' cannot be called on a symbolic input .*numpy.*keras.Input"),
        (
            lambda self, x: self.dense(x),
            None,
            "'mine' .Mine. is subclassed, and its input shape is not known",
        ),
        (
            lambda self, x: self.dense(x[0] + x[1]),
            [IMAGES[:, 0, 0]] * 2,
            "'mine' .Mine. .*several tensors: give a functional",
        ),
    ],
    ids=["random", "branching", "eager", "not called", "two inputs"],
)
def test_what_cannot_be_read_is_told_with_the_lines_of_a_functional_network(call, given, message):
    model = subclassed(call, dense=tf_keras.layers.Dense(3))
    if given is not None:
        model(given)
    with pytest.raises(ValueError, match=message) as told:
        mmx_tf.augment(model, target_average_bits=4)
    assert "\n" not in str(told.value)


def test_a_layer_with_variables_of_its_own_is_refused_by_name():
    class Scale(tf_keras.layers.Layer):
        def build(self, shape):
            self.factor = self.add_weight(name="factor", shape=shape[-1:])

        def call(self, x):
            return x * self.factor

    inputs = tf_keras.Input((12, 12, 3))
    model = tf_keras.Model(inputs, tf_keras.layers.Conv2D(2, 3)(Scale(name="scale")(inputs)))
    assert as_functional(model) is model
    with pytest.raises(ValueError, match="'scale' .Scale. cannot be handled"):
        mmx_tf.augment(model, target_average_bits=4)


def test_networks_without_anything_of_ones_own_come_back_as_they_are():
    inputs = tf_keras.Input((12, 12, 3))
    functional = tf_keras.Model(inputs, tf_keras.layers.Conv2D(2, 3)(inputs))
    for model in (functional, tf_keras.Sequential([tf_keras.layers.Dense(2)]), "path", None):
        assert as_functional(model) is model
