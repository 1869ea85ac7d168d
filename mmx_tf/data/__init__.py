"""Images and labels by name: `data.load("digits")`, a TFDS dataset, or "folder:PATH".

TensorFlow is loaded when one of these is first used: names of datasets are checked without it.
"""

from mmx_tf import startup
from mmx_tf.errors import DataError

__all__ = ["PIXEL_SCALING", "DataError", "ImageData", "load"]


def __getattr__(name: str):
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    startup.load_tensorflow()
    from mmx_tf.data import dataset

    return getattr(dataset, name)
