"""Networks from configs as HDF5 files and SavedModels of Keras 2 have them.

    >>> layers = [{"class_name": "Dense", "config": {"units": 10, "batch_input_shape": [None, 4]}}]
    >>> network_of({"class_name": "Sequential", "config": layers}, "'network.h5'").output_shape
    (None, 10)

Classes are named there without their modules. Where Keras reads such a file it runs the code of Lambda
layers, and loads the functions of a SavedModel; here the config alone is used, after a check of all that it
names.
"""

import json

import tf_keras as keras
from tf_keras.src.saving.legacy.saved_model import json_utils

from mmx_tf.files import old_names, safe_config
from mmx_tf.files.safe_config import NETWORKS, UnsafeFileError
from mmx_tf.formats.refused import FormatError


def network_of(config, name: str) -> keras.Model:
    """Builds the network that a config describes.

    Args:
      config: as `json` reads it.
      name: what messages call the file.

    Raises:
      UnsafeFileError: if it is no functional or Sequential network, or names what is not built from a file.
      FormatError: if tf_keras cannot build it.
    """
    config = old_names.renamed(config)
    if not isinstance(config, dict) or "config" not in config:
        raise UnsafeFileError(f"{name} has no config of a network.")
    kind = config.get("class_name")
    if kind not in NETWORKS:
        raise UnsafeFileError(
            f"{name} holds a network of class {kind!r}, whose Python code is not in the file: give a "
            "functional or Sequential network."
        )
    safe_config.check_config(config)
    try:
        # Tuples and shapes are objects in these configs. What else this could make has just been refused.
        return keras.models.model_from_config(json_utils.decode(json.dumps(config)))
    except Exception as error:  # What is raised depends on what is wrong with the config.
        raise FormatError(f"{name} cannot be built by tf_keras: {error}") from error
