"""The quantizers of `layers.lsq.lsq` for large activations, compiled by XLA into few loops.

Forward reads the tensor and writes the result. Backward is a loop for the sums that the gradients of step
sizes and alpha need (`layers.unrolled_sums`) and one for the gradient of the tensor. Where the tensor is a
batch norm's output (`layers.fusion`), both start from the batch norm's input and give its gradients too.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from mmx_tf.layers import batch_norm_arithmetic as arithmetic
from mmx_tf.layers.fusion import Source
from mmx_tf.layers.lsq import formulas
from mmx_tf.layers.unrolled_sums import partial_sums, totals


def fake_quantize(source: Source, step_size, *, low, high, gradient_scale) -> tf.Tensor:
    """`lsq.fake_quantize` of a source, with a scalar step size."""

    def gradient(sums):
        return gradient_scale * sums[0]

    return _apply(_QUANTIZE, source, step_size, lambda step_size: (step_size, low, high), gradient)


def mix_branches(source: Source, step_sizes, alpha, *, ranges) -> tf.Tensor:
    """`lsq.mix_branches` of a source."""
    probabilities = tf.nn.softmax(tf.stop_gradient(alpha))

    def gradient(sums):
        return formulas.softmax_gradient(
            probabilities, tf.concat([[0.0], sums[: ranges.shape[0] - 1]], axis=0)
        )

    return _apply(_MIX, source, alpha, lambda _: (step_sizes, probabilities, ranges), gradient)


def _apply(kernels, source, parameter, settings_of, parameter_gradient):
    """The kernels' forward pass, with gradients for the source's tensors and the parameter."""
    bounds = formulas.limits(source.bounds)
    norm = source.normalized
    affine = arithmetic.affine_of(norm) if norm else None

    @tf.custom_gradient
    def quantize(tensors, parameter):
        x, settings = tensors[0], settings_of(parameter)

        def gradient(upstream):
            if norm is None:
                dx, partial = kernels.backward(x, upstream, bounds, settings)
                return [dx], parameter_gradient(totals(partial)[:, 0])
            sums = totals(kernels.sums(x, affine, norm.mean, upstream, bounds, settings))
            coefficients, dgamma, dbeta = arithmetic.gradient_coefficients(norm, sums[-2:])
            dx = kernels.normalized_backward(x, affine, coefficients, upstream, bounds, settings)
            return [dx, dgamma, dbeta], parameter_gradient(tf.reduce_sum(sums[:-2], axis=1))

        return kernels.forward(x, affine, bounds, settings), gradient

    return quantize([norm.x, norm.gamma, norm.beta] if norm else [source.x], parameter)


class _Kernels(NamedTuple):
    """Compiled loops of a quantizer of x, or of y = x * slope + offset where affine = (slope, offset).

    Attributes:
      forward: (x, affine or None, bounds, settings) -> the result.
      backward: (x, upstream, bounds, settings) -> (gradient for x, partial sums of the summands).
      sums: (x, affine, mean, upstream, bounds, settings) -> partial sums by channel of the summands, then of
        those of the batch norm's gradients.
      normalized_backward: (x, affine, the batch norm's coefficients, upstream, bounds, settings) -> gradient
        for x.
    """

    forward: Callable
    backward: Callable
    sums: Callable
    normalized_backward: Callable


def _kernels(prepare, value, gradient, summands) -> _Kernels:
    """The loops of three functions of single elements.

    Args:
      prepare: (bounds, *settings) -> what the others take as `prepared`, scalars that hold for all elements.
      value: (rectified y, *prepared) -> result.
      gradient: (upstream, y, *prepared) -> gradient for y.
      summands: (upstream, rectified y, *prepared) -> tensors whose sums the parameter's gradient needs.
    """

    @arithmetic.compiled
    def forward(x, affine, bounds, settings):
        y = x if affine is None else arithmetic.affine(x, *affine)
        return value(formulas.rectify(y, bounds), *prepare(bounds, *settings))

    @arithmetic.compiled
    def backward(x, upstream, bounds, settings):
        prepared, bounds = prepare(bounds, *settings), tf.unstack(bounds)

        def terms(x, upstream):
            return summands(upstream, formulas.rectify(x, bounds), *prepared)

        return gradient(upstream, x, *prepared), partial_sums(terms, x, upstream)

    @arithmetic.compiled
    def sums(x, affine, mean, upstream, bounds, settings):
        prepared, bounds = prepare(bounds, *settings), tf.unstack(bounds)

        def terms(x, upstream):
            y = arithmetic.affine(x, *affine)
            dy = gradient(upstream, y, *prepared)
            found = summands(upstream, formulas.rectify(y, bounds), *prepared)
            return [*found, *arithmetic.gradient_summands(x, dy, mean)]

        return partial_sums(terms, x, upstream, channels=x.shape[-1])

    @arithmetic.compiled
    def normalized_backward(x, affine, coefficients, upstream, bounds, settings):
        dy = gradient(upstream, arithmetic.affine(x, *affine), *prepare(bounds, *settings))
        return arithmetic.gradient_of(x, dy, coefficients)

    return _Kernels(forward, backward, sums, normalized_backward)


def _grid(bounds, step_size, low, high):
    return (formulas.grid(bounds, step_size, low, high),)


def _quantize_summands(upstream, x, grid):
    return [upstream * formulas.step_slope(x, grid)]


def _branches(bounds, step_sizes, probabilities, ranges):
    return formulas.grids(bounds, step_sizes, ranges), tf.unstack(probabilities)


def _mix_summands(upstream, x, branches, _):
    differences = formulas.branch_differences(x, branches)
    # A single branch has no differences, but a loop must have something to add.
    return [upstream * difference for difference in differences or [tf.zeros_like(x)]]


_QUANTIZE = _kernels(_grid, formulas.quantize, formulas.pass_inside, _quantize_summands)
_MIX = _kernels(_branches, formulas.mix, formulas.mix_slope, _mix_summands)
