"""Formats that hold no network which could be read here: how each is known, and the sentence that refuses it.

>>> raise refusal("tflite", "net.tflite")
Traceback (most recent call last):
    ...
mmx_tf.formats.refused.FormatError: 'net.tflite' is a .tflite file: ...
"""

TAKEN = "Taken are .keras and .h5 files of Keras 2 (tf_keras) and Keras 3, and SavedModel folders of Keras 2."
HDF5 = b"\x89HDF\r\n\x1a\n"


class FormatError(ValueError):
    """A path that is no network in a format that is read here."""


# (what it is, where its content begins, the content)
CONTENTS = (
    ("lfs", 0, b"version https://git-lfs"),
    ("page", 0, b"<!DOCTYPE"),
    ("page", 0, b"<!doctype"),
    ("page", 0, b"<html"),
    ("tflite", 4, b"TFL3"),
    ("packed", 0, b"\x1f\x8b"),
    ("checkpoint", 0, b"model_checkpoint_path:"),
)

# What it is -> the ends of its names.
SUFFIXES = {
    "graph": (".pb", ".pbtxt", ".meta"),
    "onnx": (".onnx",),
    "torch": (".pt", ".pth", ".ptl"),
    "tflite": (".tflite", ".lite"),
    "config": (".json", ".yaml", ".yml"),
    "checkpoint": (".ckpt", ".index"),
    "weights": (".npz", ".npy", ".safetensors"),
    "pickle": (".pkl", ".pickle", ".joblib"),
    "packed": (".zip", ".tar", ".tgz", ".gz"),
}

_AGAIN = "In the program that builds the network, run"
_SAVE = "`model.save('model.keras')`"
_ORIGINAL = f"Give the Keras network that it was made from: {_SAVE} writes one."

# {path} is the path in quotes, {bare} without them.
REFUSALS = {
    "weights": (
        f"{{path}} holds weights alone, without the network. {_AGAIN} `model.load_weights({{path}})` and "
        f"{_SAVE}, and give that file."
    ),
    "prefix": (
        f"{{path}} is a checkpoint of TensorFlow: weights alone, without the network. {_AGAIN} "
        f"`model.load_weights({{path}})` and {_SAVE}, and give that file."
    ),
    "checkpoint": (
        f"{{path}} is a checkpoint of TensorFlow: weights alone, without the network. {_AGAIN} "
        f"`model.load_weights('PREFIX')`, with the checkpoint's path without .index, and {_SAVE}, and give "
        "that file."
    ),
    "config": (
        "{path} describes a network and has no weights. Run "
        "`model = tf_keras.models.model_from_json(open({path}).read())`, `model.load_weights('WEIGHTS')` and "
        f"{_SAVE}, and give that file."
    ),
    "functions": (
        "{path} is a SavedModel without Keras's description of its layers, as `model.export` of Keras 3 and "
        "`tf.saved_model.save` write it: it has functions alone, which are not run here. Where the network "
        f"is still a Keras model, run {_SAVE} instead, and give that file."
    ),
    "graph": f"{{path}} is a graph of TensorFlow: it has operators and no layers. {_ORIGINAL}",
    "onnx": (
        "{path} is an ONNX graph: it has operators and no layers of Keras. Give the Keras network that it "
        "was made from, or what a converter makes of it, such as `onnx2tf -i {bare} -oh5`."
    ),
    "torch": (
        "{path} is a file of PyTorch: a pickle, which is never unpickled here, and no Keras network. Build "
        f"the network in Keras, give its layers the weights with `layer.set_weights(...)`, run {_SAVE}, and "
        "give that file."
    ),
    "tflite": f"{{path}} is a .tflite file: it has operators and no layers. {_ORIGINAL}",
    "pickle": (
        "{path} is a pickle, which is never unpickled here. Where you trust it, load it, run "
        f"{_SAVE}, and give that file."
    ),
    "tfjs": (
        "{path} is a network for TensorFlow.js. Run `tensorflowjs_converter --input_format=tfjs_layers_model "
        "--output_format=keras {bare} model.h5`, and give that file."
    ),
    "unpacked": (
        "{path} is a .keras file that was unpacked. Run `cd {bare}` and "
        "`zip -0 ../model.keras metadata.json config.json model.weights.h5`, and give that file."
    ),
    "packed": f"{{path}} is an archive: unpack it, and give the file or folder that is in it. {TAKEN}",
    "renamed": "{path} is a .keras file by another name: let its name end with .keras.",
    "lfs": "{path} is the pointer of Git LFS to a file, and not the file: run `git lfs pull`.",
    "page": "{path} is a web page, and no network: download the file itself.",
}


def refusal(what: str, path: str) -> FormatError:
    """The error for a path, by what it is: one of the keys of `REFUSALS`."""
    return FormatError(REFUSALS[what].format(path=repr(path), bare=path))
