"""CONV_2D, DEPTHWISE_CONV_2D and FULLY_CONNECTED: sums of products in int32, then one multiplier per channel.

    acc[channel] = sum((q - z_in) * w) + bias              # int32, padding adds nothing
    code = round(acc * s_in * s_w[channel] / s_out) + z_out, clamped to int8 and the fused activation

    codes = convolution(operator, [image, weights, bias], "builtin")        # int8 [N, H, W, channels]

The sums are exact: matrix products run in floating point, where every partial sum is an integer under 2^24
(float32) or 2^53 (float64); `exact_type` takes the type by the largest sum that weights and codes allow.
What goes beyond int32 wraps, as the kernels' registers do.
"""

import numpy as np

from mmx_tf.export.reading.constants import PACKED_BITS
from mmx_tf.export.reference import rounding
from mmx_tf.export.reference.bounds import activation_bounds, saturate
from mmx_tf.export.reference.kernels import computes
from mmx_tf.export.reference.windows import Window

# Numbers in one matrix of patches: keeps it in a cache-friendly 32 MiB or less, whatever the batch.
PATCH_NUMBERS = 2**22
# Channels that TFLite's optimized depthwise and transposed kernels requantize in one vector.
LANES = 8


def unpacked(operator):
    """Whether the weights have a byte each."""
    return operator.inputs[1].type not in PACKED_BITS


def _rows_fill_bytes(operator):
    weights = operator.inputs[1]
    # Codes share a byte, and rows must start at one.
    return not weights.zero_points.any() and weights.shape[1] % (8 // PACKED_BITS.get(weights.type, 8)) == 0


@computes("CONV_2D", in_xnnpack=unpacked)
def convolution(operator, inputs, rules):
    """CONV_2D: codes [N, H, W, C], weights [channels, KH, KW, C], bias [channels] or None -> int8 codes.

    Filters of C / g channels are those of g groups: the first of them takes the first channels, and so on.
    """
    codes, weights, bias = _padded(inputs)
    groups, remainder = divmod(codes.shape[3], weights.shape[3])
    if remainder or len(weights) % groups:
        raise ValueError(
            f"operator {operator.index} (CONV_2D) has {codes.shape[3]} input channels and {len(weights)} "
            f"filters of {weights.shape[3]}, which are no groups of equal size."
        )
    window = Window.from_options(codes.shape[1:3], weights.shape[1:3], operator.options)
    matrix = weights.reshape(len(weights), -1)
    floating = exact_type(matrix)
    # [groups, taps and channels of a group, filters of a group]
    matrix = matrix.reshape(groups, -1, matrix.shape[1]).transpose(0, 2, 1).astype(floating)

    def accumulate(images):
        shifted = images.astype(floating) - floating(operator.inputs[0].zero_point)
        taps = [patch for _, _, patch in window.taps(shifted, fill=0)]
        patches = np.stack(taps, axis=3) if len(taps) > 1 else taps[0]
        patches = np.moveaxis(patches.reshape(-1, len(taps), groups, weights.shape[3]), 2, 0)
        products = patches.reshape(groups, -1, matrix.shape[1]) @ matrix
        return np.moveaxis(products, 0, 1).reshape(len(images), *window.output, -1)

    # TFLite's optimized kernel leaves groups to the reference kernel.
    rules = "reference" if rules == "builtin" and groups > 1 else rules
    images = max(1, PATCH_NUMBERS // (window.output[0] * window.output[1] * matrix.shape[1] * groups))
    parts = [
        requantize(accumulate(codes[start : start + images]), bias, operator, rules)
        for start in range(0, len(codes), images)
    ]
    return np.concatenate(parts)


@computes("DEPTHWISE_CONV_2D", in_xnnpack=unpacked)
def depthwise(operator, inputs, rules):
    """DEPTHWISE_CONV_2D: codes [N, H, W, C], weights [1, KH, KW, C * multiplier] -> int8 codes.

    Output channel c * multiplier + m is input channel c under its filter m.
    """
    codes, weights, bias = _padded(inputs)
    multiplier, remainder = divmod(weights.shape[3], codes.shape[3])
    if remainder:
        raise ValueError(
            f"operator {operator.index} (DEPTHWISE_CONV_2D) has {codes.shape[3]} input channels and "
            f"{weights.shape[3]} filters; their number is a multiple of the channels."
        )
    window = Window.from_options(codes.shape[1:3], weights.shape[1:3], operator.options)
    images = max(1, PATCH_NUMBERS // (window.output[0] * window.output[1] * weights.shape[3]))
    parts = []
    for start in range(0, len(codes), images):
        shifted = codes[start : start + images].astype(np.int32) - np.int32(operator.inputs[0].zero_point)
        sums = np.zeros((len(shifted), *window.output, weights.shape[3]), np.int32)
        for row, column, patch in window.taps(shifted, fill=0):
            repeated = np.repeat(patch, multiplier, axis=3) if multiplier > 1 else patch
            sums += repeated * weights[0, row, column].astype(np.int32)
        parts.append(requantize(sums, bias, operator, rules, lanes=LANES))
    return np.concatenate(parts)


@computes("FULLY_CONNECTED", in_xnnpack=_rows_fill_bytes)
def fully_connected(operator, inputs, rules):
    """FULLY_CONNECTED: codes [..., inputs], weights [units, inputs] -> int8 [batch, units].

    The codes are read as rows of `inputs`; with keepNumDims the leading dimensions stay.
    """
    codes, weights, bias = _padded(inputs)
    if codes.size % weights.shape[1]:
        raise ValueError(
            f"operator {operator.index} (FULLY_CONNECTED) has an input of shape {codes.shape}, which is no "
            f"whole number of rows of {weights.shape[1]}."
        )
    # Only dense weights may have a zero point, and only with one scale for all.
    zero_point = operator.inputs[1].zero_point if len(operator.inputs[1].scales) == 1 else 0
    matrix = weights.astype(np.int16) - np.int16(zero_point)
    floating = exact_type(matrix)
    rows = codes.reshape(-1, weights.shape[1]).astype(floating) - floating(operator.inputs[0].zero_point)
    result = requantize(rows @ matrix.T.astype(floating), bias, operator, rules)
    if operator.options is not None and operator.options.keepNumDims:
        return result.reshape(*codes.shape[:-1], len(weights))
    return result


def _padded(inputs):
    """Input, weights, bias; a bias that the file leaves out is None."""
    return (*inputs, None)[:3]


def exact_type(matrix):
    """The float type in which products with codes without their zero point sum up exactly.

    matrix: integers [units, inputs]. Codes differ from a zero point by 255 at most.
    """
    largest = 255 * int(np.abs(matrix.astype(np.int64)).sum(axis=1).max(initial=0))
    return np.float32 if largest < 2**24 else np.float64


def requantize(sums, bias, operator, rules, *, lanes=None):
    """Sums [..., channels] without bias -> int8 codes; the operator's inputs are input and weights.

    lanes: channels per vector of TFLite's optimized kernel; None where ruy computes all of them.
    """
    accumulators = sums.astype(np.int64)
    if bias is not None:
        accumulators += bias
    accumulators = rounding.wrap_int32(accumulators)
    source, weights, target = operator.inputs[0], operator.inputs[1], operator.outputs[0]
    if rules == "xnnpack":
        multipliers = source.scale * weights.scales / target.scale
        values = rounding.scale_half_even(accumulators, multipliers)
    elif rules == "reference" and operator.kind == "FULLY_CONNECTED":
        values = rounding.half_away(accumulators * _ratios(source, weights, target))
    else:
        values = _fixed_point(accumulators, operator, rules, lanes)
    return saturate(values + target.zero_point, activation_bounds(operator, rules))


def _fixed_point(accumulators, operator, rules, lanes):
    source, weights, target = operator.inputs[0], operator.inputs[1], operator.outputs[0]
    ratios = _ratios(source, weights, target)
    if operator.kind == "FULLY_CONNECTED" and len(weights.scales) == 1:
        # This one operator multiplies the two scales in float32.
        ratios = (source.scale * weights.scales).astype(np.float64) / np.float64(target.scale)
    mantissas, exponents = rounding.fixed_point(np.broadcast_to(ratios, accumulators.shape[-1:]))
    channels = accumulators.shape[-1]
    cut = 0 if rules == "reference" else channels if lanes is None else channels // lanes * lanes
    up = rounding.double_rounding_up(accumulators[..., :cut], mantissas[:cut], exponents[:cut])
    away = rounding.double_rounding_away(accumulators[..., cut:], mantissas[cut:], exponents[cut:])
    return np.concatenate([up, away], axis=-1)


def _ratios(source, weights, target):
    """s_in * s_w / s_out in float64, [1] or [channels]."""
    return np.float64(source.scale) * weights.scales.astype(np.float64) / np.float64(target.scale)
