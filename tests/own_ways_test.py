"""What people's own networks and data have beyond the usual: taken, told or refused, never dropped."""

import functools
import pathlib

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from listening import logged

import mmx_tf
from mmx_tf.network.canonical import canonicalize
from mmx_tf.network.kinds import UnsupportedLayerError

pytestmark = pytest.mark.broad

layers = keras.layers
CROSSENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(-1, 1, (32, 8, 8, 1)).astype(np.float32)
LABELS = RNG.integers(0, 10, 32)
WEIGHTS = np.linspace(0.1, 3, 32).astype(np.float32)


def network(*, activation="relu", outputs=10, own=keras.Model, name="second"):
    keras.utils.set_random_seed(3)
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(4, 3, activation=activation)(inputs)
    x = layers.Conv2D(4, 3, name=name)(x)
    return own(inputs, layers.Dense(outputs, name="logits")(layers.GlobalAveragePooling2D()(x)))


def searched(model, loss=CROSSENTROPY, **options):
    search = mmx_tf.augment(model, bit_widths=(8, 4), target_average_bits=6)
    search.compile(keras.optimizers.SGD(0.0), loss, **options)
    return search


def relu(values):
    return tf.minimum(tf.nn.relu(values), 0.2)


def hard_sigmoid(values):
    return tf.nn.relu6(values + 3) / 6


@pytest.mark.parametrize("function", [relu, hard_sigmoid])
def test_a_function_with_the_name_of_one_of_kerass_is_not_taken_for_it(function):
    with pytest.raises(UnsupportedLayerError, match="activation that is a function or class of its own"):
        mmx_tf.augment(network(activation=function), target_average_bits=6)
    inputs = keras.Input((8, 8, 1))
    x = layers.Activation(function)(layers.Conv2D(4, 3)(inputs))
    with pytest.raises(UnsupportedLayerError, match="of its own"):
        canonicalize(keras.Model(inputs, layers.Conv2D(4, 3)(x)))


@pytest.mark.parametrize(
    "function", [tf.nn.relu, tf.nn.relu6, tf.nn.sigmoid, tf.nn.silu, keras.activations.relu]
)
def test_tensorflows_functions_of_that_name_are_the_same(function):
    model = network(activation=function)
    np.testing.assert_allclose(canonicalize(model)(IMAGES), model(IMAGES), rtol=1e-5, atol=1e-6)


def nested(mode, frozen=None):
    base = keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Conv2D(4, 3), layers.BatchNormalization(name="bn")]
    )
    inputs = keras.Input((8, 8, 1))
    x = base(inputs, **({} if mode is None else {"training": mode}))
    return keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


def test_calls_with_training_false_are_told():
    with logged() as lines:
        canonicalize(nested(None))
    assert not lines
    with logged() as lines:
        canonicalize(nested(False))
    (line,) = lines
    assert "1 layer(s) of model" in line and "are called with training=False (sequential" in line
    assert "let their batch norms follow the batches" in line
    with pytest.raises(UnsupportedLayerError, match="training=True"):
        canonicalize(nested(True))


class OwnStep(keras.Model):
    def train_step(self, data):
        return super().train_step(data)


def test_a_training_step_of_ones_own_is_told():
    with logged() as lines:
        mmx_tf.augment(network(own=OwnStep), target_average_bits=6)
    assert lines == ["OwnStep has its own train_step: search and fixed networks are trained by Keras's."]
    with logged() as lines:
        mmx_tf.augment(network(), target_average_bits=6)
    assert not lines


@pytest.mark.parametrize("of", ["model", "layer"])
def test_losses_that_are_added_by_a_function_are_refused(of):
    model = network()
    added_to = model if of == "model" else model.get_layer("second")
    added_to.add_loss(lambda: tf.reduce_sum(model.get_layer("second").kernel ** 2))
    with pytest.raises(ValueError, match=rf"'{added_to.name}' adds a loss .add_loss.*kernel_regularizer"):
        mmx_tf.augment(model, target_average_bits=6)


def test_regularizers_are_no_added_losses():
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(4, 3, kernel_regularizer="l2", bias_regularizer="l1")(inputs)
    x = layers.BatchNormalization(beta_regularizer="l2")(layers.Conv2D(4, 3)(x))
    model = keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))
    search = mmx_tf.augment(model, bit_widths=(8, 4), target_average_bits=6)
    assert float(tf.add_n(search.losses)) == pytest.approx(float(tf.add_n(model.losses)), rel=1e-6)


def test_a_layer_with_the_name_of_a_quantizer_is_named():
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(4, 3, name="b")(layers.Conv2D(4, 3, name="a")(inputs))
    x = layers.ReLU(name="b_input_quantizer")(x)
    model = keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))
    with pytest.raises(ValueError, match="'b_input_quantizer', but the quantizer in front of 'b' needs"):
        mmx_tf.augment(model, target_average_bits=6)


@pytest.mark.parametrize("choice", [[], [0, 0], [7], [-1], [0.0], None, [None]], ids=str)
def test_a_choice_that_is_none_is_told_what_it_may_be(choice):
    search = mmx_tf.augment(network(), bit_widths=(8, 4), target_average_bits=6)
    with pytest.raises(ValueError, match=r"choice=.*: 1 integers in 0\.\.1, the candidate's index"):
        search.selection_of(choice)
    with pytest.raises(ValueError, match=r"target=3: an integer in 0\.\.0"):
        search.selection_of([0], target=3)


FORMS = {
    "array": lambda weights: weights,
    "list": lambda weights: [weights],
    "by the output's name": lambda weights: {"logits": weights},
}


ONCE = {"batch_size": 32, "verbose": 0}


@pytest.fixture(scope="module")
def weighted():
    """The loss with weights of examples, which is not the one without them."""
    expected = searched(network()).fit(IMAGES, LABELS, sample_weight=WEIGHTS, **ONCE).history["loss"]
    unweighted = searched(network()).fit(IMAGES, LABELS, **ONCE).history["loss"]
    assert abs(unweighted[0] - expected[0]) > 1e-3
    return expected


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_weights_of_examples_in_every_form(form, weighted):
    weights = FORMS[form](WEIGHTS)
    search = searched(network())
    found = search.fit(IMAGES, LABELS, sample_weight=weights, **ONCE).history["loss"]
    np.testing.assert_allclose(found, weighted, rtol=1e-6)
    data = tf.data.Dataset.from_tensors((IMAGES, LABELS, weights[0] if form == "list" else weights))
    of_dataset = searched(network()).fit(data, verbose=0).history["loss"]
    np.testing.assert_allclose(of_dataset, weighted, rtol=1e-6)
    fixed = mmx_tf.rebuild(search, search.bit_selection())
    fixed.compile(keras.optimizers.SGD(0.0), CROSSENTROPY)
    judged = {"validation_data": (IMAGES, LABELS, weights), **ONCE}
    history = fixed.fit(IMAGES, LABELS, sample_weight=weights, **judged).history
    alone = fixed.evaluate(IMAGES, LABELS, sample_weight=WEIGHTS, **ONCE)
    np.testing.assert_allclose(history["val_loss"], alone, rtol=1e-6)


def test_weights_under_another_name_are_refused():
    with pytest.raises(ValueError, match="sample_weight has the names .'other'.*'logits'"):
        searched(network()).fit(IMAGES, LABELS, sample_weight={"other": WEIGHTS}, verbose=0)


def test_labels_with_further_axes_are_kerass():
    search = searched(network())
    expected = search.fit(IMAGES, LABELS, batch_size=32, verbose=0).history["loss"]
    found = searched(network()).fit(IMAGES, LABELS[:, None, None], batch_size=32, verbose=0).history["loss"]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    found = (
        searched(network(), CROSSENTROPY.call).fit(IMAGES, LABELS, batch_size=32, verbose=0).history["loss"]
    )
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    with pytest.raises(ValueError, match=r"shape \(32, 10\).*labels\.argmax"):
        search.fit(IMAGES, np.eye(10)[LABELS], verbose=0)
    with pytest.raises(ValueError, match=r"one class number for each image\.$"):
        search.fit(IMAGES, np.zeros((32, 3)), verbose=0)


@pytest.fixture(scope="module")
def exported():
    search = mmx_tf.augment(network(outputs=1), bit_widths=(8, 4), target_average_bits=6)
    search(IMAGES, branch=0)
    fixed = mmx_tf.rebuild(search, search.selection_of([0]))
    fixed.compile("sgd", "hinge")
    fixed.predict(IMAGES, verbose=0)
    return mmx_tf.fold(fixed)


def test_margins_have_labels_of_minus_one_and_one(exported):
    labels = np.where(LABELS[:, None] > 4, 1.0, -1.0)
    file = mmx_tf.convert(exported)
    signed = mmx_tf.verify(exported, file, [(IMAGES, labels)])
    zero_one = mmx_tf.verify(exported, file, [(IMAGES, (labels + 1) / 2)])
    right = np.mean((exported.predict(IMAGES, verbose=0) > 0) == (labels > 0))
    for report in (signed, zero_one):
        assert report.task == "binary" and report.metrics["binary_accuracy"]["tflite"] == pytest.approx(right)


def test_verify_takes_images_and_labels_by_name(exported):
    file, labels = mmx_tf.convert(exported), (LABELS > 4).astype(float)
    plain = mmx_tf.verify(exported, file, [(IMAGES, labels)])
    named = mmx_tf.verify(exported, file, [({"image": IMAGES}, {"logits": labels})])
    assert named.metrics == plain.metrics
    with pytest.raises(ValueError, match="sample weights too.*must give pairs"):
        mmx_tf.verify(exported, file, [(IMAGES, labels, WEIGHTS)])
    with pytest.raises(ValueError, match=r"names \['a', 'b'\]"):
        mmx_tf.verify(exported, file, [({"a": IMAGES, "b": IMAGES}, labels)])


def test_a_folded_network_is_saved_as_keras_alone(exported, tmp_path):
    with pytest.raises(ValueError, match="one that ends with .keras"):
        exported.save(tmp_path / "folded.h5")
    exported.save(tmp_path / "folded.keras")
    loaded = mmx_tf.load_model(tmp_path / "folded.keras")
    np.testing.assert_array_equal(loaded.predict(IMAGES, verbose=0), exported.predict(IMAGES, verbose=0))


def test_large_numbers_to_predict_are_told():
    search, labels = searched(network(outputs=1), "mse"), LABELS[:, None] * 100.0
    with logged() as lines:
        search.fit(IMAGES, labels, verbose=0)
    (line,) = [line for line in lines if "step sizes" in line]
    assert line.startswith("labels go up to 900, and with them the gradients of the step sizes")
    with logged() as lines:
        search.fit(IMAGES, labels / 900, verbose=0)
        own = searched(network(outputs=1), "mse", step_optimizer=keras.optimizers.Adam(1e-4))
        own.fit(IMAGES, labels, verbose=0)
        searched(network()).fit(IMAGES, LABELS, verbose=0)
    assert not [line for line in lines if "step sizes" in line]


def test_what_keras3_leaves_out_of_weight_decay_stays_out():
    import keras as keras3

    decayed = {}
    for excluded in ([], ["bias"]):
        optimizer = keras3.optimizers.AdamW(1e-6, weight_decay=1e4)
        optimizer.exclude_from_weight_decay(var_names=excluded)
        search = mmx_tf.augment(network(), bit_widths=(8, 4), target_average_bits=6)
        second = search.network.get_layer("second")
        second.bias.assign(tf.ones_like(second.bias))
        search.compile(optimizer, CROSSENTROPY)
        search.fit(IMAGES, LABELS, batch_size=32, verbose=0)
        decayed[bool(excluded)] = float(tf.reduce_mean(second.bias))
    assert decayed[False] == pytest.approx(0.99, abs=1e-3) and decayed[True] == pytest.approx(1, abs=1e-4)
    optimizer = keras3.optimizers.AdamW(weight_decay=0.1)
    optimizer.exclude_from_weight_decay(var_list=[keras3.Variable([1.0])])
    with pytest.raises(TypeError, match="AdamW of Keras 3 excludes variables.*give it var_names"):
        search.compile(optimizer, CROSSENTROPY)


def test_a_dataset_without_an_end_is_no_evaluation(exported):
    endless = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(8).repeat()
    with pytest.raises(ValueError, match=r"no end \(repeat\(\)\)"):
        mmx_tf.verify(exported, mmx_tf.convert(exported), endless)


def test_a_search_can_be_looked_at_before_it_has_seen_an_image(capsys):
    search = mmx_tf.augment(network(), bit_widths=(8, 4), target_average_bits=6)
    assert search.input_shape == (None, 8, 8, 1) and search.output_shape == (None, 10)
    assert search.count_params() >= search.network.count_params() > 0
    search.summary()
    assert "Total params" in capsys.readouterr().out


@pytest.mark.parametrize("call", [mmx_tf.augment, mmx_tf.count_bops, mmx_tf.fold, mmx_tf.convert])
def test_a_class_is_no_network(call):
    with pytest.raises(TypeError, match=r"OwnStep is a class: give a network of it, such as OwnStep\(\)"):
        call(OwnStep)


def test_a_function_without_a_name_is_one_of_the_users_own():
    partial = functools.partial(keras.activations.relu, max_value=6.0)
    with pytest.raises(UnsupportedLayerError, match="'conv2d.*of its own"):
        mmx_tf.augment(network(activation=partial), target_average_bits=6)


def test_reports_say_what_they_are_to_be_given():
    selection = mmx_tf.augment(network(), bit_widths=(8, 4)).selection_of([0])
    with pytest.raises(TypeError, match=r"`selection` is a BitSelection.*give \.to_json\(\)"):
        mmx_tf.report.print_summary(selection, {})
    with pytest.raises(TypeError, match="`selection` is a str"):
        mmx_tf.report.print_summary("bits.json", {})


DATA = {
    "a path": lambda: mmx_tf.data.load(pathlib.Path("/x")),
    "no name": lambda: mmx_tf.data.load(None),
    "two sizes": lambda: mmx_tf.data.load("digits", image_size=(32, 32)),
    "a size as text": lambda: mmx_tf.data.load("digits", image_size="32"),
    "no images a batch": lambda: mmx_tf.data.load("digits").evaluation(batch_size=0),
    "fewer than none": lambda: mmx_tf.data.load("digits").train(batch_size=-1, seed=0),
    "text": lambda: mmx_tf.data.load("digits").train(batch_size="8", seed=0),
    "a third half": lambda: mmx_tf.data.load("digits").train(batch_size=8, seed=0, part=(2, 2)),
    "a task with a typing error": lambda: mmx_tf.data.load("digits").for_task("clasification"),
    "ten classes as two": lambda: mmx_tf.data.load("digits").for_task("binary"),
}


@pytest.mark.parametrize("what", DATA)
def test_datasets_are_refused_in_a_sentence(what):
    with pytest.raises(mmx_tf.data.DataError):
        DATA[what]()


@pytest.mark.parametrize(
    "asked",
    [
        {"input_shape": (None, None, 3)}, {"input_shape": 32}, {"num_classes": "10"}, {"num_classes": None},
        {"width": "0.5"},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("name", mmx_tf.models.NAMES)
def test_built_in_networks_are_refused_in_a_sentence(name, asked):
    with pytest.raises(mmx_tf.models.ModelError):
        mmx_tf.models.build(name, **{"input_shape": (32, 32, 3), "num_classes": 10} | asked)


@pytest.mark.parametrize(("scaling", "pixels"), [((1, 0), "0 to 1"), ((1 / 127.5, -1), "128 to 255")])
def test_images_that_take_few_of_the_pixels_are_told(scaling, pixels):
    images = (IMAGES - IMAGES.min()) / (IMAGES.max() - IMAGES.min())
    search = mmx_tf.augment(network(), bit_widths=(8, 4), target_average_bits=6, pixel_scaling=scaling)
    search.compile("sgd", CROSSENTROPY)
    with logged() as lines:
        search.fit(images, LABELS, verbose=0)
    (line,) = [line for line in lines if "first batch" in line]
    assert f"are pixels {pixels} of 0 to 255: is that their scaling?" in line
    right = mmx_tf.augment(network(), bit_widths=(8, 4), target_average_bits=6, pixel_scaling=(1 / 255, 0))
    right.compile("sgd", CROSSENTROPY)
    with logged() as lines:
        right.fit(images, LABELS, verbose=0)
    assert not [line for line in lines if "first batch" in line]


def test_a_weighting_without_its_budget_is_refused():
    with pytest.raises(
        ValueError, match="average_bits_weighting='plain': it is for target_average_bits alone"
    ):
        mmx_tf.augment(network(), target_bops=1e6, average_bits_weighting="plain")


def test_files_of_other_formats_are_refused_with_the_way(tmp_path):
    network().save_weights(tmp_path / "some.weights.h5")
    with pytest.raises(ValueError, match="holds weights alone.*`model.load_weights.*`model.save"):
        mmx_tf.augment(str(tmp_path / "some.weights.h5"), target_average_bits=6)
