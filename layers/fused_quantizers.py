"""The quantizers of `layers.lsq` for large activations, compiled by XLA into few loops.

Forward reads the tensor and writes the result. Backward is a loop for the sums that the gradients of step
sizes and alpha need (`layers.unrolled_sums`) and one for the gradient of the tensor. Where the tensor is a
batch norm's output (`layers.sources`), both start from the batch norm's input and give its gradients too.
"""

import tensorflow as tf

from layers import batch_norm_arithmetic as arithmetic
from layers import quantizer_formulas as formulas
from layers.sources import Source
from layers.unrolled_sums import partial_sums, totals


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
    forward, sums, pass_back = kernels
    bounds = formulas.limits(source.bounds)
    norm = source.normalized

    @tf.custom_gradient
    def quantize(tensors, parameter):
        settings = settings_of(parameter)
        x, affine, mean = tensors[0], None, None
        if norm:
            affine, mean = arithmetic.affine_of(norm), norm.mean

        def gradient(upstream):
            total = totals(sums(x, affine, mean, upstream, bounds, settings))
            coefficients, others = None, []
            if norm:
                coefficients, *others = arithmetic.gradient_coefficients(norm, total[-2:])
                total = total[:-2]
            dx = pass_back(x, affine, coefficients, upstream, bounds, settings)
            return [dx, *others], parameter_gradient(tf.reduce_sum(total, axis=1))

        return forward(x, affine, bounds, settings), gradient

    return quantize([norm.x, norm.gamma, norm.beta] if norm else [source.x], parameter)


def _kernels(value, gradient, summands):
    """Compiled loops of a quantizer of x, or of x * slope + offset where affine = (slope, offset) is given.

    Args:
      value: (rectified x, *settings) -> result.
      gradient: (upstream, x, bounds, *settings) -> gradient for x.
      summands: (upstream, rectified x, *settings) -> tensors whose sums the parameter's gradient needs.

    Returns:
      forward: the result.
      sums: partial sums of the summands and, with an affine, of those of the batch norm's gradients.
      pass_back: the gradient for x, through the batch norm if its coefficients are given.
    """

    @arithmetic.compiled
    def forward(x, affine, bounds, settings):
        return value(formulas.rectify(_normalize(x, affine), bounds), *settings)

    @arithmetic.compiled
    def sums(x, affine, mean, upstream, bounds, settings):
        def terms(x, upstream):
            y = _normalize(x, affine)
            found = summands(upstream, formulas.rectify(y, bounds), *settings)
            if affine is None:
                return found
            dy = gradient(upstream, y, bounds, *settings)
            return [*found, *arithmetic.gradient_summands(x, dy, mean)]

        return partial_sums(terms, x, upstream, channels=1 if affine is None else x.shape[-1])

    @arithmetic.compiled
    def pass_back(x, affine, coefficients, upstream, bounds, settings):
        dy = gradient(upstream, _normalize(x, affine), bounds, *settings)
        return dy if coefficients is None else arithmetic.gradient_of(x, dy, coefficients)

    return forward, sums, pass_back


def _normalize(x, affine):
    return x if affine is None else arithmetic.affine(x, *affine)


def _quantize_summands(upstream, x, step_size, low, high):
    return [upstream * formulas.step_slope(x, step_size, low, high)]


def _mix_summands(upstream, x, step_sizes, probabilities, ranges):
    differences = formulas.branch_differences(x, step_sizes, ranges)
    # A single branch has no differences, but a loop must have something to add.
    return [upstream * difference for difference in differences or [tf.zeros_like(x)]]


_QUANTIZE = _kernels(formulas.quantize, formulas.pass_inside, _quantize_summands)
_MIX = _kernels(formulas.mix, formulas.mix_slope, _mix_summands)
