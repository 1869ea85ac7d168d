"""The weight quantizer of a bit selection phase that searches weight bits: one branch per candidate.

All branches quantize the one full-precision kernel of a layer, each with step sizes of its own; a row of the
search's alpha says how likely each is. This is the weights' half of a search for both bit-widths (the
paper's footnote 5), as `layers.quantizers.multi_branch` is the activations'. A call runs one of four ways:

    quantizer(kernel, branch=1)                     # bit-meta step: branch 1 alone
    quantizer(kernel, branch="mixed", alpha=row)    # bit-search step: softmax(alpha)-weighted sum of all
    quantizer(kernel, branch="joint", alpha=row)    # the same, with gradients of the step sizes too
    quantizer(kernel, branch=None, alpha=row)       # the branch with the largest alpha

A convolution is linear in its kernel, so the mix of kernels gives the mix of the convolutions at the cost of
one of them.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import tensorflow as tf
import tf_keras as keras

from mmx_tf.layers import branches
from mmx_tf.layers.as_written import AsWritten
from mmx_tf.layers.lsq import lsq
from mmx_tf.layers.quantizers.activation import add_step_sizes
from mmx_tf.layers.quantizers.weights import kernel_attribute, step_size_shape


@keras.saving.register_keras_serializable(package="mmx_tf")
class MultiBranchWeightQuantizer(AsWritten, keras.layers.Layer):
    """Symmetric LSQ quantizer of a kernel with W branches; codes +-(2^(b-1)-1).

    Attributes:
      bit_widths: W distinct candidate bit-widths, in the order of the branches.
      step_shape: shape of a branch's step sizes, () or one per output channel (`step_size_shape`).
      step_sizes: (W, *step_shape) variable (after build); meaningless until `initialize`.
    """

    def __init__(self, *, bit_widths, step_shape=(), **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self._ranges = tuple(lsq.weight_code_range(bits) for bits in bit_widths)
        self.bit_widths = tuple(int(bits) for bits in bit_widths)
        self.step_shape = tuple(step_shape)

    @classmethod
    def of_layer(cls, layer: keras.layers.Layer, *, bit_widths, name: str) -> "MultiBranchWeightQuantizer":
        """The quantizer of a built Conv2D, DepthwiseConv2D or Dense, its step sizes set from the kernel.

        As in weight training there is a step size per output channel of a convolution, and one for a dense
        layer.
        """
        kernel = kernel_of(layer)
        per_channel = not isinstance(layer, keras.layers.Dense)
        shape = step_size_shape(layer, kernel.shape, per_channel=per_channel)
        quantizer = cls(bit_widths=bit_widths, step_shape=shape, name=name)
        quantizer.build(kernel.shape)
        quantizer.initialize(kernel)
        return quantizer

    def build(self, kernel_shape):
        """Creates step sizes."""
        count = len(self.bit_widths)
        self.step_sizes = add_step_sizes(self, (count, *self.step_shape), "step_sizes")
        super().build(kernel_shape)

    def initialize(self, kernel: tf.Tensor) -> None:
        """Sets the step sizes of all branches from a kernel by LSQ's rule 2 * mean|w| / sqrt(high)."""
        axes = [axis for axis, length in enumerate(self.step_shape) if length == 1] or None
        steps = [lsq.initial_step_size(kernel, high=high, axes=axes) for _, high in self._ranges]
        self.step_sizes.assign(tf.stack(steps))

    def call(self, kernel, branch=0, alpha=None):
        """Quantizes a kernel; shape unchanged.

        Args:
          kernel: full-precision kernel.
          branch: index of a branch (integer or scalar integer tensor), `MIXED`, `JOINT` (see
            `layers.branches`), or None for the branch with the largest alpha.
          alpha: (W,) architectural parameters; all but an index needs them.

        Raises:
          ValueError: if `branch` is not one of these, or needs an alpha that is not given.
        """
        elements = kernel.shape.num_elements()
        settings = [(*pair, lsq.gradient_scale(elements, pair[1])) for pair in self._ranges]
        return branches.run(
            branch,
            alpha,
            settings,
            single=lambda index, values: self._single(kernel, index, values),
            mixed=lambda: lsq.mix_branches(kernel, self.step_sizes, alpha, ranges=self._ranges),
        )

    def _single(self, kernel, branch, settings):
        low, high, scale = settings
        return lsq.fake_quantize(kernel, self.step_sizes[branch], low=low, high=high, gradient_scale=scale)

    def get_config(self):
        """Returns the constructor's arguments."""
        own = {"bit_widths": list(self.bit_widths), "step_shape": list(self.step_shape)}
        return {**super().get_config(), **own}


def kernel_of(layer: keras.layers.Layer) -> tf.Variable:
    """The kernel variable of a built weighted layer."""
    return getattr(layer, kernel_attribute(layer))


@contextmanager
def computing_with(kernel: tf.Tensor, layer: keras.layers.Layer) -> Iterator[None]:
    """While the block lasts, a weighted layer computes with `kernel` in place of its own.

    As tfmot's wrapper does for one call, but the layer's variables stay what and in the order that they are.
    """
    attribute, own = kernel_attribute(layer), kernel_of(layer)
    # Through setattr, Keras would forget the variable and take it up again behind the bias.
    vars(layer)[attribute] = kernel
    try:
        yield
    finally:
        vars(layer)[attribute] = own
