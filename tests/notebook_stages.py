"""Networks of every stage as people have them in a notebook, and mistakes that they make there."""

import types

import numpy as np
import tensorflow as tf
import tf_keras as keras

import mmx_tf

SAME = keras.optimizers.SGD()


CROSSENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def tiny_network(activation="relu"):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((16, 16, 1), name="image")
    x = keras.layers.Conv2D(4, 3, strides=4, activation="relu")(inputs)
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 1, name="middle")(x))
    x = keras.layers.Activation(activation, name="odd")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(10, name="logits")(x), name="tiny")


def stages_of(digits, folder):
    """Networks of every stage, data, and files, as people have them in a notebook."""
    images, labels = next(iter(digits.train(batch_size=64, seed=0)))
    images, labels = images.numpy(), labels.numpy()
    has = types.SimpleNamespace(images=images, labels=labels, folder=folder)
    has.float_model = tiny_network()
    has.search = mmx_tf.augment(has.float_model, bit_widths=(8, 4), target_average_bits=6)
    has.search(images, branch=0)
    has.selection = has.search.bit_selection()
    has.untouched = mmx_tf.rebuild(has.search, has.selection)
    has.fixed = mmx_tf.rebuild(has.search, has.selection)
    has.fixed(images)
    has.folded = mmx_tf.fold(has.fixed)
    has.file = mmx_tf.convert(has.folded)
    for model in (has.search, has.fixed):
        model.compile("sgd", CROSSENTROPY)
    return has


def with_nan(images):
    images = images.copy()
    images[3, 2, 1, 0] = np.nan
    return images


def labels_to_ten(labels):
    return np.where(labels == 3, 10, labels)


def dataset(*parts, batch=16):
    return tf.data.Dataset.from_tensor_slices(parts if len(parts) > 1 else parts[0]).batch(batch)


def uncompiled(model, stages):
    if isinstance(model, mmx_tf.SearchModel):
        return mmx_tf.augment(stages.float_model, bit_widths=(8, 4), target_average_bits=6)
    return mmx_tf.rebuild(stages.search, stages.selection)


def told(error) -> str:
    text = " ".join(str(error.value).split())
    assert 30 < len(text) < 900
    assert "Traceback" not in text and "user code" not in text
    return text
