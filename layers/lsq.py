"""Learned step size quantization (LSQ) as pure functions.

A tensor x is mapped to integer codes on a uniform grid and back,

    q(x) = s * clip(round(x / s), low, high),        s > 0 the learned step size,

with the gradients of LSQ (Esser et al. 2020): the identity inside the clip range for x, and for s

    dq/ds = g * (round(v) - v  inside,  low below,  high above),   v = x / s,   g = 1 / sqrt(N * high).

Rounding is half to even, as in XNNPACK and numpy.

    >>> low, high = code_range(3, signed=False)
    >>> fake_quantize([-1.0, 0.2, 0.5, 2.6, 100.0], 0.5, low=low, high=high, gradient_scale=1.0)
    [0.0, 0.0, 0.5, 2.5, 3.5]
"""

import math

import tensorflow as tf

STEP_SIZE_FLOOR = 1e-6
"""Smallest step size that is kept: a step of zero or below has no grid."""


def code_range(bits: int, *, signed: bool) -> tuple[int, int]:
    """Smallest and largest integer code of an activation.

    Unsigned tensors (after ReLU, ReLU6, sigmoid) use 0..2^b-1. Signed ones use the symmetric range
    +-(2^(b-1)-1), except at 8 bits, where the whole int8 range -128..127 is used: the container saturates
    there by itself, and a symmetric range would cost the exported file a second QUANTIZE operator to lose
    one code.

    Raises:
      ValueError: if `bits` is not an integer in 2..8.
    """
    if bits not in range(2, 9):
        raise ValueError(f"bits={bits!r}: an activation bit-width is an integer in 2..8.")
    if not signed:
        return 0, 2**bits - 1
    if bits == 8:
        return -128, 127
    return -(2 ** (bits - 1) - 1), 2 ** (bits - 1) - 1


def weight_code_range(bits: int) -> tuple[int, int]:
    """Smallest and largest integer code of a weight: symmetric, +-(2^(b-1)-1).

    Raises:
      ValueError: if `bits` is not an integer in 2..8.
    """
    if bits not in range(2, 9):
        raise ValueError(f"bits={bits!r}: a weight bit-width is an integer in 2..8.")
    return -(2 ** (bits - 1) - 1), 2 ** (bits - 1) - 1


def gradient_scale(elements: int, high: int) -> float:
    """LSQ's g = 1 / sqrt(N * high), with N elements of one example (activation) or of the weight tensor."""
    return 1.0 / math.sqrt(elements * high)


def initial_step_size(x: tf.Tensor, *, high: float, axes: list[int] | None = None) -> tf.Tensor:
    """LSQ's data-dependent initial step size 2 * mean|x| / sqrt(high), kept above `STEP_SIZE_FLOOR`.

    Args:
      x: tensor to be quantized.
      high: largest code.
      axes: axes to average over (kept with length 1); None averages over all and gives a scalar.
    """
    mean = tf.reduce_mean(tf.abs(x), axis=axes, keepdims=axes is not None)
    return tf.maximum(2.0 * mean / tf.sqrt(tf.cast(high, x.dtype)), STEP_SIZE_FLOOR)


def covering_step_size(x: tf.Tensor, *, high: float) -> tf.Tensor:
    """The step size max|x| / high whose grid clips nothing of x, kept above `STEP_SIZE_FLOOR`."""
    return tf.maximum(tf.reduce_max(tf.abs(x)) / tf.cast(high, x.dtype), STEP_SIZE_FLOOR)


def fake_quantize(x, step_size, *, low, high, gradient_scale, fused: bool = False) -> tf.Tensor:
    """Quantizes x to the grid of `step_size` and back, with LSQ's gradients for both.

    Args:
      x: float tensor of any shape.
      step_size: positive tensor that broadcasts against x: a scalar, or x's rank with ones on the axes
        that share a step (one step per channel).
      low, high: smallest and largest code.
      gradient_scale: g above; multiplies the gradient of the step size only.
      fused: compile forward and backward pass into one loop each with XLA. Pays for activations; for small
        tensors the compilation does not.

    Returns:
      Tensor of x's shape whose values are integer multiples of the step size.
    """
    forward, backward = (_fused_forward, _fused_backward) if fused else (_forward, _backward)
    low, high = tf.cast(low, tf.float32), tf.cast(high, tf.float32)

    @tf.custom_gradient
    def quantize(x, step_size):
        def gradient(upstream):
            return backward(x, step_size, upstream, low, high, tf.cast(gradient_scale, tf.float32))

        return forward(x, step_size, low, high), gradient

    return quantize(tf.convert_to_tensor(x, tf.float32), tf.convert_to_tensor(step_size, tf.float32))


@tf.custom_gradient
def limit_shrinking(step_size: tf.Tensor):
    """The step size itself, with its gradient clipped to at most the step size.

    LSQ's gradient scale keeps the relative update of a step size near that of the weights, far below this
    limit. Where it does not (the first steps after a change of bits, a large learning rate), an unlimited
    update can take a step size to zero in one go, and a layer that has lost its grid does not come back.
    Growing is not limited.
    """

    def gradient(upstream):
        return tf.minimum(upstream, step_size)

    return tf.identity(step_size), gradient


def mix_branches(x, step_sizes, probabilities, *, ranges, fused: bool = False) -> tf.Tensor:
    """Probability-weighted sum of the quantized branches (paper eq. 2), for the bit-search step.

    Gradients flow to x and to the probabilities. The step sizes get none: the bit-search step holds them
    fixed (paper Table 1).

    Args:
      x: float tensor of any shape.
      step_sizes: (B,) positive step sizes, one per branch.
      probabilities: (B,) weights of the branches.
      ranges: B pairs (low, high).
      fused: as for `fake_quantize`.

    Returns:
      Tensor of x's shape.
    """
    forward, backward = (_fused_mix_forward, _fused_mix_backward) if fused else (_mix_forward, _mix_backward)
    step_sizes = tf.stop_gradient(tf.convert_to_tensor(step_sizes, tf.float32))
    ranges = tf.constant(ranges, tf.float32)

    @tf.custom_gradient
    def mix(x, probabilities):
        def gradient(upstream):
            return backward(x, step_sizes, probabilities, upstream, ranges)

        return forward(x, step_sizes, probabilities, ranges), gradient

    return mix(tf.convert_to_tensor(x, tf.float32), tf.convert_to_tensor(probabilities, tf.float32))


def _codes(x, step_size, low, high):
    return tf.clip_by_value(tf.round(x / step_size), low, high)


def _inside(x, step_size, low, high):
    scaled = x / step_size
    return tf.cast(tf.logical_and(scaled >= low, scaled <= high), x.dtype)


def _forward(x, step_size, low, high):
    return _codes(x, step_size, low, high) * step_size


def _backward(x, step_size, upstream, low, high, gradient_scale):
    inside = _inside(x, step_size, low, high)
    # The codes already equal low or high outside, so one expression serves all three cases.
    per_element = upstream * (_codes(x, step_size, low, high) - inside * (x / step_size))
    return upstream * inside, gradient_scale * _sum_to_shape_of(step_size, per_element)


def _mix_forward(x, step_sizes, probabilities, ranges):
    return tf.add_n(
        [p * _forward(x, s, low, high) for s, p, (low, high) in _branches(step_sizes, probabilities, ranges)]
    )


def _mix_backward(x, step_sizes, probabilities, upstream, ranges):
    branches = _branches(step_sizes, probabilities, ranges)
    slope = tf.add_n([p * _inside(x, s, low, high) for s, p, (low, high) in branches])
    products = [_sum_all(upstream * _forward(x, s, low, high)) for s, _, (low, high) in branches]
    return upstream * slope, tf.stack(products)


def _branches(step_sizes, probabilities, ranges):
    return list(
        zip(
            tf.unstack(step_sizes),
            tf.unstack(probabilities),
            map(tf.unstack, tf.unstack(ranges)),
            strict=True,
        )
    )


def _sum_to_shape_of(step_size, per_element):
    if step_size.shape.rank == 0:
        return _sum_all(per_element)
    axes = [axis for axis, length in enumerate(step_size.shape) if length == 1]
    return tf.reduce_sum(per_element, axis=axes, keepdims=True)


def _sum_all(x):
    # Over the batch first: XLA vectorises that sum, and short sums of partial sums lose fewer bits.
    return tf.reduce_sum(tf.reduce_sum(x, axis=0)) if x.shape.rank else x


def _fused(function):
    return tf.function(function, jit_compile=True, autograph=False)


_fused_forward, _fused_backward = _fused(_forward), _fused(_backward)
_fused_mix_forward, _fused_mix_backward = _fused(_mix_forward), _fused(_mix_backward)
