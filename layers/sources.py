"""What a quantizer's input is made of, found while a graph is traced: batch norm, then ReLU, then padding.

Batch norm, rectifier and quantizer pass over the same tensor, one after the other. A quantizer that does all
three in its own loops (`layers.lsq.fused`) reads and writes it once, and keeps only batch norm's input
for the backward pass, not its output and the rectifier's. Zero padding comes after quantizing instead of
before: zero's code is zero. TensorFlow drops the operations that nothing reads any more.

    >>> source_of(tf.nn.relu6(x))     # while tracing: Source(x, (0.0, 6.0)); else: Source(relu6(x))
"""

import math
from dataclasses import dataclass

import tensorflow as tf

RECTIFIERS = {"Relu": (0.0, math.inf), "Relu6": (0.0, 6.0)}
"""TensorFlow operation -> what it clips to."""
UNBOUNDED = (-math.inf, math.inf)


@dataclass(frozen=True, eq=False)
class Normalized:
    """A batch norm in training: y = (x - mean) * scale * gamma + beta, scale = rsqrt(variance + epsilon).

    Attributes:
      x: its input (batch, ..., channels).
      gamma, beta: (channels,), with gradients.
      mean, scale: (channels,) statistics of x.
    """

    x: tf.Tensor
    gamma: tf.Tensor
    beta: tf.Tensor
    mean: tf.Tensor
    scale: tf.Tensor


@dataclass(frozen=True, eq=False)
class Source:
    """clip(x, floor, cap), x itself perhaps the output of a batch norm.

    Attributes:
      x: tensor that is rectified.
      bounds: (floor, cap) of the rectifier.
      normalized: the batch norm whose output x is, if it is known.
      paddings: (rank, 2) zeros that are put around what is quantized.
    """

    x: tf.Tensor
    bounds: tuple[float, float] = UNBOUNDED
    normalized: Normalized | None = None
    paddings: tf.Tensor | None = None

    def padded(self, quantized: tf.Tensor) -> tf.Tensor:
        """What is quantized, with the zeros around it."""
        return quantized if self.paddings is None else tf.pad(quantized, self.paddings)


def remember(output: tf.Tensor, normalized: Normalized) -> None:
    """Notes that `output` is that of a batch norm, for quantizers in the same graph."""
    # On the tensor, as Keras keeps masks: a table of our own would keep the graph alive with it.
    if tf.is_symbolic_tensor(output):
        output._mmx_tf_normalized = normalized


def source_of(x: tf.Tensor) -> Source:
    """What makes x in the graph that is being traced; Source(x) for all that is not known."""
    if not tf.is_symbolic_tensor(x):
        return Source(x)
    paddings = x.op.inputs[1] if x.op.type == "Pad" else None
    x = x if paddings is None else x.op.inputs[0]
    bounds = RECTIFIERS.get(x.op.type)
    x = x.op.inputs[0] if bounds else x
    return Source(x, bounds or UNBOUNDED, getattr(x, "_mmx_tf_normalized", None), paddings)
