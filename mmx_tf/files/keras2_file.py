"""A .keras file of tf_keras, or of the Keras 2.12 to 2.15 that was part of TensorFlow.

    >>> load("float.keras").count_params() == float_model.count_params()
    True

Its config is checked as data first (`mmx_tf.files.safe_config`), its weights are HDF5 that has been checked
(`mmx_tf.files.safe_hdf5`), and names of earlier versions are replaced before Keras sees it.
"""

import importlib

import tf_keras as keras

from mmx_tf.files import keras_archive, old_names, safe_config
from mmx_tf.files.safe_config import UnsafeFileError
from mmx_tf.formats.paths import DAMAGE

REGISTERING = (
    "mmx_tf.layers.classes", "mmx_tf.fitting.fixed_network", "mmx_tf.fitting.losses",
    "mmx_tf.folding.network", "mmx_tf.metamix.search", "mmx_tf.training.optimizers",
    "mmx_tf.training.tuned", "mmx_tf.training.weight_decay",
)  # fmt: skip
"""Modules whose classes a file of ours may name; Keras knows a class from when its module is imported."""


def load(path: str) -> keras.Model:
    """Loads a .keras file: a search, fixed or folded network that mmx_tf wrote, or a float one.

    Raises:
      UnsafeFileError: if it is not such a file, or names what is not built from a file.
      ValueError: or others of `mmx_tf.formats.paths.DAMAGE`, if it is damaged.
    """
    # By name, since most of them stand above this room, and nothing else of them is used here.
    for module in REGISTERING:
        importlib.import_module(module)
    with keras_archive.readable(path, check(path)) as readable:
        return keras.models.load_model(readable, safe_mode=True, compile=False)


def check(path: str) -> dict:
    """The config of a .keras file, under today's names, after a look at all that the file names.

    Raises:
      UnsafeFileError: names the object, and the layer that it is part of.
    """
    try:
        config = old_names.renamed(keras_archive.json_of(path, keras_archive.CONFIG))
        if not isinstance(config, dict):
            raise ValueError("its config is no object of JSON")
        safe_config.check_config(config)
        keras_archive.check(path)
    except UnsafeFileError:
        raise
    except DAMAGE as error:
        reason = f"{path!r} is not a .keras file of a tf_keras model: {str(error).rstrip('.')}."
        raise UnsafeFileError(reason) from error
    return config
