"""Outputs of every kind: masks, features that other layers take too, and those that are refused."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from ai_edge_litert.interpreter import Interpreter
from head_networks import raster

import mmx_tf

pytestmark = pytest.mark.broad

layers = keras.layers


@pytest.fixture(scope="module")
def batch(digits):
    return [part.numpy() for part in next(iter(digits.train(batch_size=64, seed=0)))]


def trunk():
    inputs = keras.Input((16, 16, 1), name="image")
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu", name="stem")(inputs)
    return inputs, layers.Conv2D(8, 3, padding="same", activation="relu", name="features")(x)


def classes(x, name="class", **options):
    return layers.Dense(10, name=name, **options)(layers.Flatten()(x))


def exported(model, images):
    """(fixed network, folded network, its file) without any training but a few statistics."""
    search = mmx_tf.augment(model, bit_widths=(8, 4), target_average_bits=6)
    search(images, branch=0)
    fixed = mmx_tf.rebuild(search, search.selection_of([1] * len(search.quantizers)))
    for _ in range(3):
        fixed(images, training=True)
    folded = mmx_tf.fold(fixed)
    return fixed, folded, mmx_tf.convert(folded)


@pytest.mark.slow
def test_a_class_and_a_mask_from_notebook_lines_to_a_verified_file(digits):
    """As a U-Net has it: the mask from a wide branch with a skip, the class from a deep one."""
    keras.utils.set_random_seed(2)
    inputs, x = trunk()
    deep = layers.Conv2D(16, 3, strides=2, padding="same", activation="relu", name="deep")(x)
    wide = layers.Conv2D(8, 3, padding="same", activation="relu", dilation_rate=2, name="wide")(x)
    wide = layers.Conv2D(8, 3, padding="same", activation="relu", name="join")(
        layers.Concatenate()([x, wide])
    )
    mask = layers.Conv2D(1, 1, strides=2, activation="sigmoid", name="mask")(wide)
    model = keras.Model(inputs, [classes(deep, activation="softmax"), mask], name="class_and_mask")
    images, labels = (np.concatenate(part) for part in zip(*digits.train(batch_size=64, seed=0), strict=True))
    masks = (raster(images) > -0.4).astype(np.float32)[..., None]
    losses = {"class": "sparse_categorical_crossentropy", "mask": "binary_crossentropy"}
    options = {"loss": losses, "loss_weights": {"mask": 2.0}}
    model.compile(keras.optimizers.Adam(0.005), **options)
    model.fit(images, (labels, masks), epochs=6, verbose=0)
    search = mmx_tf.augment(model, bit_widths=(8, 4), target_average_bits=6)
    search.compile(keras.optimizers.SGD(0.01), metrics={"mask": ["accuracy"]}, **options)
    search.fit(images, (labels, masks), epochs=2, verbose=0)
    fixed = mmx_tf.rebuild(search, search.bit_selection())
    fixed.compile(keras.optimizers.Adam(0.002), **options)
    fixed.fit(images, (labels, masks), epochs=3, verbose=0)
    folded = mmx_tf.fold(fixed)
    data = mmx_tf.convert(folded, output_type="class", labels={"mask": ["paper", "ink"]})
    images, labels = (np.concatenate(part) for part in zip(*digits.evaluation(batch_size=90), strict=True))
    masks = (raster(images) > -0.4).astype(np.float32)[..., None]
    report = mmx_tf.verify(folded, data, [(images, {"class": labels, "mask": masks})])
    assert (report.code_disagreement, report.agreement, report.partitions) == (0.0, 1.0, 1)
    assert report.task == {"class": "classification", "mask": "segmentation"}
    assert report.outputs["mask"].metrics["pixel_accuracy"]["tflite"] > 0.8
    assert report.outputs["class"].tflite_top1 > 0.6
    details = Interpreter(model_content=data).get_signature_runner().get_output_details()
    shapes = {name: tuple(detail["shape"]) for name, detail in details.items()}
    assert shapes == {
        "class_class": (1,), "class_probabilities": (1, 10),
        "mask_class": (1, 4, 4), "mask_probabilities": (1, 4, 4, 1),
    }  # fmt: skip


def inner_activation():
    inputs, x = trunk()
    deep = layers.Conv2D(8, 3, activation="relu", name="deep")(x)
    return keras.Model(inputs, [x, classes(deep)])


def inner_convolution():
    """What a batch norm and a ReLU take would otherwise be no tensor of the file."""
    inputs, x = trunk()
    raw = layers.Conv2D(8, 3, use_bias=False, name="raw")(x)
    x = layers.ReLU()(layers.BatchNormalization(momentum=0.5)(raw))
    return keras.Model(inputs, [raw, classes(x)])


def inner_vectors():
    inputs, x = trunk()
    flat = layers.Flatten(name="flat")(x)
    embedding = layers.Dense(12, name="embedding")(flat)
    return keras.Model(inputs, [flat, embedding, classes(layers.ReLU()(embedding))])


def inner_poolings():
    inputs, x = trunk()
    largest = layers.MaxPooling2D(name="largest")(x)
    mean = layers.GlobalAveragePooling2D(name="mean")(x)
    return keras.Model(inputs, [largest, mean, classes(largest), classes(mean, "of_mean")])


def inner_part():
    inputs, x = trunk()
    one, two = (layers.Conv2D(4, 1, activation="relu", name=name)(x) for name in ("one", "two"))
    return keras.Model(inputs, [one, classes(layers.Concatenate()([one, two]))])


def inner_gate():
    inputs, x = trunk()
    gate = layers.Dense(8, activation="sigmoid", name="gate")(layers.GlobalAveragePooling2D()(x))
    scaled = layers.Multiply()([x, layers.Reshape((1, 1, 8))(gate)])
    return keras.Model(inputs, [gate, classes(scaled)])


def logits_and_sigmoid():
    inputs, x = trunk()
    score = layers.Dense(3, name="score")(layers.Flatten()(x))
    return keras.Model(inputs, [layers.Activation("sigmoid", name="sure")(score), score])


def rescaled_image():
    inputs = keras.Input((16, 16, 1), name="image")
    scaled = layers.Rescaling(0.5, 0.1, name="scaled")(inputs)
    x = layers.Conv2D(8, 3, activation="relu")(layers.Conv2D(8, 3, activation="relu")(scaled))
    return keras.Model(inputs, [classes(x), scaled])


def of_a_nested_model():
    inputs, x = trunk()
    taken = keras.Input(x.shape[1:])
    heads = keras.Model(taken, {"b": classes(taken, "of_b"), "a": layers.Conv2D(2, 1)(taken)}, name="heads")
    found = heads(x)
    return keras.Model(inputs, [found["b"], found["a"]])


NETWORKS = [
    inner_activation, inner_convolution, inner_vectors, inner_poolings, inner_part, inner_gate,
    logits_and_sigmoid, rescaled_image, of_a_nested_model,
]  # fmt: skip


@pytest.mark.parametrize("make", NETWORKS)
def test_outputs_that_other_layers_take_too_are_exact(make, batch):
    keras.utils.set_random_seed(3)
    model = make()
    fixed, folded, data = exported(model, batch[0])
    names = list(model.output_names)
    assert list(fixed.output_names) == list(folded.output_names) == names
    report = mmx_tf.verify(folded, data, [(batch[0], {})])
    assert (report.code_disagreement, report.partitions) == (0.0, 1)
    assert list(report.outputs) == names
    details = Interpreter(model_content=data).get_signature_runner().get_output_details()
    expected, found = fixed.predict(batch[0], verbose=0), folded.predict(batch[0], verbose=0)
    for name, own, other in zip(names, expected, found, strict=True):
        assert details[name]["shape"].tolist()[1:] == list(own.shape[1:])
        # On the output's own grid of the file they are the numbers that were trained, but for bias rounding.
        scale, _ = details[name]["quantization"]
        assert np.mean(np.abs(own - other)) < scale, name


def test_a_feature_beside_a_head_is_searched_and_trained_by_the_heads_loss(batch):
    images, labels = batch
    keras.utils.set_random_seed(3)
    search = mmx_tf.augment(inner_convolution(), bit_widths=(8, 4), target_average_bits=6)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    search.compile(keras.optimizers.SGD(0.05), loss={"class": loss}, metrics={"class": "accuracy"})
    search.fit(images, {"class": labels}, epochs=2, verbose=0)
    fixed = mmx_tf.rebuild(search, search.bit_selection())
    fixed.compile(keras.optimizers.SGD(0.05), loss=[None, loss])
    history = fixed.fit(images, {"class": labels}, epochs=4, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    folded = mmx_tf.fold(fixed)
    report = mmx_tf.verify(folded, mmx_tf.convert(folded), [(images, {"class": labels})])
    assert report.code_disagreement == 0.0
    assert report.task == {"raw": None, "class": "classification"}


@pytest.mark.slow
def test_pixels_several_budgets_and_weight_bits_with_several_outputs(batch):
    images, labels = batch
    search = mmx_tf.augment(
        inner_activation(), bit_widths=(8, 4), weight_bits=(8, 4), target_bops=[2e6, 3e6],
        pixel_scaling=(1 / 127.5, -1),
    )  # fmt: skip
    loss = {"class": keras.losses.SparseCategoricalCrossentropy(from_logits=True)}
    search.compile(keras.optimizers.SGD(0.01), loss=loss)
    search.fit(images, {"class": labels}, epochs=2, verbose=0)
    for selection in search.bit_selections():
        fixed = mmx_tf.rebuild(search, selection)
        fixed(images)
        folded = mmx_tf.fold(fixed, weight_storage="int4_xnnpack")
        data = mmx_tf.convert(folded, weight_storage="int4_xnnpack")
        assert mmx_tf.verify(folded, data, [(images, {"class": labels})]).code_disagreement == 0.0


def softmax_of_logits():
    inputs, x = trunk()
    logits = classes(x, "logits")
    return keras.Model(inputs, [logits, layers.Softmax(name="shares")(logits)])


def one_twice():
    inputs, x = trunk()
    return keras.Model(inputs, [classes(x)] * 2)


def the_image():
    inputs, x = trunk()
    return keras.Model(inputs, [classes(x), inputs])


def several_levels():
    inputs, x = trunk()
    return keras.Model(inputs, {"a": [classes(x), classes(x, "b")], "c": x})


def numbered():
    inputs, x = trunk()
    return keras.Model(inputs, {0: classes(x), 1: x})


REFUSED = {
    numbered: r"outputs in a dict with the keys \[0, 1\]: give keras.Model a dict whose keys are texts",
    softmax_of_logits: "outputs 'logits' and 'shares'.*one tensor in the file.*give .* 'logits' alone",
    one_twice: "outputs 'class' and 'class_1'.*one tensor",
    the_image: "output 'image' .* is its input itself: leave it out, and give keras.Model 'class' alone",
    several_levels: "outputs in a structure of several levels: give .* in one list, or in one dict",
}


@pytest.mark.parametrize("make", REFUSED, ids=lambda make: make.__name__)
def test_outputs_that_no_file_has_are_refused_by_name(make):
    with pytest.raises(ValueError, match=REFUSED[make]):
        mmx_tf.augment(make())


def test_names_that_would_be_two_outputs_of_a_file_are_refused(batch):
    inputs, x = trunk()
    model = keras.Model(inputs, [classes(x, "kind"), classes(x, "kind_class")])
    _, folded, _ = exported(model, batch[0])
    with pytest.raises(ValueError, match="several outputs of the file are called 'kind_class'"):
        mmx_tf.convert(folded, output_type={"kind": "class"})
    assert mmx_tf.convert(folded, output_type={"kind_class": "class"})


def test_outputs_of_keras_3_keep_their_names_and_their_dict():
    keras3 = pytest.importorskip("keras")
    inputs = keras3.Input((16, 16, 1), name="image")
    x = keras3.layers.Conv2D(4, 3, strides=4, activation="relu")(inputs)
    x = keras3.layers.Flatten()(keras3.layers.Conv2D(4, 1, activation="relu")(x))
    first, second = keras3.layers.Dense(3, name="first")(x), keras3.layers.Dense(2, name="second")(x)
    images = np.random.default_rng(0).normal(size=(2, 16, 16, 1)).astype(np.float32)
    listed = mmx_tf.augment(keras3.Model(inputs, [second, first]), target_average_bits=4)
    assert list(listed.output_names) == ["second", "first"]
    assert [part.shape[1] for part in listed.predict(images, verbose=0)] == [2, 3]
    named = mmx_tf.augment(keras3.Model(inputs, {"y": first, "b": second}), target_average_bits=4)
    assert list(named.output_names) == ["b", "y"]
    found = named.predict(images, verbose=0)
    assert {name: part.shape[1] for name, part in found.items()} == {"y": 3, "b": 2}


def test_tuples_stay_tuples(batch):
    inputs, x = trunk()
    search = mmx_tf.augment(keras.Model(inputs, (classes(x), x)), target_average_bits=4)
    assert [type(found) for found in (search(batch[0]), search.predict(batch[0], verbose=0))] == [
        tuple,
        tuple,
    ]
    assert tf.nest.map_structure(lambda part: part.shape[1:], search(batch[0])) == ((10,), (8, 8, 8))
