"""Examples and labels by name: `data.load("digits")`, a TFDS dataset, a folder, arrays, a function.

TensorFlow is loaded when one of these is first used: names of datasets are checked without it.
"""

import importlib

from mmx_tf import startup
from mmx_tf.errors import DataError

_MODULES = {
    "ArrayData": "arrays",
    "Examples": "examples",
    "ImageData": "dataset",
    "PIXEL_SCALING": "images",
    "load": "loading",
    "of_recipe": "loading",
}
__all__ = ["PIXEL_SCALING", "ArrayData", "DataError", "Examples", "ImageData", "load", "of_recipe"]


def __getattr__(name: str):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    startup.load_tensorflow()
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
