"""Integer convolutions of other forms: transposed, and of groups of channels.

    up = IntegerConv2DTranspose(weight_codes=codes, strides=2, padding="same", output_size=(28, 28), **more)
    grouped = IntegerGroupedConv2D(weight_codes=codes, **more)     # [3, 3, 2, 12] on 8 channels: 4 groups

Sums, requantization and rounding are those of `layers.integer.weighted`: XNNPACK's deconvolution ends like
its convolution, and a convolution of groups is one operator, whose groups follow from its weights' shape.
"""

import tensorflow as tf

from mmx_tf.layers.integer.layers import register
from mmx_tf.layers.integer.weighted import IntegerConv2D, WeightedLayer, checked_padding, pair


@register
class IntegerConv2DTranspose(WeightedLayer):
    """TRANSPOSE_CONV. weight_codes [height, width, out, in], int8 in every storage: no kernel takes less.

    Args:
      output_size: (height, width) of the output.
      strides: how many pixels of the output lie between the windows of neighbouring pixels of the input.
      padding: "valid" or "same", that of the convolution from an image of `output_size` to the input's size.
    """

    output_axes = (-2,)
    row_length = None
    packable = False

    def __init__(self, *, output_size, strides=(1, 1), padding="valid", **kwargs):
        super().__init__(**kwargs)
        self.output_size, self.strides = pair("output_size", output_size), pair("strides", strides)
        self.padding = checked_padding(padding)

    def linear(self, inputs, weights):
        """NHWC transposed convolution."""
        shape = (tf.shape(inputs)[0], *self.output_size, self.output_channels)
        return tf.nn.conv2d_transpose(inputs, weights, shape, self.strides, self.padding.upper())

    def get_config(self):
        """Config with output size, strides and padding."""
        own = {"output_size": list(self.output_size), "strides": list(self.strides), "padding": self.padding}
        return {**super().get_config(), **own}


@register
class IntegerGroupedConv2D(IntegerConv2D):
    """CONV_2D of groups. weight_codes [height, width, channels of one group, out]."""

    row_length = None
