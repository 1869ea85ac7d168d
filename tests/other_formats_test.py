"""What holds no network that could be read here is refused in one sentence: what it is, and what to give."""

import io
import pickle
import tarfile
import zipfile

import h5py
import keras as keras_3
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from networks import small_network
from refusals import refused

from mmx_tf import load_model
from mmx_tf.formats.refused import TAKEN, FormatError

L = keras.layers

pytestmark = [
    pytest.mark.broad,
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file"),
]


def of_keras_3():
    return keras_3.Sequential([keras_3.Input((4, 4, 1)), keras_3.layers.Conv2D(2, 1)])


def module(path):
    """A SavedModel of functions, as `tf.saved_model.save` writes it."""

    class Own(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32)])
        def __call__(self, x):
            return 2 * x

    tf.saved_model.save(Own(), str(path))


class Own(keras.Model):
    """A network in Python code of its user's."""

    def __init__(self):
        super().__init__()
        self.dense = L.Dense(2)

    def call(self, inputs):
        return self.dense(inputs)


def subclassed(path):
    network = Own()
    network(np.zeros((1, 4), np.float32))
    network.save(path, save_format="tf")


def frozen(path):
    graph = tf.function(lambda x: 2 * x).get_concrete_function(tf.TensorSpec([1, 4], tf.float32)).graph
    path.write_bytes(graph.as_graph_def().SerializeToString())


def tflite(path):
    path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(small_network()).convert())


def torch_archive(path):
    """As torch.save writes: a zip archive with a pickle."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", pickle.dumps({"weight": [1.0]}))
        archive.writestr("net/version", "3")


def checkpoint(path):
    tf.train.Checkpoint(root=small_network()).write(str(path))


def checkpoints_of_a_training(path):
    tf.train.CheckpointManager(tf.train.Checkpoint(v=tf.Variable(1.0)), path, 1).save()


def saved_model_in(path):
    small_network().save(path / "1", save_format="tf")


def packed(path):
    with tarfile.open(path, "w:gz") as archive:
        content = io.BytesIO(b"x")
        info = tarfile.TarInfo("net/saved_model.pb")
        info.size = 1
        archive.addfile(info, content)


def unpacked(path):
    small_network().save(path.with_suffix(".keras"))
    with zipfile.ZipFile(path.with_suffix(".keras")) as archive:
        archive.extractall(path)


def renamed(path):
    small_network().save(path.with_suffix(".keras"))
    path.with_suffix(".keras").rename(path)


def other_hdf5(path):
    with h5py.File(path, "w") as file:
        file["data"] = [1.0]


def pickled(path):
    path.write_bytes(pickle.dumps([1.0]))


def text(content):
    return lambda path: path.write_text(content)


WEIGHTS = [
    "holds weights alone, without the network",
    "`model.load_weights('{path}')`",
    "`model.save('model.keras')`",
]
FUNCTIONS = ["is a SavedModel without Keras's description of its layers", "`model.save('model.keras')`"]
PREFIX = ["is a checkpoint of TensorFlow", *WEIGHTS[1:]]
CHECKPOINT = [
    "is a checkpoint of TensorFlow",
    "`model.load_weights('PREFIX')`",
    "`model.save('model.keras')`",
]
ORIGINAL = "Give the Keras network that it was made from"
# case: (name of the path, what writes it, parts of the message)
CASES = {
    "weights": ("a.h5", lambda path: small_network().save_weights(path, save_format="h5"), WEIGHTS),
    "weights of today": ("a.weights.h5", lambda path: small_network().save_weights(path), WEIGHTS),
    "weights of Keras 3": ("a.weights.h5", lambda path: of_keras_3().save_weights(path), WEIGHTS),
    "another HDF5 file": ("a.h5", other_hdf5, ["is an HDF5 file, and holds no network of Keras", TAKEN]),
    "checkpoint": ("ckpt", checkpoint, PREFIX),
    "its index": ("ckpt.index", lambda path: checkpoint(path.with_suffix("")), CHECKPOINT),
    "its data": ("a.data-00000-of-00001", text("x"), CHECKPOINT),
    "checkpoints of a training": ("run", checkpoints_of_a_training, CHECKPOINT),
    "description of them": ("checkpoint", text('model_checkpoint_path: "ckpt-1"'), CHECKPOINT),
    "description": ("a.json", lambda path: path.write_text(small_network().to_json()), [
        "describes a network and has no weights",
        "`model = tf_keras.models.model_from_json(open('{path}').read())`",
        "`model.load_weights('WEIGHTS')`", "`model.save('model.keras')`",
    ]),
    "exported by Keras 3": ("a", lambda path: of_keras_3().export(path, verbose=False), FUNCTIONS),
    "exported by tf_keras": ("a", lambda path: small_network().export(path), FUNCTIONS),
    "SavedModel of a module": ("a", module, FUNCTIONS),
    "SavedModel of a class": ("a", subclassed, ["class 'Own', whose Python code is not in the file"]),
    "folder of a SavedModel": ("models", saved_model_in, ["with a SavedModel in it: give '{path}/1'"]),
    "frozen graph": ("frozen.pb", frozen, ["is a graph of TensorFlow", ORIGINAL]),
    "onnx": ("a.onnx", text("\x08\x07"), ["is an ONNX graph", "`onnx2tf -i {path} -oh5`"]),
    "pth": ("a.pth", pickled, ["is a file of PyTorch", "never unpickled"]),
    "pt": ("a.pt", torch_archive, ["is a file of PyTorch", "layer.set_weights"]),
    "pt under another name": ("a.keras", torch_archive, ["is a file of PyTorch"]),
    "tflite": ("a.tflite", tflite, ["is a .tflite file", ORIGINAL]),
    "tflite under another name": ("a.keras", tflite, ["is a .tflite file", ORIGINAL]),
    "pickle": ("a.pkl", pickled, ["is a pickle", "never unpickled"]),
    "numbers": ("a.npz", lambda path: np.savez(path, a=[1]), WEIGHTS),
    "TensorFlow.js": ("model.json", text('{"modelTopology": {}, "weightsManifest": []}'), [
        "is a network for TensorFlow.js", "`tensorflowjs_converter --input_format=tfjs_layers_model",
        "--output_format=keras {path} model.h5`",
    ]),
    "unpacked archive": ("a", unpacked, ["that was unpacked", "`cd {path}`", "`zip -0 ../model.keras"]),
    "archive by another name": ("a.zip", renamed, ["is a .keras file by another name", "end with .keras"]),
    "packed folder": ("a.tar.gz", packed, ["is an archive: unpack it", TAKEN]),
    "Git LFS": ("a.keras", text("version https://git-lfs.github.com/spec/v1"), ["Git LFS", "`git lfs pull`"]),
    "web page": ("a.h5", text("<!DOCTYPE html><html></html>"), ["is a web page"]),
    "empty folder": ("a", lambda path: path.mkdir(), ["is a folder, but no SavedModel", TAKEN]),
    "empty file": ("a.h5", text(""), ["is not a file of a network in a known format", TAKEN]),
    "text": ("a.txt", text("hello"), ["is not a file of a network in a known format", TAKEN]),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_it_is_and_what_to_give(case, tmp_path):
    name, write, parts = CASES[case]
    path = tmp_path / name
    write(path)
    with pytest.raises(ValueError) as error:
        load_model(path)
    message = str(error.value)
    # A path in quotes as Python writes it, once in a message for people.
    assert message.startswith(f"{str(path)!r} ") and "\n" not in message
    for part in parts:
        assert part.format(path=path) in message


@pytest.mark.parametrize("name", ["saved_model.pb", "keras_metadata.pb", "variables/variables.index"])
def test_a_part_of_a_saved_model_names_its_folder(name, tmp_path):
    small_network().save(tmp_path / "net", save_format="tf")
    with pytest.raises(
        FormatError, match=f"is a part of a SavedModel: give its folder, '{tmp_path / 'net'}'"
    ):
        load_model(tmp_path / "net" / name)


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load_model(tmp_path / "net")
    with pytest.raises(TypeError, match="load_model got a bytes: give the path of a network. Taken are"):
        load_model(b"net.keras")


@pytest.mark.parametrize("case", ["weights", "its index", "exported by Keras 3", "description", "Git LFS"])
def test_the_command_says_it_whole(case, capsys, tmp_path):
    name, write, parts = CASES[case]
    write(tmp_path / name)
    message = refused(capsys, tmp_path, f"--float_model={tmp_path / name}")
    assert f"--float_model={tmp_path / name} cannot be loaded: " in message
    for part in parts:
        assert part.format(path=tmp_path / name) in message


def test_the_command_knows_a_checkpoint(capsys, tmp_path, good):
    checkpoint(tmp_path / "ckpt")
    for flags in (
        [f"--float_model={tmp_path / 'ckpt'}"],
        [f"--float_model={good}", f"--teacher={tmp_path / 'ckpt'}"],
    ):
        message = refused(capsys, tmp_path, *flags)
        path = str(tmp_path / "ckpt")
        assert f"{flags[-1]} cannot be loaded: {path!r} is a checkpoint of TensorFlow: weights" in message
        assert f"`model.load_weights('{tmp_path / 'ckpt'}')`" in message
