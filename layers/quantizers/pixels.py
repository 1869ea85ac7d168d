"""The quantizer of a camera's image: its codes are the pixels themselves.

A network sees pixel * scale + offset (for MobileNets pixel / 127.5 - 1). On a learnt grid an application
would have to requantize every image; on the grid of the pixels the file takes them as they come.

    >>> quantizer = PixelQuantizer(scale=1 / 127.5, offset=-1.0)
    >>> quantizer.zero_point                    # the pixel that stands for 0
    128

An int8 tensor needs an integer zero point. Where -offset / scale is not one (127.5 here), the network gets
values shifted by half a pixel at most, in training as in the file, so that the file stays exact and training
takes care of the shift.
"""

import math

import numpy as np
import tensorflow as tf
import tf_keras as keras

from mmx_tf.layers.as_written import AsWritten
from mmx_tf.layers.grid import Grid
from mmx_tf.layers.integer import layers

HIGHEST_PIXEL = 255
LARGEST_SHARE_OUTSIDE = 0.05
# Images come with rounding errors of their own; a value that is half a pixel in theory goes up.
TOLERANCE = 1e-3


def pixels_of(values, *, scale: float, offset: float):
    """The pixels 0..255, as floats, of which `values` are pixel * scale + offset; halves go up."""
    nearest = tf.floor((values - offset) / scale + (0.5 + TOLERANCE))
    return tf.clip_by_value(nearest, 0.0, float(HIGHEST_PIXEL))


def told_outside(images: np.ndarray, *, scale: float, offset: float) -> str | None:
    """A sentence about images of which much lies outside of pixel * scale + offset; None where it fits.

    `LARGEST_SHARE_OUTSIDE` of the values may lie there, as random contrast makes them.
    """
    low, high = offset, offset + HIGHEST_PIXEL * scale
    if not images.size or np.mean((images < low - scale) | (images > high + scale)) <= LARGEST_SHARE_OUTSIDE:
        return None
    return (
        f"images go from {images.min():.4g} to {images.max():.4g}, but pixel_scaling=({scale:.6g}, "
        f"{offset:.6g}) makes pixels {low:.4g} to {high:.4g}"
    )


def zero_point_of(*, scale: float, offset: float) -> int:
    """The pixel that stands for the value 0.

    Raises:
      ValueError: without such a zero point, or if the scale is not above 0.
    """
    if not 0 < scale < math.inf:
        raise ValueError(f"scale is {scale!r}; a pixel's scale is a number above 0.")
    zero_point = math.floor(-offset / scale + 0.5 + TOLERANCE)
    if not 0 <= zero_point <= HIGHEST_PIXEL:
        raise ValueError(
            f"with scale {scale:g} and offset {offset:g} the value 0 would be pixel {zero_point}; an integer "
            f"input needs it in 0..{HIGHEST_PIXEL}."
        )
    return zero_point


@keras.saving.register_keras_serializable(package="mmx_tf")
class PixelQuantizer(AsWritten, keras.layers.Layer):
    """x -> scale * (pixel - zero_point), 8 bits, nothing learnt. No gradient passes: it stands on the image.

    Args:
      scale, offset: the image is pixel * scale + offset.

    Raises:
      ValueError: if 0 is no value between the darkest and the brightest pixel.
    """

    bits, signed = 8, True

    def __init__(self, *, scale: float, offset: float, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.scale, self.offset = float(scale), float(offset)
        self.zero_point = zero_point_of(scale=self.scale, offset=self.offset)

    @property
    def grid(self) -> Grid:
        """The int8 grid: code = pixel - 128."""
        return Grid(self.scale, self.zero_point - 128)

    def call(self, x):
        """Returns x on the grid; shape unchanged."""
        # The grid's scale is a float32, and the fixed network multiplies by the same number.
        return (pixels_of(x, scale=self.scale, offset=self.offset) - self.zero_point) * self.grid.scale

    def get_config(self):
        """Returns the constructor's arguments."""
        return {**super().get_config(), "scale": self.scale, "offset": self.offset}


@layers.register
class QuantizePixels(layers.QuantizeInput):
    """Float image -> codes pixel - 128; in the file the input tensor itself."""

    def __init__(self, *, scale: float, offset: float, **kwargs):
        kwargs["output_grid"] = PixelQuantizer(scale=scale, offset=offset).grid
        super().__init__(**kwargs)
        self.scale, self.offset = float(scale), float(offset)

    def call(self, inputs):
        """Quantize images of any shape; fails (tf.errors.InvalidArgumentError) if they are not finite."""
        inputs = layers.finite_images(inputs)
        return pixels_of(inputs, scale=self.scale, offset=self.offset) - 128.0

    def get_config(self):
        """Config with scale and offset, which give the grid."""
        config = super().get_config()
        del config["output_grid"]
        return {**config, "scale": self.scale, "offset": self.offset}
