"""Two U-Nets, from a float network to a verified file with the lines of a notebook."""

import keras as keras3
import numpy as np
import pytest
import tf_keras as keras

import mmx_tf
from mmx_tf.export import inspect

pytestmark = pytest.mark.broad


def unet(layers, up, outputs=3):
    """Three resolutions with skips, a class for each pixel; `up` makes an image twice as large."""
    inputs = layers.Input((16, 16, 1), name="image")

    def block(x, width, name):
        x = layers.Conv2D(width, 3, padding="same", use_bias=False, name=f"{name}_conv")(x)
        return layers.ReLU(name=f"{name}_relu")(layers.BatchNormalization(momentum=0.8, name=f"{name}_bn")(x))

    high = block(inputs, 8, "high")
    middle = block(layers.MaxPooling2D(name="pool1")(high), 12, "middle")
    low = block(layers.MaxPooling2D(name="pool2")(middle), 16, "low")
    x = layers.Concatenate(name="skip1")([up(layers, 12, "up1")(low), middle])
    x = block(x, 12, "middle_up")
    x = layers.Concatenate(name="skip2")([up(layers, 8, "up2")(x), high])
    x = block(x, 8, "high_up")
    return inputs, layers.Conv2D(outputs, 1, activation="softmax", name="classes")(x)


def transposed(layers, width, name):
    return layers.Conv2DTranspose(width, 3, strides=2, padding="same", activation="relu", name=name)


def upsampled(layers, width, name):
    interpolation = {"up1": "nearest", "up2": "bilinear"}[name]
    return layers.UpSampling2D(2, interpolation=interpolation, name=name)


def labelled(images):
    """Background, ink, and where ink is near: a pixel's class needs what lies around it."""
    ink = images[..., 0] > -0.2
    near = np.zeros_like(ink)
    for rows in (-2, 0, 2):
        for columns in (-2, 0, 2):
            near |= np.roll(ink, (rows, columns), (1, 2))
    return np.where(ink, 1, np.where(near, 2, 0))


@pytest.fixture(scope="module")
def images(digits):
    """(training images, evaluation images)."""
    parts = digits.train(batch_size=64, seed=0).take(12), digits.evaluation(batch_size=90).take(2)
    return [np.concatenate([images.numpy() for images, _ in part]) for part in parts]


def searched_and_verified(model, images, *, epochs=6):
    """A trained float network's search, weight training, folding, file and report."""
    training, evaluation = images
    labels = labelled(training)
    search = mmx_tf.augment(model, bit_widths=(8, 4), weight_bits=4, target_average_bits=6)
    search.compile(optimizer=keras.optimizers.SGD(1e-3), loss="sparse_categorical_crossentropy")
    search.fit(training, labels, batch_size=64, epochs=2, verbose=0)
    fixed = mmx_tf.rebuild(search, search.bit_selection())
    fixed.compile(optimizer=keras.optimizers.Adam(0.002), loss="sparse_categorical_crossentropy")
    fixed.fit(training, labels, batch_size=64, epochs=epochs, verbose=0)
    folded = mmx_tf.fold(fixed)
    data = mmx_tf.convert(folded, input_type="int8")
    report = mmx_tf.verify(folded, data, [(evaluation, labelled(evaluation))])
    return search, data, report


@pytest.mark.slow
@pytest.mark.parametrize("up", [transposed, upsampled], ids=lambda up: up.__name__)
def test_a_unet_is_searched_trained_and_exported_exactly(up, images):
    keras.utils.set_random_seed(0)
    model = keras.Model(*unet(keras.layers, up))
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    model.fit(images[0], labelled(images[0]), batch_size=64, epochs=5, verbose=0)
    search, data, report = searched_and_verified(model, images)
    assert (report.task, report.code_disagreement, report.agreement) == ("segmentation", 0.0, 1.0)
    assert [tensor for tensor in report.tensors if tensor.differing] == []
    assert (report.partitions, report.left_outside) == (1, ())
    accuracy = report.metrics["pixel_accuracy"]
    assert accuracy["tflite"] == accuracy["folded"] > 0.85, report.metrics
    selection = search.bit_selection()
    kinds = {layer.name: layer.kind for layer in selection.layers}
    assert kinds.get("up1") == ("transposed" if up is transposed else None)
    summary = inspect.summary(data)
    assert sum(layer.bops for layer in summary.layers) == selection.bops and summary.faults == ()


@pytest.mark.slow
def test_a_unet_of_keras_3_is_exact(images):
    keras3.utils.set_random_seed(0)
    model = keras3.Model(*unet(keras3.layers, transposed))
    _, _, report = searched_and_verified(model, images, epochs=1)
    assert (report.code_disagreement, report.partitions, report.left_outside) == (0.0, 1, ())


def ends(kind):
    """Resizing, slicing and transposed convolution as first and as last layers: on the image, on scores."""
    L = keras.layers
    inputs = L.Input((16, 16, 1), name="image")
    if kind == "resized":
        x = L.Conv2D(6, 3, padding="same", activation="relu", name="c1")(L.Resizing(12, 10)(inputs))
        x = L.Conv2D(3, 1, name="scores")(L.Conv2D(8, 3, padding="same", activation="relu", name="c2")(x))
        return keras.Model(inputs, L.Softmax(name="classes")(L.Resizing(16, 16, name="full")(x)))
    if kind == "nearest":
        x = L.UpSampling2D(2)(L.Cropping2D(2)(inputs))
        x = L.Conv2D(6, 3, 3, padding="same", activation="relu", name="c1")(x)
        x = L.Conv2D(3, 1, name="scores")(L.Conv2D(8, 3, padding="same", activation="relu", name="c2")(x))
        return keras.Model(inputs, L.UpSampling2D(2, name="full")(x[:, :, ::2]))
    x = L.Conv2D(6, 3, activation="relu", name="c1")(L.Conv2DTranspose(4, 2, 2, name="first")(inputs[:, ::2]))
    x = L.Average()([x[:, :, 1:], L.Maximum()([x[:, :, :-1], x[:, :, 1:]])])
    x = L.Conv2DTranspose(3, 3, 2, padding="same", activation="softmax", name="last")(x)
    return keras.Model(inputs, x)


@pytest.mark.parametrize("scaling", [None, (1 / 127.5, -1)])
@pytest.mark.parametrize("kind", ["resized", "nearest", "transposed"])
def test_first_and_last_layers(kind, scaling, images):
    keras.utils.set_random_seed(1)
    model = ends(kind)
    search = mmx_tf.augment(model, bit_widths=(8, 4), pixel_scaling=scaling)
    # Pixels, which the float network saw scaled.
    batch = images[1][:64] if scaling is None else (np.rint((images[1][:64] + 1) * 127.5) / 127.5 - 1)
    batch = batch.astype(np.float32)
    search(batch, branch=0)
    fixed = mmx_tf.rebuild(search, search.selection_of([1] * len(search.quantizers)))
    fixed(batch, training=True)
    folded = mmx_tf.fold(fixed)
    expected = fixed.predict(batch, verbose=0)
    logits = folded.predict(batch, verbose=0)
    assert np.mean(logits.argmax(-1) == expected.argmax(-1)) > 0.97
    labels = np.random.default_rng(0).integers(0, 3, logits.shape[:-1])
    for output_type in ("int8", "class"):
        data = mmx_tf.convert(folded, input_type="int8", output_type=output_type, task="segmentation")
        report = mmx_tf.verify(folded, data, [(batch, labels)], task="segmentation")
        assert (report.code_disagreement, report.agreement, report.partitions) == (0.0, 1.0, 1)
        assert [tensor for tensor in report.tensors if tensor.differing] == []
        assert {name for _, name in report.left_outside} <= {"ARG_MAX", "SOFTMAX"}
