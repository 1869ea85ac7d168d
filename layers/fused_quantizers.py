"""The quantizers of `layers.lsq` for large activations, compiled by XLA into few loops.

Forward reads the tensor and writes the result. Backward is a loop for the sums that the gradients of step
sizes and alpha need (`layers.unrolled_sums`) and one for the gradient of the tensor. Where the tensor is a
batch norm's output (`layers.sources`), both start from the batch norm's input, and its gradient follows.
"""

import tensorflow as tf

from layers import batch_norm_arithmetic as arithmetic
from layers import quantizer_formulas as formulas
from layers.sources import Source
from layers.unrolled_sums import partial_sums


def fake_quantize(source: Source, step_size, *, low, high, gradient_scale) -> tf.Tensor:
    """`lsq.fake_quantize` of a source, with a scalar step size."""

    def gradient(sums):
        return gradient_scale * sums[0]

    return _apply(_QUANTIZE, source, step_size, lambda step_size: (step_size, low, high), gradient)


def mix_branches(source: Source, step_sizes, alpha, *, ranges) -> tf.Tensor:
    """`lsq.mix_branches` of a source."""
    probabilities = tf.nn.softmax(tf.stop_gradient(alpha))

    def gradient(sums):
        return formulas.softmax_gradient(probabilities, tf.stack([tf.constant(0.0), *sums]))

    return _apply(_MIX, source, alpha, lambda _: (step_sizes, probabilities, ranges), gradient)


def _apply(kernels, source, parameter, settings_of, parameter_gradient):
    """The kernels' forward pass, with gradients for the source's tensors and the parameter."""
    forward, backward = kernels
    bounds = tf.constant(source.bounds, tf.float32)
    norm = source.normalized

    @tf.custom_gradient
    def quantize(tensors, parameter):
        settings = settings_of(parameter)
        affine = arithmetic.affine_of(norm) if norm else None

        def gradient(upstream):
            dy, partials = backward(tensors[0], affine, upstream, bounds, settings)
            tensor_gradients = arithmetic.gradients(norm, dy) if norm else (dy,)
            return list(tensor_gradients), parameter_gradient(_totals(partials))

        return forward(tensors[0], affine, bounds, settings), gradient

    return quantize([norm.x, norm.gamma, norm.beta] if norm else [source.x], parameter)


def _totals(partials):
    totals = []
    for partial in partials:
        total = tf.reduce_sum(partial)
        totals += [tf.math.real(total), tf.math.imag(total)] if partial.dtype.is_complex else [total]
    return totals


def _kernels(value, pass_back, summands):
    """Compiled loops of a quantizer of x, or of x * slope + offset where affine = (slope, offset) is given.

    Args:
      value: (rectified x, *settings) -> result.
      pass_back: (upstream, x, bounds, *settings) -> gradient for x.
      summands: (upstream, rectified x, *settings) -> tensors whose sums the parameter's gradient needs.
    """

    @arithmetic.compiled
    def forward(x, affine, bounds, settings):
        return value(formulas.rectify(_normalize(x, affine), bounds), *settings)

    @arithmetic.compiled
    def backward(x, affine, upstream, bounds, settings):
        def summand(index):
            def of(x, upstream):
                rectified = formulas.rectify(_normalize(x, affine), bounds)
                return summands(upstream, rectified, *settings)[index]

            return of

        count, channels = len(summands(upstream, x, *settings)), x.shape[-1] if affine else 1
        partials = [partial_sums(summand(i), x, upstream, channels=channels) for i in range(count)]
        return pass_back(upstream, _normalize(x, affine), bounds, *settings), partials

    return forward, backward


def _normalize(x, affine):
    return x if affine is None else arithmetic.affine(x, *affine)


def _quantize_summands(upstream, x, step_size, low, high):
    return [upstream * formulas.step_slope(x, step_size, low, high)]


def _mix_summands(upstream, x, step_sizes, probabilities, ranges):
    products = [upstream * difference for difference in formulas.branch_differences(x, step_sizes, ranges)]
    # A complex number holds two real ones: both are summed in one loop.
    pairs = [tf.complex(*pair) for pair in zip(products[0::2], products[1::2], strict=False)]
    return pairs + products[len(pairs) * 2 :]


_QUANTIZE = _kernels(formulas.quantize, formulas.pass_inside, _quantize_summands)
_MIX = _kernels(formulas.mix, formulas.mix_slope, _mix_summands)
