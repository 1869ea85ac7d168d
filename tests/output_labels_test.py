"""Labels and sample weights of several outputs in every form that Keras takes, and those that do not fit."""

import re

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from listening import logged
from several_heads import LOSSES, METRICS, WEIGHTS, detector, joined

import mmx_tf
from mmx_tf.network.tracing import build_before_tracing

pytestmark = pytest.mark.broad

COUNT = 48


@pytest.fixture(scope="module")
def data(digits):
    """Images, classes, boxes, and weights of examples."""
    images, classes, box = joined(digits.train(batch_size=COUNT, seed=0).take(1))
    return images, classes, box, np.linspace(0, 2, COUNT, dtype=np.float32)


def new_search(outputs=list):
    keras.utils.set_random_seed(5)
    return mmx_tf.augment(detector(outputs), bit_widths=(8, 4), target_average_bits=6)


def compiled(network, **options):
    options = {"loss": LOSSES, "loss_weights": WEIGHTS, "metrics": METRICS} | options
    network.compile(keras.optimizers.SGD(0.01), **options)
    return network


@pytest.fixture(scope="module")
def networks(data):
    """A search and a fixed network that have seen images, compiled."""
    search = compiled(new_search())
    search(data[0], branch=0)
    fixed = compiled(mmx_tf.rebuild(search, search.bit_selection()))
    fixed(data[0])
    return {"search": search, "fixed": fixed}


@pytest.fixture(scope="module")
def predicted(data, networks):
    """What they predict, to compute losses from: a network that is compiled anew traces `predict` anew."""
    return {stage: network.predict(data[0], verbose=0) for stage, network in networks.items()}


def new_fixed():
    search = new_search()
    return compiled(mmx_tf.rebuild(search, search.selection_of([0] * len(search.quantizers))))


class Batches(keras.utils.Sequence):
    def __init__(self, *parts):
        self.parts = parts

    def __len__(self):
        return COUNT // 16

    def __getitem__(self, index):
        return tf.nest.map_structure(lambda part: part[16 * index : 16 * (index + 1)], self.parts)


def dataset(*parts):
    return tf.data.Dataset.from_tensor_slices(parts).batch(16)


def of_unknown_rank(*parts):
    """Batches of a generator whose labels have no known shape."""
    batches = Batches(*parts)

    def generate():
        yield from (batches[index] for index in range(len(batches)))

    types = tf.nest.map_structure(lambda part: tf.as_dtype(part.dtype), parts)
    shapes = tf.nest.map_structure(lambda part: tf.TensorShape(None), parts)
    return tf.data.Dataset.from_generator(generate, output_types=types, output_shapes=shapes)


FORMS = {
    "a dict": lambda x, c, b, w: ((x, {"class": c, "box": b}), {}),
    "a list": lambda x, c, b, w: ((x, [c, b]), {}),
    "a tuple": lambda x, c, b, w: ((x, (c, b)), {}),
    "classes with an axis": lambda x, c, b, w: ((x, {"box": b, "class": c[:, None]}), {}),
    "a dataset of dicts": lambda x, c, b, w: ((dataset(x, {"class": c, "box": b}),), {}),
    "a dataset of tuples": lambda x, c, b, w: ((dataset(x, (c, b)),), {}),
    "a sequence of lists": lambda x, c, b, w: ((Batches(x, [c, b]),), {}),
    "a generator of dicts": lambda x, c, b, w: ((iter(Batches(x, {"class": c, "box": b})),), {}),
    "a dataset that tells no shapes": lambda x, c, b, w: ((of_unknown_rank(x, {"class": c, "box": b}),), {}),
}
WEIGHED = {
    "a dict": lambda x, c, b, w: ((x, {"class": c, "box": b}), {"sample_weight": {"class": w, "box": w}}),
    "a list": lambda x, c, b, w: ((x, [c, b]), {"sample_weight": [w, w]}),
    "one for all": lambda x, c, b, w: ((x, [c, b]), {"sample_weight": w}),
    "a dataset": lambda x, c, b, w: ((dataset(x, (c, b), (w, w)),), {}),
    "a dataset of dicts": lambda x, c, b, w: (
        (dataset(x, {"class": c, "box": b}, {"class": w, "box": w}),), {},
    ),
}  # fmt: skip


def evaluated(network, form, data):
    arguments, options = form(*data)
    return network.evaluate(*arguments, batch_size=None, verbose=0, return_dict=True, **options)


SAME_LABELS = [("fixed", form) for form in FORMS] + [("search", "a dict"), ("search", "a dataset of tuples")]


@pytest.mark.parametrize(("stage", "form"), SAME_LABELS)
def test_labels_in_every_form_are_the_same_labels(stage, form, data, networks, predicted):
    _, classes, box, _ = data
    found = evaluated(compiled(networks[stage]), FORMS[form], data)
    scores, numbers = predicted[stage]
    of_class = -np.log(scores[np.arange(COUNT), classes]).mean()
    of_box = np.square(numbers - box).mean()
    assert found["class_loss"] == pytest.approx(of_class, rel=1e-4)
    assert found["box_loss"] == pytest.approx(of_box, rel=1e-4)
    assert found["loss"] == pytest.approx(of_class + 4 * of_box, rel=1e-4)
    assert found["class_accuracy"] == pytest.approx((scores.argmax(1) == classes).mean())


@pytest.mark.parametrize("form", WEIGHED)
def test_sample_weights_in_every_form(form, data, networks, predicted):
    _, classes, box, weights = data
    found = evaluated(compiled(networks["fixed"]), WEIGHED[form], data)
    scores, numbers = predicted["fixed"]
    of_class = -np.log(scores[np.arange(COUNT), classes])
    assert found["class_loss"] == pytest.approx((weights * of_class).mean(), rel=1e-4)
    assert found["box_loss"] == pytest.approx((weights * np.square(numbers - box).mean(1)).mean(), rel=1e-4)


@pytest.mark.parametrize("form", ["a dict", "a dataset of tuples", "a dataset that tells no shapes"])
def test_fit_takes_them_and_validates(form, data):
    arguments, _ = FORMS[form](*data)
    fixed = new_fixed()
    validation = (data[0], {"class": data[1], "box": data[2]})
    history = fixed.fit(*arguments, validation_data=validation, shuffle=False, verbose=0).history
    assert {"class_accuracy", "box_mae", "val_class_loss", "val_box_mae"} <= set(history)
    assert np.isfinite([history["loss"][0], history["val_loss"][0]]).all()


def test_metrics_are_there_before_a_step_is_traced(data, networks):
    """Otherwise TensorFlow traces a step twice."""
    fixed = compiled(networks["fixed"])
    for labels in ({"class": data[1], "box": data[2]}, [data[1], data[2]]):
        compiled(fixed)
        build_before_tracing(fixed, data[0], labels)
        names = [metric.name for metric in fixed.metrics]
        assert names == ["loss", "class_loss", "box_loss", "class_accuracy", "box_mae"]


def test_outputs_in_a_dict(data, tmp_path):
    """Keras gives and takes a dict for a network that was built with one; its keys are the names."""
    images, classes, box, weights = data
    search = compiled(new_search(dict))
    search(images, branch=0)
    fixed = compiled(mmx_tf.rebuild(search, search.bit_selection()))
    labels = {"class": classes, "box": box}
    history = fixed.fit(images, labels, sample_weight={"box": weights}, verbose=0).history
    assert {"class_accuracy", "box_mae", "class_loss"} <= set(history)
    folded = mmx_tf.fold(fixed)
    for network in (search, fixed, folded):
        assert sorted(network.output_names) == ["box", "class"]
        found = network.predict(images, verbose=0)
        assert {name: part.shape[1] for name, part in found.items()} == {"class": 10, "box": 4}
    data = mmx_tf.convert(folded, output_type={"class": "class"})
    report = mmx_tf.verify(folded, data, [(images, labels)])
    assert report.code_disagreement == 0.0 and set(report.outputs) == {"class", "box"}
    for network in (search, fixed, folded):
        network.save(tmp_path / "saved.keras")
        loaded = mmx_tf.load_model(tmp_path / "saved.keras")
        assert list(loaded.output_names) == list(network.output_names)
        found, expected = loaded.predict(images, verbose=0), network.predict(images, verbose=0)
        for name in ("class", "box"):
            np.testing.assert_array_equal(found[name], expected[name])


def test_one_array_of_labels_is_for_all_outputs(digits):
    """Two heads that rebuild the image: Keras compares each with the one array."""
    keras.utils.set_random_seed(5)
    inputs = keras.Input((16, 16, 1))
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(inputs)
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    heads = [keras.layers.Conv2D(1, 1, name=name)(x) for name in ("near", "far")]
    search = mmx_tf.augment(keras.Model(inputs, heads), bit_widths=(8, 4), target_average_bits=6)
    search.compile("sgd", "mse", loss_weights=[1.0, 0.5])
    images = next(iter(digits.train(batch_size=16, seed=0)))[0].numpy()
    history = search.fit(images, images, verbose=0).history
    assert history["loss"][0] == pytest.approx(history["near_loss"][0] + 0.5 * history["far_loss"][0])


# What is done with a compiled network m, images x, classes c, boxes b and weights w, and what is said.
LABELS = {
    "a name that there is not": (
        lambda m, x, c, b, w: m.fit(x, {"klass": c, "box": b}),
        "labels have the names .'box', 'klass'., but 'klass' is not an output.*outputs 'class' and 'box'",
    ),
    "a missing head": (
        lambda m, x, c, b, w: m.fit(x, {"class": c}),
        "labels have no 'box', an output that compile was given a loss for.*or compile with loss in a dict",
    ),
    "a missing head in a dataset": (
        lambda m, x, c, b, w: m.fit(dataset(x, {"box": b})), "labels have no 'class'",
    ),
    "a list too short": (
        lambda m, x, c, b, w: m.fit(x, [c]), "labels have 1 entries; the network has 2 outputs.*one for each",
    ),
    "boxes of another shape": (
        lambda m, x, c, b, w: m.fit(x, {"class": c, "box": b[:, :3]}),
        r"labels of output 'box' have shape \(48, 3\), and the loss takes ones of shape \(N, 4\)",
    ),
    "boxes of another shape in a dataset": (
        lambda m, x, c, b, w: m.fit(dataset(x, (c, b[:, :3]))), r"'box' have shape \(None, 3\)",
    ),
    "heads in the wrong order": (
        lambda m, x, c, b, w: m.fit(x, (b, c)), r"labels of output 'class' have shape \(48, 4\)",
    ),
    "one-hot classes": (
        lambda m, x, c, b, w: m.fit(x, [np.eye(10)[c], b]), r"'class' have shape \(48, 10\).*labels.argmax",
    ),
    "fewer boxes": (
        lambda m, x, c, b, w: m.fit(x, [c, b[:9]]), "'box' are for 9 images, those of output 'class' for 48",
    ),
    "boxes as text": (
        lambda m, x, c, b, w: m.fit(x, [c, b.astype(str)]), "labels of output 'box' are text",
    ),
    "one array for all that fits one": (
        lambda m, x, c, b, w: m.fit(x, c), r"labels of output 'box' have shape \(48,\)",
    ),
    "weights of another name": (
        lambda m, x, c, b, w: m.fit(x, [c, b], sample_weight={"klass": w}),
        "sample_weight has the names .'klass'.*outputs 'class' and 'box'",
    ),
    "weights of another name in a dataset": (
        lambda m, x, c, b, w: m.fit(dataset(x, {"class": c, "box": b}, {"klass": w})), "sample_weight has",
    ),
    "weights in a list too short": (
        lambda m, x, c, b, w: m.fit(x, [c, b], sample_weight=[w]), "sample_weight has 1 entries",
    ),
    "weights of another name for evaluate": (
        lambda m, x, c, b, w: m.evaluate(x, [c, b], sample_weight={"klass": w}), "sample_weight has",
    ),
    "class weights": (
        lambda m, x, c, b, w: m.fit(x, [c, b], class_weight={0: 1.0}),
        "class_weight is for networks of one output: give sample_weight, in a dict",
    ),
    "labels of another name for evaluate": (
        lambda m, x, c, b, w: m.evaluate(x, {"klass": c, "box": b}), "labels have the names",
    ),
    "labels of another shape for evaluate": (
        lambda m, x, c, b, w: m.evaluate(x, [c, b[:, :3]]), r"'box' have shape \(48, 3\)",
    ),
    "labels of another shape for validation": (
        lambda m, x, c, b, w: m.fit(x, [c, b], validation_data=(x, [c, b[:, :3]])), r"'box' have shape",
    ),
}  # fmt: skip
COMPILED = {
    "a loss of another name": (
        {"loss": {"klass": "mse", "box": "mse"}}, "compile: loss has the names .*'klass' is no",
    ),
    "a list of one loss": ({"loss": ["mse"]}, "loss has 1 entries; the network has 2 outputs"),
    "no loss for any": ({"loss": {"class": None}}, "no loss for any of the outputs 'class' and 'box'"),
    "loss weights of another name": ({"loss_weights": {"klass": 1.0}}, "loss_weights has the names .'klass'"),
    "three loss weights": ({"loss_weights": [1, 2, 3]}, "loss_weights has 3 entries"),
    "metrics of another name": ({"metrics": {"klass": "mae"}}, "metrics have the names .'klass'"),
    "metrics of one output in lists": ({"metrics": [["mae"]]}, "metrics have 1 entries"),
    "a misspelt metric": ({"metrics": {"class": ["acuracy"]}}, "'acuracy', which Keras does not know"),
    "the class of a loss": ({"loss": {"box": keras.losses.MeanSquaredError}}, "loss has the class"),
}  # fmt: skip


@pytest.mark.parametrize(("action", "message"), LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("stage", ["search", "fixed"])
def test_what_does_not_fit_is_refused_before_anything_is_traced(stage, action, message, data, networks):
    network = compiled(networks[stage])
    with pytest.raises((ValueError, TypeError)) as error:
        action(network, *data)
    assert re.search(message, str(error.value)) and "\n" not in str(error.value)
    assert (network.train_function, network.test_function) == (None, None)


@pytest.mark.parametrize(("options", "message"), COMPILED.values(), ids=COMPILED)
@pytest.mark.parametrize("stage", ["search", "fixed"])
def test_what_compile_cannot_be_given(stage, options, message, networks):
    with pytest.raises((ValueError, TypeError), match=message):
        compiled(networks[stage], **options)


def test_labels_outside_the_classes_of_an_output_are_told_with_its_name(data):
    images, classes, box, _ = data
    fixed = new_fixed()
    kernels = [variable for variable in fixed.trainable_variables if variable.name.endswith("kernel:0")]
    before = [kernel.numpy() for kernel in kernels]
    with pytest.raises(ValueError, match="step 1: labels go from .* to 19; the loss of output 'class'"):
        fixed.fit(images, {"class": classes + 10, "box": box}, verbose=0)
    with pytest.raises(ValueError, match="weights of examples hold values that are NaN"):
        fixed.fit(images, [classes, box], sample_weight={"box": np.full(COUNT, np.nan)}, verbose=0)
    assert len(kernels) == 7
    for kernel, value in zip(kernels, before, strict=True):
        np.testing.assert_array_equal(kernel.numpy(), value)
    fixed.fit(images, {"class": classes, "box": box}, verbose=0)


def test_a_loss_that_takes_logits_and_a_head_without_a_loss_are_told(networks):
    logits = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    with logged() as lines:
        compiled(networks["fixed"], loss={"class": logits})
    assert "the loss of output 'class' takes logits, but the network ends with a softmax there" in lines[0]
    assert "output 'box' has no loss, so nothing trains the layers" in lines[1]
    assert "quant_box_features" in lines[1] and "stem" not in lines[1]


def test_large_numbers_of_an_output_are_told(data, warnings):
    images, classes, box, _ = data
    search = compiled(new_search())
    search.look_at({"class": 100 * classes, "box": 160 * box})
    (line,) = warnings
    assert line.startswith("labels of output 'box' go up to 160, and with them the gradients")
