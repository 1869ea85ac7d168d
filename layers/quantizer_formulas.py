"""LSQ element by element: what plain TensorFlow ops and the compiled kernels both compute.

x is first rectified, r = clip(x, floor, cap) (bounds of infinity leave it as it is), then quantized,
q = s * clip(round(r / s), low, high). Gradients are as in `layers.lsq`, with low * s <= r <= high * s for the
inside of the clip range; the rectifier passes them where floor < x < cap, as TensorFlow's ReLU and ReLU6 do.
"""

import numpy as np
import tensorflow as tf


def limits(bounds: tuple[float, float]) -> tf.Tensor:
    """(4,): floor and cap of the rectifier, then the smallest and largest x whose gradient it passes.

    With the last two, being inside the clip range and not being rectified is one interval of x: two
    comparisons, no division.
    """
    floor, cap = np.float32(bounds)
    # Denormal numbers count as zero where TensorFlow computes.
    above = np.finfo(np.float32).tiny if floor == 0 else np.nextafter(floor, np.float32(np.inf))
    return tf.constant([floor, cap, above, np.nextafter(cap, np.float32(-np.inf))], tf.float32)


def rectify(x, bounds):
    """clip(x, floor, cap) for bounds of `limits`."""
    return tf.maximum(tf.minimum(x, bounds[1]), bounds[0])


def quantize(x, step_size, low, high):
    """s * clip(round(x / s), low, high)."""
    return tf.clip_by_value(tf.round(x / step_size), low, high) * step_size


def step_slope(x, step_size, low, high):
    """dq/ds: round(v) - v inside the clip range, low below, high above, for v = x / s."""
    scaled = x / step_size
    inside = (x >= low * step_size) & (x <= high * step_size)
    # The codes already equal low or high outside, so one expression serves all three cases.
    return tf.clip_by_value(tf.round(scaled), low, high) - tf.where(inside, scaled, tf.zeros_like(scaled))


def pass_inside(upstream, x, bounds, step_size, low, high):
    """The upstream gradient where x is inside the clip range and not rectified, else 0."""
    return tf.where(_passes(x, bounds, step_size, low, high), upstream, tf.zeros_like(upstream))


def mix(x, step_sizes, probabilities, ranges):
    """Probability-weighted sum of the branches; step_sizes and probabilities (B,), ranges (B, 2)."""
    branches = _branches(x, step_sizes, ranges)
    return tf.add_n([p * q for p, q in zip(tf.unstack(probabilities), branches, strict=True)])


def mix_slope(upstream, x, bounds, step_sizes, probabilities, ranges):
    """The gradient of `mix` for x: upstream times the probability of the branches that do not clip x."""
    slope = tf.zeros_like(x)
    for s, p, codes in zip(*map(tf.unstack, (step_sizes, probabilities, ranges)), strict=True):
        slope += tf.where(_passes(x, bounds, s, codes[0], codes[1]), p, tf.zeros_like(p))
    return upstream * slope


def branch_differences(x, step_sizes, ranges):
    """B - 1 tensors: each branch but the first, less the first."""
    first, *others = _branches(x, step_sizes, ranges)
    return [branch - first for branch in others]


def softmax_gradient(probabilities, slopes):
    """dL/dalpha for p = softmax(alpha) and dL/dp, all (B,); a constant in all of dL/dp drops out."""
    return probabilities * (slopes - tf.reduce_sum(probabilities * slopes))


def _branches(x, step_sizes, ranges):
    steps = zip(tf.unstack(step_sizes), tf.unstack(ranges), strict=True)
    return [quantize(x, step_size, *tf.unstack(limits)) for step_size, limits in steps]


def _passes(x, bounds, step_size, low, high):
    first, last = tf.maximum(low * step_size, bounds[2]), tf.minimum(high * step_size, bounds[3])
    return (x >= first) & (x <= last)
