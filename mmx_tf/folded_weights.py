"""Batch norm and bias folded into integer weights: s_w' = s_w * gamma / sqrt(variance + epsilon)."""

import dataclasses

import numpy as np
import tf_keras as keras

from layers.grid import Grid
from layers.integer_weighted_layers import finer_codes
from layers.quantize_configs import QuantizeWrapper

LARGEST_BIAS_CODE = 2**30


@dataclasses.dataclass(frozen=True)
class FoldedWeights:
    """Stored integers of one weighted layer, as the integer layers take them.

    Attributes:
      weight_codes: int8, in the layout of the Keras kernel.
      weight_scales: float32, one per output channel, or one for a dense layer without batch norm.
      bias_codes: int32, one per output channel, on the grid input scale * weight scale.
      weight_storage: "int8" or "int4".
    """

    weight_codes: np.ndarray
    weight_scales: np.ndarray
    bias_codes: np.ndarray
    weight_storage: str


def folded_weights(
    wrapper: QuantizeWrapper, batch_norm: keras.layers.Layer | None, input_grid: Grid, *, weight_storage: str
) -> FoldedWeights:
    """Folds one quantized weighted layer and the batch norm after it, in float64.

    Args:
      wrapper: tfmot wrapper with an `LsqWeightConfig`.
      batch_norm: the batch norm on the layer's output, or None.
      input_grid: grid of the layer's input codes.
      weight_storage: "int8" or "int4"; int4 applies to layers of at most 4 bits.
    """
    layer, config = wrapper.layer, wrapper.quantize_config
    quantizer = config.quantizer
    kernel, steps = config.kernel.numpy(), quantizer.step_size.numpy()
    # The same float32 division and rounding as in training, so that no code flips here.
    codes = np.clip(np.rint(kernel / steps), quantizer.low, quantizer.high).astype(np.int64)

    depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
    channels = int(np.prod(kernel.shape[2:])) if depthwise else kernel.shape[-1]
    dense = isinstance(layer, keras.layers.Dense)
    single = dense and batch_norm is None and steps.size == 1
    scales = np.broadcast_to(steps.reshape(-1).astype(np.float64), (1 if single else channels,)).copy()
    bias = layer.bias.numpy().astype(np.float64) if layer.use_bias else np.zeros(channels)
    if batch_norm is not None:
        factor, bias = batch_norm_affine(batch_norm, bias)
        scales *= np.abs(factor)
        per_channel = np.sign(factor).astype(np.int64)
        codes *= per_channel.reshape(kernel.shape[2:]) if depthwise else per_channel

    storage = "int4" if weight_storage == "int4" and quantizer.bits <= 4 else "int8"
    codes, scales = _with_representable_bias(codes, scales, bias, input_grid.scale, depthwise=depthwise)
    if storage == "int8":
        codes, scales = finer_codes(codes, scales, bits=quantizer.bits)
    return _stored(codes, scales, bias, input_grid, storage)


def affine_weights(factor: np.ndarray, bias: np.ndarray, input_grid: Grid) -> FoldedWeights:
    """y = factor * x + bias per channel as the weights of a 1x1 depthwise convolution, in float64.

    One weight per channel, of code +-127: the scale holds the factor, so that nothing is lost but float32's
    rounding.

    Args:
      factor, bias: (C,) float64.
      input_grid: grid of its input codes.
    """
    codes = 127 * np.sign(factor).astype(np.int64).reshape(1, 1, -1, 1)
    codes, scales = _with_representable_bias(
        codes, np.abs(factor) / 127, bias, input_grid.scale, depthwise=True
    )
    return _stored(codes, scales, bias, input_grid, "int8")


def _stored(codes, scales, bias, input_grid, storage) -> FoldedWeights:
    scales = np.asarray(scales, np.float32)
    bias_scales = (np.float32(input_grid.scale) * scales).astype(np.float64)
    return FoldedWeights(codes.astype(np.int8), scales, np.rint(bias / bias_scales).astype(np.int32), storage)


def batch_norm_affine(batch_norm: keras.layers.Layer, bias=0.0) -> tuple[np.ndarray, np.ndarray]:
    """(factor, bias), each (C,) float64, of y = factor * x + bias for batch_norm(x + `bias`)."""
    deviation = np.sqrt(batch_norm.moving_variance.numpy().astype(np.float64) + batch_norm.epsilon)
    gamma = batch_norm.gamma.numpy() if batch_norm.scale else np.ones_like(deviation)
    beta = batch_norm.beta.numpy() if batch_norm.center else np.zeros_like(deviation)
    factor = gamma.astype(np.float64) / deviation
    return factor, beta + (bias - batch_norm.moving_mean.numpy()) * factor


def _with_representable_bias(codes, scales, bias, input_scale, *, depthwise):
    """Drops the weights of channels whose bias is beyond int32 on their own grid.

    Such a channel has a scale that is zero or vanishes beside its bias (batch norm gammas that training has
    driven to nothing): it computes its bias, which a coarser grid holds.
    """
    smallest = np.maximum(np.abs(bias) * 128 / (LARGEST_BIAS_CODE * input_scale), 1e-30)
    if scales.size == 1:
        return codes, np.maximum(scales, smallest.max())
    dead = scales < smallest
    if dead.any():
        channel_codes = (
            codes.reshape(-1, dead.size) if not depthwise else codes.reshape(*codes.shape[:2], dead.size)
        )
        channel_codes[..., dead] = 0
        codes = channel_codes.reshape(codes.shape)
        scales = np.where(dead, np.maximum(np.abs(bias) / (2**20 * input_scale), 1e-30), scales)
    return codes, scales
