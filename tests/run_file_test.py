"""`mmx_tf run`: what a file says of images, from their files and from arrays, without TensorFlow."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tf_keras as keras
from commands import called
from networks import calibrated, small_network
from PIL import Image

import mmx_tf
from mmx_tf.choices import EVAL_MARGIN, PIXEL_SCALING
from mmx_tf.data.images import centre_square
from mmx_tf.export import run
from mmx_tf.export.reading import tflite_file
from mmx_tf.export.reading.contents import Tensor
from mmx_tf.export.running import images as image_files
from mmx_tf.export.running import litert, shown

ROOT = Path(__file__).parents[1]
NAMES = [f"digit {number}" for number in range(10)]


@pytest.fixture(scope="module")
def folded(digits):
    return mmx_tf.fold(calibrated(small_network(), digits, pixel_scaling=PIXEL_SCALING))


@pytest.fixture(scope="module")
def pixels(digits):
    """Evaluation images as uint8, as the dataset stores them."""
    images, _ = next(iter(digits.evaluation(batch_size=8)))
    return np.rint((images.numpy() + 1) * 127.5).astype(np.uint8)


@pytest.fixture(scope="module")
def files(folded, pixels, tmp_path_factory):
    """A folder with the file for each type of its ends, images, an array of them and names."""
    folder = tmp_path_factory.mktemp("files")
    for name, options in {
        "model": {"labels": NAMES},
        "int8": {"input_type": "int8", "output_type": "float32", "labels": NAMES},
        "bare": {},
        "class": {"output_type": "class", "labels": NAMES},
        "number": {"task": "regression"},
    }.items():
        (folder / f"{name}.tflite").write_bytes(mmx_tf.convert(folded, **options))
    for index, image in enumerate(pixels):
        Image.fromarray(image[..., 0]).save(folder / f"{index}.png")
    np.save(folder / "images.npy", pixels)
    (folder / "labels.txt").write_text("".join(f"number {name}\n" for name in range(10)))
    return folder


def softmax(logits):
    raised = np.exp(logits - logits.max(-1, keepdims=True))
    return raised / raised.sum(-1, keepdims=True)


@pytest.fixture(scope="module")
def expected(folded, pixels):
    """Probabilities of the folded network, computed by Keras."""
    return softmax(folded.predict(pixels / np.float32(127.5) - 1, verbose=0).astype(np.float64))


def blocks(text):
    """[(name, [(label, probability)])] of what is printed."""
    found = []
    for line in text.splitlines():
        if line.startswith("  "):
            label, _, value = line.strip().rpartition(" ")
            found[-1][1].append((label.strip(), float(value.rstrip("%")) / 100))
        else:
            found.append((line, []))
    return found


@pytest.mark.parametrize("name", ["model", "int8", "class"])
def test_the_top_classes_are_those_of_the_folded_network(files, expected, capsys, name):
    paths = [files / f"{index}.png" for index in range(len(expected))]
    done = called(capsys, run.main, files / f"{name}.tflite", *paths, "--top=3")
    assert done.returncode == 0 and done.stderr == ""
    found = blocks(done.stdout)
    assert [path for path, _ in found] == list(map(str, paths))
    # Of type class probabilities have 256 steps.
    room = 0.004 if name == "class" else 0.0001
    for (_, ranked), probabilities in zip(found, expected, strict=True):
        order = np.argsort(-probabilities, kind="stable")[:3]
        labels = [NAMES[index] for index in order]
        assert sorted(probability for _, probability in ranked)[::-1] == [value for _, value in ranked]
        np.testing.assert_allclose([value for _, value in ranked], probabilities[order], atol=room)
        if name != "class":
            assert [label for label, _ in ranked] == labels
        assert ranked[0][0] == labels[0]


def test_arrays_say_what_images_do(files, pixels, capsys, tmp_path):
    images = called(capsys, run.main, files / "model.tflite", *[files / f"{i}.png" for i in range(8)])
    done = called(capsys, run.main, files / "model.tflite", files / "images.npy")
    found = blocks(done.stdout)
    assert [name for name, _ in found] == [f"{files / 'images.npy'}[{index}]" for index in range(8)]
    assert [ranked for _, ranked in found] == [ranked for _, ranked in blocks(images.stdout)]
    # On the grid of the pixels, of which 128 stands for 0.
    np.save(tmp_path / "one.npy", ((pixels[3].astype(np.float32) - 128) / 127.5))
    done = called(capsys, run.main, files / "model.tflite", tmp_path / "one.npy")
    ((name, ranked),) = blocks(done.stdout)
    assert name == str(tmp_path / "one.npy") and ranked == blocks(images.stdout)[3][1]


def test_names_are_given_in_a_file(files, capsys, tmp_path):
    words = [files / "bare.tflite", files / "0.png"]
    done = called(capsys, run.main, *words, f"--labels={files / 'labels.txt'}", "--top=1")
    assert blocks(done.stdout)[0][1][0][0].startswith("number ")
    (tmp_path / "few.txt").write_text("one\ntwo\n")
    done = called(capsys, run.main, *words, f"--labels={tmp_path / 'few.txt'}")
    assert done.returncode == 2 and done.stderr == "there are 2 labels, and the output has 10 classes.\n"


def test_without_a_task_and_of_a_regression_numbers_are_printed(files, folded, pixels, capsys):
    wanted = folded.predict(pixels[1:2] / np.float32(127.5) - 1, verbose=0)[0]
    for name in ("number", "bare"):
        done = called(capsys, run.main, files / f"{name}.tflite", files / "1.png")
        np.testing.assert_allclose(json.loads(done.stdout.split("\n", 1)[1]), wanted, rtol=1e-5)
    # Beside a run's flags the file is that of a classifier.
    (files / "run.flags").write_text("--float_epochs=1\n")
    done = called(capsys, run.main, files / "bare.tflite", files / "1.png", "--top=1")
    (files / "run.flags").unlink()
    assert blocks(done.stdout)[0][1][0][0] == f"class {wanted.argmax()}"


def test_a_float_input_is_scaled_as_the_run_says(digits, pixels, capsys, tmp_path):
    """Its grid is learnt: other scalings give other codes."""
    learnt = mmx_tf.fold(calibrated(small_network(), digits))
    (tmp_path / "model.tflite").write_bytes(mmx_tf.convert(learnt, input_type="float32", task="regression"))
    Image.fromarray(pixels[2, ..., 0]).save(tmp_path / "2.png")

    def numbers(*words):
        done = called(capsys, run.main, tmp_path / "model.tflite", tmp_path / "2.png", *words)
        return np.array(json.loads(done.stdout.split("\n", 1)[1])), done.stderr

    def wanted(scale, offset):
        return learnt.predict(pixels[2:3] * np.float32(scale) + np.float32(offset), verbose=0)[0]

    found, said = numbers()
    assert "no run.flags beside the file says how pixels are scaled" in said
    np.testing.assert_allclose(found, wanted(1 / 127.5, -1), rtol=1e-5)
    np.testing.assert_allclose(numbers("--pixel_scaling=1/255,0")[0], wanted(1 / 255, 0), rtol=1e-5)
    (tmp_path / "run.flags").write_text("--float_epochs=1\n--pixel_scaling=1/255,0\n")
    found, said = numbers()
    np.testing.assert_allclose(found, wanted(1 / 255, 0), rtol=1e-5)
    assert said == "" and not np.allclose(found, wanted(1 / 127.5, -1), rtol=1e-3)
    # An integer input of such a network takes codes of the same grid.
    (tmp_path / "model.tflite").write_bytes(mmx_tf.convert(learnt, task="regression"))
    np.testing.assert_allclose(numbers("--pixel_scaling=1/255,0")[0], wanted(1 / 255, 0), rtol=1e-5)


@pytest.mark.parametrize(
    "height, width, size, margin",
    [(48, 64, 16, 1.0), (9, 7, 16, 1.0), (16, 16, 16, 1.0), (301, 250, 96, EVAL_MARGIN)],
)
def test_images_are_resized_as_evaluation_resizes_them(height, width, size, margin):
    rng = np.random.default_rng(3)
    image = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
    found = image_files.fitted(image, size, size, margin=margin)
    wanted = centre_square(image, size=size, margin=margin).numpy()
    differences = np.abs(found.astype(int) - wanted)
    # Sums in another order round the other way next to a half.
    assert found.shape == (size, size, 3) and differences.max() <= 1 and (differences > 0).mean() < 1e-3


def test_an_image_of_another_size_and_form_is_made_to_fit(files, pixels, capsys, tmp_path):
    large = np.kron(pixels[4, ..., 0], np.ones((3, 3), np.uint8))
    Image.fromarray(np.repeat(large[..., np.newaxis], 3, -1)).save(tmp_path / "large.webp", lossless=True)
    done = called(capsys, run.main, files / "model.tflite", tmp_path / "large.webp", "--top=1")
    note = f"{tmp_path / 'large.webp'}: 48x48 pixels; the square centre is resized to 16x16.\n"
    assert done.returncode == 0 and done.stderr == note
    file = tflite_file.read(files / "model.tflite")
    codes = image_files.fitted(large[..., np.newaxis], 16, 16)[np.newaxis]
    found = litert.run(file.data, {file.tensors[file.inputs[0]].name: codes})
    (line,) = shown.lines(shown.outputs_of(file, labels=None, task=None), found, top=1)
    assert done.stdout.splitlines()[1] == line
    deep = (large.astype(np.uint16) << 8) + 77
    Image.fromarray(deep).save(tmp_path / "deep.png")
    done = called(capsys, run.main, files / "model.tflite", tmp_path / "deep.png", "--top=1")
    assert done.stdout.splitlines()[1] == line


def output(shape, *, scale=None, zero_point=0, **facts):
    """An output of floats, or of int8 codes on a grid."""
    grid = np.array([] if scale is None else [scale], np.float32), np.array([zero_point], np.int64)
    none = np.array([], np.float32)
    tensor = Tensor("out", "FLOAT32" if scale is None else "INT8", (1, *shape), *grid, none, none, None)
    return shown.Output(tensor=tensor, **{"name": "", "labels": (), "are_probabilities": False} | facts)


# What is printed for codes or numbers, computed by hand.
TOLD = {
    "binary logit": (
        output((1,), task="binary", labels=("no", "yes")), [np.log(3)], ["  yes  75.00%", "  no   25.00%"],
    ),
    "binary probability": (
        # (code + 128) / 256
        output((1,), task="binary", scale=1 / 256, zero_point=-128, are_probabilities=True), [-64],
        ["  class 0  75.00%", "  class 1  25.00%"],
    ),
    "several labels": (
        output((3,), task="multi_label", labels=("a", "b", "c")), [0.0, np.log(9), -np.log(9)],
        ["  b  90.00%", "  a  50.00%"],
    ),
    "equal classes": (
        # exp(0.5) / (1 + 3 exp(0.5)); the first of equal ones comes first.
        output((4,), task="classification", scale=0.5), [0, 1, 1, 1],
        ["  class 1  27.73%", "  class 2  27.73%"],
    ),
    "pixels": (
        output((2, 2, 3), task="segmentation", labels=("sky", "sea", "land")),
        [[[0, 1, 0], [0, 2, 0]], [[3, 0, 0], [0, 1, 0]]],
        ["  sea  75.00% of the image", "  sky  25.00% of the image"],
    ),
    "pixels of two classes": (
        output((2, 2, 1), task="segmentation"), [[[1], [-1]], [[-1], [0]]],
        ["  class 0  75.00% of the image", "  class 1  25.00% of the image"],
    ),
    "a regression": (output((2,), task="regression", scale=0.25, zero_point=1), [3, -1], ["  [0.5, -0.5]"]),
    "many numbers": (
        output((3, 8), task=None), np.arange(24).reshape(3, 8), ["  3 x 8 numbers from 0 to 23, mean 11.5"],
    ),
    "one of several": (output((1,), task="regression", name="size"), [1.5], ["  size:", "    [1.5]"]),
}  # fmt: skip


@pytest.mark.parametrize("case", TOLD)
def test_each_kind_of_output_is_told_as_what_it_is(case):
    one, numbers, told = TOLD[case]
    found = {"out": np.array([numbers], np.int8 if one.tensor.type == "INT8" else np.float32)}
    assert shown.lines([one], found, top=2) == told


def test_several_outputs_go_by_their_names_and_labels(capsys, tmp_path, files):
    image = keras.Input((16, 16, 1), name="image")
    x = keras.layers.Flatten()(keras.layers.Conv2D(4, 3, strides=4, activation="relu")(image))
    ends = [keras.layers.Dense(3, name="kind")(x), keras.layers.Dense(2, name="box")(x)]
    search = mmx_tf.augment(keras.Model(image, ends), bit_widths=(8, 4), pixel_scaling=PIXEL_SCALING)
    fixed = mmx_tf.rebuild(search, search.selection_of([0] * len(search.quantizers)))
    fixed(np.random.default_rng(0).random((8, 16, 16, 1), np.float32))
    options = {"output_type": {"kind": "class"}, "labels": {"kind": ["x", "y", "z"]}}
    tasks = {"kind": "classification", "box": "regression"}
    (tmp_path / "two.tflite").write_bytes(mmx_tf.convert(fixed, task=tasks, **options))
    done = called(capsys, run.main, tmp_path / "two.tflite", files / "0.png")
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.endswith(":")] == ["  kind:", "  box:"], done
    assert sorted(line.split()[0] for line in lines[2:5]) == ["x", "y", "z"]
    assert len(json.loads(lines[6])) == 2
    message = refused(capsys, tmp_path / "two.tflite", files / "0.png", f"--labels={files / 'labels.txt'}")
    assert message == "labels are for one output; the file has 'kind', 'box'.\n"


def two_inputs():
    first, second = keras.Input((16, 16, 1), name="image"), keras.Input((4,), name="sensors")
    x = keras.layers.Flatten()(keras.layers.Conv2D(4, 3, strides=2, activation="relu")(first))
    x = keras.layers.Dense(4, activation="relu", name="first")(x)
    y = keras.layers.Dense(4, activation="relu", name="second")(second)
    return keras.Model([first, second], keras.layers.Dense(3)(keras.layers.Concatenate()([x, y])))


def refused(capsys, *words):
    done = called(capsys, run.main, *words)
    assert done.returncode == 2 and done.stdout == "", done
    return done.stderr


def test_what_cannot_be_run_is_refused_in_a_line(files, capsys, tmp_path):
    model = files / "model.tflite"
    (tmp_path / "text.jpg").write_text("no image")
    text, half, missing = (tmp_path / name for name in ("text.jpg", "half.png", "no.jpg"))
    half.write_bytes((files / "0.png").read_bytes()[:-60])
    assert refused(capsys, model, text) == f"{text} is no image that Pillow can read.\n"
    assert refused(capsys, model, files / "0.png", missing) == f"{missing}: there is no such file.\n"
    assert f"{half} is no image that Pillow can read (" in refused(capsys, model, half)
    assert "not a .tflite file" in refused(capsys, files / "0.png", files / "0.png")
    for array, said in {
        "shape": (np.zeros((16, 16), np.uint8), "has the shape (16, 16); the file takes one example (16,"),
        "kind": (np.zeros((16, 16, 1), np.int32), "it holds int32, and the file takes uint8"),
        "nan": (np.full((16, 16, 1), np.nan), "NaN or infinite"),
        "objects": (np.array([{}]), "is no array of numbers"),
    }.values():  # fmt: skip
        np.save(tmp_path / "array.npy", array)
        message = refused(capsys, model, tmp_path / "array.npy")
        assert str(tmp_path / "array.npy") in message and said in message
    assert "--top=0: at least 1 is needed." in refused(capsys, model, files / "0.png", "--top=0")
    assert "--pixel_scaling=1 is not allowed" in refused(capsys, model, files / "0.png", "--pixel_scaling=1")


def test_several_inputs_are_refused_by_their_names(capsys, tmp_path, files):
    search = mmx_tf.augment(two_inputs(), bit_widths=(8, 4))
    rng = np.random.default_rng(0)
    fixed = mmx_tf.rebuild(search, search.selection_of([0] * len(search.quantizers)))
    fixed([rng.random((8, 16, 16, 1), np.float32), rng.random((8, 4), np.float32)])
    (tmp_path / "two.tflite").write_bytes(mmx_tf.convert(fixed))
    message = refused(capsys, tmp_path / "two.tflite", files / "0.png")
    assert "the file has the inputs 'image', 'sensors'; this command gives one input alone." in message


def test_no_tensorflow_is_loaded_and_nothing_else_is_said(files):
    code = (
        "import sys; from mmx_tf.__main__ import main; main(sys.argv[1:]); "
        "sys.exit('tensorflow' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "run", str(files / "class.tflite"), str(files / "0.png")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and done.stderr == "" and len(done.stdout.splitlines()) == 6
