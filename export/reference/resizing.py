"""Images in another size: RESIZE_BILINEAR and RESIZE_NEAREST_NEIGHBOR.

    codes = resize_bilinear(operator, [image, size], "xnnpack")        # int8 [N, *size, C]

Only the first computes. Both runtimes mix the four pixels around a place in integers and round once, but
XNNPACK places it in float32 with weights of 11 fractional bits, TFLite in integers with 10.
"""

import numpy as np

from mmx_tf.export.reference import rounding
from mmx_tf.export.reference.kernels import computes

XNNPACK_BITS, TFLITE_BITS = 11, 10


@computes("RESIZE_BILINEAR")
def resize_bilinear(operator, inputs, rules):
    """RESIZE_BILINEAR: the mean of the four pixels around each place, weighted by how near they are.

    XNNPACK rounds it half up, TFLite half away from zero. Input and output are on one grid.
    """
    codes, size = inputs[0].astype(np.int64), [int(length) for length in inputs[1]]
    places_of = xnnpack_places if rules == "xnnpack" else _tflite_places
    bits = XNNPACK_BITS if rules == "xnnpack" else TFLITE_BITS
    for axis, shape in ((2, (1, 1, -1, 1)), (1, (1, -1, 1, 1))):
        first, second, weights = places_of(codes.shape[axis], size[axis - 1], operator.options)
        weights = weights.reshape(shape)
        near = np.take(codes, first, axis=axis) * ((1 << bits) - weights)
        codes = near + np.take(codes, second, axis=axis) * weights
    if rules == "xnnpack":
        return ((codes + (1 << (2 * bits - 1))) >> 2 * bits).astype(np.int8)
    return rounding.divide_half_away(codes, 1 << 2 * bits).astype(np.int8)


def xnnpack_places(length, size, options):
    """(first pixel, second pixel, weight of the second) of every place along an axis, in float32."""
    aligned = int(options.alignCorners and size > 1)
    scale = np.float32(length - aligned) / np.float32(size - aligned)
    places = np.arange(size, dtype=np.float32) * scale
    if options.halfPixelCenters:
        places = places + (np.float32(0.5) * scale - np.float32(0.5))
    places = np.clip(places, 0, np.float32(length - 1))
    first = places.astype(np.int64)
    weights = np.rint((places - first.astype(np.float32)) * np.float32(1 << XNNPACK_BITS))
    return first, np.minimum(first + 1, length - 1), weights.astype(np.int64)


def _tflite_places(length, size, options):
    """The same in TFLite's integers; a place in front of the first pixel has a weight below zero."""
    one = 1 << TFLITE_BITS
    aligned = int(options.alignCorners and size > 1)
    scale = (one * (length - aligned) + (size - aligned) // 2) // (size - aligned)
    places = np.arange(size) * scale + (scale // 2 - one // 2 if options.halfPixelCenters else 0)
    first = np.clip(rounding.truncating_shift(places, TFLITE_BITS), 0, length - 1)
    second = np.minimum((places + one - 1) >> TFLITE_BITS, length - 1)
    return first, second, places - first * one


@computes("RESIZE_NEAREST_NEIGHBOR")
def resize_nearest(operator, inputs, rules):
    """RESIZE_NEAREST_NEIGHBOR: the pixel at each place, which is computed in float32."""
    codes = inputs[0]
    for axis, size in enumerate(inputs[1], start=1):
        length, size = codes.shape[axis], int(size)
        aligned = int(operator.options.alignCorners and size > 1)
        scale = np.float32(length - aligned) / np.float32(size - aligned)
        half = np.float32(0.5 if operator.options.halfPixelCenters else 0)
        places = (np.arange(size, dtype=np.float32) + half) * scale
        places = rounding.half_away(places) if operator.options.alignCorners else np.floor(places)
        codes = np.take(codes, np.clip(places.astype(np.int64), 0, length - 1), axis=axis)
    return codes
