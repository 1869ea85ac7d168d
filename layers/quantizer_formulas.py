"""LSQ element by element: what plain TensorFlow ops and the compiled kernels both compute.

x is first rectified, r = clip(x, floor, cap) (bounds of infinity leave it as it is), then quantized,
q = s * clip(round(r / s), low, high). Gradients are as in `layers.lsq`; the rectifier passes them where
floor < x < cap, as TensorFlow's ReLU and ReLU6 do.
"""

import tensorflow as tf


def rectify(x, bounds):
    """clip(x, floor, cap) for bounds, a (2,) tensor."""
    return tf.maximum(tf.minimum(x, bounds[1]), bounds[0])


def quantize(x, step_size, low, high):
    """s * clip(round(x / s), low, high)."""
    return tf.clip_by_value(tf.round(x / step_size), low, high) * step_size


def step_slope(x, step_size, low, high):
    """dq/ds: round(v) - v inside the clip range, low below, high above, for v = x / s."""
    scaled = x / step_size
    inside = (scaled >= low) & (scaled <= high)
    # The codes already equal low or high outside, so one expression serves all three cases.
    return tf.clip_by_value(tf.round(scaled), low, high) - tf.where(inside, scaled, tf.zeros_like(scaled))


def pass_inside(upstream, x, bounds, step_size, low, high):
    """The upstream gradient where x is inside the clip range and not rectified, else 0."""
    scaled = rectify(x, bounds) / step_size
    inside = (scaled >= low) & (scaled <= high) & _not_rectified(x, bounds)
    return tf.where(inside, upstream, tf.zeros_like(upstream))


def mix(x, step_sizes, probabilities, ranges):
    """Probability-weighted sum of the branches; step_sizes and probabilities (B,), ranges (B, 2)."""
    branches = _branches(x, step_sizes, ranges)
    return tf.add_n([p * q for p, q in zip(tf.unstack(probabilities), branches, strict=True)])


def mix_slope(upstream, x, bounds, step_sizes, probabilities, ranges):
    """The gradient of `mix` for x: upstream times the probability of the branches that do not clip x."""
    rectified = rectify(x, bounds)
    slope = tf.zeros_like(x)
    for s, p, limits in zip(*map(tf.unstack, (step_sizes, probabilities, ranges)), strict=True):
        scaled, (low, high) = rectified / s, tf.unstack(limits)
        slope += tf.where((scaled >= low) & (scaled <= high), p, tf.zeros_like(p))
    return tf.where(_not_rectified(x, bounds), upstream * slope, tf.zeros_like(upstream))


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


def _not_rectified(x, bounds):
    return (x > bounds[0]) & (x < bounds[1])
