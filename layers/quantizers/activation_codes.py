"""Which codes an activation has: fixed by its bits, or following its step size where it has a floor.

A tensor after ReLU has codes 0..2^b-1, most others symmetric ones. A hard-swish, x * relu6(x + 3) / 6, is
never below -0.375: symmetric codes would spend half of the grid on that sliver. Its codes are

    -z .. 2^b - 1 - z,     z = round(0.375 / s),

for the step size s of the moment, so that the grid reaches down to the floor and zero stays on it (zero
padding needs that).

    >>> codes = ActivationCodes(bits=4, signed=True, floor=-0.375)
    >>> [float(end) for end in codes.range_at(0.1)]                   # z = round(3.75)
    [-4.0, 11.0]
"""

import dataclasses
import math

import tensorflow as tf

from mmx_tf.layers.lsq import lsq


@dataclasses.dataclass(frozen=True)
class ActivationCodes:
    """Codes of an activation of `bits` bits.

    Attributes:
      bits: an integer in 2..8.
      signed: whether there are codes below zero.
      floor: what the tensor's values do not fall below, or None; below zero, for signed codes only.
    """

    bits: int
    signed: bool
    floor: float | None = None

    def __post_init__(self):
        """Refuses bits and floors that give no codes.

        Raises:
          ValueError: if `bits` is not an integer in 2..8, or `floor` is no number below zero, or given for
            unsigned codes.
        """
        lsq.code_range(self.bits, signed=self.signed)
        if self.floor is not None and not (self.signed and -math.inf < self.floor < 0):
            raise ValueError(
                f"floor={self.floor!r} with signed={self.signed}: a floor is a number below 0, and its codes "
                "are signed; without one give None."
            )

    @property
    def highest(self) -> int:
        """The largest code there can be: LSQ's Qp, which initial step sizes and gradient scales are made of.

        With a floor this is 2^b - 1, as for unsigned codes, which is what is left when z is small.
        """
        return lsq.code_range(self.bits, signed=self.signed and self.floor is None)[1]

    @property
    def _lowest_allowed(self) -> int:
        # A step size so small that the grid ends above half of the floor: then never fewer codes above zero
        # than symmetric codes have.
        return -(2 ** (self.bits - 1) - 1)

    def range_at(self, step_size) -> tuple:
        """(low, high), smallest and largest code: integers, or with a floor float32 scalars, whose gradient
        stops.

        Args:
          step_size: positive scalar tensor; only looked at where there is a floor.
        """
        if self.floor is None:
            return lsq.code_range(self.bits, signed=self.signed)
        step_size = tf.stop_gradient(tf.convert_to_tensor(step_size, tf.float32))
        low = tf.maximum(tf.round(self.floor / step_size), float(self._lowest_allowed))
        return low, low + float(self.highest)

    def initial_step_size(self, x: tf.Tensor) -> tf.Tensor:
        """LSQ's first step size for x (see `lsq.initial_step_size`)."""
        return lsq.initial_step_size(x, high=self.highest)

    def covering_step_size(self, x: tf.Tensor) -> tf.Tensor:
        """The smallest step size whose grid clips nothing of x, but for half a step at its ends."""
        if self.floor is None:
            return lsq.covering_step_size(x, high=self.highest)
        spread = (tf.reduce_max(x) - self.floor) / float(self.highest)
        # Where even this grid would not reach down to the floor, codes are nearly symmetric (see range_at).
        symmetric = lsq.covering_step_size(x, high=-self._lowest_allowed)
        reaches = self.floor / spread >= self._lowest_allowed
        return tf.where(reaches, spread, symmetric)
