import logging
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import keras as keras_3
import pytest
import tf_keras as keras
from absl import logging as absl_logging
from refusals import files_of, refused

from mmx_tf import quiet, startup
from mmx_tf.errors import RecipeError
from mmx_tf.recipe.recipe import Recipe
from mmx_tf.workdir.workdir import Workdir

ROOT = Path(__file__).parents[1]
L = keras.layers


def network(shape, head):
    inputs = keras.Input(shape)
    return keras.Model(inputs, head(inputs))


def flat_dense(units):
    return lambda x: L.Dense(units)(L.Flatten()(L.Conv2D(4, 3, activation="relu")(x)))


NETWORKS = {
    "one_d": lambda: network((64,), L.Dense(10)),
    "any_size": lambda: network((None, None, 1), lambda x: L.Dense(10)(L.GlobalAveragePooling2D()(x))),
    "two_outputs": lambda: network((16, 16, 1), lambda x: [flat_dense(10)(x), flat_dense(3)(x)]),
    "image_output": lambda: network((16, 16, 1), L.Conv2D(10, 3)),
    "seven_classes": lambda: network((16, 16, 1), flat_dense(7)),
    "colour": lambda: network((16, 16, 3), flat_dense(10)),
    "oblong": lambda: network((16, 12, 1), flat_dense(10)),
    "recurrent": lambda: network((16, 16, 1), lambda x: L.Dense(10)(L.LSTM(3)(L.Reshape((16, 16))(x)))),
    "lambda": lambda: network((16, 16, 1), lambda x: flat_dense(10)(L.Lambda(lambda t: t * 2)(x))),
}


# (arguments, what the message must say)
BAD_FLAGS = {
    "unknown flag": (["--float_modle=x"], ["float_modle", "Did you mean: float_model"]),
    "not a number": (["--batch_size=many"], ["--batch_size=many"]),
    "trailing argument": (["--float_epochs=1", "digits"], ["'digits' is not a flag"]),
    "missing flagfile": (["--flagfile=nowhere.flags"], ["nowhere.flags"]),
    "unknown dataset": (["--float_epochs=1", "--dataset=cifar11"], ["'cifar11'", "cifar10", "folder:PATH"]),
    "not an image folder": (["--float_epochs=1", "--dataset=folder:/nowhere"], ["folder:/nowhere"]),
    "no integer": (["--float_epochs=1", "--candidate_bits=8,x"], ["--candidate_bits=8,x", "2, 3, 4"]),
    "bits out of range": (["--float_epochs=1", "--candidate_bits=9,4"], ["--candidate_bits=9,4"]),
    "bits repeated": (["--float_epochs=1", "--candidate_bits=4,4"], ["distinct integers"]),
    "no float network": ([], ["--float_model=FILE.keras", "--float_epochs=N"]),
    "missing float network": (
        ["--float_model=no.keras"],
        ["--float_model=no.keras is neither a file nor a folder", ".keras or .h5 file"],
    ),
    "class count": (["--float_epochs=1", "--num_classes=7"], ["--num_classes=7", "digits has 10 classes"]),
    "two budgets": (
        ["--float_epochs=1", "--target_bops=1G", "--target_average_bits=4"],
        ["--target_bops=1000000000", "--target_average_bits=4"],
    ),
}


@pytest.mark.parametrize("case", BAD_FLAGS)
def test_bad_flags_are_refused(capsys, tmp_path, case):
    arguments, parts = BAD_FLAGS[case]
    message = refused(capsys, tmp_path, *arguments)
    for part in parts:
        assert part in message


def test_a_missing_data_dir_is_refused_with_the_command_that_prepares_it(capsys, tmp_path):
    folder = tmp_path / "no data"
    message = refused(capsys, tmp_path, "--float_epochs=1", "--dataset=cifar10", f"--data_dir={folder}")
    (command,) = re.findall(r'python -c "(.*)"', message)
    compile(command, "command", "exec")
    assert f"tfds.load('cifar10', data_dir={str(folder)!r}, download=True)" in command


BAD_NETWORKS = {
    "one_d": ["of shape (64,)", "--dataset=npz:FILE.npz"],
    "any_size": ["(None, None, None, 1)", "fixed size"],
    "two_outputs": ["not an image classifier", "[(None, 10), (None, 3)]", "in a notebook"],
    "image_output": ["not an image classifier", "(None, 14, 14, 10)"],
    "seven_classes": ["has 7 classes", "digits has 10", "--dataset"],
    "colour": ["(16, 16, 3)", "(16, 16, 1)", "1 channel(s)"],
    "oblong": ["(16, 12, 1)", "square"],
    "recurrent": ["'lstm", "(LSTM)", "Conv1D"],
    "lambda": ["Lambda layer", "never run from a file"],
}


@pytest.mark.parametrize("case", BAD_NETWORKS)
def test_a_float_network_that_cannot_be_used_is_refused(capsys, tmp_path, case):
    path = tmp_path / "float.keras"
    NETWORKS[case]().save(path)
    message = refused(capsys, tmp_path, f"--float_model={path}")
    for part in BAD_NETWORKS[case]:
        assert part in message
    assert "safe_mode" not in message


def test_floats_for_a_network_that_rescales_them_are_refused(capsys, tmp_path):
    path = tmp_path / "float.keras"
    network((16, 16, 1), lambda x: flat_dense(10)(L.Conv2D(4, 3)(L.Rescaling(2.0, name="scaled")(x)))).save(
        path
    )
    message = refused(capsys, tmp_path, f"--float_model={path}", "--input_type=float32")
    assert "--input_type=float32" in message and "'scaled'" in message and "--input_type=uint8" in message


def test_a_wrong_image_size_is_refused_with_the_right_one(capsys, tmp_path, good):
    message = refused(capsys, tmp_path, f"--float_model={good}", "--image_size=32")
    assert "(32, 32, 1)" in message and "Set --image_size=16." in message


def test_files_that_hold_no_network_are_refused(capsys, tmp_path, good):
    whole = good.read_bytes()
    with zipfile.ZipFile(tmp_path / "zip.keras", "w") as archive:
        archive.writestr("a.txt", "no network")
    for name, content in {"text": b"hello", "empty": b"", "half": whole[: len(whole) // 2]}.items():
        (tmp_path / f"{name}.keras").write_bytes(content)
    for name in ("text", "empty", "half", "zip"):
        path = tmp_path / f"{name}.keras"
        message = refused(capsys, tmp_path, f"--float_model={path}")
        assert f"--float_model={path} cannot be loaded" in message
        assert "is not a .keras file of a tf_keras model" in message


def test_a_keras_3_file_is_loaded(capsys, tmp_path):
    inputs = keras_3.Input((16, 16, 3))
    outputs = keras_3.layers.Dense(10)(keras_3.layers.Flatten()(inputs))
    keras_3.Model(inputs, outputs).save(tmp_path / "keras3.keras")
    # What is wrong with the network is known only after it has been loaded.
    message = refused(capsys, tmp_path, f"--float_model={tmp_path / 'keras3.keras'}")
    assert "takes images of shape (16, 16, 3)" in message


def test_a_keras_3_file_with_code_is_refused(capsys, tmp_path):
    network = keras_3.Sequential([keras_3.Input((16, 16, 1)), keras_3.layers.Lambda(lambda t: t, name="own")])
    network.save(tmp_path / "keras3.keras")
    message = refused(capsys, tmp_path, f"--float_model={tmp_path / 'keras3.keras'}")
    assert "'own' (Lambda, Keras 3)" in message and "never run from a file" in message


@pytest.mark.parametrize("budget", ["332287", "508929"])
def test_a_budget_out_of_reach_is_refused_with_the_reachable_range(capsys, tmp_path, good, budget):
    # MACs: stem 8*8*6*9 = 3456, depthwise 3456, project 64*36 = 2304, expand 64*48 = 3072, logits 80.
    # 8-bit ends: 3536 * 64 = 226304; searched: 8832 MACs * 4 bits * (3 to 8) = 105984 to 282624.
    message = refused(capsys, tmp_path, f"--float_model={good}", f"--target_bops={budget}")
    assert budget in message and "332288 to 508928 BOPs" in message


def recipe(folder, *arguments) -> Recipe:
    return Recipe.from_flagfile("\n".join(["--float_epochs=1", f"--workdir={folder}", *arguments]))


def test_a_workdir_of_another_run_is_refused_and_names_the_flags(capsys, tmp_path, good):
    run = tmp_path / "run"
    Workdir(recipe(run, "--float_epochs=0", f"--float_model={good}", "--image_size=16", "--batch_size=32"))
    message = refused(capsys, tmp_path, f"--float_model={good}", "--batch_size=64", "--seed=3")
    assert "--batch_size is 64 here and 32 there" in message and "--seed is 3 here and 0 there" in message
    assert "--image_size" not in message and "--float_model" not in message


def workdir_refusal(folder, *arguments) -> str:
    with pytest.raises(RecipeError) as error:
        Workdir(recipe(folder, *arguments))
    return str(error.value)


def test_folders_that_cannot_be_a_workdir_are_refused(tmp_path):
    (tmp_path / "file").write_text("precious")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"precious")
    before = files_of(tmp_path)
    assert "cannot be used" in workdir_refusal(tmp_path / "file")
    assert "cannot be used" in workdir_refusal(tmp_path / "file" / "below")
    assert "holds files but no run.flags" in workdir_refusal(tmp_path / "photos")
    assert files_of(tmp_path) == before
    # A folder in which nobody may write, root neither.
    assert "cannot be used" in workdir_refusal("/proc/mmx_tf_run")


@pytest.mark.parametrize("content", [b"--no_flag_of_ours=1\n", b"\xff\xfe\x00", b"just words\n"])
def test_run_flags_of_something_else_are_refused(tmp_path, content):
    (tmp_path / "run.flags").write_bytes(content)
    message = workdir_refusal(tmp_path)
    assert "run.flags does not describe a run of this program" in message
    assert (tmp_path / "run.flags").read_bytes() == content


def test_a_broken_state_file_is_named(tmp_path):
    Workdir(recipe(tmp_path)).record(float_top1=0.5)
    state = tmp_path / "checkpoints" / "state.json"
    state.write_text("{")
    assert str(state) in workdir_refusal(tmp_path)


def test_a_workdir_that_was_left_before_its_first_epoch_is_taken_up_again(tmp_path):
    Workdir(recipe(tmp_path))
    shutil.rmtree(tmp_path / "checkpoints")  # as if killed right after run.flags was written
    assert Workdir(recipe(tmp_path)).state["seconds"] == {}
    assert (tmp_path / "checkpoints").is_dir()


def test_state_and_times_survive_a_restart(tmp_path):
    first = Workdir(recipe(tmp_path))
    first.record(float_top1=0.5)
    with pytest.raises(KeyboardInterrupt), first.timed("select"):
        raise KeyboardInterrupt
    first.state["seconds"]["select"] = 100.0
    first.record()
    second = Workdir(recipe(tmp_path))
    with second.timed("select"):
        pass
    assert second.state["float_top1"] == 0.5
    assert 100.0 <= Workdir(recipe(tmp_path)).state["seconds"]["select"] < 101.0


# What the user sees.


def test_only_known_native_lines_are_dropped(capfd):
    noise = (
        b"I0000 00:00:1.1 7 cudart_stub.cc:31] Could not find cuda drivers on your machine, GPU will not\n"
        b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n"
        b"E0000 00:00:1.1 7 cuda_platform.cc:52] failed call to cuInit: ...: UNKNOWN ERROR (303)\n"
    )
    needed = (
        b"E0000 00:00:1.1 7 cuda_platform.cc:52] failed call to cuInit: ...: CUDA_ERROR_OUT_OF_MEMORY\n"
        b"no line end"
    )
    with pytest.raises(ZeroDivisionError), startup.without_native_noise():
        os.write(2, noise + needed)
        raise ZeroDivisionError
    os.write(2, b"|after")
    assert capfd.readouterr().err == needed.decode() + "|after"


def test_messages_of_others_pass_from_warning_on(capsys):
    quiet.set_up_logging()
    handler = absl_logging.get_absl_handler().python_handler
    shown = []

    def log(name, level, path, text):
        record = logging.LogRecord(name, level, path, 1, text, (), None)
        if handler.filter(record):
            shown.append(handler.format(record))

    ours = str(ROOT / "mmx_tf" / "training.py")
    log("absl", logging.INFO, ours, "select: epochs 1 to 2")
    log("absl", logging.WARNING, ours, "tensor x differs")
    log("absl", logging.INFO, "/site-packages/tensorflow_datasets/core/reader.py", "Reading split train")
    log("tensorflow", logging.WARNING, "/site-packages/tf.py", "5 calls triggered tf.function retracing.")
    log("tensorflow", logging.WARNING, "/site-packages/tf.py", "Your input ran out of data")
    assert shown == [
        "mmx_tf: select: epochs 1 to 2",
        "mmx_tf: warning: tensor x differs",
        "tensorflow: warning: Your input ran out of data",
    ]


def test_the_command_refuses_an_unknown_flag():
    words = [sys.executable, "-m", "mmx_tf.train", "--flagfile=quick.flags", "--float_modle=x"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("Unknown command line flag 'float_modle'")
    assert done.stderr.count("\n") == 1
