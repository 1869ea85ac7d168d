"""An .h5 file of Keras 3, read as a .keras file of Keras 3 is.

Keras 3 names layers there by their class alone, and operators too: `x * 2.0` is a "Multiply" as the layer is,
so that Keras 3 cannot read such a file itself. Each gets its module here, and is checked and built as in a
.keras file.
"""

import os
import tempfile

import tf_keras as keras

from mmx_tf.files import keras3_file
from mmx_tf.network.keras3_operators import OPERATORS

_NETWORKS = {
    "Functional": "keras.src.models.functional",
    "Model": "keras.src.models.functional",
    "Sequential": "keras",
}
_ACTIVATIONS = ("ReLU", "LeakyReLU")
_NEURAL = (
    "Relu", "Relu6", "LeakyRelu", "Sigmoid", "HardSigmoid", "Silu", "HardSilu", "Gelu", "Selu", "Softplus",
    "Softmax", "AveragePool", "MaxPool",
)  # fmt: skip


def load(path: str, config) -> keras.Model:
    """Loads the network of an .h5 file whose config has been read, and whose links have been checked.

    Raises:
      UnsupportedLayerError: for a layer or an operation that cannot be imported, before it is built.
      ValueError: if the file is damaged, or if Keras 3 cannot be imported.
    """
    with tempfile.TemporaryDirectory() as folder:
        # Keras 3 goes by the name.
        link = os.path.join(folder, "network.h5")
        os.symlink(os.path.abspath(path), link)
        return keras3_file.network_of(with_modules(config), path, weights=link)


def with_modules(config):
    """A config of an .h5 file with what .keras files have beside each class's name."""
    if isinstance(config, list):
        return [with_modules(value) for value in config]
    if not isinstance(config, dict):
        return config
    result = {key: with_modules(value) for key, value in config.items()}
    kind = config.get("class_name")
    if isinstance(kind, str) and "module" not in config and kind not in keras3_file.DATA:
        result |= {"module": _module(kind, config.get("config")), "registered_name": None}
    return result


def _module(kind: str, config) -> str:
    if kind in _NETWORKS:
        return _NETWORKS[kind]
    # Every layer says whether it is trained; an operator has nothing but its arguments.
    if kind in OPERATORS and isinstance(config, dict) and "trainable" not in config:
        if kind in _ACTIVATIONS:
            return "keras.src.activations.activations"
        return "keras.src.ops.nn" if kind in _NEURAL else "keras.src.ops.numpy"
    return "keras.layers"
