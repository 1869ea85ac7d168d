"""Batch norm and bias folded into integer weights: s_w' = s_w * gamma / sqrt(variance + epsilon)."""

import dataclasses

import numpy as np
import tf_keras as keras

from mmx_tf.folding.bias import AFFINE_CODE, FoldedBias, affine_bias, container, weighted_bias
from mmx_tf.layers.grid import Grid
from mmx_tf.layers.integer.weighted import finer_codes
from mmx_tf.layers.quantizers.weights import QuantizeWrapper, channels_shape


@dataclasses.dataclass(frozen=True)
class FoldedWeights:
    """Stored integers of one weighted layer, as the integer layers take them.

    Attributes:
      weight_codes: int8, in the layout of the Keras kernel.
      weight_scales: float32, one per output channel, or one for a dense layer without batch norm.
      bias_codes: int32, one per output channel, on the grid input scale * weight scale.
      container: of the weight codes.
    """

    weight_codes: np.ndarray
    weight_scales: np.ndarray
    bias_codes: np.ndarray
    container: str


def folded_weights(
    wrapper: QuantizeWrapper, batch_norm: keras.layers.Layer | None, input_grid: Grid, *, weight_storage: str
) -> FoldedWeights:
    """Folds one quantized weighted layer and the batch norm after it, in float64.

    Args:
      wrapper: tfmot wrapper with an `LsqWeightConfig`.
      batch_norm: the batch norm on the layer's output, or None.
      input_grid: grid of the layer's input codes.
      weight_storage: one of `layers.integer.storage.STORAGES`.
    """
    config = wrapper.quantize_config
    quantizer = config.quantizer
    kernel, steps = config.kernel.numpy(), quantizer.step_size.numpy()
    # The same float32 division and rounding as in training, so that no code flips here.
    codes = np.clip(np.rint(kernel / steps), quantizer.low, quantizer.high).astype(np.int64)
    folded = weighted_bias(wrapper, batch_norm, input_grid.scale, weight_storage=weight_storage)
    stored_in = container(wrapper, weight_storage)
    signed = _signed(codes, folded, channels_shape(wrapper.layer, codes.shape))
    codes, scales = signed, folded.scales.numpy()
    if stored_in == "int8":
        codes, scales = finer_codes(codes, scales, bits=quantizer.bits)
    return _stored(codes, scales, folded, stored_in)


def affine_weights(factor, bias, input_grid: Grid) -> FoldedWeights:
    """y = factor * x + bias per channel as the weights of a 1x1 depthwise convolution, in float64.

    One weight per channel, of code +-127: the scale holds the factor, so that nothing is lost but float32's
    rounding.

    Args:
      factor, bias: float64 (C,).
      input_grid: grid of its input codes.
    """
    folded = affine_bias(factor, bias, input_grid.scale)
    shape = (*folded.factor.shape, 1)
    codes = np.full((1, 1, *shape), AFFINE_CODE)
    return _stored(_signed(codes, folded, shape), folded.scales.numpy(), folded, "int8")


def _signed(codes, folded: FoldedBias, shape):
    """Codes with the signs of the factors, and none where a channel is its bias alone."""
    signs = np.sign(folded.factor.numpy()).astype(np.int64) * ~folded.vanishing.numpy()
    return codes * signs.reshape(shape)


def _stored(codes, scales, folded: FoldedBias, stored_in) -> FoldedWeights:
    return FoldedWeights(
        codes.astype(np.int8),
        np.asarray(scales, np.float32),
        folded.codes.numpy().astype(np.int32),
        stored_in,
    )
