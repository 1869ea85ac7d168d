"""What people do in a notebook that cannot work: one sentence or two, before anything long."""

import os
import re
import types

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from listening import logged

import mmx_tf
from mmx_tf.errors import DivergenceError

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


@pytest.fixture(scope="module")
def stages(digits, tmp_path_factory):
    """Networks of every stage, data, and files, as people have them in a notebook."""
    images, labels = next(iter(digits.train(batch_size=64, seed=0)))
    images, labels = images.numpy(), labels.numpy()
    has = types.SimpleNamespace(images=images, labels=labels, folder=tmp_path_factory.mktemp("notebook"))
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
        lambda m, s: m.fit(list(s.images), s.labels), r"list of 64 arrays.*one for each input.*np\.stack",
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

STAGES = {
    "augment of no network": (lambda s: mmx_tf.augment(7), "got .*int.*tf_keras"),
    "augment of no file": (lambda s: mmx_tf.augment("nowhere.keras"), "no file 'nowhere.keras'"),
    "augment of what cannot be exported": (
        lambda s: mmx_tf.augment(tiny_network("log_softmax"), target_average_bits=4),
        "'odd' .Activation. cannot be folded.*allow_unexportable=True",
    ),
    "augment with a misspelt argument": (
        lambda s: mmx_tf.augment(s.float_model, weight_bit=4), "no argument 'weight_bit'.*weight_bits",
    ),
    "augment with text for numbers": (
        lambda s: mmx_tf.augment(s.float_model, regularizer_weight="1"), "regularizer_weight='1': a number",
    ),
    "augment with text for a switch": (
        lambda s: mmx_tf.augment(s.float_model, signed={"middle": "no"}), "'middle'.='no': True or False",
    ),
    "augment with a list of costs": (
        lambda s: mmx_tf.augment(s.float_model, cost_table=[1], target_cost=1), "cost_table is a list.*dict",
    ),
    "convert with one text as labels": (
        lambda s: mmx_tf.convert(s.folded, labels="0123456789"), "labels='0123456789': a list",
    ),
    "an activity regularizer behind an activation": (
        lambda s: mmx_tf.augment(regularized_network()), "'odd' .Conv2D. has an activity_regularizer, which",
    ),
    "a loss added by the network": (lambda s: mmx_tf.augment(network_with_a_loss()), "cannot be handled"),
    "one switch for all layers": (
        lambda s: mmx_tf.augment(s.float_model, signed=True), "signed=True: a dict, layer name",
    ),
    "bits that cannot be": (
        lambda s: mmx_tf.count_bops(s.float_model, weight_bits=2.5), "weight_bits=2.5: .*integer in 1..32",
    ),
    "a selection from its numbers": (
        lambda s: mmx_tf.BitSelection.load(s.selection.to_json()), "got a dict: give the path.*from_json",
    ),
    "convert with a budget below zero": (
        lambda s: mmx_tf.convert(s.folded, target_bops=-3), "target_bops=-3: a number",
    ),
    "a number as an optimizer": (
        lambda s: s.search.compile("sgd", CROSSENTROPY, step_optimizer=0.01), "step_optimizer=0.01: give",
    ),
    "training of a folded network": (
        lambda s: s.folded.fit(s.images, s.labels), "nothing to train.*fold_for_training",
    ),
    "an optimizer of another network": (
        lambda s: with_the_optimizer_of_its_search(s).fit(s.images, s.labels),
        "SGD has trained another network.*Give compile a new one",
    ),
    "a frozen search": (lambda s: frozen(s).fit(s.images, s.labels), "trainable is False, but a search"),
    "convert with a list among the labels": (
        lambda s: mmx_tf.convert(s.folded, labels=[["a"], None]), r"labels hold \['a'\]: a name is a text",
    ),
    "an average beyond the candidates": (
        lambda s: mmx_tf.augment(s.float_model, bit_widths=(8, 4), target_average_bits=3),
        "target_average_bits=3 is out of reach: with candidates .8, 4. the average is 4 to 8 bits",
    ),
    "a selection saved into no folder": (
        lambda s: s.selection.save(s.folder / "nowhere" / "bits.json"), "no such folder to write.*nowhere'",
    ),
    "NaN images in a folded network": (
        lambda s: s.folded.predict(with_nan(s.images), verbose=0), "images hold NaN or infinite values",
    ),
    "convert with text as budget": (
        lambda s: mmx_tf.convert(s.folded, target_bops="5G"), "target_bops='5G': a number",
    ),
    "verify with text as a number": (
        lambda s: mmx_tf.verify(s.folded, s.file, [], traced_images="all"), "traced_images='all': an integer",
    ),
    "rebuild of a float network": (
        lambda s: mmx_tf.rebuild(s.float_model, s.selection), "rebuild got .*'tiny'.*mmx_tf.augment",
    ),
    "rebuild of a fixed network": (
        lambda s: mmx_tf.rebuild(s.fixed, s.selection), "rebuild got FixedNetwork.*mmx_tf.fold",
    ),
    "rebuild with bits": (lambda s: mmx_tf.rebuild(s.search, 4), "type int.*bit_selection"),
    "rebuild with no file": (lambda s: mmx_tf.rebuild(s.search, "bits.json"), "no file.*bits.json"),
    "fold of a search": (lambda s: mmx_tf.fold(s.search), "fold got SearchModel.*rebuild"),
    "fold of a float network": (lambda s: mmx_tf.fold(s.float_model), "fold got .*mmx_tf.augment"),
    "fold of the folded graph": (
        lambda s: mmx_tf.fold(mmx_tf.fold_for_training(s.fixed)), "made to train it. Fold that network",
    ),
    "NaN images before any other": (
        lambda s: s.untouched.predict(with_nan(s.images)), "NaN or infinite.*would set the step sizes",
    ),
    "one optimizer for all": (
        lambda s: s.search.compile(SAME, CROSSENTROPY, step_optimizer=SAME), "given twice.*object for each",
    ),
    "load of no path": (lambda s: mmx_tf.load_model(None), "got a NoneType: give the path"),
    "count of a fixed network": (lambda s: mmx_tf.count_bops(s.fixed), "has quantizers.*selection.bops"),
    "fold without quantized weights": (
        lambda s: mmx_tf.fold(mmx_tf.rebuild(s.search, s.selection, quantized_weights=False)),
        "its weights are not: call mmx_tf.rebuild",
    ),
    "augment of a search": (
        lambda s: mmx_tf.augment(s.search, target_average_bits=6), "takes a float network.*mmx_tf.rebuild",
    ),
    "augment of a fixed network": (
        lambda s: mmx_tf.augment(s.fixed, target_average_bits=6), "takes a float network.*mmx_tf.fold",
    ),
    "fold of a folded network": (lambda s: mmx_tf.fold(s.folded), "fold got.*folded already"),
    "fold of what has seen no image": (
        lambda s: mmx_tf.fold(s.untouched), "seen no image.*fixed.fit.*fixed.predict",
    ),
    "convert of a search": (lambda s: mmx_tf.convert(s.search), "convert got SearchModel.*rebuild"),
    "convert of a float network": (lambda s: mmx_tf.convert(s.float_model), "convert got .*mmx_tf.augment"),
    "verify with no file": (lambda s: mmx_tf.verify(s.folded, "x.tflite", []), "no file 'x.tflite'"),
    "verify with a network": (lambda s: mmx_tf.verify(s.folded, s.folded, []), "bytes that convert"),
    "verify of a fixed network": (lambda s: mmx_tf.verify(s.fixed, s.file, []), "fold"),
}  # fmt: skip


def regularized_network():
    inputs = keras.Input((16, 16, 1))
    x = keras.layers.Conv2D(4, 3, activation="relu", activity_regularizer="l2", name="odd")(inputs)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 1)(x))
    return keras.Model(inputs, keras.layers.Dense(10)(x))


def network_with_a_loss():
    network = tiny_network()
    network.add_loss(0.01 * tf.reduce_mean(network.layers[1].output))
    return network


def with_the_optimizer_of_its_search(stages):
    fixed = mmx_tf.rebuild(stages.search, stages.selection)
    fixed.compile(stages.search.optimizer, CROSSENTROPY)
    return fixed


def frozen(stages):
    search = uncompiled(stages.search, stages)
    search.compile("sgd", CROSSENTROPY)
    search.trainable = False
    return search


def uncompiled(model, stages):
    if isinstance(model, mmx_tf.SearchModel):
        return mmx_tf.augment(stages.float_model, bit_widths=(8, 4), target_average_bits=6)
    return mmx_tf.rebuild(stages.search, stages.selection)


def told(error) -> str:
    text = " ".join(str(error.value).split())
    assert 30 < len(text) < 900
    assert "Traceback" not in text and "user code" not in text
    return text


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


@pytest.mark.parametrize(("action", "expected"), STAGES.values(), ids=STAGES)
def test_a_call_at_the_wrong_stage_says_which_comes_next(action, expected, stages):
    with pytest.raises((ValueError, TypeError, OSError, tf.errors.InvalidArgumentError)) as error:
        action(stages)
    assert re.search(expected, told(error))


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


def test_what_is_a_path_is_loaded(stages, digits):
    network, bits, file = (str(stages.folder / name) for name in ("float.keras", "bits.json", "x.tflite"))
    fixed = stages.folder / "fixed.keras"
    stages.float_model.save(network)
    stages.selection.save(bits)
    stages.fixed.save(fixed)
    with open(file, "wb") as out:
        out.write(stages.file)
    search = mmx_tf.augment(network, bit_widths=(8, 4), target_average_bits=6)
    for selection in (bits, stages.selection.to_json()):
        assert mmx_tf.rebuild(search, selection).count_params() == stages.fixed.count_params()
    assert mmx_tf.convert(os.fspath(fixed)) == mmx_tf.convert(stages.fixed)
    assert mmx_tf.verify(stages.folded, file, digits.evaluation(batch_size=64, limit=64)).eval_images == 64


def test_kerass_own_load_model_reads_files_of_every_stage(stages):
    for name in ("search", "fixed", "folded"):
        path = stages.folder / f"{name}.keras"
        getattr(stages, name).save(path)
        loaded = keras.models.load_model(path)
        np.testing.assert_array_equal(
            loaded(stages.images[:4]).numpy(), getattr(stages, name)(stages.images[:4]).numpy()
        )


def test_a_search_without_a_budget_is_told_what_it_does(stages, warnings):
    mmx_tf.augment(stages.float_model, bit_widths=(8, 4))
    assert re.search(r"no budget.*accuracy alone.*average_bits=6.*target_bops in \d+ to \d+", warnings[0])


def test_what_cannot_be_exported_can_be_allowed(warnings):
    mmx_tf.augment(tiny_network("log_softmax"), target_average_bits=4, allow_unexportable=True)
    assert "fold will refuse 'odd'" in warnings[0]


def test_a_batch_of_more_images_than_there_are_is_a_warning(stages, warnings):
    stages.fixed.fit(stages.images[:8], stages.labels[:8], batch_size=100, verbose=0)
    assert any("batch_size=100, but there are 8 images" in line for line in warnings)


def test_running_statistics_that_will_not_follow_are_told_in_a_notebook_too(stages):
    with logged() as lines:
        stages.fixed.fit(stages.images, stages.labels, batch_size=32, verbose=0)
    assert any("momentum of 0.99 is slow for the" in line for line in lines)
    on_folded_graph = mmx_tf.fold_for_training(stages.fixed)
    on_folded_graph.compile("sgd", CROSSENTROPY)
    with logged() as lines:
        on_folded_graph.fit(stages.images, stages.labels, batch_size=32, verbose=0)
    assert not lines


def test_a_fit_after_a_failed_validation_takes_its_own_validation_data(stages):
    spoilt = (stages.images, labels_to_ten(stages.labels))
    with pytest.raises(ValueError, match="validation"):
        stages.fixed.fit(stages.images, stages.labels, verbose=0, validation_data=spoilt)
    history = stages.fixed.fit(stages.images, stages.labels, verbose=0, validation_split=0.25).history
    assert np.isfinite(history["val_loss"]).all()


def test_a_loss_that_takes_probabilities_for_logits_is_a_warning(stages, warnings):
    stages.fixed.compile("sgd", "sparse_categorical_crossentropy")
    stages.fixed.compile("sgd", CROSSENTROPY)
    assert [line for line in warnings if "takes" in line] == [
        "the loss takes probabilities, but the network ends without softmax or sigmoid: it will train for "
        "something else. Give the loss from_logits=True."
    ]


def test_costs_of_a_dict_may_have_numbers_as_bit_widths(stages):
    table = {"unit": "us", "layers": {"middle": {8: 4.0, 4: 2.0}}}
    search = mmx_tf.augment(stages.float_model, bit_widths=(8, 4), cost_table=table, target_cost=3)
    assert search.budget.others[0][0].table == ((4.0, 2.0),)


def test_a_loaded_fixed_network_goes_on_training_as_it_was_compiled(stages):
    path = stages.folder / "compiled.keras"
    stages.fixed.compile(keras.optimizers.SGD(0.125), CROSSENTROPY)
    stages.fixed.save(path)
    loaded = keras.models.load_model(path)
    assert float(loaded.optimizer.learning_rate) == 0.125
    assert np.isfinite(loaded.fit(stages.images, stages.labels, verbose=0).history["loss"]).all()


def test_every_metric_of_a_search_is_told_once(stages):
    names = [metric.name for metric in stages.search.metrics]
    assert sorted(set(names)) == sorted(names) and "search_loss" in names


def test_frozen_layers_are_told(stages, warnings):
    network = tiny_network()
    network.get_layer("middle").trainable = False
    mmx_tf.augment(network, bit_widths=(8, 4), target_average_bits=6)
    assert "1 layer(s) of tiny are frozen (middle); bit selection and weight training" in warnings[0]


def test_images_that_set_step_sizes_in_inference_are_told(stages, warnings):
    fixed = uncompiled(stages.fixed, stages)
    fixed.predict(stages.images[:4], verbose=0)
    fixed.predict(stages.images[:4], verbose=0)
    assert [line for line in warnings if "has seen no image" in line] == warnings[:1]
