"""The command line on arrays: signals, vectors, spectrograms of a .npz file, and a function of one's own."""

import json
import shutil
import sys

import numpy as np
import pytest
import tf_keras as keras
from ai_edge_litert.interpreter import Interpreter
from commands import train_main
from refusals import files_of
from signal_runs_test import waves
from sklearn.datasets import load_digits
from workdirs import forget

from mmx_tf.export import parity, verify
from mmx_tf.export.reading import tflite_file

layers = keras.layers
FLAGS = (
    "--batch_size=64", "--steps_per_epoch=4", "--train_epochs=2", "--learning_rate=0.002",
    "--target_average_bits=6", "--candidate_bits=8,4", "--parity_images=16", "--max_disagreement=0",
)  # fmt: skip
DIGITS = load_digits()


def of_signals(folder):
    """Heartbeats (256, 1), whose classes have names."""
    signals, kinds = waves(400)
    np.savez(folder / "data.npz", x=signals, y=kinds, class_names=np.array(["usual", "early"]))
    x = inputs = keras.Input((256, 1), name="ecg")
    for size, stride in ((7, 4), (5, 2), (3, 1)):
        x = layers.Conv1D(8, size, strides=stride, activation="relu")(x)
    outputs = layers.Dense(2, activation="softmax")(layers.GlobalAveragePooling1D()(x))
    return keras.Model(inputs, outputs, name="beats"), "sparse_categorical_crossentropy", signals, kinds


def of_vectors(folder):
    """An autoencoder of digits as vectors (64,): the file has no labels at all."""
    pixels = (DIGITS.images / 16).reshape(-1, 64)
    np.savez(folder / "data.npz", x_train=pixels[:1400], x_test=pixels[1400:])
    x = inputs = keras.Input((64,), name="pixels")
    for units in (32, 12, 32):
        x = layers.Dense(units, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(64)(x), name="autoencoder"), "mse", pixels, pixels


def of_spectrograms(folder):
    """Chirps of three kinds as spectrograms (49, 10, 1): a network as for keywords."""
    random = np.random.default_rng(0)
    kinds = random.integers(0, 3, 300)
    time, bands = np.mgrid[:49, :10]
    begin = random.uniform(2, 4, (300, 1, 1))
    slopes = np.array([0.1, 0.0, -0.05])[kinds][:, np.newaxis, np.newaxis]
    spectra = np.exp(-((bands - begin - slopes * time) ** 2)) + random.normal(0, 0.1, (300, 49, 10))
    spectra = np.float32(spectra[..., np.newaxis] * 6 - 3)
    np.savez_compressed(
        folder / "data.npz",
        x_train=spectra[:240], y_train=kinds[:240], x_test=spectra[240:], y_test=kinds[240:],
    )  # fmt: skip
    x = inputs = keras.Input((49, 10, 1), name="spectrum")
    x = layers.Conv2D(8, (10, 4), strides=2, padding="same", use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization(momentum=0.8)(x))
    x = layers.DepthwiseConv2D(3, padding="same", activation="relu")(x)
    x = layers.Conv2D(8, 1, activation="relu")(x)
    x = layers.AveragePooling2D((25, 5))(x)
    outputs = layers.Dense(3, activation="softmax")(layers.Flatten()(x))
    return keras.Model(inputs, outputs, name="keywords"), "sparse_categorical_crossentropy", spectra, kinds


RUNS = {
    # network and data, further flags, type of the file's input, task
    "signals": (of_signals, (), np.int8, "classification"),
    "vectors": (of_vectors, (), np.int8, "regression"),
    "spectrograms": (of_spectrograms, ("--output_type=class", "--teacher=float"), np.uint8, "classification"),
}


def trained(make, folder):
    """The network's file, trained a little; the data lies beside it."""
    network, loss, x, y = make(folder)
    network.compile(keras.optimizers.Adam(0.01), loss)
    network.fit(x, y, batch_size=64, epochs=6, verbose=0)
    network.save(folder / "float.keras")
    return [
        f"--dataset=npz:{folder / 'data.npz'}", f"--float_model={folder / 'float.keras'}",
        f"--workdir={folder / 'run'}", *FLAGS,
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_from_a_float_network_and_arrays_to_a_verified_file(name, tmp_path, capsys):
    make, further, dtype, task = RUNS[name]
    arguments = [*trained(make, tmp_path), *further]
    workdir = tmp_path / "run"
    train_main(arguments)
    shown = capsys.readouterr().out
    metrics = json.loads((workdir / "metrics.json").read_text())
    assert metrics.get("task", "classification") == task
    assert (metrics["code_disagreement"], metrics["tensor_codes_differing"]) == (0.0, 0)
    if task == "regression":
        quality = metrics["quality"]["root_mean_squared_error"]
        assert quality["folded"] == quality["tflite"] < 0.25  # a digit's pixels are 0 to 1
        assert "mean absolute error" in shown
    else:
        assert metrics["folded_top1"] == metrics["tflite_top1"] > 0.8
    assert (workdir / "report.html").stat().st_size > 10_000
    # The file, as one who has it alone runs it, on the arrays of the data's file.
    stored = np.load(tmp_path / "data.npz")
    runner = Interpreter(model_path=str(workdir / "model.tflite")).get_signature_runner()
    ((taken, given),) = runner.get_input_details().items()
    x = stored["x_test"] if "x_test" in stored else stored["x"]
    assert (given["dtype"], tuple(given["shape_signature"][1:])) == (dtype, x.shape[1:])
    scale, zero_point = given["quantization"]
    codes = np.clip(np.rint(x / scale) + zero_point, np.iinfo(dtype).min, np.iinfo(dtype).max).astype(dtype)
    found = runner(**{taken: codes})
    if "y_test" in stored:
        assert np.mean(found["class"] == stored["y_test"]) == metrics["tflite_top1"]
    file = (workdir / "model.tflite").read_bytes()
    labels = json.loads(tflite_file.parse(file).metadata["mmx_tf"]).get("labels", [])
    assert labels == {"signals": ["usual", "early"], "vectors": []}.get(name, ["0", "1", "2"])
    # Both commands know the data again, and so does the same run, on the finished folder and on one that was
    # killed in weight training.
    assert verify.main([f"--workdir={workdir}"]) == 0
    assert json.loads(capsys.readouterr().out)["code_disagreement"] == 0.0
    assert parity.main([f"--workdir={workdir}", "--images=8", "--kernels=xnnpack"]) == 0
    for lost in ("fixed_model.keras", "model.tflite", "metrics.json", "report.html"):
        (workdir / lost).unlink()
    shutil.rmtree(workdir / "checkpoints" / "train")
    forget(workdir, "results")
    train_main(arguments)
    assert (workdir / "model.tflite").read_bytes() == file
    # Other numbers under the same name are refused.
    arrays = {key: stored[key] for key in stored.files}
    first = next(iter(arrays))
    arrays[first] = arrays[first] + 1
    np.savez(tmp_path / "data.npz", **arrays)
    before = files_of(workdir)
    with pytest.raises(SystemExit) as end:
        train_main(arguments)
    assert end.value.code == 2 and files_of(workdir) == before
    assert "SHA-256" in (said := capsys.readouterr().err) and "when this run began" in said


def dense(inputs, outputs, name="net"):
    return keras.Sequential(
        [keras.Input(inputs), layers.Flatten(), layers.Dense(4), layers.Dense(outputs)], name
    )


MISFITS = {
    "no file": ({}, None, ("--dataset=npz:nowhere.npz",), ["nowhere.npz cannot be read: No such file"]),
    "another shape": ({"x": (20, 8), "y": 2}, dense((9,), 2), (), ["inputs of shape (9,)", "gives (8,)"]),
    "classes": ({"x": (20, 8), "y": 3}, dense((8,), 2), (), ["has 2 classes", "has 3"]),
    "a binary task": (
        {"x": (20, 8), "y": 3},
        dense((8,), 1),
        (),
        ["(None, 1)", "one output for two classes"],
    ),
    "no labels": ({"x": (20, 8)}, dense((8,), 3), (), ["(3,)", "no labels other than its examples", "add y"]),
    "a task without labels": (
        {"x": (20, 8)},
        dense((8,), 8),
        ("--task=binary",),
        ["has no labels, which --task=binary needs"],
    ),
    "numbers of another shape": (
        {"x": (20, 8), "y": (20, 3)},
        dense((8,), 4),
        ("--task=regression",),
        ["labels of shape", "(N, 4)"],
    ),
    "smoothed numbers": (
        {"x": (20, 8)},
        dense((8,), 8),
        ("--label_smoothing=0.1",),
        ["with --task=regression"],
    ),
    "a size": ({"x": (20, 8, 8), "y": 2}, dense((8, 8), 2), ("--image_size=16",), ["are not resized"]),
    "a built-in network": (
        {"x": (20, 64), "y": 2},
        None,
        ("--float_epochs=1",),
        ["examples of shape (64,)", "--float_model=FILE"],
    ),
    "a scaling": (
        {"x": (20, 8), "y": 2},
        dense((8,), 2),
        ("--pixel_scaling=1/0,0",),
        ["--pixel_scaling=1/0,0 is not", "1/255,0"],
    ),
    "a scaling without 0": (
        {"x": (20, 8), "y": 2},
        dense((8,), 2),
        ("--pixel_scaling=1,5",),
        ["one of the pixels 0..255 stands for 0"],
    ),
    "an augmentation": ({"x": (20, 8), "y": 2}, dense((8,), 2), ("--augmentation=crop",), ["are not moved"]),
    "classes as floats": (
        {"x": (20, 8), "y": 3.0},
        dense((8,), 3),
        (),
        ["as --task=classification does not fit", "If they are classes, say --task=classification."],
    ),
    "more classes": ({"x": (20, 8), "y": 3}, dense((8,), 3), ("--num_classes=2",), ["label 2", "0 to 1"]),
}


@pytest.mark.parametrize("case", MISFITS)
def test_what_does_not_fit_each_other_is_refused_before_anything_is_written(case, tmp_path, capsys):
    stored, network, flags, parts = MISFITS[case]
    random, count = np.random.default_rng(0), 20
    arrays = {
        name: np.arange(count) % shape if isinstance(shape, int | float) else random.normal(size=shape)
        for name, shape in stored.items()
    }
    np.savez(tmp_path / "data.npz", **arrays)
    words = [f"--dataset=npz:{tmp_path / 'data.npz'}", f"--workdir={tmp_path / 'run'}", *flags]
    if network is not None or "float_epochs" not in "".join(flags):
        (network or dense((8,), 2)).save(tmp_path / "float.keras")
        words.append(f"--float_model={tmp_path / 'float.keras'}")
    before = files_of(tmp_path)
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        train_main(words)
    said = capsys.readouterr().err
    assert (end.value.code, said.count("\n")) == (2, 1) and files_of(tmp_path) == before
    assert all(part in said for part in parts), said


@pytest.mark.slow
def test_a_function_of_ones_own_and_pixels_that_a_network_takes_as_they_are(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "own_digits.py").write_text(
        "import numpy as np, tensorflow as tf\n"
        "from sklearn.datasets import load_digits\n"
        "def made():\n"
        "    digits = load_digits()\n"
        "    x, y = np.uint8(digits.images * 15.9), digits.target\n"
        "    of = lambda a, b: tf.data.Dataset.from_tensor_slices((x[a:b], y[a:b]))\n"
        "    return of(0, 1500), of(1500, 1797), [f'digit {i}' for i in range(10)]\n"
    )
    pixels = np.uint8(DIGITS.images * 15.9)
    x = inputs = keras.Input((8, 8, 1), name="scan")
    x = layers.Rescaling(1 / 255)(x)
    for filters in (8, 12):
        x = layers.Conv2D(filters, 3, activation="relu")(x)
    network = keras.Model(inputs, layers.Dense(10)(layers.Flatten()(x)), name="scans")
    network.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    network.fit(np.float32(pixels[..., np.newaxis]), DIGITS.target, batch_size=32, epochs=8, verbose=0)
    network.save("float.keras")
    train_main(
        ["--dataset=module:own_digits:made", "--float_model=float.keras", "--pixel_scaling=1,0", *FLAGS]
        + [f"--workdir={tmp_path / 'run'}"]
    )
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert (metrics["code_disagreement"], metrics["eval_images"]) == (0.0, 297)
    assert metrics["float_top1"] > 0.8 and metrics["tflite_top1"] > 0.7
    # The file takes the pixels themselves.
    runner = Interpreter(model_path=str(tmp_path / "run" / "model.tflite")).get_signature_runner()
    (taken,) = runner.get_input_details()
    (scores,) = runner(**{taken: pixels[1500:, ..., np.newaxis]}).values()
    assert np.mean(scores.argmax(-1) == DIGITS.target[1500:]) == metrics["tflite_top1"]
    assert "digit 7" in capsys.readouterr().out + (tmp_path / "run" / "model.tflite").read_bytes().decode(
        "latin1"
    )
