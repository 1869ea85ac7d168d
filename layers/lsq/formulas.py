"""LSQ element by element: what plain TensorFlow ops and the compiled kernels both compute.

x is first rectified, r = clip(x, floor, cap) (bounds of infinity leave it as it is), then quantized,
q = s * clip(round(r / s), low, high). Gradients are as in `layers.lsq.lsq`, with low * s <= r <= high * s for
the inside of the clip range; the rectifier passes them where floor < x < cap, as TensorFlow's ReLU and ReLU6
do.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf


class Grid(NamedTuple):
    """What a quantizer's formulas need of its step size and codes, worked out once for all elements.

    Attributes:
      step_size: s, a scalar, or one per channel with ones on the other axes.
      low, high: smallest and largest code.
      smallest, largest: low * s and high * s, the ends of the clip range.
      first, last: the smallest and the largest x whose gradient is passed: inside the clip range and not
        rectified, in one interval.
    """

    step_size: tf.Tensor
    low: tf.Tensor
    high: tf.Tensor
    smallest: tf.Tensor
    largest: tf.Tensor
    first: tf.Tensor
    last: tf.Tensor


def limits(bounds: tuple[float, float]) -> tf.Tensor:
    """(4,): floor and cap of the rectifier, then the smallest and the largest x whose gradient it passes."""
    floor, cap = np.float32(bounds)
    # Denormal numbers count as zero where TensorFlow computes.
    above = np.finfo(np.float32).tiny if floor == 0 else np.nextafter(floor, np.float32(np.inf))
    return tf.constant([floor, cap, above, np.nextafter(cap, np.float32(-np.inf))], tf.float32)


def grid(bounds, step_size, low, high) -> Grid:
    """The grid of a quantizer behind a rectifier, whose bounds are those of `limits`."""
    _, _, above, below = tf.unstack(bounds)
    smallest, largest = low * step_size, high * step_size
    first, last = tf.maximum(smallest, above), tf.minimum(largest, below)
    return Grid(step_size, low, high, smallest, largest, first, last)


def grids(bounds, step_sizes, ranges) -> list[Grid]:
    """The grids of B branches; step_sizes (B,), ranges (B, 2)."""
    codes = [tf.unstack(pair) for pair in tf.unstack(ranges)]
    return [grid(bounds, s, *pair) for s, pair in zip(tf.unstack(step_sizes), codes, strict=True)]


def rectify(x, bounds):
    """clip(x, floor, cap) for bounds of `limits`."""
    return tf.maximum(tf.minimum(x, bounds[1]), bounds[0])


def quantize(x, grid: Grid):
    """s * clip(round(x / s), low, high)."""
    return tf.clip_by_value(tf.round(x / grid.step_size), grid.low, grid.high) * grid.step_size


def step_slope(x, grid: Grid):
    """dq/ds: round(v) - v inside the clip range, low below, high above, for v = x / s."""
    scaled = x / grid.step_size
    inside = (x >= grid.smallest) & (x <= grid.largest)
    # The codes already equal low or high outside, so one expression serves all three cases.
    return tf.clip_by_value(tf.round(scaled), grid.low, grid.high) - tf.where(inside, scaled, 0.0)


def pass_inside(upstream, x, grid: Grid):
    """The upstream gradient where x is inside the clip range and not rectified, else 0."""
    return tf.where(_passes(x, grid), upstream, 0.0)


def mix(x, branches: list[Grid], probabilities: list):
    """Probability-weighted sum of the branches."""
    return tf.add_n([p * quantize(x, branch) for p, branch in zip(probabilities, branches, strict=True)])


def mix_slope(upstream, x, branches: list[Grid], probabilities: list):
    """The gradient of `mix` for x: upstream times the probability of the branches that do not clip x."""
    passed = zip(probabilities, branches, strict=True)
    return upstream * tf.add_n([tf.where(_passes(x, branch), p, 0.0) for p, branch in passed])


def branch_differences(x, branches: list[Grid]):
    """B - 1 tensors: each branch but the first, less the first."""
    first, *others = [quantize(x, branch) for branch in branches]
    return [branch - first for branch in others]


def softmax_gradient(probabilities, slopes):
    """dL/dalpha for p = softmax(alpha) and dL/dp, all (B,); a constant in all of dL/dp drops out."""
    return probabilities * (slopes - tf.reduce_sum(probabilities * slopes))


def _passes(x, grid):
    return (x >= grid.first) & (x <= grid.last)
