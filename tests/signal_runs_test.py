"""Signals, vectors and images without channels from a float network to a file that equals it."""

import pathlib

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from sklearn.datasets import load_digits

import mmx_tf
from mmx_tf.export import c_array, inspect
from mmx_tf.export.comparing.certificate import certify
from mmx_tf.export.reading import tflite_file
from mmx_tf.export.running import litert
from mmx_tf.export.running.delegation import delegated_ops
from mmx_tf.layers.integer.layers import QuantizeInput

layers = keras.layers
DIGITS = load_digits()
# The rows of a digit from top to bottom: a signal of eight steps.
ROWS = (DIGITS.images / 16).astype(np.float32)
MLPERF_TINY = pathlib.Path(__file__).parents[2] / "shared" / "models" / "mlperf_tiny"


def waves(count, length=256, seed=0):
    """Heartbeats of two kinds as an electrocardiograph draws them, [N, length, 1], and the kind of each."""
    random = np.random.default_rng(seed)
    kinds = random.integers(0, 2, count)
    time = np.arange(length) / 128
    signals = np.empty((count, length, 1), np.float32)
    for index, kind in enumerate(kinds):
        period, phase = random.uniform(0.7, 0.9), random.uniform(0, 0.7)
        since = (time + phase) % period
        # A beat of the second kind begins in the ventricle: it is wide, and nothing goes before it.
        parts = (
            [(0.32, 0.012, 1.4), (0.56, 0.05, 0.3)] if kind == 0 else [(0.34, 0.05, 1.1), (0.6, 0.06, -0.4)]
        )
        parts += [(0.16, 0.03, 0.2)] if kind == 0 else []
        beat = sum(size * np.exp(-((since - at) ** 2) / (2 * width**2)) for at, width, size in parts)
        drift = 0.1 * np.sin(2 * np.pi * 0.3 * time + random.uniform(0, 6))
        signals[index, :, 0] = beat + drift + random.normal(0, 0.05, length)
    return signals, kinds


def of_beats():
    """A network on electrocardiograms: convolutions, pooling, separable and dilated ones, a residual."""
    inputs = keras.Input((256, 1), name="ecg")
    x = layers.Conv1D(12, 7, strides=2, padding="same", use_bias=False, name="stem")(inputs)
    x = layers.ReLU()(layers.BatchNormalization(momentum=0.8)(x))
    x = layers.MaxPooling1D(4)(x)
    y = layers.SeparableConv1D(12, 5, padding="same", activation="relu", name="separable")(x)
    x = layers.Add()([x, y])
    x = layers.AveragePooling1D(2)(x)
    x = layers.Conv1D(16, 3, dilation_rate=2, padding="causal", activation="relu", name="dilated")(x)
    x = layers.GlobalAveragePooling1D()(x)
    outputs = layers.Dense(2, activation="softmax", name="kind")(x)
    return keras.Model(inputs, outputs, name="beats"), *waves(600)


def of_vectors():
    """An MLP."""
    x = inputs = keras.Input((64,), name="pixels")
    for units in (48, 32, 24):
        x = layers.Dense(units, use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.8)(x))
    outputs = layers.Dense(10, activation="softmax")(layers.Dropout(0.1)(x))
    return keras.Model(inputs, outputs, name="vectors"), ROWS.reshape(-1, 64), DIGITS.target


def of_images_without_channels():
    """Pixels 0..255 of shape (height, width), as Keras's datasets of grey images have them."""
    inputs = keras.Input((8, 8), name="image")
    x = layers.Reshape((8, 8, 1))(layers.Rescaling(1 / 255)(inputs))
    for filters in (8, 12):
        x = layers.Conv2D(filters, 3, activation="relu")(x)
    outputs = layers.Dense(10, activation="softmax")(layers.Flatten()(x))
    return keras.Model(inputs, outputs, name="grey"), np.rint(ROWS * 255), DIGITS.target


def of_steps():
    """An answer for every step of a signal: how much ink is in a row."""
    inputs = keras.Input((8, 8), name="rows")
    x = layers.Conv1D(16, 3, padding="causal", activation="relu")(inputs)
    x = layers.Dense(16, activation="relu")(layers.Dropout(0.1)(x))
    x = layers.Conv1D(16, 3, padding="same", activation="relu")(x)
    outputs = layers.Dense(3, activation="softmax", name="ink")(x)
    return keras.Model(inputs, outputs, name="steps"), ROWS, np.digitize(ROWS.mean(2), [0.25, 0.5])


RUNS = {
    # network and data, pixel_scaling, type of the file's input, its task, at least this good
    "beats": (of_beats, None, np.int8, "classification", 0.95),
    "vectors": (of_vectors, None, np.int8, "classification", 0.9),
    "grey": (of_images_without_channels, (1.0, 0.0), np.uint8, "classification", 0.9),
    "steps": (of_steps, None, np.int8, "segmentation", 0.8),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_notebook_lines_from_a_float_network_to_a_verified_file(name):
    make, pixel_scaling, input_type, task, good = RUNS[name]
    keras.utils.set_random_seed(0)
    float_model, inputs, labels = make()
    loss = "sparse_categorical_crossentropy"
    float_model.compile(keras.optimizers.Adam(0.01), loss)
    float_model.fit(inputs, labels, batch_size=64, epochs=6, verbose=0)

    search = mmx_tf.augment(float_model, target_average_bits=5, pixel_scaling=pixel_scaling)
    search.compile(optimizer=keras.optimizers.SGD(0.01), loss=loss)
    search.fit(inputs, labels, batch_size=64, epochs=2, verbose=0)
    fixed = mmx_tf.rebuild(search, search.bit_selection())
    fixed.compile(optimizer=keras.optimizers.Adam(0.003), loss=loss)
    fixed.fit(inputs, labels, batch_size=64, epochs=4, verbose=0)
    folded = mmx_tf.fold(fixed)
    data = mmx_tf.convert(folded, output_type="float32")
    evaluation = tf.data.Dataset.from_tensor_slices((inputs, labels)).batch(128)
    report = mmx_tf.verify(folded, data, evaluation)

    assert (report.code_disagreement, report.agreement, report.task) == (0.0, 1.0, task)
    assert not any(tensor.differing for tensor in report.tensors)
    assert report.partitions == 1
    assert {kind for _, kind in report.left_outside} <= ({"QUANTIZE"} if pixel_scaling else set())
    assert next(iter(report.metrics.values()))["tflite"] > good, report.metrics
    for network in (search, fixed, folded):
        assert network.input_shape == float_model.input_shape
        assert network.output_shape == float_model.output_shape
    runner = litert.Runner(data)
    ((found, given),) = runner.inputs.items()
    assert (found, given["dtype"]) == (float_model.input_names[0], input_type)
    assert tuple(given["shape_signature"][1:]) == float_model.input_shape[1:]
    ((_, outputs),) = runner.outputs.items()
    assert tuple(outputs["shape_signature"][1:]) == float_model.output_shape[1:]
    if pixel_scaling:
        # The pixels themselves are what the file takes, whatever the network does to them first.
        answer = runner({found: inputs[:64].astype(np.uint8)})
        np.testing.assert_array_equal(*answer.values(), folded.predict(inputs[:64], verbose=0))


def every_layer(*, padded):
    inputs = keras.Input((40, 3), name="signal")
    x = layers.ZeroPadding1D((2, 1))(layers.Conv1D(8, 5, activation="relu")(inputs))
    x = layers.Cropping1D((1, 2))(layers.BatchNormalization()(x))
    y = layers.DepthwiseConv1D(3, padding="same", dilation_rate=2)(x)
    x = layers.Concatenate()([x, layers.ReLU(6.0)(y)])
    gate = layers.Dense(16, activation="sigmoid")(layers.GlobalAveragePooling1D()(x))
    x = layers.Multiply()([x, layers.Reshape((1, 16))(gate)])
    x = layers.SeparableConv1D(8, 3, padding="causal", activation="relu")(x)
    x = layers.MaxPooling1D(3, strides=2, padding="same")(x)
    x = layers.AveragePooling1D(3, strides=2, padding="same" if padded else "valid")(x)
    x = layers.Concatenate(axis=1)([x, layers.MaxPooling1D(1, strides=2)(x)])
    x = layers.Conv1D(12, 2, strides=3, padding="same", activation="swish")(layers.UpSampling1D(2)(x))
    x = layers.Dense(4)(layers.GlobalMaxPooling1D(keepdims=True)(x))
    return keras.Model(inputs, x, name="every")


def calibrated(network, inputs):
    """The fixed network of a float one at the most bits, whose step sizes are set and nothing is trained."""
    search = mmx_tf.augment(network, bit_widths=(8, 4), weight_bits=4)
    search(inputs, branch=0)
    fixed = mmx_tf.rebuild(search, search.selection_of([0] * len(search.quantizers)))
    fixed(inputs, training=True)
    return fixed


@pytest.mark.slow
@pytest.mark.parametrize(("padded", "storage"), [(False, "int4_xnnpack"), (True, "int8")])
def test_every_layer_of_signals_is_exact_under_all_kernels(padded, storage, tmp_path):
    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    inputs = random.normal(size=(64, 40, 3)).astype(np.float32)
    fixed = calibrated(every_layer(padded=padded), inputs)
    folded = mmx_tf.fold(fixed, weight_storage=storage)
    data = mmx_tf.convert(folded, weight_storage=storage)
    batches = [(inputs, random.normal(size=(64, 1, 4)).astype(np.float32))]
    certificate = certify(folded, data, batches, max_images=16, task="regression")
    assert certificate.runtimes["xnnpack"].differing == 0
    assert mmx_tf.verify(folded, data, batches, task="regression").code_disagreement == 0.0
    outside = {kind for _, kind in delegated_ops(data).left_outside}
    assert outside == ({"AVERAGE_POOL_2D"} if padded else set())
    assert delegated_ops(data).partitions == (2 if padded else 1)
    assert inspect.summary(data).faults == ()
    for network in (fixed, folded):
        network.save(tmp_path / "network.keras")
        loaded = mmx_tf.load_model(tmp_path / "network.keras")
        np.testing.assert_array_equal(loaded(inputs), network(inputs))


def test_a_file_of_signals_is_an_array_for_microcontrollers():
    keras.utils.set_random_seed(0)
    network = keras.Sequential(
        [keras.Input((32, 2), name="signal")]
        + [layers.Conv1D(8, 3, activation="relu"), layers.SeparableConv1D(8, 3), layers.ReLU()]
        + [layers.GlobalAveragePooling1D(), layers.Dense(3)]
    )
    fixed = calibrated(network, np.random.default_rng(0).normal(size=(32, 32, 2)).astype(np.float32))
    file = tflite_file.parse(mmx_tf.convert(fixed))
    _, header = c_array.sources(file)
    assert '"signal": INT8 [1, 32, 2], scale' in header


@pytest.mark.parametrize("shape", [(64,), (8, 8), (8, 8, 1)])
def test_only_images_and_pixels_are_uint8_in_the_file(shape):
    network = keras.Sequential([keras.Input(shape, name="x"), layers.Flatten()])
    for units in (8, 8, 2):
        network.add(layers.Dense(units))
    inputs = ROWS[:32].reshape(-1, *shape)
    types = {}
    for scaling in (None, (1 / 255, 0.0)):
        search = mmx_tf.augment(network, bit_widths=(8, 4), pixel_scaling=scaling)
        search(inputs, branch=0)
        fixed = mmx_tf.rebuild(search, search.selection_of([0] * len(search.quantizers)))
        fixed(inputs, training=True)
        (given,) = litert.Runner(mmx_tf.convert(fixed)).inputs.values()
        types[scaling] = given["dtype"]
        assert sum(isinstance(layer, QuantizeInput) for layer in mmx_tf.fold(fixed).layers) == 1
    assert types == {None: np.uint8 if len(shape) == 3 else np.int8, (1 / 255, 0.0): np.uint8}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((64, 8, 8), r"inputs have shape .64, 8, 8..*batches of shape .None, 40, 3.: resize"),
        ((40, 3), r"an input of shape .40, 3. is no batch; .*dataset.batch"),
        ((64, 40, 3, 1), r"inputs have shape .64, 40, 3, 1..*give inputs\[..., 0\]"),
    ],
)
def test_signals_of_another_shape_are_refused_before_training(given, message):
    search = mmx_tf.augment(every_layer(padded=False), bit_widths=(8, 4), target_average_bits=6)
    search.compile("sgd", "mse")
    with pytest.raises(ValueError, match=message):
        search.fit(np.ones(given, np.float32), np.ones((len(given), 1, 4), np.float32))


def test_the_anomaly_detector_of_mlperf_tiny():
    """A vector autoencoder as it was published, on spectra of the right shape: nothing is learnt here."""
    if not (MLPERF_TINY / "ad01.h5").exists():
        pytest.skip(f"there is no {MLPERF_TINY / 'ad01.h5'}: a published network is not tried")
    network = keras.models.load_model(MLPERF_TINY / "ad01.h5", compile=False)
    random = np.random.default_rng(0)
    # Levels in decibels of five frames of 128 bands, which are louder where the tone is low.
    inputs = np.float32(random.normal(-30 - np.tile(np.arange(128) / 8, 5), 6, (64, 640)))
    search = mmx_tf.augment(network, target_average_bits=6)
    search.compile(keras.optimizers.SGD(1e-6), "mse")
    search.fit(inputs, inputs, batch_size=32, epochs=1, verbose=0)
    fixed = mmx_tf.rebuild(search, search.bit_selection())
    fixed.compile(keras.optimizers.SGD(1e-6), "mse")
    fixed.fit(inputs, inputs, batch_size=32, epochs=1, verbose=0)
    folded = mmx_tf.fold(fixed)
    data = mmx_tf.convert(folded)
    report = mmx_tf.verify(folded, data, [(inputs, inputs)])
    assert (report.task, report.code_disagreement, report.partitions) == ("regression", 0.0, 1)
    assert not any(tensor.differing for tensor in report.tensors)
