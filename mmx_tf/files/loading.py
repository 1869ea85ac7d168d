"""Loading what mmx_tf wrote, and float networks of Keras. No code from the file is run.

    >>> load_model("float.keras").output_shape   # of tf_keras or Keras 3: a tf_keras model either way
    (None, 10)

What a path is, `mmx_tf.formats.paths` tells; each format has a reader of its own. All check a network's
config as data before anything in it is built (`mmx_tf.files.safe_config`, `mmx_tf.files.keras3_file`).
"""

import os

import tf_keras as keras

from mmx_tf.files import h5_file, keras2_file, keras3_file, saved_model_file
from mmx_tf.formats import paths
from mmx_tf.formats.refused import TAKEN
from mmx_tf.layers import keras_defaults

READERS = {
    "keras": (keras2_file.load, ".keras file of a tf_keras model"),
    "keras3": (keras3_file.load, ".keras file of a Keras 3 model"),
    "h5": (h5_file.load, ".h5 file of a Keras model"),
    "saved_model": (saved_model_file.load, "SavedModel of a Keras 2 model"),
}
"""Format -> what reads a path of it, and what messages call it."""


def loaded(model):
    """The network of a file or folder whose path is given; anything else is given back as it is."""
    if isinstance(model, type):
        raise TypeError(f"{model.__name__} is a class: give a network of it, such as {model.__name__}().")
    return load_model(model) if isinstance(model, str | os.PathLike) else model


@keras_defaults.float32()
def load_model(path: str | os.PathLike) -> keras.Model:
    """Loads a network: one that mmx_tf wrote as a .keras file (search, fixed or folded), or a float one.

    A float network may be a .keras or .h5 file of Keras 3 or of Keras 2 (tf_keras, or TensorFlow's Keras
    until 2.15), or a SavedModel folder of Keras 2. A network of Keras 3 is imported (`keras3.as_tf_keras`).
    From a SavedModel only layers and numbers are read; its functions are not used. The loaded network is
    not compiled, because a loss or metric in the file may be code. For a file of your own,
    `tf_keras.models.load_model` compiles it and restores the optimizer of a fixed network.

    Args:
      path: of a file or folder. Its contents tell the format; its name does not matter.

    Raises:
      TypeError: if `path` is not a path.
      FileNotFoundError: if nothing is there.
      ValueError: if it is not a network in one of these formats (the message says what it is, and what to
        give), is damaged, or names code (as a Lambda does) or other files.
      UnsupportedLayerError: for a layer of Keras 3 that cannot be imported.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"load_model got a {type(path).__name__}: give the path of a network. {TAKEN}")
    path = os.fspath(path)
    read, what = READERS[paths.format_of(path)]
    try:
        return read(path)
    except ValueError:
        raise
    except (TypeError, *paths.DAMAGE) as error:
        raise ValueError(f"{path!r} is not a {what}: {error}") from error
