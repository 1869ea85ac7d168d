"""Loading what mmx_tf wrote, and float networks of Keras. No code from the file is run.

    >>> network = load_model("float.keras")   # of tf_keras or Keras 3: a tf_keras model either way

Safe mode is on, and every class is ours or Keras's (`mmx_tf.network.safe_config`,
`mmx_tf.network.keras3_file`).
"""

import importlib
import os

import tf_keras as keras

from mmx_tf.layers import keras_defaults
from mmx_tf.network import keras3_file, safe_config

REGISTERING = (
    "mmx_tf.layers.classes", "mmx_tf.fitting.fixed_network", "mmx_tf.fitting.losses",
    "mmx_tf.folding.network", "mmx_tf.metamix.search", "mmx_tf.training.optimizers",
    "mmx_tf.training.weight_decay",
)  # fmt: skip
"""Modules whose classes a file of ours may name; Keras knows a class from when its module is imported."""


def loaded(model):
    """The network of a .keras file whose path is given; anything else is given back as it is."""
    if isinstance(model, type):
        raise TypeError(f"{model.__name__} is a class: give a network of it, such as {model.__name__}().")
    return load_model(model) if isinstance(model, str | os.PathLike) else model


@keras_defaults.float32()
def load_model(path: str | os.PathLike) -> keras.Model:
    """Loads a .keras file: a search, fixed or folded network that mmx_tf wrote, or a float one.

    A float network may have been written by Keras 3: it is imported as `keras3.as_tf_keras` does. What is
    loaded is not compiled, since losses and metrics may be code of the file's; `tf_keras.models.load_model`
    compiles it and gives a fixed network its optimizer's state back.

    Raises:
      TypeError: for something that is not a path.
      FileNotFoundError: if there is no such file.
      ValueError: if it is not a .keras file of a Keras model, or names code (as a Lambda does).
      UnsupportedLayerError: for a layer of Keras 3 that cannot be imported.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"load_model got a {type(path).__name__}: give the path of a .keras file.")
    path = os.fspath(path)
    if not os.path.exists(path):
        raise FileNotFoundError(f"there is no file {path!r}.")
    if keras3_file.is_keras3_file(path):
        return keras3_file.load(path)
    # By name, since most of them stand above this room, and nothing else of them is used here.
    for module in REGISTERING:
        importlib.import_module(module)
    safe_config.check(path)
    try:
        return keras.models.load_model(path, safe_mode=True, compile=False)
    except ValueError:
        raise
    except (TypeError, *safe_config.NO_ARCHIVE) as error:
        raise ValueError(f"{path!r} is not a .keras file of a tf_keras model: {error}") from error


def check_saved_as(name: str, filepath: str | os.PathLike, save_format: str = "keras") -> None:
    """Refuses (ValueError) to save a network of ours in a format that does not hold it."""
    if not os.fspath(filepath).endswith(".keras") or save_format != "keras":
        raise ValueError(
            f"{name}.save: filepath is {os.fspath(filepath)!r}; give one that ends with .keras, the one "
            "format for networks with quantizers. Weights alone: save_weights."
        )
