"""Data of every form that Keras's fit takes, for search and fixed networks; objects of Keras 3."""

import sys

import keras as keras3
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from notebook_stages import CROSSENTROPY, tiny_network

import mmx_tf
from mmx_tf.network import keras3_twins


class Batches(keras.utils.Sequence):
    def __init__(self, images, labels):
        self.parts = images, labels

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return tuple(part[index * 16 : index * 16 + 16] for part in self.parts)


class Batches3(keras3.utils.PyDataset):
    def __init__(self, images, labels):
        super().__init__()
        self.parts = images, labels

    __len__, __getitem__ = Batches.__len__, Batches.__getitem__


def generator(images, labels):
    while True:
        yield images[:16], labels[:16]


def without_shapes(images, labels, types=(tf.float32, tf.int64)):
    batches = [(images[:16], labels[:16].astype(np.int64)), (images[16:], labels[16:].astype(np.int64))]
    return tf.data.Dataset.from_generator(lambda: iter(batches), output_types=types)


def augmented(module):
    def flow(images, labels):
        return module.ImageDataGenerator(horizontal_flip=True).flow(images, labels, batch_size=16, seed=1)

    return flow


FORMS = {
    "a Sequence": Batches,
    "a PyDataset of Keras 3": Batches3,
    "a generator": generator,
    "a dataset without shapes": without_shapes,
    "an ImageDataGenerator": augmented(keras.preprocessing.image),
    "an ImageDataGenerator of Keras 3": augmented(keras3.src.legacy.preprocessing.image),
    "named images and labels": lambda images, labels: tf.data.Dataset.from_tensors(
        ({"image": images}, {"logits": labels})
    ),
    "labels (N, 1) as floats": lambda images, labels: tf.data.Dataset.from_tensors(
        (images, labels[:, np.newaxis].astype(np.float32))
    ),
    "lists of numbers": lambda images, labels: (images.tolist(), labels.tolist()),
    "bytes": lambda images, labels: tf.data.Dataset.from_tensors(((255 * images).astype(np.uint8), labels)),
}


@pytest.fixture(scope="module")
def thirty_two(digits):
    images, labels = next(iter(digits.train(batch_size=32, seed=0)))
    return images.numpy(), labels.numpy()


def _data(make, thirty_two) -> tuple:
    data = make(*thirty_two)
    return data if isinstance(data, tuple) else (data,)


@pytest.mark.slow
@pytest.mark.parametrize("make", FORMS.values(), ids=FORMS)
def test_all_data_that_keras_takes_goes_all_the_way(make, thirty_two):
    search = mmx_tf.augment(tiny_network(), bit_widths=(8, 4), target_average_bits=6, meta_epochs=0)
    search.compile("sgd", CROSSENTROPY, metrics=["accuracy"], run_eagerly=True)
    search.fit(*_data(make, thirty_two), steps_per_epoch=2 if make is generator else None, verbose=0)
    assert search.alpha.numpy().any()
    fixed = mmx_tf.rebuild(search, search.bit_selection())
    fixed.compile("sgd", CROSSENTROPY, metrics=["accuracy"], run_eagerly=True)
    history = fixed.fit(*_data(make, thirty_two), steps_per_epoch=2 if make is generator else None, verbose=0)
    assert 0 < history.history["loss"][0] < 10
    evaluated = fixed.evaluate(*[*_data(make, thirty_two), None][:2], None, 0, steps=1)
    assert np.isfinite(evaluated).all()


def test_a_traced_search_takes_batches_of_unknown_shape(thirty_two):
    search = mmx_tf.augment(tiny_network(), bit_widths=(8, 4), target_average_bits=6)
    search.compile("sgd", CROSSENTROPY, metrics=["accuracy"])
    search.fit(without_shapes(*thirty_two), epochs=2, verbose=0)
    images = without_shapes(*thirty_two).map(lambda images, labels: images)
    assert search.predict(images, None, 0).shape == (32, 10)
    fixed = mmx_tf.rebuild(search, search.bit_selection())
    assert fixed.predict(images, verbose=0).shape == (32, 10)
    fixed.compile("sgd", CROSSENTROPY, metrics=["accuracy"])
    fixed.fit(without_shapes(*thirty_two), verbose=0)
    assert np.isfinite(fixed.evaluate(without_shapes(*thirty_two), verbose=0)).all()


def test_a_batch_of_another_size_in_a_dataset_that_tells_none(thirty_two):
    images, labels = thirty_two
    fixed = mmx_tf.rebuild(*_search_and_selection(images))
    fixed.compile("sgd", CROSSENTROPY)
    mixed = [(images[:16], labels[:16].astype(np.int64)), (images[16:, :12], labels[16:].astype(np.int64))]
    data = tf.data.Dataset.from_generator(lambda: iter(mixed), output_types=(tf.float32, tf.int64))
    with pytest.raises(ValueError, match=r"step 2: images have shape \(16, 12, 16, 1\); the network takes"):
        fixed.fit(data, verbose=0)


def _search_and_selection(images):
    search = mmx_tf.augment(tiny_network(), bit_widths=(8, 4), target_average_bits=6)
    search(images, branch=0)
    return search, search.bit_selection()


TWINS = [
    ("optimizers", keras3.optimizers.SGD(0.5, momentum=0.25, nesterov=True)),
    ("optimizers", keras3.optimizers.AdamW(keras3.optimizers.schedules.CosineDecay(0.5, 100, alpha=0.25))),
    ("losses", keras3.losses.SparseCategoricalCrossentropy(from_logits=True)),
    ("losses", keras3.losses.Huber(delta=0.25)),
    ("losses", keras3.losses.BinaryCrossentropy(label_smoothing=0.25, reduction=None)),
    ("metrics", keras3.metrics.AUC(num_thresholds=17)),
    ("metrics", keras3.metrics.SparseTopKCategoricalAccuracy(k=2)),
    ("metrics", keras3.metrics.MeanIoU(num_classes=3)),
    ("callbacks", keras3.callbacks.EarlyStopping(monitor="loss", patience=3, min_delta=0.5)),
    ("callbacks", keras3.callbacks.ReduceLROnPlateau(factor=0.25)),
    ("callbacks", keras3.callbacks.CSVLogger("log.csv", separator=";")),
    ("callbacks", keras3.callbacks.ModelCheckpoint("best.keras", monitor="loss")),
    ("callbacks", keras3.callbacks.TerminateOnNaN()),
]


@pytest.mark.parametrize(("namespace", "theirs"), TWINS, ids=lambda value: type(value).__name__)
def test_objects_of_keras_3_become_those_of_tf_keras(namespace, theirs):
    ours = keras3_twins.twin(theirs, namespace)
    assert type(ours) is getattr(getattr(keras, namespace), type(theirs).__name__)
    for name in ("momentum", "nesterov", "num_thresholds", "num_classes", "patience", "factor", "sep"):
        if hasattr(theirs, name):
            assert getattr(ours, name) == getattr(theirs, name)


def test_losses_of_keras_3_give_the_same_numbers():
    labels, outputs = np.float32([[0, 1], [1, 0]]), np.float32([[0.25, 3.0], [0.5, 0.125]])
    for loss in (keras3.losses.Huber(delta=0.25), keras3.losses.MeanSquaredError(), keras3.losses.LogCosh()):
        ours = keras3_twins.twin(loss, "losses")
        assert float(ours(labels, outputs)) == pytest.approx(float(loss(labels, outputs)), rel=1e-6)
    assert keras3_twins.twin(keras3.losses.mean_squared_error, "losses") is keras.losses.mean_squared_error
    schedule = keras3_twins.twin(TWINS[1][1], "optimizers").learning_rate
    assert float(schedule) == 0.5


def test_keras_3_trains_a_search(thirty_two):
    search = mmx_tf.augment(tiny_network(), bit_widths=(8, 4), target_average_bits=6)
    search.compile(
        keras3.optimizers.SGD(0.1),
        keras3.losses.SparseCategoricalCrossentropy(from_logits=True),
        [keras3.metrics.SparseCategoricalAccuracy()],
        step_optimizer=keras3.optimizers.SGD(0.01),
        alpha_optimizer=keras3.optimizers.Adam(0.1),
        run_eagerly=True,
    )
    stops = keras3.callbacks.EarlyStopping(monitor="loss", mode="max", patience=0)
    history = search.fit(*thirty_two, batch_size=32, epochs=5, callbacks=stops, verbose=0).history
    assert len(history["sparse_categorical_accuracy"]) < 5


class Watching(keras3.callbacks.Callback):
    pass


def custom_loss(labels, outputs):
    return outputs


custom_loss.__module__ = "keras.src.losses.of_their_own"

REFUSED = [
    ("callbacks", Watching(), "derive your own from tf_keras.callbacks.Callback"),
    ("optimizers", keras3.optimizers.Lamb(), "one of tf_keras.optimizers"),
    ("losses", keras3.losses.MeanSquaredError(reduction="mean_with_sample_weight"), "reduction="),
    ("losses", custom_loss, "one of tf_keras.losses"),
]


@pytest.mark.parametrize(("namespace", "theirs", "advice"), REFUSED, ids=lambda value: str(value)[:20])
def test_what_has_no_twin_is_named_with_the_module_to_use(namespace, theirs, advice):
    with pytest.raises(TypeError, match=f"Keras 3.*{advice}"):
        keras3_twins.twin(theirs, namespace)


def test_functions_of_a_lambda_callback_are_called_and_those_not_given_are_not():
    called = []
    theirs = keras3.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: called.append(epoch),
        on_train_batch_end=lambda batch, logs: called.append(-1),
    )
    ours = keras3_twins.twin(theirs, "callbacks")
    assert type(ours) is keras.callbacks.LambdaCallback
    ours.on_epoch_begin(3)
    ours.on_batch_end(0, {})
    ours.on_epoch_end(3, {})
    assert called == [-1, 3]


def test_what_is_not_of_keras_3_is_left_alone():
    for value in ("mse", {"a": "mse"}, keras.losses.mean_squared_error):
        assert keras3_twins.twin(value, "losses") == value
    assert keras3_twins.twin([None, "accuracy"], "metrics") == [None, "accuracy"]
    assert "keras" in sys.modules


def test_a_sequential_network_of_keras_3_has_a_name_for_its_loss():
    network = keras3.Sequential(
        [
            keras3.Input((16, 16, 1)),
            keras3.layers.Conv2D(4, 3, strides=4, activation="relu"),
            keras3.layers.Conv2D(4, 1),
            keras3.layers.GlobalAveragePooling2D(),
            keras3.layers.Dense(10, name="digits"),
        ]
    )
    search = mmx_tf.augment(network, bit_widths=(8, 4), target_average_bits=6)
    search.compile("sgd", {"digits": CROSSENTROPY})
    assert search.output_names == ["digits"]


def test_losses_as_functions_of_keras_3_and_legacy_optimizers(thirty_two):
    search = mmx_tf.augment(tiny_network(), bit_widths=(8, 4), target_average_bits=6, meta_epochs=0)
    legacy = keras.optimizers.legacy
    search.compile(
        legacy.SGD(0.01),
        keras3.losses.sparse_categorical_crossentropy,
        step_optimizer=legacy.SGD(0.001),
        alpha_optimizer=legacy.Adam(0.1),
    )
    assert search.compiled_loss._user_losses is keras.losses.sparse_categorical_crossentropy
    search.fit(*thirty_two, batch_size=16, verbose=0)
    assert search.alpha.numpy().any()


def test_a_saved_search_knows_its_epochs(thirty_two, tmp_path):
    search = mmx_tf.augment(tiny_network(), bit_widths=(8, 4), target_average_bits=6)
    search.compile("sgd", CROSSENTROPY, run_eagerly=True)
    search.fit(*thirty_two, batch_size=32, verbose=0)
    search.save(tmp_path / "search.keras")
    loaded = mmx_tf.load_model(tmp_path / "search.keras")
    loaded.compile("sgd", CROSSENTROPY, run_eagerly=True)
    loaded.fit(*thirty_two, batch_size=32, verbose=0)
    assert loaded.finished_epochs == 2 and loaded.alpha.numpy().any()
    assert len(loaded.evaluate(*thirty_two, verbose=0, return_dict=True)) == 1


def test_layers_of_a_fixed_network_can_be_frozen(thirty_two):
    search, selection = _search_and_selection(thirty_two[0])
    fixed = mmx_tf.rebuild(search, selection)
    (layer,) = [layer for layer in fixed.layers if layer.name.endswith("middle")]
    layer.trainable = False
    fixed.compile(keras.optimizers.SGD(0.1), CROSSENTROPY)
    before = [variable.numpy() for variable in layer.weights]
    others = [variable.numpy() for variable in fixed.trainable_weights]
    fixed.fit(*thirty_two, verbose=0)
    assert all(np.array_equal(old, new.numpy()) for old, new in zip(before, layer.weights, strict=True))
    assert not all(np.array_equal(o, v.numpy()) for o, v in zip(others, fixed.trainable_weights, strict=True))


def test_activity_regularizers_go_on_in_the_fixed_network(thirty_two, tmp_path):
    inputs = keras.Input((16, 16, 1))
    x = keras.layers.Conv2D(4, 3, strides=4, activation="relu")(inputs)
    x = keras.layers.Conv2D(4, 1, activity_regularizer=keras.regularizers.L2(0.5))(x)
    outputs = keras.layers.Dense(10)(keras.layers.GlobalAveragePooling2D()(x))
    search = mmx_tf.augment(keras.Model(inputs, outputs), bit_widths=(8, 4), target_average_bits=6)
    search(thirty_two[0], branch=0)
    fixed = mmx_tf.rebuild(search, search.bit_selection())
    fixed(thirty_two[0])
    (loss,) = fixed.losses
    fixed.save(tmp_path / "fixed.keras")
    loaded = mmx_tf.load_model(tmp_path / "fixed.keras")
    loaded(thirty_two[0])
    assert float(loss) > 0 and float(loaded.losses[0]) == float(loss)
