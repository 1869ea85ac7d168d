"""Operators that move codes and compute nothing but, in one of them, a mean of neighbours.

IntegerTranspose(grid=grid, axes=(1, 2, 0))                    # Permute((2, 3, 1)): axes from 0, no batch
IntegerSlice(grid=grid, begin=(0, 0, 0), end=(28, 28, 3), step=(1, 1, 1))
IntegerResizeNearest(grid=grid, size=(28, 28))                 # not in XNNPACK
IntegerResizeBilinear(grid=grid, size=(28, 28))
"""

import functools

import numpy as np
import tensorflow as tf

from mmx_tf.layers.integer.layers import SameGridLayer, form_of, register
from mmx_tf.layers.integer.weighted import pair, whole_numbers

FRACTION_BITS = 11
"""Of the weights with which XNNPACK mixes neighbours."""


@register
class IntegerTranspose(SameGridLayer):
    """TRANSPOSE of all axes but the batch's. `axes`: for each of them, counted from 0, the one it was."""

    settings = {"axes": whole_numbers}

    @property
    def permutation(self) -> tuple[int, ...]:
        """The same of all axes."""
        return (0, *(axis + 1 for axis in self.axes))

    def call(self, inputs):
        """Moves the axes of codes."""
        return tf.transpose(inputs, self.permutation)


@register
class IntegerSlice(SameGridLayer):
    """STRIDED_SLICE of all axes but the batch's; XNNPACK takes it where every step is 1."""

    settings = dict.fromkeys(("begin", "end", "step"), whole_numbers)

    def call(self, inputs):
        """Takes the slice of codes."""
        return inputs[(slice(None), *map(slice, self.begin, self.end, self.step))]


@register
class IntegerResizeNearest(SameGridLayer):
    """RESIZE_NEAREST_NEIGHBOR with pixels at their centres. It is not in XNNPACK."""

    settings = {"size": functools.partial(pair, "size")}

    def call(self, inputs):
        """Resizes NHWC codes."""
        return tf.image.resize(inputs, self.size, method="nearest")


@form_of("BilinearResize")
@register
class IntegerResizeBilinear(SameGridLayer):
    """RESIZE_BILINEAR: neighbours in a row are mixed, then two rows, with weights of 11 fractional bits each.

    Rule: both mixes are exact in int32, and the sum is rounded once, half up. LiteRT's builtin kernel has
    10 bits and rounds half away from zero.

    Args:
      align_corners, half_pixel_centers: where pixels are (`layers.image_layers.BilinearResize`).
    """

    settings = {
        "size": functools.partial(pair, "size"),
        "align_corners": bool,
        "half_pixel_centers": bool,
    }
    align_corners, half_pixel_centers = False, True

    def places(self, length, axis):
        """(first pixel, second pixel, weight of the second) of each place along an axis (0 height, 1 width).

        Weights are in 1 / 2^11, rounded half to even. Places are float32, computed in XNNPACK's order.
        """
        size = self.size[axis]
        aligned = self.align_corners and size > 1
        scale = np.float32(length - aligned) / np.float32(size - aligned)
        offset = np.float32(0.5) * scale - np.float32(0.5) if self.half_pixel_centers else np.float32(0)
        places = np.clip(np.arange(size, dtype=np.float32) * scale + offset, 0, np.float32(length - 1))
        first = places.astype(np.int32)
        weights = np.rint((places - first.astype(np.float32)) * np.float32(2**FRACTION_BITS))
        return first, np.minimum(first + 1, length - 1), weights.astype(np.int32)

    def call(self, inputs):
        """Resizes NHWC codes of known height and width."""
        codes = tf.cast(inputs, tf.int32)
        for axis, shape in ((1, (1, 1, -1, 1)), (0, (1, -1, 1, 1))):
            first, second, weights = self.places(inputs.shape[1 + axis], axis)
            low, high = (tf.gather(codes, places, axis=1 + axis) for places in (first, second))
            codes = low * 2**FRACTION_BITS + (high - low) * weights.reshape(shape)
        bits = 2 * FRACTION_BITS
        return tf.cast(tf.bitwise.right_shift(codes + 2 ** (bits - 1), bits), tf.float32)
