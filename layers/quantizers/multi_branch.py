"""The activation quantizer of the bit selection phase: one branch per candidate bit-width.

Each branch has its own step size; a vector alpha of one architectural parameter per branch says how likely
it is (paper Figure 4). The search owns alpha and gives each quantizer its row. A call runs one of four ways:

    quantizer(x, branch=1)                       # B-META-FWD: branch 1 alone
    quantizer(x, branch="mixed", alpha=row)      # B-SEARCH-FWD: softmax(alpha)-weighted sum of all (eq. 2)
    quantizer(x, branch="joint", alpha=row)      # the same, with gradients of the step sizes too
    quantizer(x, branch=None, alpha=row)         # the branch with the largest alpha
"""

import tensorflow as tf
import tf_keras as keras

from mmx_tf.layers import branches
from mmx_tf.layers.as_written import AsWritten
from mmx_tf.layers.fusion import SetByFirstBatch, source_of
from mmx_tf.layers.lsq import lsq
from mmx_tf.layers.quantizers.activation import (
    FUSED_FROM_ELEMENTS,
    add_step_sizes,
    elements_of_one_example,
)
from mmx_tf.layers.quantizers.activation_codes import ActivationCodes


@keras.saving.register_keras_serializable(package="mmx_tf")
class MultiBranchQuantizer(SetByFirstBatch, AsWritten, keras.layers.Layer):
    """Activation quantizer with B branches that share their input.

    Attributes:
      bit_widths: B distinct candidate bit-widths, in the order of the branches.
      signed: whether there are codes below zero.
      floor: what the input does not fall below, or None (see `layers.quantizers.activation_codes`).
      codes: B `ActivationCodes`.
      ranges: B pairs (low, high) of codes; where there is a floor, at the step sizes of the moment.
      step_sizes: (B,) variable (after build).
      initialized: (B,) boolean variable (after build): branches whose step size has been set.
    """

    def __init__(self, *, bit_widths, signed: bool, floor: float | None = None, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.codes = tuple(ActivationCodes(bits, signed, floor) for bits in bit_widths)
        self.floor = floor
        self.bit_widths = tuple(int(bits) for bits in bit_widths)
        self.signed = bool(signed)

    @property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        """B pairs (low, high)."""
        return tuple(tuple(int(code) for code in pair) for pair in self._ranges())

    def build(self, input_shape):
        """Creates step sizes and the initialised flags."""
        shape = (len(self.bit_widths),)
        self.step_sizes = add_step_sizes(self, shape, "step_sizes")
        self.initialized = self.add_weight(
            "initialized", shape=shape, dtype=tf.bool, initializer="zeros", trainable=False
        )
        super().build(input_shape)

    def call(self, x, branch=0, alpha=None):
        """Quantizes x; shape unchanged.

        Args:
          x: float tensor (batch, ...).
          branch: index of a branch (integer or scalar integer tensor), `MIXED`, `JOINT`, or None for the
            branch with the largest alpha.
          alpha: (B,) architectural parameters; all but an index needs them.

        Raises:
          ValueError: if `branch` is not one of these, or needs an alpha that is not given.
        """
        self.initialize_once(x)
        elements = elements_of_one_example(x)
        source, fused = source_of(x), elements >= FUSED_FROM_ELEMENTS
        ranges = self._ranges()
        scales = [lsq.gradient_scale(elements, codes.highest) for codes in self.codes]
        settings = [(*pair, scale) for pair, scale in zip(ranges, scales, strict=True)]
        return branches.run(
            branch,
            alpha,
            settings,
            single=lambda index, values: self._single(source, index, values, fused),
            mixed=lambda: lsq.mix_branches(source, self.step_sizes, alpha, ranges=ranges, fused=fused),
        )

    def _single(self, source, branch, values, fused):
        low, high, scale = values
        step_size = lsq.limit_shrinking(self.step_sizes[branch])
        return lsq.fake_quantize(source, step_size, low=low, high=high, gradient_scale=scale, fused=fused)

    def _ranges(self) -> list[tuple]:
        if self.floor is None:
            return [codes.range_at(None) for codes in self.codes]
        steps = tf.unstack(self.step_sizes)
        return [codes.range_at(step) for codes, step in zip(self.codes, steps, strict=True)]

    def get_config(self):
        """Returns the constructor's arguments."""
        own = {"bit_widths": list(self.bit_widths), "signed": self.signed, "floor": self.floor}
        return {**super().get_config(), **own}

    def initialize(self, x):
        """Sets the step sizes of all branches from the same x, whichever of them runs first."""
        self.step_sizes.assign(tf.stack([codes.initial_step_size(x) for codes in self.codes]))
        self.initialized.assign(tf.ones_like(self.initialized))
