"""Batch norm, ReLU, padding and the quantizer behind them as one operation of a traced graph.

Each passes over the same tensor, one after the other. A quantizer that does all four in its own loops
(`layers.lsq.fused`) reads and writes it once, and keeps only batch norm's input for the backward pass, not
its output and the rectifier's. Zero padding comes after quantizing instead of before: zero's code is zero.
TensorFlow drops the operations that nothing reads any more. It takes three things:

* `remember`: a batch norm notes on its output what it computed the output from.
* `source_of`: a quantizer finds rectifier, padding and batch norm behind its input.
* `initialize_before_tracing`: step sizes are set before a step is traced. A quantizer whose step size is not
  looks at its input whenever the graph runs, which keeps the tensors in use that are to be dropped: a third
  more memory, and slower.

    >>> source_of(tf.nn.relu6(tf.constant([7.0]))).bounds     # while tracing: (0.0, 6.0)
    (-inf, inf)
"""

import math
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
import tf_keras as keras

RECTIFIERS = {"Relu": (0.0, math.inf), "Relu6": (0.0, 6.0)}
"""TensorFlow operation -> what it clips to."""
UNBOUNDED = (-math.inf, math.inf)
INITIAL_IMAGES = 512
"""Most images that step sizes are initialised from, where x is an array of all of them."""


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
    """What x is made of in the graph that is being traced; Source(x) where that is not known."""
    if not tf.is_symbolic_tensor(x):
        return Source(x)
    paddings = x.op.inputs[1] if x.op.type == "Pad" else None
    x = x if paddings is None else x.op.inputs[0]
    bounds = RECTIFIERS.get(x.op.type)
    x = x.op.inputs[0] if bounds else x
    return Source(x, bounds or UNBOUNDED, getattr(x, "_mmx_tf_normalized", None), paddings)


class SetByFirstBatch:
    """Mixed in before a Keras layer whose step sizes the first batch sets, before they are used.

    Attributes:
      initialized: boolean variable (after build); where every entry is true, the step sizes are set.
    """

    initialized: tf.Variable
    _only_shapes = False

    def __call__(self, x, *args, **kwargs):
        """Keras's call of a layer."""
        if not isinstance(x, keras.__internal__.KerasTensor):
            return super().__call__(x, *args, **kwargs)
        # A network is being put together: what Keras traces here tells it shapes, and is then thrown away.
        self._only_shapes = True
        try:
            return super().__call__(x, *args, **kwargs)
        finally:
            self._only_shapes = False

    def initialize(self, x: tf.Tensor) -> None:
        """Sets the step sizes from x, and `initialized`."""
        raise NotImplementedError

    def initialize_once(self, x: tf.Tensor) -> None:
        """Runs `initialize`, unless the step sizes are set.

        While a graph is being traced, step sizes that are set already cost the graph nothing. Others leave a
        conditional in it, which looks at x whenever the graph runs. A graph that never runs has none: they
        took a sixth of the time of `augment`.
        """
        if self._only_shapes:
            return
        with tf.init_scope():
            known = tf.executing_eagerly() and bool(tf.reduce_all(self.initialized))
        if known:
            return

        def leave():
            pass

        def run():
            self.initialize(x)

        tf.cond(tf.reduce_all(self.initialized), leave, run)


def initialize_before_tracing(model: keras.Model, network: keras.Model, x, **kwargs) -> None:
    """Runs the first batch through a model whose step sizes are not all set yet, and changes nothing else.

    Args:
      model: what is called, with training=True and the other arguments.
      network: the functional network that holds the quantizers.
      x: a tf.data.Dataset of (images, labels) batches, or images (of several inputs in a list or
        dict); of anything else nothing is taken.
      **kwargs: passed on to the call.
    """
    if all_initialized(network):
        return
    if isinstance(x, tf.data.Dataset) and isinstance(x.element_spec, tuple):
        x = next(iter(x.take(1)))[0]
    parts = tf.nest.flatten(x)
    if not all(tf.is_tensor(part) or isinstance(part, np.ndarray) for part in parts):
        return
    steps = [v for q in _set_by_first_batch(network) for v in q.weights]
    kept = [v for v in network.non_trainable_variables if not any(v is step for step in steps)]
    values = [tf.identity(variable) for variable in kept]
    model(tf.nest.map_structure(lambda part: part[:INITIAL_IMAGES], x), training=True, **kwargs)
    for variable, value in zip(kept, values, strict=True):
        variable.assign(value)


def all_initialized(network: keras.Model) -> bool:
    """Whether the step sizes of all activation quantizers have been set."""
    return all(bool(tf.reduce_all(layer.initialized)) for layer in _set_by_first_batch(network))


def _set_by_first_batch(network: keras.Model) -> list[SetByFirstBatch]:
    return [layer for layer in network.layers if isinstance(layer, SetByFirstBatch)]
