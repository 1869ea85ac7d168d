"""What `canonicalize` refuses: each error names the layer, its class and the way out."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from mmx_tf.network.canonical import canonicalize

layers = keras.layers


def functional(body, shape=(8, 8, 3)):
    inputs = keras.Input(shape, name="image")
    return keras.Model(inputs, body(inputs))


class Custom(layers.Layer):
    def call(self, x):
        return x


def impostor(x):
    return type("ReLU", (Custom,), {})(name="bad")(x)


@pytest.mark.parametrize(
    ("body", "kind", "advice"),
    [
        (lambda x: layers.LSTM(2, name="bad")(layers.Reshape((8, 24))(x)), "LSTM", "Use Conv1D layers"),
        (layers.LayerNormalization(name="bad"), "LayerNormalization", "Use BatchNormalization"),
        (lambda x: layers.MultiHeadAttention(2, 3, name="bad")(x, x), "MultiHeadAttention", "squeeze-excite"),
        (layers.UpSampling2D(interpolation="bicubic", name="bad"), "UpSampling2D", "nearest, bilinear"),
        (layers.Resizing(4, 5, crop_to_aspect_ratio=True, name="bad"), "Resizing", "a Cropping2D"),
        (layers.Lambda(lambda x: x + 1, name="bad"), "Lambda", "Rewrite the layer"),
        (layers.RandomCrop(4, 4, name="bad"), "RandomCrop", "belongs in the input pipeline"),
        (Custom(name="bad"), "Custom", "Rewrite the layer"),
        (impostor, "ReLU", "Rewrite the layer"),
        (layers.MaxPooling2D(data_format="channels_first", name="bad"), "MaxPooling2D", "channels_last"),
        (layers.BatchNormalization(axis=1, name="bad"), "BatchNormalization", "axis=-1"),
        (
            layers.Normalization(axis=1, mean=[0.0] * 8, variance=[1.0] * 8, name="bad"),
            "Normalization",
            "axis=-1",
        ),
        (layers.Normalization(axis=(1, 2), name="bad"), "Normalization", "axis=-1"),
        (
            lambda x: layers.BatchNormalization(name="bad")(layers.Reshape((8, 2, 4, 3))(x)),
            "BatchNormalization",
            "before the Reshape",
        ),
        (
            layers.Rescaling(np.ones((8, 8, 3)).tolist(), name="bad"),
            "Rescaling",
            "Use a number, or 3 of them",
        ),
        (lambda x: layers.Dropout(0.5, name="bad")(x, training=True), "Dropout", "training=True"),
        (layers.Activation(lambda x: x, name="bad"), "Activation", "'relu6'"),
        (layers.Dense(2, activation=Custom(), name="bad"), "Dense", "'relu6'"),
        (lambda x: tf.split(x, 3, axis=-1)[0], "TFOpLambda", "one output each"),
    ],
)
@pytest.mark.filterwarnings("ignore:The object being serialized:UserWarning")
def test_a_layer_that_cannot_be_handled_is_named_with_class_and_advice(body, kind, advice):
    with pytest.raises(ValueError) as error:
        canonicalize(functional(body))
    name = "tf.split" if kind == "TFOpLambda" else "bad"
    assert f"Layer {name!r} ({kind})" in str(error.value)
    assert advice in str(error.value)


class Subclassed(keras.Model):
    def call(self, x):
        return x


def unused_input():
    first, second = keras.Input((8, 8, 3), name="left"), keras.Input((8, 8, 3), name="right")
    return keras.Model([first, second], layers.ReLU()(first), name="pair")


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (
            lambda: keras.Sequential([layers.Dense(2)], name="mine"),
            "'mine' .Sequential.*start it with an Input",
        ),
        (lambda: Subclassed(name="mine"), "'mine' .Subclassed.*functional model"),
        (unused_input, "'pair' does not use its input 'right': leave it out"),
        (lambda: functional(layers.ReLU(), (None, None, 3)), "None, 3.*of fixed size"),
        (lambda: functional(layers.Dense(2), (2, 8, 8, 3)), "2, 8, 8, 3.*height, width, channels"),
        (lambda: functional(layers.Conv1D(2, 3), (None, 3)), "None, 3.*length, channels.* of fixed size"),
        (lambda: "model.keras", "builtins.str.*import tf_keras"),
        (lambda: layers.Dense(2), "expected a tf_keras model, got .*Dense"),
    ],
)
def test_a_network_that_is_no_image_network_is_refused(network, message):
    with pytest.raises(ValueError, match=message):
        canonicalize(network())
