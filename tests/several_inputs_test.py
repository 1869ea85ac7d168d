"""Networks of several inputs: searched, rebuilt, folded, exported and verified with data for each of them."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from ai_edge_litert.interpreter import Interpreter
from sklearn.datasets import load_digits

import mmx_tf
from mmx_tf.export import c_array, inspect
from mmx_tf.export.comparing.certificate import certify
from mmx_tf.export.reading import tflite_file
from mmx_tf.network.canonical import canonicalize

layers = keras.layers
DIGITS = load_digits()
PIXELS = np.float32(np.rint(DIGITS.images * (255 / 16)))
# A digit's upper half as an image and the sums of its rows as a vector.
TOP, ROWS = PIXELS[:, :4, :, np.newaxis], PIXELS.sum(2) / 2040
DATA = {"top": TOP / 255, "rows": ROWS}


def network(form=dict):
    """An image and a vector, which meet behind a layer of their own each."""
    top, rows = keras.Input((4, 8, 1), name="top"), keras.Input((8,), name="rows")
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="edges")(top)
    x = layers.Conv2D(8, 3, activation="relu", name="strokes")(x)
    y = layers.Dense(16, activation="relu", name="sums")(rows)
    x = layers.Concatenate()([layers.Flatten()(x), layers.Dense(16, activation="relu", name="more")(y)])
    outputs = layers.Dense(10, name="digit")(layers.Dense(32, activation="relu", name="both")(x))
    inputs = {"top": top, "rows": rows} if form is dict else [top, rows]
    return keras.Model(inputs, outputs, name="two")


def given(form, data=None):
    data = data or DATA
    return dict(data) if form is dict else form(data.values())


LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@pytest.mark.slow
@pytest.mark.parametrize("form", [dict, list])
def test_the_notebooks_lines_from_a_float_network_to_a_verified_file(form, tmp_path):
    keras.utils.set_random_seed(0)
    float_model, x, y = network(form), given(form), DIGITS.target
    float_model.compile(keras.optimizers.Adam(0.01), LOSS)
    float_model.fit(x, y, batch_size=64, epochs=4, verbose=0)
    search = mmx_tf.augment(float_model, bit_widths=(8, 4), target_average_bits=6)
    search.compile(keras.optimizers.SGD(0.01), LOSS, metrics=["accuracy"])
    search.fit(x, y, batch_size=64, epochs=2, verbose=0)
    fixed = mmx_tf.rebuild(search, search.bit_selection())
    fixed.compile(keras.optimizers.Adam(0.003), LOSS, metrics=["accuracy"])
    batches = tf.data.Dataset.from_tensor_slices((x if form is dict else tuple(x), y)).batch(64)
    fixed.fit(batches, epochs=2, validation_data=batches, verbose=0)
    assert fixed.evaluate(batches, verbose=0)[1] > 0.8
    folded = mmx_tf.fold(fixed)
    data = mmx_tf.convert(folded)
    report = mmx_tf.verify(folded, data, batches)
    assert (report.code_disagreement, report.agreement, report.partitions) == (0.0, 1.0, 1)
    assert not any(tensor.differing for tensor in report.tensors)
    certificate = certify(folded, data, batches, max_images=16)
    assert certificate.runtimes["xnnpack"].differing == 0
    # The user's names and shapes, and what each input takes by its own grid.
    runner = Interpreter(model_content=data).get_signature_runner()
    details = runner.get_input_details()
    shapes = {name: tuple(one["shape_signature"][1:]) for name, one in details.items()}
    assert shapes == {"top": (4, 8, 1), "rows": (8,)}
    assert {name: one["dtype"] for name, one in details.items()} == {"top": np.uint8, "rows": np.int8}
    codes = {}
    for name, one in details.items():
        scale, zero_point = one["quantization"]
        ends = np.iinfo(one["dtype"])
        codes[name] = np.clip(np.rint(DATA[name] / scale) + zero_point, ends.min, ends.max).astype(
            one["dtype"]
        )
    (scores,) = runner(**codes).values()
    assert np.mean(scores.argmax(-1) == DIGITS.target) == report.metrics["accuracy"]["tflite"]
    for one in (search, fixed, folded):
        one.save(tmp_path / "network.keras")
        loaded = mmx_tf.load_model(tmp_path / "network.keras")
        np.testing.assert_array_equal(loaded(given(form)), one(given(form)))


def calibrated(float_model, x, **options):
    search = mmx_tf.augment(float_model, bit_widths=(8, 4), **options)
    search(x, branch=0)
    fixed = mmx_tf.rebuild(search, search.selection_of([0] * len(search.quantizers)))
    fixed(x)
    return fixed


def test_each_input_has_its_own_grid_and_type():
    x = {"top": TOP, "rows": ROWS}
    fixed = calibrated(network(), x, pixel_scaling={"top": (1.0, 0.0)})
    folded = mmx_tf.fold(fixed)
    for given_type, expected in (
        (None, {"top": np.uint8, "rows": np.int8}),
        ("int8", {"top": np.int8, "rows": np.int8}),
        ({"rows": "float32"}, {"top": np.uint8, "rows": np.float32}),
    ):
        data = mmx_tf.convert(folded, input_type=given_type)
        report = mmx_tf.verify(folded, data, [(x, DIGITS.target)])
        assert report.code_disagreement == 0.0
        runner = Interpreter(model_content=data).get_signature_runner()
        details = runner.get_input_details()
        assert {name: one["dtype"] for name, one in details.items()} == expected
    # The pixels themselves are what the image's input takes.
    (scores,) = runner(top=TOP.astype(np.uint8), rows=ROWS).values()
    (output,) = runner.get_output_details().values()
    scale, zero_point = output["quantization"]
    np.testing.assert_array_equal((scores - np.float32(zero_point)) * np.float32(scale), folded(x))
    with pytest.raises(ValueError, match="pixels, whose grid no float32 image has"):
        mmx_tf.convert(folded, input_type="float32")
    with pytest.raises(ValueError, match="input_type has the names .'side'.; the inputs are"):
        mmx_tf.convert(folded, input_type={"side": "int8"})
    file = tflite_file.parse(data)
    assert [one.name for one in inspect.summary(data).inputs] == ["rows", "top"]
    _, header = c_array.sources(tflite_file.parse(mmx_tf.convert(folded, input_type="int8")))
    assert '"top": INT8 [1, 4, 8, 1]' in header and '"rows": INT8 [1, 8]' in header
    assert list(file.signatures[0][1]) == ["rows", "top"] if hasattr(file, "signatures") else True


def test_keys_of_a_dict_are_the_names_of_the_inputs():
    a, b = keras.Input((8,), name="input_1"), keras.Input((8,), name="input_2")
    x = layers.Add()([layers.Dense(8)(a), layers.Dense(8)(b)])
    model = keras.Model({"left": a, "right": b}, layers.Dense(2)(layers.ReLU()(x)))
    canonical = canonicalize(model)
    assert canonical.input_names == ["left", "right"]
    values = {"left": ROWS[:8], "right": 2 * ROWS[:8]}
    np.testing.assert_allclose(canonical(values), model(values), rtol=1e-5, atol=1e-6)


def test_inputs_that_meet_in_front_of_all_weights_are_exact():
    left, right = keras.Input((4, 8, 1), name="left"), keras.Input((4, 8, 1), name="right")
    x = layers.Concatenate()([layers.Add()([left, right]), left])
    x = layers.Conv2D(4, 3, activation="relu")(x)
    outputs = layers.Dense(3)(layers.Dense(8, activation="relu")(layers.Flatten()(x)))
    x = [TOP[:256] / 255, PIXELS[:256, 4:, :, np.newaxis] / 85]
    folded = mmx_tf.fold(calibrated(keras.Model([left, right], outputs), x))
    data = mmx_tf.convert(folded)
    report = mmx_tf.verify(folded, data, [(x, DIGITS.target[:256] % 3)])
    assert report.code_disagreement == 0.0 and not any(tensor.differing for tensor in report.tensors)
    assert tuple(Interpreter(model_content=data).get_signature_runner().get_input_details()) == (
        "left",
        "right",
    )


WRONG = {
    "one array": (lambda: (TOP, DIGITS.target), "images have one .*; .* has the inputs 'rows', 'top'"),
    "other names": (lambda: ({"top": TOP, "side": ROWS}, DIGITS.target), "have the names .'side', 'top'."),
    "too many": (lambda: ((ROWS, TOP, TOP), DIGITS.target), "images have 3 parts"),
    "another shape": (
        lambda: ({"top": TOP[:, :3], "rows": ROWS}, DIGITS.target),
        r"input 'top': arrays have shape \(512, 3, 8, 1\)",
    ),
    "the other order": (lambda: ([TOP, ROWS], DIGITS.target), "input 'rows': arrays have shape"),
    "text": (lambda: ({"top": TOP, "rows": ROWS.astype(str)}, DIGITS.target), "images are text"),
    "all 0": (lambda: ({"top": TOP * 0, "rows": ROWS}, DIGITS.target), "first batch are all 0"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_data_that_does_not_fit_the_inputs_is_refused_before_training(case):
    make, message = WRONG[case]
    search = mmx_tf.augment(network(), bit_widths=(8, 4), target_average_bits=6)
    search.compile("sgd", LOSS)
    with pytest.raises((ValueError, TypeError), match=message):
        search.fit(*make(), epochs=1, verbose=0)


def test_values_that_are_no_numbers_fail_their_step():
    search = mmx_tf.augment(network(), bit_widths=(8, 4), target_average_bits=6)
    search.compile("sgd", LOSS)
    broken = ROWS[:256].copy()
    broken[200] = np.nan
    batches = tf.data.Dataset.from_tensor_slices(({"top": TOP[:256], "rows": broken}, DIGITS.target[:256]))
    with pytest.raises(ValueError, match="step 4: images hold values that are NaN"):
        search.fit(batches.batch(64), epochs=1, verbose=0)


@pytest.mark.parametrize(
    ("scaling", "message"),
    [
        ((1.0, 0.0), "give a dict by the names"),
        ({"side": (1.0, 0.0)}, "has the names .'side'."),
        ({"top": 3}, "give two numbers"),
    ],
)
def test_a_scaling_that_names_no_input_is_refused(scaling, message):
    with pytest.raises(ValueError, match=message):
        mmx_tf.augment(network(), bit_widths=(8, 4), pixel_scaling=scaling)


def test_a_network_of_several_inputs_is_checked_without_data():
    found = mmx_tf.check_network(network())
    assert found.exportable and found.inputs == ((None, 8), (None, 4, 8, 1))
    assert found.file.partitions == 1


def test_inputs_may_have_names_that_layers_may_not():
    image, rows = keras.Input((4, 8, 1), name="left image"), keras.Input((8,), name="_rows")
    x = layers.Flatten()(layers.Conv2D(4, 3, activation="relu")(image))
    x = layers.Concatenate()([x, layers.Dense(6, activation="relu")(rows)])
    model = keras.Model([image, rows], layers.Dense(3)(layers.Dense(8, activation="relu")(x)))
    search = mmx_tf.augment(model, target_average_bits=5, pixel_scaling={"left image": (1 / 255, 0)})
    fixed = mmx_tf.rebuild(search, search.bit_selection())
    data = {"left image": TOP[:32] / 255, "_rows": ROWS[:32]}
    fixed.predict(data, verbose=0)
    folded = mmx_tf.fold(fixed)
    file = mmx_tf.convert(folded)
    assert set(Interpreter(model_content=file).get_signature_runner().get_input_details()) == set(data)
    assert mmx_tf.verify(folded, file, [(data, np.zeros(32, int))]).code_disagreement == 0
