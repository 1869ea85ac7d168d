"""Input that cannot be run, each kind once: told in one paragraph, with exit code 2 and every file as before.

Ranges of single flags are in recipe_test, networks of a wrong shape in train_test, hostile files in
safe_loading_test.
"""

import dataclasses
import json
import resource

import keras as keras_3
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
import tf_keras as keras
from commands import called, train_main
from data_test import digit_examples, store, write_digits, write_png
from networks import small_network
from refusals import files_of, refused

import mmx_tf
from mmx_tf import data
from mmx_tf.recipe.recipe import Recipe
from mmx_tf.workdir import fingerprints
from mmx_tf.workdir.belonging import WORKDIR_FORMAT
from mmx_tf.workdir.workdir import Workdir

L = keras.layers
IMAGE = tfds.features.Image(shape=(8, 8, 1))
LABEL = tfds.features.ClassLabel(num_classes=10)


# case: (arguments, parts of the message)
FLAGS = {
    "minutes": (["--checkpoint_minutes=-1"], ["--checkpoint_minutes=-1", "0 or more"]),
    "minutes that are no number": (["--checkpoint_minutes=nan"], ["--checkpoint_minutes=nan", "0 or more"]),
    "no checkpoint kept": (["--keep_checkpoints=0"], ["--keep_checkpoints=0", "1 or more"]),
    "no parity image": (["--parity_images=0"], ["--parity_images=0", "1 or more"]),
    "share above one": (["--max_disagreement=1.5"], ["--max_disagreement=1.5", "0 to 1"]),
    "unknown way on": (["--on_divergence=retry"], ["--on_divergence=retry", "stop, recover"]),
    "neither true nor false": (["--repair=maybe"], ["--repair=maybe"]),
    "half a pixel": (["--image_size=16.5"], ["--image_size=16.5"]),
    "image too large": (["--image_size=4096"], ["--image_size=4096", "8 to 2048"]),
    "unknown unit": (["--target_bops=5.3X"], ["--target_bops=5.3X", "K, M, G or T"]),
    "budget below zero": (["--target_bops=-1G"], ["--target_bops=-1G", "above 0"]),
    "endless bits": (["--target_average_bits=inf"], ["--target_average_bits=inf", "a number above 0"]),
    "budget beyond all": (["--target_bops=1e99"], ["1" + 30 * "0", "332288 to 508928 BOPs"]),
}  # fmt: skip


@pytest.mark.parametrize("case", FLAGS)
def test_flags(capsys, tmp_path, good, case):
    arguments, parts = FLAGS[case]
    message = refused(capsys, tmp_path, f"--float_model={good}", *arguments)
    for part in parts:
        assert part in message


FLAGFILES = {
    "no text": (b"\xff\xfe\x00", ["{path}", "is no text"]),
    "words": (b"\nbatch_size=4\n", ["{path}, line 2: 'batch_size=4' is not a flag"]),
    "unknown flag": (b"--seed=1\n--batchsize=4\n", ["{path}, line 2: Unknown", "batchsize", "batch_size"]),
    "bad value": (b"# mine\n--batch_size=4 # small\n", ["{path}, line 2: flag --batch_size=4 # small: inv"]),
    "not allowed": (b"--batch_size=8\n--batch_size=0\n", ["{path}, line 2: --batch_size=0 is not allowed"]),
    "no number": (b"// mine\n\n--target_bops=many\n", ["{path}, line 3: --target_bops=many is not a number"]),
    "switched off": (b"--norepair\n--width=-1\n", ["{path}, line 2: --width=-1"]),
    "a folder": (None, ["--flagfile={path} cannot be read: Is a directory."]),
}


@pytest.mark.parametrize("case", FLAGFILES)
def test_flagfiles(capsys, tmp_path, case):
    content, parts = FLAGFILES[case]
    path = tmp_path / "my.flags"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    message = refused(capsys, tmp_path, f"--flagfile={path}", "--float_epochs=1")
    for part in parts:
        assert part.format(path=path) in message


@pytest.mark.parametrize("case", [name for name in FLAGFILES if name not in ("no text", "a folder")])
def test_a_flagfile_that_another_one_names(capsys, tmp_path, case):
    content, parts = FLAGFILES[case]
    path, outer = tmp_path / "my.flags", tmp_path / "outer.flags"
    path.write_bytes(content)
    outer.write_text(f"--seed=3\n--flagfile={path}\n")
    message = refused(capsys, tmp_path, "--flagfile", outer, "--float_epochs=1")
    for part in parts:
        assert part.format(path=path) in message
    path.unlink()
    message = refused(capsys, tmp_path, f"--flagfile={outer}", "--float_epochs=1")
    assert message.startswith(f"{outer}, line 2: --flagfile={path}: there is no such file.")


def test_what_the_command_line_gives_is_not_put_on_a_flagfile(capsys, tmp_path):
    path = tmp_path / "my.flags"
    path.write_text(f"--batch_size=8\n--flagfile={path}\n")  # it names itself too
    words = [f"--flagfile={path}", "--float_epochs=1", f"--workdir={tmp_path / 'run'}"]
    for value, said in {"0": "--batch_size=0 is not allowed", "x": "flag --batch_size=x: invalid"}.items():
        done = called(capsys, train_main, *words, f"--batch_size={value}")
        # absl says before that the file names itself.
        assert done.returncode == 2 and done.stderr.splitlines()[-1].startswith(said)


@pytest.mark.parametrize(
    "name, advice", [("quick.flags", " Did you mean --recipe=quick?"), ("mine.flags", ""), ("mvb2", "mbv2?")]
)
def test_a_flagfile_that_is_not_there(capsys, tmp_path, name, advice):
    path = tmp_path / name
    message = refused(capsys, tmp_path, f"--flagfile={path}", "--float_epochs=1")
    assert message.startswith(f"--flagfile={path}: there is no such file.")
    assert message.strip().endswith(advice or "file.")


def test_an_unknown_flag_of_the_command_line_names_no_flagfile(capsys, tmp_path):
    (tmp_path / "my.flags").write_text("--batchsize=4\n")
    message = refused(capsys, tmp_path, "--batchsize=4", f"--flagfile={tmp_path / 'my.flags'}")
    assert message.startswith("Unknown command line flag 'batchsize'")


def folder_of_digits(root, *, damaged=(), **options):
    """`folder:` of real digits in train and test; the files at the places in `damaged` hold no image."""
    write_digits(root / "train", per_class=4, **options)
    write_digits(root / "test", per_class=1, start=10)
    for half, index in damaged:
        sorted((root / half).rglob("*.png"))[index].write_bytes(b"\xff\xd8\xff no image")
    return f"--dataset=folder:{root}"


def one_class(root):
    for index in range(3):
        write_png(root / "cat" / f"{index}.png", np.full((20, 20, 3), 7, np.uint8))
    return f"--dataset=folder:{root}"


def class_without_images(root):
    argument = folder_of_digits(root)
    (root / "train" / "ten").mkdir()
    return argument


def dangling_link(root):
    argument = folder_of_digits(root)
    (root / "train" / "0" / "a.png").symlink_to(root / "nowhere.png")
    return argument


def tfds_data(root, features=None, examples=None, **more):
    features = features or {"image": IMAGE, "label": LABEL}
    examples = examples or {"train": digit_examples(20), "test": digit_examples(4)}
    store("scans", root, features, examples, **more)
    return ["--dataset=scans", f"--data_dir={root}"]


def with_image(shape, dtype=tf.uint8):
    def make(root):
        image = tfds.features.Image(shape=shape, dtype=dtype, encoding_format="png")
        pixels = np.zeros(shape, dtype.as_numpy_dtype)
        return tfds_data(
            root, {"image": image, "label": LABEL}, {"train": [{"image": pixels, "label": 1}] * 4}
        )

    return make


def labels_below_zero(root):
    return tfds_data(root, examples={"train": digit_examples(20, label=-1), "test": digit_examples(4)})


def lost_file(root):
    arguments = tfds_data(root, shards=2)
    for path in root.rglob("scans-test.tfrecord-*"):
        path.unlink()
    return arguments


def cut_file(root):
    arguments = tfds_data(root)
    (path,) = root.rglob("scans-test.tfrecord-*")
    path.write_bytes(path.read_bytes()[:60])
    return arguments


def broken_description(root):
    arguments = tfds_data(root)
    (path,) = root.rglob("dataset_info.json")
    path.write_text("{")
    return arguments


def file_as_data_dir(root):
    root.write_text("precious")
    return ["--dataset=cifar10", f"--data_dir={root}"]


def empty(root):
    root.mkdir()
    return f"--dataset=folder:{root}"


DATASETS = {
    "empty folder": (empty, ["0 class folder(s) (none)", "at least 2"]),
    "one class": (one_class, ["1 class folder(s) (cat)", "at least 2"]),
    "class without images": (class_without_images, ["ten has no image", ".jpg"]),
    "damaged evaluation image": (
        lambda root: folder_of_digits(root, damaged=[("test", 5)]),
        ["1 file(s) cannot be decoded", "1 of them for evaluation", "/test/5/"],
    ),
    "damaged training images": (
        lambda root: folder_of_digits(root, damaged=[("train", 17), ("train", 18)]),
        ["2 file(s) cannot be decoded", "/train/4/"],
    ),
    "nothing but damage": (
        lambda root: folder_of_digits(
            root, damaged=[("train", i) for i in range(40)] + [("test", i) for i in range(10)]
        ),
        ["None of 50 files can be decoded"],
    ),
    "link to nothing": (dangling_link, ["a.png"]),
    "endless name": (lambda root: f"--dataset=folder:/{'x' * 300}", ["names no folder"]),
    "four channels": (with_image((8, 8, 4)), ["(8, 8, 4)", "1 channel", "3 channels"]),
    "sixteen bits": (with_image((8, 8, 1), tf.uint16), ["uint16", "uint8"]),
    "labels below zero": (labels_below_zero, ["training images of scans", "[-1, -1", "0 to 9"]),
    "lost file": (lost_file, ["scans", "cannot be read"]),
    "cut file": (cut_file, ["scans", "cannot be read"]),
    "broken description": (broken_description, ["scans"]),
    "unknown version": (
        lambda root: ["--dataset=cifar10:9.9.9", f"--data_dir={root}"],
        ["cifar10:9.9.9"],
    ),
    "file as data_dir": (file_as_data_dir, ["cifar10", "{root}"]),
}


@pytest.mark.parametrize("case", DATASETS)
def test_datasets(capsys, tmp_path, case):
    make, parts = DATASETS[case]
    root = tmp_path / "data"
    arguments = make(root)
    arguments = [arguments] if isinstance(arguments, str) else arguments
    message = refused(capsys, tmp_path, "--float_epochs=1", *arguments)
    for part in parts:
        assert part.format(root=root) in message


def with_weight(value):
    def save(path):
        network = small_network()
        kernel, bias = network.get_layer("expand").get_weights()
        kernel[0, 0, 1, 2:4] = value
        network.get_layer("expand").set_weights([kernel, bias])
        network.save(path)

    return save


def two_inputs(path):
    first, second = keras.Input((16, 16, 1)), keras.Input((16, 16, 1))
    x = L.Flatten()(L.Add()([first, second]))
    keras.Model([first, second], L.Dense(10)(L.Dense(4)(x))).save(path)


def unbuilt(path):
    keras.Sequential([L.Conv2D(4, 3), L.Flatten(), L.Dense(10)]).save(path)


class Own(keras.Model):
    """A network in Python code of its user's."""

    def __init__(self):
        super().__init__()
        self.dense = L.Dense(10)

    def call(self, inputs):
        return self.dense(tf.reshape(inputs, [-1, 256]))


def subclassed(path):
    network = Own()
    network(np.zeros((1, 16, 16, 1), np.float32))
    network.save(path)


def keras_3_with_two_inputs(path):
    first, second = keras_3.Input((16, 16, 1)), keras_3.Input((16, 16, 1))
    x = keras_3.layers.Flatten()(keras_3.layers.Add()([first, second]))
    keras_3.Model([first, second], keras_3.layers.Dense(10)(x)).save(path)


def keras_3_with_nan(path):
    inputs = keras_3.Input((16, 16, 1))
    x = keras_3.layers.Flatten()(keras_3.layers.Conv2D(4, 3)(inputs))
    network = keras_3.Model(inputs, keras_3.layers.Dense(10, name="head")(x))
    network.get_layer("head").bias.assign(np.full(10, np.nan, np.float32))
    network.save(path)


def keras_3_weights(path):
    keras_3.Sequential([keras_3.Input((4,)), keras_3.layers.Dense(2)]).save_weights(path)


def exported(path):
    keras_3.Sequential([keras_3.Input((4,)), keras_3.layers.Dense(2)]).export(path, verbose=False)


def tflite(path):
    path.write_bytes(b"\x1c\x00\x00\x00TFL3" + bytes(64))


FLOAT_MODELS = {
    "not a number": ("a.keras", with_weight(np.nan), ["2 of the 48 numbers", "'expand'", "must be finite"]),
    "infinite": ("a.keras", with_weight(np.inf), ["2 of the 48 numbers", "'expand'", "must be finite"]),
    "two inputs": ("a.keras", two_inputs, ["takes the inputs", "the datasets of this command give one"]),
    "unbuilt": ("a.keras", unbuilt, ["built", "Input of fixed size"]),
    "subclassed": ("a.keras", subclassed, ["Own", "not one of Keras's"]),
    "two inputs, Keras 3": (
        "a.keras",
        keras_3_with_two_inputs,
        ["takes the inputs", "the datasets of this command give one"],
    ),
    "not a number, Keras 3": ("a.keras", keras_3_with_nan, ["10 of the 10 numbers", "'head'"]),
    "weights": (
        "a.weights.h5",
        lambda path: small_network().save_weights(path),
        ["weights alone", "model.save"],
    ),
    "weights of Keras 3": ("a.weights.h5", keras_3_weights, ["weights alone", "`model.load_weights("]),
    "exported by Keras 3": (
        "exported",
        exported,
        ["without Keras's description", "model.save('model.keras')"],
    ),
    "tflite": ("a.tflite", tflite, ["is a .tflite file"]),
    "empty folder": ("a", lambda path: path.mkdir(), ["is a folder, but no SavedModel"]),
}


@pytest.mark.parametrize("case", FLOAT_MODELS)
@pytest.mark.filterwarnings("ignore")  # Keras 3 and tf_keras have opinions on some of these formats.
def test_float_networks(capsys, tmp_path, case):
    name, save, parts = FLOAT_MODELS[case]
    save(tmp_path / name)
    message = refused(capsys, tmp_path, f"--float_model={tmp_path / name}")
    assert f"--float_model={tmp_path / name}" in message
    for part in parts:
        assert part in message


def begun(tmp_path, good) -> Workdir:
    """The workdir of a run that has just begun."""
    flags = [f"--float_model={good}", "--image_size=16", f"--workdir={tmp_path / 'run'}"]
    recipe = Recipe.from_flagfile("\n".join(flags))
    inputs = fingerprints.of_inputs(recipe, data.load("digits", image_size=16))
    with Workdir.opened(recipe, inputs=inputs) as workdir:
        return workdir


@pytest.fixture(scope="module")
def selection():
    """A bit selection of the network that fits: 8 bits everywhere."""
    search = mmx_tf.augment(small_network(), bit_widths=(8, 4, 3), pixel_scaling=(1 / 127.5, -1))
    return search.selection_of([0, 0, 0])


def without_a_layer(selection):
    return dataclasses.replace(selection, layers=(*selection.layers[:2], *selection.layers[3:]))


def of_another_network(selection):
    layers = [dataclasses.replace(layer, name=f"block_{i}") for i, layer in enumerate(selection.layers)]
    return dataclasses.replace(selection, layers=tuple(layers))


def with_other_bits(selection):
    stem, depthwise, *rest = selection.layers
    return dataclasses.replace(
        selection, layers=(stem, dataclasses.replace(depthwise, activation_bits=5), *rest)
    )


def edited(change):
    def make(selection):
        document = json.loads(json.dumps(selection.to_json()))
        change(document)
        return json.dumps(document)

    return make


SELECTIONS = {
    "layer missing": (without_a_layer, ["project: missing from the selection"]),
    "another network's": (of_another_network, ["block_0: not in the network", "stem: missing"]),
    "not a candidate": (with_other_bits, ["depthwise: activation_bits 5 is not among (8, 4, 3)"]),
    "edited bits": (
        edited(lambda document: document["layers"][1].update(activation_bits=4)),
        ["add up to", "edited or damaged"],
    ),
    "layer twice": (
        edited(lambda document: document["layers"].append(document["layers"][0])),
        ["['stem'] are there more than once"],
    ),
    "budget in words": (edited(lambda document: document.update(target_bops="5G")), ["target_bops='5G'"]),
    "candidates in words": (
        edited(lambda document: document.update(bit_widths=["8"])),
        ["distinct integers"],
    ),
    "another schema": (edited(lambda document: document.update(schema=2)), ["schema 2", "reads 1"]),
    "half a file": (lambda selection: '{"schema": 1,', ["is not JSON"]),
    "empty": (lambda selection: "", ["is not JSON"]),
}


@pytest.mark.parametrize("case", SELECTIONS)
def test_bit_selections(capsys, tmp_path, good, selection, case):
    make, parts = SELECTIONS[case]
    path = begun(tmp_path, good).path("bit_selection.json")
    made = make(selection)
    path.write_text(made) if isinstance(made, str) else made.save(path)
    message = refused(capsys, tmp_path, f"--float_model={good}")
    assert f"{path} cannot be used" in message and "remove it" in message
    for part in parts:
        assert part in message


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"bops": "many"}'])
def test_damaged_metrics(capsys, tmp_path, good, selection, content):
    workdir = begun(tmp_path, good)
    selection.save(workdir.path("bit_selection.json"))
    workdir.path("metrics.json").write_text(content)
    message = refused(capsys, tmp_path, f"--float_model={good}")
    assert f"{workdir.path('metrics.json')} is damaged" in message and "Remove it" in message


def next_format(workdir):
    workdir.record(format=WORKDIR_FORMAT + 1, mmx_tf="7.1")


def format_1(workdir):
    """As a run leaves it whose checkpoints of the search have an alpha per layer."""
    workdir.record(format=1, mmx_tf="0.1.0")


def without_a_format(workdir):
    del workdir.state["format"], workdir.state["mmx_tf"]
    workdir.record()


def before_formats(workdir):
    """As an earlier version leaves a run that is killed in its first phase: checkpoints, no facts yet."""
    workdir.path("checkpoints", "state.json").unlink()
    workdir.path("checkpoints", "float").mkdir()


def state(text):
    return lambda workdir: workdir.path("checkpoints", "state.json").write_text(text)


WORKDIRS = {
    "of a later version": (next_format, [f"format {WORKDIR_FORMAT + 1} (mmx_tf 7.1)", "format 2 alone"]),
    "of an earlier version": (without_a_format, ["without a number", "format 2 alone"]),
    "of an earlier version, killed": (before_formats, ["without a number", "format 2 alone"]),
    "of the format before": (format_1, ["has format 1 (mmx_tf 0.1.0)", "format 2 alone", "Finish the run"]),
    "facts that are a list": (state("[]"), ["state.json cannot be read", "new --workdir"]),
    "facts without times": (state('{"format": 1}'), ["state.json cannot be read", "new --workdir"]),
    "facts without an end": (state('{"format": 1'), ["state.json cannot be read", "new --workdir"]),
}


@pytest.mark.parametrize("case", WORKDIRS)
def test_workdirs(capsys, tmp_path, good, case):
    change, parts = WORKDIRS[case]
    change(begun(tmp_path, good))
    message = refused(capsys, tmp_path, f"--float_model={good}")
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    "workdir",
    ["/proc/mmx_tf_run", "/dev/null", "/dev/null/below", "/tmp/" + 300 * "x"],
    ids=lambda path: path[:14],
)
def test_folders_that_cannot_be_made(capsys, tmp_path, good, workdir):
    message = refused(capsys, tmp_path, f"--float_model={good}", f"--workdir={workdir}")
    assert f"--workdir={workdir} cannot be used" in message


def test_a_disk_without_space(capsys, tmp_path, good):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.lock").touch()
    before = files_of(tmp_path)
    # No file may grow: the kernel fails the write, as on a full disk. Python ignores the signal.
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        message = refused(capsys, tmp_path, f"--float_model={good}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert f"--workdir={tmp_path / 'run'} cannot be used" in message and "File too large" in message
    assert files_of(tmp_path) == before
