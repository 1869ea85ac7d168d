"""Learned step size quantization (LSQ) as pure functions.

A tensor x is mapped to integer codes on a uniform grid and back,

    q(x) = s * clip(round(x / s), low, high),        s > 0 the learned step size,

with the gradients of LSQ (Esser et al. 2020): the identity inside the clip range for x, and for s

    dq/ds = g * (round(v) - v  inside,  low below,  high above),   v = x / s,   g = 1 / sqrt(N * high).

Rounding is half to even, as in XNNPACK and numpy.

    >>> low, high = code_range(3, signed=False)
    >>> values = fake_quantize([-1.0, 0.2, 0.5, 2.6, 100.0], 0.5, low=low, high=high, gradient_scale=1.0)
    >>> values.numpy().tolist()
    [0.0, 0.0, 0.5, 2.5, 3.5]
"""

import math

import tensorflow as tf

from mmx_tf.layers import replicas
from mmx_tf.layers.fusion import Source
from mmx_tf.layers.lsq import formulas
from mmx_tf.layers.lsq import fused as fused_quantizers

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
      x: float tensor of any shape, or a `Source`: values and gradients are then those of its batch norm,
        rectifier and padding followed by the quantizer.
      step_size: positive tensor that broadcasts against x: a scalar, or x's rank with ones on the axes
        that share a step (one step per channel).
      low, high: smallest and largest code.
      gradient_scale: g above; multiplies the gradient of the step size only.
      fused: compile forward and backward pass with XLA (`layers.lsq.fused`) where the step size is a
        scalar. Pays for activations; for small tensors the compilation does not.

    Returns:
      Tensor of x's shape whose values are integer multiples of the step size.
    """
    source = _source(x)
    step_size = tf.convert_to_tensor(step_size, tf.float32)
    low, high, gradient_scale = map(_float32, (low, high, gradient_scale))
    if fused and step_size.shape.rank == 0 and source.x.shape.rank > 0:
        settings = {"low": low, "high": high, "gradient_scale": gradient_scale}
        return source.padded(fused_quantizers.fake_quantize(source, step_size, **settings))
    bounds = formulas.limits(source.bounds)

    @tf.custom_gradient
    def quantize(x, step_size):
        rectified, grid = formulas.rectify(x, bounds), formulas.grid(bounds, step_size, low, high)

        def gradient(upstream):
            slopes = upstream * formulas.step_slope(rectified, grid)
            dx = formulas.pass_inside(upstream, x, grid)
            return dx, gradient_scale * _sum_to_shape_of(step_size, slopes)

        return formulas.quantize(rectified, grid), gradient

    return source.padded(quantize(source.x, step_size))


def limit_shrinking(step_size: tf.Tensor) -> tf.Tensor:
    """The step size itself, with its gradient clipped to at most the step size.

    LSQ's gradient scale keeps the relative update of a step size near the relative update of the weights, far
    below this limit. The first steps after a change of bits, or a large learning rate, can exceed it: an
    unlimited update may then take a step size to zero in one go, and a layer that has lost its grid does not
    come back.
    Growing is not limited. On several replicas the limit holds for the sum of their gradients, of which each
    gives the optimizer an equal share.
    """
    # A variable of several replicas is no argument that TensorFlow would take for a tensor.
    return _limit_shrinking(tf.convert_to_tensor(step_size))


@tf.custom_gradient
def _limit_shrinking(step_size):
    def gradient(upstream):
        limited = tf.minimum(replicas.summed(upstream), step_size)
        return limited / parts if (parts := replicas.count()) > 1 else limited

    return tf.identity(step_size), gradient


def mix_branches(x, step_sizes, alpha, *, ranges, fused: bool = False) -> tf.Tensor:
    """softmax(alpha)-weighted sum of the quantized branches (paper eq. 2), for the bit-search step.

    Gradients flow to x and to alpha. The step sizes get none: the bit-search step holds them fixed (paper
    Table 1). With p = softmax(alpha) and branches q_i, dalpha_i = p_i (d_i - sum_j p_j d_j) for
    d_i = sum(upstream * (q_i - q_0)): what all branches have in common drops out.

    Args:
      x: float tensor of any shape, or a `Source`, as for `fake_quantize`.
      step_sizes: (B,) positive step sizes, one per branch.
      alpha: (B,) architectural parameters.
      ranges: B pairs (low, high), numbers or a (B, 2) tensor.
      fused: as for `fake_quantize`.

    Returns:
      Tensor of x's shape.
    """
    source = _source(x)
    step_sizes = tf.stop_gradient(tf.convert_to_tensor(step_sizes, tf.float32))
    alpha, ranges = (tf.convert_to_tensor(values, tf.float32) for values in (alpha, ranges))
    if fused and source.x.shape.rank > 0:
        return source.padded(fused_quantizers.mix_branches(source, step_sizes, alpha, ranges=ranges))
    bounds = formulas.limits(source.bounds)

    @tf.custom_gradient
    def mix(x, alpha):
        rectified, probabilities = formulas.rectify(x, bounds), tf.nn.softmax(alpha)
        branches, weights = formulas.grids(bounds, step_sizes, ranges), tf.unstack(probabilities)

        def gradient(upstream):
            differences = formulas.branch_differences(rectified, branches)
            sums = [tf.constant(0.0), *(tf.reduce_sum(upstream * difference) for difference in differences)]
            dx = formulas.mix_slope(upstream, x, branches, weights)
            return dx, formulas.softmax_gradient(probabilities, tf.stack(sums))

        return formulas.mix(rectified, branches, weights), gradient

    return source.padded(mix(source.x, alpha))


def _source(x) -> Source:
    return x if isinstance(x, Source) else Source(tf.convert_to_tensor(x, tf.float32))


def _float32(number) -> tf.Tensor:
    # A Python number as a constant: tf.cast would add an operation to each of many quantizers.
    return tf.cast(number, tf.float32) if tf.is_tensor(number) else tf.constant(number, tf.float32)


def _sum_to_shape_of(step_size, per_element):
    if step_size.shape.rank == 0:
        return tf.reduce_sum(per_element)
    axes = [axis for axis, length in enumerate(step_size.shape) if length == 1]
    return tf.reduce_sum(per_element, axis=axes, keepdims=True)
