"""Integer pooling and shape layers: operators whose input and output share one grid.

AVERAGE_POOL_2D is the exception in two ways: it computes, and XNNPACK does not take it in int8. It runs in
the builtin kernel, which rounds half away from zero, and splits the graph into two XNNPACK partitions. It is
for poolings that pad; the mean of whole windows is an `IntegerAffine`, that of the image an `IntegerMean`.
"""

import functools
import math

import tensorflow as tf

from mmx_tf.layers.integer.layers import SameGridLayer, form_of, register
from mmx_tf.layers.integer.weighted import checked_padding, depthwise, pair, whole_numbers


class _Pool(SameGridLayer):
    """Window, strides (None: those of the window) and padding of a pooling layer."""

    settings = {
        "pool_size": functools.partial(pair, "pool_size"),
        "strides": functools.partial(pair, "strides"),
        "padding": checked_padding,
    }
    pool_size, padding = (2, 2), "valid"

    def __init__(self, *, strides=None, **kwargs):
        window = kwargs.get("pool_size", self.pool_size)
        super().__init__(strides=window if strides is None else strides, **kwargs)


def sides(amounts) -> tuple[tuple[int, int], tuple[int, int]]:
    """((top, bottom), (left, right)) as whole numbers."""
    (top, bottom), (left, right) = amounts
    return (int(top), int(bottom)), (int(left), int(right))


@form_of("MaxPooling2D")
@register
class IntegerMaxPool2D(_Pool):
    """MAX_POOL_2D."""

    def call(self, inputs):
        """Largest code in each window; padding never wins."""
        return tf.nn.max_pool2d(inputs, self.pool_size, self.strides, self.padding.upper())


@form_of("AveragePooling2D")
@register
class IntegerAveragePool2D(_Pool):
    """AVERAGE_POOL_2D: mean of the codes inside the image, rounded half away from zero."""

    def call(self, inputs):
        """Average codes over each window, leaving padding out of sum and count."""
        window = tf.ones((*self.pool_size, 1, 1), tf.float32)
        channels = tf.shape(inputs)[-1]
        arguments = {"strides": self.strides, "padding": self.padding}
        total = depthwise(inputs, tf.tile(window, (1, 1, channels, 1)), **arguments)
        count = depthwise(tf.ones_like(inputs[:1, :, :, :1]), window, **arguments)
        # Integer division of sum +- count // 2, truncating toward zero, is what the kernel's C code does.
        rounded = tf.math.abs(total) + tf.floor(count * 0.5)
        return tf.sign(total) * tf.cast(tf.cast(rounded, tf.int32) // tf.cast(count, tf.int32), tf.float32)


@form_of("ZeroPadding2D")
@register
class IntegerPad(SameGridLayer):
    """PAD of height and width with real zero. `padding`: ((top, bottom), (left, right))."""

    settings = {"padding": sides}

    def call(self, inputs):
        """Pad NHWC codes with the zero point."""
        paddings = ((0, 0), *self.padding, (0, 0))
        return tf.pad(inputs, paddings, constant_values=float(self.output_grid.zero_point))


@form_of("Cropping2D")
@register
class IntegerCrop(SameGridLayer):
    """STRIDED_SLICE of height and width. `cropping`: ((top, bottom), (left, right))."""

    settings = {"cropping": sides}

    def call(self, inputs):
        """Crop NHWC codes."""
        (top, bottom), (left, right) = self.cropping
        return inputs[:, top : inputs.shape[1] - bottom, left : inputs.shape[2] - right]


@register
class IntegerConcatenate(SameGridLayer):
    """CONCATENATION along `axis` of tensors that share one grid."""

    settings = {"axis": int}
    axis = -1

    def call(self, inputs):
        """`inputs`: a list of code tensors."""
        return tf.concat(inputs, self.axis)


@form_of("Reshape", "Flatten")
@register
class IntegerReshape(SameGridLayer):
    """RESHAPE; `target_shape` is without the batch dimension, and (-1,) flattens."""

    settings = {"target_shape": whole_numbers}
    target_shape = (-1,)

    def resolved_shape(self, input_shape):
        """The target shape with its -1 filled in, for an input shape that starts with the batch dimension."""
        known = -math.prod(self.target_shape) if -1 in self.target_shape else 1
        filled = math.prod(input_shape[1:]) // known
        return tuple(filled if size == -1 else size for size in self.target_shape)

    def call(self, inputs):
        """Reshape everything but the batch dimension."""
        return tf.reshape(inputs, (-1, *self.resolved_shape(inputs.shape)))
