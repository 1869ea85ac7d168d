"""The numbers of a layer with weights: its integers, the range of its sums, its multipliers."""

from dataclasses import dataclass

import numpy as np

from mmx_tf.export.qonnx.errors import refused
from mmx_tf.export.qonnx.exporter import FLOAT32_EXACT, INT32_LIMIT
from mmx_tf.export.reference import rounding
from mmx_tf.export.reference.bounds import activation_bounds, saturate


@dataclass(frozen=True, eq=False)
class Layer:
    """The numbers of a weighted operator.

    Attributes:
      operator: with input, weights and bias in this order.
      weights: int64 [channels, taps], divided by `factor`.
      factor: their greatest common divisor.
      bias: int64 [channels], with what the zero point of the input adds.
      low, high: int64 [channels], the sums that there can be.
      multipliers: float32 [channels].
    """

    operator: object
    weights: np.ndarray
    factor: int
    bias: np.ndarray
    low: np.ndarray
    high: np.ndarray
    multipliers: np.ndarray

    def codes(self, sums: np.ndarray) -> np.ndarray:
        """Codes of integer sums [channels, n]."""
        accumulators = sums * self.factor + self.bias[:, None]
        values = rounding.scale_half_even(accumulators, self.multipliers[:, None])
        zero_point = self.operator.outputs[0].zero_point
        return saturate(values + zero_point, activation_bounds(self.operator, "xnnpack"))


def weights_of(operator) -> np.ndarray:
    """The weights of an operator as int64; its inputs are input, weights and bias."""
    if any(tensor is not None and tensor.constant is None for tensor in operator.inputs[1:3]):
        raise refused(operator, "has weights or a bias that are computed; they must be constants")
    return operator.inputs[1].constant.astype(np.int64)


def layer_of(exporter, operator, matrix: np.ndarray, *, shifted: bool = False) -> Layer:
    """The numbers of a weighted operator.

    Args:
      exporter: whose graph it is.
      operator: with input, weights and bias in this order.
      matrix: int64 [channels, taps].
      shifted: whether the input is taken as codes minus their zero point.

    Raises:
      UnsupportedError: sums are too large for float32 or int32.
    """
    source, weights, bias = (*operator.inputs, None)[:3]
    stored = exporter.stored[source.name]
    factor = int(np.gcd.reduce(matrix, axis=None)) or 1
    matrix = matrix // factor
    zero, moved = (0, stored.zero) if shifted else (stored.zero, 0)
    # A padding has real 0, which need not be among the codes.
    ends = [min(stored.span[0] - moved, zero), max(stored.span[1] - moved, zero)]
    terms = np.stack([matrix * end for end in ends])
    lowest, highest = terms.min(axis=0), terms.max(axis=0)
    # Any part of a sum lies between the sums of its negative and of its positive terms.
    partial = [np.minimum(lowest, 0).sum(axis=1), np.maximum(highest, 0).sum(axis=1)]
    if np.abs(partial).max() >= FLOAT32_EXACT:
        raise refused(
            operator,
            f"has sums of up to {np.abs(partial).max():,}; QONNX computes in float32, which is exact below "
            f"{FLOAT32_EXACT:,}",
        )
    low, high = lowest.sum(axis=1), highest.sum(axis=1)
    offset = np.zeros(len(matrix), np.int64) if bias is None else bias.constant.reshape(-1).astype(np.int64)
    offset = offset - zero * factor * matrix.sum(axis=1)
    if max(np.abs(end * factor + offset).max() for end in (low, high)) >= INT32_LIMIT:
        raise refused(operator, "has sums beyond int32, which wrap")
    multipliers = source.scale * weights.scales / operator.outputs[0].scale
    multipliers = np.broadcast_to(multipliers, len(matrix)).astype(np.float32)
    return Layer(operator, matrix, factor, offset, low, high, multipliers)
