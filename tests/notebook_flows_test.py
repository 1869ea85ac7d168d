"""Notebook lines to a verified file: a keyword spotter, an autoencoder, a head on MobileNetV2.

U-Nets are in segmentation_networks_test, electrocardiograms in signal_runs_test, a class and a box head in
several_outputs_test.
"""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

import mmx_tf

layers = keras.layers


def spectrograms(count, seed=0):
    """Log spectra (32 frames, 20 bands) of tones that rise, fall, stay or beat, and which they do."""
    rng = np.random.default_rng(seed)
    kinds, time = rng.integers(0, 4, count), np.arange(2048) / 2048
    images = np.empty((count, 32, 20, 1), np.float32)
    for index, kind in enumerate(kinds):
        start, span = rng.uniform(80, 120), rng.uniform(60, 120) * (1, -0.5, 0, 0)[kind]
        tone = np.sin(2 * np.pi * (start * time + span * time**2 / 2) + rng.uniform(0, 6))
        tone *= 1 + (kind == 3) * np.sin(2 * np.pi * 6 * time)
        frames = (tone + rng.normal(0, 0.1, 2048)).reshape(32, 64) * np.hanning(64)
        images[index, :, :, 0] = np.log(np.abs(np.fft.rfft(frames))[:, :20] + 0.1) / 3
    return images, kinds


def keyword_spotter():
    inputs = keras.Input((32, 20, 1), name="spectrogram")
    x = layers.Conv2D(8, (5, 3), strides=2, padding="same", use_bias=False, name="stem")(inputs)
    x = layers.LeakyReLU(0.1)(layers.BatchNormalization(momentum=0.8)(x))
    for index in range(2):
        x = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name=f"depthwise_{index}")(x)
        x = layers.LeakyReLU(0.1)(layers.BatchNormalization(momentum=0.8)(x))
        x = layers.Conv2D(12, 1, use_bias=False, name=f"pointwise_{index}")(x)
        x = layers.LeakyReLU(0.1)(layers.BatchNormalization(momentum=0.8)(x))
    x = layers.Dropout(0.1)(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, layers.Dense(4, activation="softmax", name="word")(x), name="keywords")
    return model, *spectrograms(512), "sparse_categorical_crossentropy"


def digits_of(size):
    from sklearn.datasets import load_digits

    found = load_digits()
    images = np.repeat(np.repeat(found.images[:512] / 16, size // 8, 1), size // 8, 2)
    return np.float32(images[..., None]), found.target[:512]


def autoencoder():
    """Noise is taken away from digits; the outputs are pixels 0..1."""
    inputs = keras.Input((16, 16, 1), name="noisy")
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu", name="down1")(inputs)
    x = layers.Conv2D(12, 3, strides=2, padding="same", activation="relu", name="down2")(x)
    x = layers.Conv2D(12, 3, padding="same", activation="relu", name="code")(x)
    x = layers.Conv2DTranspose(8, 3, strides=2, padding="same", activation="relu", name="up1")(x)
    x = layers.Conv2DTranspose(8, 3, strides=2, padding="same", activation="relu", name="up2")(x)
    model = keras.Model(inputs, layers.Conv2D(1, 3, padding="same", name="clean")(x), name="autoencoder")
    clean, _ = digits_of(16)
    noisy = clean + np.random.default_rng(0).normal(0, 0.2, clean.shape).astype(np.float32)
    return model, noisy, clean, "mean_squared_error"


FLOWS = {
    # network, images, labels and loss; what is measured, and whether it is so good
    "keyword spotter": (keyword_spotter, "classification", "accuracy", lambda found: found > 0.8),
    "autoencoder": (autoencoder, "regression", "mean_absolute_error", lambda found: found < 0.15),
}


def searched_trained_and_verified(model, images, labels, loss, *, epochs, run_eagerly=False):
    search = mmx_tf.augment(model, bit_widths=(8, 4), target_average_bits=6)
    search.compile(optimizer=keras.optimizers.Adam(1e-3), loss=loss, run_eagerly=run_eagerly)
    search.fit(images, labels, batch_size=64, epochs=2 if epochs > 1 else 1, verbose=0)
    fixed = mmx_tf.rebuild(search, search.bit_selection())
    fixed.compile(optimizer=keras.optimizers.Adam(2e-3), loss=loss, run_eagerly=run_eagerly)
    fixed.fit(images, labels, batch_size=64, epochs=epochs, verbose=0)
    folded = mmx_tf.fold(fixed)
    data = mmx_tf.convert(folded)
    evaluation = tf.data.Dataset.from_tensor_slices((images, labels)).batch(128)
    return folded, mmx_tf.verify(folded, data, evaluation)


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) for name in FLOWS])
def test_notebook_lines(name):
    make, task, metric, is_good = FLOWS[name]
    keras.utils.set_random_seed(0)
    model, images, labels, loss = make()
    model.compile(keras.optimizers.Adam(0.01), loss)
    model.fit(images, labels, batch_size=64, epochs=8, verbose=0)
    _, report = searched_trained_and_verified(model, images, labels, loss, epochs=5)
    assert (report.task, report.code_disagreement, report.partitions) == (task, 0.0, 1)
    assert not any(tensor.differing for tensor in report.tensors)
    assert report.metrics[metric]["tflite"] == report.metrics[metric]["folded"]
    assert is_good(report.metrics[metric]["tflite"]), report.metrics


@pytest.mark.slow
def test_a_head_of_one_sigmoid_on_mobilenet_v2():
    """Transfer learning to two classes, as tutorials have it: a frozen backbone that is given pixels."""
    keras.utils.set_random_seed(0)
    backbone = keras.applications.MobileNetV2((32, 32, 3), alpha=0.35, include_top=False, weights=None)
    backbone.trainable = False
    inputs = keras.Input((32, 32, 3), name="image")
    x = backbone(layers.Rescaling(1 / 127.5, offset=-1.0)(inputs), training=False)
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, layers.Dense(1, activation="sigmoid", name="large")(x), name="transferred")
    images, digits = digits_of(32)
    images, labels = np.repeat(np.rint(images[:64] * 255), 3, axis=-1), digits[:64, None] >= 5
    model.compile("adam", "binary_crossentropy")
    model.fit(images, labels, epochs=1, verbose=0)
    folded, report = searched_trained_and_verified(
        model, images, labels, "binary_crossentropy", epochs=1, run_eagerly=True
    )
    assert (report.task, report.code_disagreement, report.partitions) == ("binary", 0.0, 1)
    assert not any(tensor.differing for tensor in report.tensors)
    data = mmx_tf.convert(folded, output_type="class")
    assert mmx_tf.verify(folded, data, [(images, labels)]).code_disagreement == 0.0
