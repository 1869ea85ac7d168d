"""Float networks that cannot be used: told in one paragraph, with exit code 2 and every file as before."""

import keras as keras_3
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from networks import small_network
from refusals import refused

L = keras.layers


def with_weight(value):
    def save(path):
        network = small_network()
        kernel, bias = network.get_layer("expand").get_weights()
        kernel[0, 0, 1, 2:4] = value
        network.get_layer("expand").set_weights([kernel, bias])
        network.save(path)

    return save


def two_inputs(path):
    first, second = keras.Input((16, 16, 1)), keras.Input((16, 16, 1))
    x = L.Flatten()(L.Add()([first, second]))
    keras.Model([first, second], L.Dense(10)(L.Dense(4)(x))).save(path)


def unbuilt(path):
    keras.Sequential([L.Conv2D(4, 3), L.Flatten(), L.Dense(10)]).save(path)


class Own(keras.Model):
    """A network in Python code of its user's."""

    def __init__(self):
        super().__init__()
        self.dense = L.Dense(10)

    def call(self, inputs):
        return self.dense(tf.reshape(inputs, [-1, 256]))


def subclassed(path):
    network = Own()
    network(np.zeros((1, 16, 16, 1), np.float32))
    network.save(path)


def keras_3_with_two_inputs(path):
    first, second = keras_3.Input((16, 16, 1)), keras_3.Input((16, 16, 1))
    x = keras_3.layers.Flatten()(keras_3.layers.Add()([first, second]))
    keras_3.Model([first, second], keras_3.layers.Dense(10)(x)).save(path)


def keras_3_with_nan(path):
    inputs = keras_3.Input((16, 16, 1))
    x = keras_3.layers.Flatten()(keras_3.layers.Conv2D(4, 3)(inputs))
    network = keras_3.Model(inputs, keras_3.layers.Dense(10, name="head")(x))
    network.get_layer("head").bias.assign(np.full(10, np.nan, np.float32))
    network.save(path)


def keras_3_weights(path):
    keras_3.Sequential([keras_3.Input((4,)), keras_3.layers.Dense(2)]).save_weights(path)


def exported(path):
    keras_3.Sequential([keras_3.Input((4,)), keras_3.layers.Dense(2)]).export(path, verbose=False)


def tflite(path):
    path.write_bytes(b"\x1c\x00\x00\x00TFL3" + bytes(64))


FLOAT_MODELS = {
    "not a number": ("a.keras", with_weight(np.nan), ["2 of the 48 numbers", "'expand'", "must be finite"]),
    "infinite": ("a.keras", with_weight(np.inf), ["2 of the 48 numbers", "'expand'", "must be finite"]),
    "two inputs": ("a.keras", two_inputs, ["takes the inputs", "the datasets of this command give one"]),
    "unbuilt": ("a.keras", unbuilt, ["built", "Input of fixed size"]),
    "subclassed": ("a.keras", subclassed, ["Own", "neither Keras nor"]),
    "two inputs, Keras 3": (
        "a.keras",
        keras_3_with_two_inputs,
        ["takes the inputs", "the datasets of this command give one"],
    ),
    "not a number, Keras 3": ("a.keras", keras_3_with_nan, ["10 of the 10 numbers", "'head'"]),
    "weights": (
        "a.weights.h5",
        lambda path: small_network().save_weights(path),
        ["weights alone", "model.save"],
    ),
    "weights of Keras 3": ("a.weights.h5", keras_3_weights, ["weights alone", "`model.load_weights("]),
    "exported by Keras 3": (
        "exported",
        exported,
        ["without Keras's description", "model.save('model.keras')"],
    ),
    "tflite": ("a.tflite", tflite, ["is a .tflite file"]),
    "empty folder": ("a", lambda path: path.mkdir(), ["is a folder, but no SavedModel"]),
}


@pytest.mark.parametrize("case", FLOAT_MODELS)
@pytest.mark.filterwarnings("ignore")  # Keras 3 and tf_keras have opinions on some of these formats.
def test_float_networks(capsys, tmp_path, case):
    name, save, parts = FLOAT_MODELS[case]
    save(tmp_path / name)
    message = refused(capsys, tmp_path, f"--float_model={tmp_path / name}")
    assert f"--float_model={tmp_path / name}" in message
    for part in parts:
        assert part in message
