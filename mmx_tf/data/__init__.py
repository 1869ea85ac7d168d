"""Images and labels by name: `data.load("digits")`, a TFDS dataset, or "folder:PATH"."""

from mmx_tf import startup

startup.load_tensorflow()

from mmx_tf.data.dataset import PIXEL_SCALING, ImageData, load
from mmx_tf.errors import DataError

__all__ = ["PIXEL_SCALING", "DataError", "ImageData", "load"]
