"""The bias of a folded layer and the int32 grid that it lies on, as tensors.

A layer and the batch norm after it are one affine map per output channel,

    y = factor * conv(x, w) + bias,     factor = gamma / sqrt(variance + epsilon),
                                        bias = beta + (layer bias - mean) * factor,

and an integer operator holds its bias as an int32 on the grid s_in * s_w * |factor| (Jacob et al. 2018,
arXiv 1712.05877, section 2.4). `fold` writes these numbers down; training on the folded graph computes with
them while they change. Everything is float64 until the file's own float32.

    folded = weighted_bias(wrapper, batch_norm, input_scale, weight_storage="int8")
    folded.codes                      # the bias of the file
"""

import dataclasses
import math

import tensorflow as tf
import tf_keras as keras

from mmx_tf.layers.integer.storage import container_of, row_length
from mmx_tf.layers.integer.weighted import finer_factor
from mmx_tf.layers.quantizers.weights import QuantizeWrapper, channels_shape

LARGEST_BIAS_CODE = 2**30
SMALLEST_SCALE = 1e-30
AFFINE_CODE = 127
"""The one weight code of a channel of an affine map on its own: its scale holds the factor."""


@dataclasses.dataclass(frozen=True)
class FoldedBias:
    """The affine map of C output channels, and the grid of its bias.

    Attributes:
      factor: float64 (C,), what multiplies the layer's output; its sign goes into the weight codes.
      bias: float64 (C,), before it is rounded.
      scales: float64 (C,), or (1,) for a dense layer with one scale: scales of the b-bit weight codes.
      vanishing: bool, of scales' shape: channels without a usable scale, which compute their bias alone.
      steps: float64, of scales' shape: the step of the bias grid, float32(s_in) * float32(stored scale).
    """

    factor: tf.Tensor
    bias: tf.Tensor
    scales: tf.Tensor
    vanishing: tf.Tensor
    steps: tf.Tensor

    @property
    def codes(self) -> tf.Tensor:
        """float64 (C,): the integers that are stored, rounded half to even."""
        return tf.round(self.bias / self.steps)

    @property
    def rounding_error(self) -> tf.Tensor:
        """float64 (C,): what rounding adds to the bias."""
        return self.codes * self.steps - self.bias


def weighted_bias(
    wrapper: QuantizeWrapper, batch_norm: keras.layers.Layer | None, input_scale, *, weight_storage: str
) -> FoldedBias:
    """The bias of a quantized weighted layer with the batch norm after it.

    Args:
      wrapper: tfmot wrapper with an `LsqWeightConfig`.
      batch_norm: the batch norm on the layer's output, or None.
      input_scale: float32 scalar, the scale of the layer's input codes.
      weight_storage: one of `layers.integer.storage.STORAGES`.
    """
    layer, config = wrapper.layer, wrapper.quantize_config
    kernel_shape, steps = config.kernel.shape, config.quantizer.step_size
    channels = math.prod(channels_shape(layer, kernel_shape))
    bias = _float64(layer.bias) if layer.use_bias else tf.zeros(channels, tf.float64)
    factor = tf.ones(channels, tf.float64)
    if batch_norm is not None:
        factor, bias = batch_norm_affine(batch_norm, bias)
    scales = tf.reshape(_float64(steps), [-1])
    if batch_norm is not None or not isinstance(layer, keras.layers.Dense):
        scales = scales * tf.abs(factor)
    finer = container(wrapper, weight_storage) == "int8"
    return _folded_bias(factor, bias, scales, input_scale, finer_factor(config.bits) if finer else 1)


def affine_bias(factor, bias, input_scale) -> FoldedBias:
    """The bias of y = factor * x + bias on its own, which becomes a 1x1 depthwise convolution of codes +-127.

    Args:
      factor, bias: float64 (C,).
      input_scale: as for `weighted_bias`.
    """
    factor, bias = _float64(factor), _float64(bias)
    return _folded_bias(factor, bias, tf.abs(factor) / AFFINE_CODE, input_scale, 1)


def container(wrapper: QuantizeWrapper, weight_storage: str) -> str:
    """The container of a quantized layer's weights (see `layers.integer.storage`)."""
    config = wrapper.quantize_config
    return layer_container(wrapper.layer, config.kernel.shape, config.bits, weight_storage)


def layer_container(layer: keras.layers.Layer, kernel_shape, bits: int, weight_storage: str) -> str:
    """The container of a weighted layer's weights at a bit-width."""
    parted = isinstance(layer, keras.layers.DepthwiseConv2D) or getattr(layer, "groups", 1) > 1
    row = row_length(kernel_shape, strides=getattr(layer, "strides", (1, 1)), parted=parted)
    return container_of(
        weight_storage,
        bits=bits,
        row=row,
        dense=isinstance(layer, keras.layers.Dense),
        packable=not isinstance(layer, keras.layers.Conv2DTranspose),
    )


def _folded_bias(factor, bias, scales, input_scale, finer) -> FoldedBias:
    scales, vanishing = _representable(scales, bias, _float64(input_scale))
    stored = tf.cast(scales, tf.float32) / finer
    return FoldedBias(factor, bias, scales, vanishing, _float64(tf.cast(input_scale, tf.float32) * stored))


def batch_norm_affine(batch_norm: keras.layers.Layer, bias=0.0) -> tuple[tf.Tensor, tf.Tensor]:
    """(factor, bias), each float64 (C,), of y = factor * x + bias for batch_norm(x + `bias`)."""
    deviation = tf.sqrt(_float64(batch_norm.moving_variance) + batch_norm.epsilon)
    gamma = _float64(batch_norm.gamma) if batch_norm.scale else tf.ones_like(deviation)
    beta = _float64(batch_norm.beta) if batch_norm.center else tf.zeros_like(deviation)
    factor = gamma / deviation
    return factor, beta + (bias - _float64(batch_norm.moving_mean)) * factor


def _representable(scales, bias, input_scale):
    """Scales on whose grid the bias fits int32, and the channels that needed another one.

    Such a channel has a scale that is zero or vanishes beside its bias (batch norm gammas that training has
    driven to nothing): it computes its bias, which a coarser grid holds.
    """
    size = tf.abs(bias) / input_scale
    smallest = tf.maximum(size * 128 / LARGEST_BIAS_CODE, SMALLEST_SCALE)
    if scales.shape == (1,):
        return tf.maximum(scales, tf.reduce_max(smallest)), tf.constant([False])
    vanishing = scales < smallest
    return tf.where(vanishing, tf.maximum(size / 2**20, SMALLEST_SCALE), scales), vanishing


def _float64(values) -> tf.Tensor:
    return tf.cast(values, tf.float64)
