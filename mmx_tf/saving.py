"""Loading what mmx_tf wrote. No code from the file is run: safe mode is on, every class ours or Keras's."""

import os

import tf_keras as keras

from layers import (  # noqa: F401 (registers classes)
    integer_layers,
    integer_shape_layers,
    integer_weighted_layers,
    pixel_quantizer,
)
from layers.quantize_configs import QuantizeWrapper


def load_model(path: str | os.PathLike) -> keras.Model:
    """Loads a .keras file that mmx_tf wrote: a search, fixed or folded network, or a float one.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if it is not a .keras file of a tf_keras model, or holds code (a Lambda).
    """
    path = os.fspath(path)
    if not os.path.exists(path):
        raise FileNotFoundError(f"there is no file {path!r}.")
    custom_objects = {"QuantizeWrapperV2": QuantizeWrapper}
    try:
        return keras.models.load_model(path, custom_objects=custom_objects, safe_mode=True, compile=False)
    except (TypeError, KeyError, OSError) as error:
        raise ValueError(f"{path!r} is not a .keras file of a tf_keras model: {error}") from error
