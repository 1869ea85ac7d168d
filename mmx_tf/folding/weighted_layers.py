"""The integer layer of each kind of weighted layer: Conv2D, Conv2DTranspose, DepthwiseConv2D, Dense.

In outline:

    codes = weighted_layer(keras_layer, codes, input_grid=grid, output_grid=other, weight_codes=..., **more)
"""

import tf_keras as keras

from mmx_tf.folding.registry import refuses
from mmx_tf.layers.integer.convolutions import IntegerConv2DTranspose, IntegerGroupedConv2D
from mmx_tf.layers.integer.shapes import IntegerCrop
from mmx_tf.layers.integer.weighted import IntegerConv2D, IntegerDense, IntegerDepthwiseConv2D


def weighted_layer(layer: keras.layers.Layer, codes, *, weight_scales, **common):
    """What the integer layer of a weighted Keras layer makes of its input's codes.

    Args:
      layer: built Conv2D, Conv2DTranspose, DepthwiseConv2D or Dense.
      codes: symbolic tensor of its input's codes.
      weight_scales, common: arguments of `layers.integer.weighted.WeightedLayer`.
    """
    common["weight_scales"] = weight_scales
    if isinstance(layer, keras.layers.Dense):
        return IntegerDense(per_channel=weight_scales.size > 1, **common)(codes)
    if isinstance(layer, keras.layers.Conv2DTranspose):
        return _transposed(layer, codes, **common)
    window = dict(strides=layer.strides, padding=layer.padding, dilation_rate=layer.dilation_rate)
    depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
    convolution = IntegerGroupedConv2D if layer.groups > 1 else IntegerConv2D
    return (IntegerDepthwiseConv2D if depthwise else convolution)(**common, **window)(codes)


@refuses("Conv2DTranspose")
def _refusal_of_dilation(layer) -> str:
    if tuple(layer.dilation_rate) == (1, 1):
        return ""
    return f"it has dilation_rate={layer.dilation_rate}; TRANSPOSE_CONV has none: use dilation_rate=1."


def _transposed(layer, codes, *, name, output_grid, **common):
    """A TRANSPOSE_CONV that XNNPACK takes: none of padding SAME whose window is smaller than its stride."""
    common |= {"strides": layer.strides, "output_grid": output_grid}
    size = layer.compute_output_shape(codes.shape)[1:3]
    steps = list(zip(codes.shape[1:3], size, layer.kernel_size, layer.strides, strict=True))
    if layer.padding == "valid" or all(window >= stride for _, _, window, stride in steps):
        transposed = IntegerConv2DTranspose(output_size=size, padding=layer.padding, name=name, **common)
        return transposed(codes)
    # The whole output, of which the padding is what is cut off.
    cut = [max((length - 1) * stride + window - out, 0) // 2 for length, out, window, stride in steps]
    whole = [
        max((length - 1) * stride + window, first + out)
        for first, (length, out, window, stride) in zip(cut, steps, strict=True)
    ]
    cropping = [(first, full - first - out) for first, full, out in zip(cut, whole, size, strict=True)]
    codes = IntegerConv2DTranspose(output_size=whole, padding="valid", name=name, **common)(codes)
    if not any(map(any, cropping)):
        return codes
    return IntegerCrop(cropping=cropping, grid=output_grid, name=f"{name}_cropped")(codes)
