"""What a canonical network has in place of other ways to resize, to slice and to average.

>>> x = tf.zeros([1, 14, 14, 4])
>>> NearestResize(size=(28, 28))(x).shape  # UpSampling2D, Resizing, tf.image.resize(method="nearest")
TensorShape([1, 28, 28, 4])
>>> BilinearResize(size=(28, 28))(x).shape  # the same with "bilinear"
TensorShape([1, 28, 28, 4])
>>> Slice(begin=(0, 0, 0), end=(14, 14, 3), step=(2, 1, 1))(x).shape  # x[:, ::2, :, :3]
TensorShape([1, 7, 14, 3])
>>> ScaledAdd(factor=0.5)([x, x]).shape  # Average()([x, x])
TensorShape([1, 14, 14, 4])
"""

from collections.abc import Sequence

import tensorflow as tf
import tf_keras as keras

from mmx_tf.layers.as_written import AsWritten

register = keras.saving.register_keras_serializable(package="mmx_tf")


class _Resize(AsWritten, keras.layers.Layer):
    """An image (batch, height, width, channels) in another size, (height, width)."""

    def __init__(self, *, size: Sequence[int], **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.size = tuple(int(length) for length in size)

    def get_config(self):
        """Config with the size."""
        return {**super().get_config(), "size": list(self.size)}


@register
class NearestResize(_Resize):
    """Each pixel is the one of the image at its centre: one of its size there."""

    def call(self, x):
        """Returns the image in the new size."""
        return tf.image.resize(x, self.size, method="nearest")


@register
class BilinearResize(_Resize):
    """Each pixel is mixed of the four around its place.

    Args:
      size: (height, width).
      align_corners: whether the corners' pixels keep their values; else sizes are in proportion.
      half_pixel_centers: whether pixels are at their centres, as in TensorFlow 2, or at their upper left
        corners.
    """

    def __init__(self, *, size, align_corners: bool = False, half_pixel_centers: bool = True, **kwargs):
        super().__init__(size=size, **kwargs)
        self.align_corners, self.half_pixel_centers = bool(align_corners), bool(half_pixel_centers)

    def call(self, x):
        """Returns the image in the new size."""
        return tf.raw_ops.ResizeBilinear(
            images=x,
            size=self.size,
            align_corners=self.align_corners,
            half_pixel_centers=self.half_pixel_centers,
        )

    def get_config(self):
        """Config with the places of the pixels."""
        places = {"align_corners": self.align_corners, "half_pixel_centers": self.half_pixel_centers}
        return {**super().get_config(), **places}


@register
class Slice(AsWritten, keras.layers.Layer):
    """Every `step`-th number from `begin` to before `end` along each axis but the batch's.

    Args:
      begin, end, step: integers, one per axis; begin of 0 or more, end beyond it, step of 1 or more.

    Raises:
      ValueError: for other numbers.
    """

    def __init__(self, *, begin: Sequence[int], end: Sequence[int], step: Sequence[int], **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.begin, self.end, self.step = (
            tuple(int(number) for number in numbers) for numbers in (begin, end, step)
        )
        for first, last, step in zip(self.begin, self.end, self.step, strict=True):
            if not 0 <= first < last or step < 1:
                raise ValueError(
                    f"a slice from {first} to {last} in steps of {step}; use 0 <= begin < end, step > 0."
                )

    def call(self, x):
        """Returns what is left of x."""
        return x[(slice(None), *map(slice, self.begin, self.end, self.step))]

    def get_config(self):
        """Config with the three lists."""
        own = {"begin": list(self.begin), "end": list(self.end), "step": list(self.step)}
        return {**super().get_config(), **own}


@register
class ScaledAdd(AsWritten, keras.layers.Layer):
    """factor * (x + y): the last step of an Average of several tensors.

    Args:
      factor: above 0.
    """

    def __init__(self, *, factor: float, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.factor = float(factor)
        if not self.factor > 0:
            raise ValueError(f"factor is {factor!r}; use a number above 0.")

    def call(self, inputs):
        """`inputs`: a list of two tensors."""
        first, second = inputs
        return (first + second) * self.factor

    def get_config(self):
        """Config with the factor."""
        return {**super().get_config(), "factor": self.factor}
