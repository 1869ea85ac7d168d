"""An HDF5 file with a whole network, as `model.save("network.h5")` of Keras 2 and Keras 3 writes it.

    >>> load("network.h5").count_params() == float_model.count_params()   # a tf_keras model
    True

The network is built from the config in the file, which is checked first; its weights are numbers in the order
of the layers. How the model was compiled is not read.
"""

import json

import h5py
import tf_keras as keras
from tf_keras.src.saving.legacy import hdf5_format

from mmx_tf.files import keras3_h5, legacy_config, safe_hdf5
from mmx_tf.files.safe_config import UnsafeFileError
from mmx_tf.formats.paths import DAMAGE
from mmx_tf.formats.refused import TAKEN, FormatError, refusal

_CONFIG, _WEIGHTS, _VERSION, _BACKEND = "model_config", "model_weights", "keras_version", "backend"
# What files of weights alone have at their root: old ones an attribute, new ones groups.
_OF_WEIGHTS = ("layer_names", "layer_names0", "layers", "_layer_checkpoint_dependencies", "vars")
_FLIPPING_BACKENDS = ("theano", "cntk")


def load(path: str) -> keras.Model:
    """Loads an .h5 file of Keras 2 or Keras 3 as a tf_keras network.

    Raises:
      FormatError: if it holds weights alone, or no network that tf_keras can build.
      UnsafeFileError: if it names what is not built, or not read, from a file.
      UnsupportedLayerError: for a layer of Keras 3 that cannot be imported.
      ValueError: if it is damaged.
    """
    name = repr(path)
    try:
        with safe_hdf5.opened(path) as file:
            config, version = _config(file, path), _text(file.attrs.get(_VERSION, ""))
            if not version.startswith("3"):
                return _network(file, config, name)
    except (FormatError, UnsafeFileError):
        raise
    except (TypeError, AttributeError, IndexError, *DAMAGE) as error:
        raise ValueError(f"{name} is not a whole .h5 file of a Keras 2 model: {error}") from error
    return keras3_h5.load(path, config)


def _config(file: h5py.File, path: str):
    if _CONFIG in file.attrs and _WEIGHTS in file:
        return json.loads(_text(file.attrs[_CONFIG]))
    if any(name in file or name in file.attrs for name in _OF_WEIGHTS) or "\\" in "".join(file):
        raise refusal("weights", path)
    raise FormatError(f"{path!r} is an HDF5 file, and holds no network of Keras. {TAKEN}")


def _network(file: h5py.File, config, name: str) -> keras.Model:
    weights = file[_WEIGHTS]
    backend = _text(weights.attrs.get(_BACKEND, file.attrs.get(_BACKEND, "tensorflow")))
    if backend in _FLIPPING_BACKENDS:
        raise FormatError(
            f"{name} was written by Keras on {backend}, whose convolutions have other kernels: load it with "
            "Keras on TensorFlow, and save it anew."
        )
    network = legacy_config.network_of(config, name)
    hdf5_format.load_weights_from_hdf5_group(weights, network)
    return network


def _text(value) -> str:
    """An attribute, which is of bytes in older files."""
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)
