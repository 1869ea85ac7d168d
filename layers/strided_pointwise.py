"""Strided 1x1 convolutions of few channels without the oneDNN kernel that damages memory.

For the gradient of a 1x1 filter with a stride, oneDNN (3.7, in TensorFlow 2.21; newer releases too) copies
the pixels that the filter meets into a workspace of (pixels x channels) numbers, but steps through it by a
whole block of channels, 8 on AVX2 and 16 on AVX-512. With fewer channels than that it writes behind the
workspace: the process dies or hangs, or other tensors are overwritten and gradients are wrong without a word
(issue 6035 of uxlfoundation/oneDNN).

A 1x1 filter of stride s meets every s-th pixel and no other. So such a layer takes these pixels and computes
with stride 1: the same products and sums, by a kernel that needs no workspace.

    >>> avoid_damage(float_model)       # layers compute so from now on; config, weights, files are as before
"""

import tensorflow as tf
import tf_keras as keras
from absl import logging

SAFE_CHANNELS = 16
"""The largest block of channels that oneDNN has; a layer of as many is computed rightly."""


def is_endangered(layer: keras.layers.Layer) -> bool:
    """Whether the gradient of a built layer's filter may be left to the kernel.

    That is a Conv2D of fewer than `SAFE_CHANNELS` channels, or a DepthwiseConv2D of one, which is the same.
    Of which sizes and batches it takes is no matter: none is computed otherwise than by its pixels.
    """
    depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
    if not depthwise and not isinstance(layer, keras.layers.Conv2D):
        return False
    if tuple(layer.kernel_size) != (1, 1) or tuple(layer.strides) == (1, 1):
        return False
    if isinstance(layer, keras.layers.Conv2DTranspose) or layer.data_format != "channels_last":
        return False
    return _channels(layer) < (2 if depthwise else SAFE_CHANNELS)


def avoid_damage(network: keras.Model) -> None:
    """Lets the endangered layers of a network, wrapped and nested ones included, compute with stride 1."""
    for layer in network.submodules:
        avoid_damage_in(layer)


def avoid_damage_in(layer: keras.layers.Layer) -> None:
    """Lets a built layer take every s-th pixel first and compute with stride 1, if it is endangered."""
    if "call" in vars(layer) or not is_endangered(layer):
        return
    logging.log_first_n(
        logging.INFO,
        "layer %s, a 1x1 convolution of stride %d and %d channels, picks every %d-th pixel first, because "
        "oneDNN's kernel for its gradient writes beyond its memory. All such layers do so.",
        1,
        layer.name,
        layer.strides[0],
        _channels(layer),
        layer.strides[0],
    )
    own = layer.call
    height, width = layer.strides

    @tf.autograph.experimental.do_not_convert
    def call(inputs, *args, **kwargs):
        # Keras's own arithmetic, with another stride for this call; past its setattr, which would wrap it.
        kept, vars(layer)["strides"] = vars(layer)["strides"], (1, 1)
        try:
            return own(inputs[:, ::height, ::width], *args, **kwargs)
        finally:
            vars(layer)["strides"] = kept

    # On the object, so that it is not saved.
    layer.call = call


def _channels(layer) -> int:
    depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
    return (layer.depthwise_kernel if depthwise else layer.kernel).shape[2]
