"""What people do in a notebook that cannot work: one sentence or two, before anything long."""

import re

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from notebook_stages import CROSSENTROPY, dataset, labels_to_ten, stages_of, told, uncompiled, with_nan

import mmx_tf
from mmx_tf.errors import DivergenceError

# What is done, and what the sentence must say: the value, what is expected, what to do.
FITS = {
    "before compile": (lambda m, s: uncompiled(m, s).fit(s.images, s.labels), "not compiled.*compile"),
    "without labels": (lambda m, s: m.fit(s.images), "y is missing.*with their labels"),
    "a dataset without labels": (lambda m, s: m.fit(dataset(s.images)), "alone.*with their labels"),
    "an unbatched dataset": (
        lambda m, s: m.fit(dataset(s.images, s.labels).unbatch()),
        r"image of shape \(16, 16, 1\) is no batch.*\.batch\(64\)",
    ),
    "one image": (lambda m, s: m.fit(s.images[0], s.labels[:1]), r"\(16, 16, 1\) is no batch"),
    "images of another size": (
        lambda m, s: m.fit(s.images[:, :12], s.labels),
        r"shape \(64, 12, 16, 1\).*takes batches of shape \(None, 16, 16, 1\)",
    ),
    "a dataset of another size": (
        lambda m, s: m.fit(dataset(s.images[:, :12], s.labels)),
        r"12, 16, 1\).*takes batches of shape \(None, 16, 16, 1\)",
    ),
    "images of another size for evaluate": (
        lambda m, s: m.evaluate(s.images[:, :12], s.labels),
        r"shape \(64, 12, 16, 1\).*takes batches",
    ),
    "images of another size for predict": (
        lambda m, s: m.predict(s.images[:, :12]),
        r"shape \(64, 12, 16, 1\).*takes batches",
    ),
    "fewer labels": (lambda m, s: m.fit(s.images, s.labels[:9]), "64 images.*9 labels"),
    "no images": (lambda m, s: m.fit(s.images[:0], s.labels[:0]), "no images"),
    "an empty dataset": (
        lambda m, s: m.fit(dataset(s.images, s.labels).take(0)), "no batch: give a dataset with images",
    ),
    "batches larger than the dataset": (
        lambda m, s: m.fit(dataset(s.images, s.labels).unbatch().batch(100, drop_remainder=True)),
        "no batch.*drop_remainder",
    ),
    "an empty generator": (lambda m, s: m.fit(iter([])), "no batch"),
    "images under another name": (lambda m, s: m.fit({"picture": s.images}, s.labels), "picture.*'image'"),
    "NaN images": (
        lambda m, s: m.fit(with_nan(s.images), s.labels, verbose=0),
        r"\w+\.fit, epoch 1, step \d: images hold values that are NaN.*finite",
    ),
    "NaN images in a dataset": (
        lambda m, s: m.fit(dataset(with_nan(s.images), s.labels), verbose=0), "epoch 1, step 1: images hold",
    ),
    "labels outside the classes": (
        lambda m, s: m.fit(s.images, labels_to_ten(s.labels), verbose=0),
        "labels go from 0 to 10.*takes 0 to 9",
    ),
    "no data": (lambda m, s: m.fit(), "no data: give images and labels"),
    "a function as data": (lambda m, s: m.fit(lambda: None), "x is the function '<lambda>': call it"),
    "labels in a set": (lambda m, s: m.fit(s.images, {3}), "y is or holds a set.*np.asarray"),
    "labels as text": (lambda m, s: m.fit(s.images, s.labels.astype(str)), "labels are text: give numbers"),
    "images as objects": (
        lambda m, s: m.fit(s.images.astype(object), s.labels), r"images are Python objects .dtype object",
    ),
    "class weights without a class": (
        lambda m, s: m.fit(s.images, s.labels, class_weight={c: 1.0 for c in range(10) if c != 7}),
        r"no weight for class 7: give one for each of 0 to 9",
    ),
    "images without the axis of their one channel": (
        lambda m, s: m.fit(s.images[..., 0], s.labels), r"\(64, 16, 16\).*images\[\.\.\., np\.newaxis\]",
    ),
    "a list of images": (
        lambda m, s: m.fit(list(s.images), s.labels), r"list of 64 arrays.*one array for each.*np\.stack",
    ),
    "labels under another name": (
        lambda m, s: m.fit(s.images, {"digit": s.labels}), "labels have the names .'digit'.*one output",
    ),
    "a number of images as validation_split": (
        lambda m, s: m.fit(s.images, s.labels, validation_split=20), "validation_split=20: a share",
    ),
    "NaN weights of examples": (
        lambda m, s: m.fit(s.images, s.labels, sample_weight=np.full(64, np.nan), verbose=0),
        "weights of examples hold.*sample_weight and class_weight must be finite",
    ),
    "class weights in a list": (
        lambda m, s: m.fit(s.images, s.labels, class_weight=[1.0] * 10), "class_weight is a list.*dict",
    ),
    "the name of a callback": (
        lambda m, s: m.fit(s.images, s.labels, callbacks=["EarlyStopping"]), "'EarlyStopping'.*give objects",
    ),
    "text for a number": (lambda m, s: m.fit(s.images, s.labels, epochs="2"), "epochs='2': give an integer"),
    "a misspelt metric": (
        lambda m, s: m.compile("sgd", CROSSENTROPY, ["acuracy"]), "'acuracy', which Keras does not know",
    ),
    "labels outside the classes in train_on_batch": (
        lambda m, s: m.fit(s.images, s.labels, verbose=0) and m.train_on_batch(s.images, s.labels + 9),
        "labels go from 9 to 18",
    ),
    "one-hot labels for class numbers": (
        lambda m, s: m.fit(s.images, np.eye(10)[s.labels]), r"\(64, 10\).*argmax.*CategoricalCrossentropy",
    ),
    "NaN validation images": (
        lambda m, s: m.fit(s.images, s.labels, verbose=0, validation_data=(with_nan(s.images), s.labels)),
        "epoch 1, validation: images hold values",
    ),
    "validation labels outside the classes": (
        lambda m, s: m.fit(s.images, s.labels, 64, validation_data=(s.images, labels_to_ten(s.labels))),
        "epoch 1, validation: labels go from 0 to 10",
    ),
    "validation images of another size": (
        lambda m, s: m.fit(s.images, s.labels, validation_data=(s.images[:, :12], s.labels)),
        "12, 16, 1.*takes batches",
    ),
    "NaN images for evaluate": (
        lambda m, s: m.evaluate(with_nan(s.images), s.labels, verbose=0), "images hold values that are NaN",
    ),
    "evaluate before compile": (lambda m, s: uncompiled(m, s).evaluate(s.images, s.labels), "not compiled"),
    "the class of a loss": (
        lambda m, s: m.compile("sgd", keras.losses.MeanSquaredError),
        r"loss has the class.*give an object, MeanSquaredError\(\)",
    ),
    "save in another format": (
        lambda m, s: m.save(str(s.folder / "saved.h5")), "ends with .keras.*save_weights",
    ),
    "compile without a loss": (lambda m, s: m.compile("sgd"), "loss is missing.*loss="),
    "an optimizer as the loss": (
        lambda m, s: m.compile("sgd", keras.optimizers.SGD()), "second argument is the loss.*by name",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def stages(digits, tmp_path_factory):
    return stages_of(digits, tmp_path_factory.mktemp("notebook"))


@pytest.mark.parametrize("stage", ["search", "fixed"])
@pytest.mark.parametrize(("action", "expected"), FITS.values(), ids=FITS)
def test_fit_says_in_a_sentence_what_is_wrong(stage, action, expected, stages):
    model = getattr(stages, stage)
    before = [variable.numpy() for variable in model.trained_network.trainable_variables]
    with pytest.raises((ValueError, TypeError, RuntimeError)) as error:
        action(model, stages)
    assert re.search(expected, told(error))
    if "NaN images in" in expected or "epoch 1, step 1" in expected:
        for old, variable in zip(before, model.trained_network.trainable_variables, strict=True):
            np.testing.assert_array_equal(old, variable.numpy())


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (lambda images: np.zeros_like(images), "all 0, and the step sizes.*give real images"),
        (lambda images: 127.5 * (images + 1), "go from 0 to 255, but pixel_scaling=.*makes pixels -1 to 1"),
        (lambda images: images / 300, "makes one and the same pixel: give the scale"),
    ],
)
def test_images_that_would_set_step_sizes_wrongly_for_good(images, expected, stages):
    search = mmx_tf.augment(
        stages.float_model, bit_widths=(8, 4), target_average_bits=6, pixel_scaling=(1 / 127.5, -1)
    )
    search.compile("sgd", CROSSENTROPY)
    with pytest.raises(ValueError, match=expected) as error:
        search.fit(images(stages.images), stages.labels, verbose=0)
    told(error)
    search.fit(stages.images, stages.labels, verbose=0)
    with pytest.raises(ValueError, match="but pixel_scaling="):
        search.fit(127.5 * (stages.images + 1), stages.labels, verbose=0)


@pytest.mark.parametrize("stage", ["search", "fixed"])
def test_several_devices_in_a_notebook_train_the_fixed_network_alone(stage, stages):
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        search = uncompiled(stages.search, stages)
        search.compile("sgd", CROSSENTROPY)
        fixed = mmx_tf.rebuild(search, stages.selection)
        fixed.compile(keras.optimizers.SGD(0.01, momentum=0.9), CROSSENTROPY)
    if stage == "search":
        with pytest.raises(ValueError, match="MirroredStrategy.*python -m mmx_tf.train --strategy"):
            search.fit(stages.images, stages.labels, verbose=0)
        return
    before = fixed.get_weights()
    fixed.fit(stages.images, stages.labels, verbose=0)
    assert any(not np.array_equal(old, new) for old, new in zip(before, fixed.get_weights(), strict=True))


@pytest.mark.parametrize("joint", [False, True])
def test_a_loss_that_does_not_see_the_outputs_trains_nothing_and_says_so(joint, stages):
    search = mmx_tf.augment(
        stages.float_model, bit_widths=(8, 4), target_average_bits=6, meta_training=not joint
    )

    def loss(labels, outputs):
        return tf.cast(tf.argmax(outputs, 1), tf.float32)

    search.compile("sgd", loss, run_eagerly=True)
    with pytest.raises(ValueError, match="does not depend on the network's outputs.*tf.argmax"):
        search.fit(stages.images, stages.labels, verbose=0)


def numbers_network(outputs):
    inputs = keras.Input((16, 16, 1))
    x = keras.layers.Conv2D(4, 3, strides=4, activation="relu")(inputs)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 1, activation="relu")(x))
    return keras.Model(inputs, keras.layers.Dense(outputs)(x))


@pytest.mark.parametrize(
    ("outputs", "shape", "wanted"),
    [
        (3, (8, 1), "(N, 3)"),
        (3, (8,), "(N, 3)"),
        (1, (8, 3), "(N, 1)"),
        (3, (8, 2), "(N, 3)"),
        (1, (8,), None),
    ],
)
def test_labels_that_keras_would_broadcast_are_refused(outputs, shape, wanted):
    search = mmx_tf.augment(numbers_network(outputs), bit_widths=(8, 4), target_average_bits=6)
    search.compile("sgd", "mse", run_eagerly=True)
    images = np.random.default_rng(0).normal(size=(8, 16, 16, 1)).astype(np.float32)
    if wanted is None:
        search.fit(images, np.zeros(shape, np.float32), verbose=0)
        return
    with pytest.raises(ValueError, match=re.escape(f"{shape}, and the loss takes ones of shape {wanted}")):
        search.fit(images, np.zeros(shape, np.float32), verbose=0)


def too_large(model, loss):
    (middle,) = (v for v in model.trained_network.trainable_variables if v.shape == (1, 1, 4, 4))
    middle.assign(tf.fill(middle.shape, 3e38))
    return loss


def undefined(model, loss):
    return lambda labels, outputs: tf.math.log(-tf.abs(loss(labels, outputs)))


@pytest.mark.parametrize(
    ("stage", "spoil", "where"),
    [
        ("search", too_large, "layer '"),
        ("search", undefined, "no layer is at fault"),
        ("fixed", undefined, "no layer is at fault"),
    ],
)
def test_a_loss_that_is_no_number_is_told_with_its_layer_and_leaves_the_weights(stage, spoil, where, stages):
    model = uncompiled(getattr(stages, stage), stages)
    model(stages.images)
    model.compile("sgd", spoil(model, CROSSENTROPY), run_eagerly=True)
    before = [variable.numpy() for variable in model.trained_network.trainable_variables]
    with pytest.raises(DivergenceError, match=f"epoch 1, step 1: the loss is .*{where}.*lower learning rate"):
        model.fit(stages.images, stages.labels, verbose=0)
    for old, variable in zip(before, model.trained_network.trainable_variables, strict=True):
        np.testing.assert_array_equal(old, variable.numpy())


def test_weights_that_are_lost_are_named_after_the_epoch(stages):
    model = uncompiled(stages.fixed, stages)
    model.compile(keras.optimizers.SGD(1e38), CROSSENTROPY, run_eagerly=True)
    with pytest.raises(DivergenceError, match="weights of layer '.*NaN or infinite.*again"):
        model.fit(stages.images, stages.labels, batch_size=64, epochs=3, verbose=0)
    with pytest.raises(ValueError, match="Layer '.*' .*NaN or infinite"):
        mmx_tf.fold(model)
