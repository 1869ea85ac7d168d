"""Sums over large tensors inside an XLA-compiled function, at the speed of memory.

XLA:CPU computes a reduction element by element, without vector instructions, and in a loop apart from the one
that computes what is summed. Adding up a few slices element by element is an ordinary loop instead: it is
vectorised, split over threads, and the summand never reaches memory. It leaves partial sums, a small fraction
of the tensor, which TensorFlow's own kernels add up.

    @tf.function(jit_compile=True)
    def partial(x, y):
        return partial_sums(tf.multiply, x, y)  # tf.reduce_sum(partial(x, y)) is the dot product
"""

import tensorflow as tf

SLICES = 8
"""Most slices that are added in one expression; more would only take longer to compile."""


def partial_sums(summand, *tensors, channels: int = 1) -> tf.Tensor:
    """Partial sums of summand(*tensors) over slices of each example, for use inside jit_compile.

    Args:
      summand: function of as many tensors, element by element. It is called once per slice: XLA would not
        take a summand that was computed before, and used by every slice, into the loop.
      *tensors: float tensors of one shape (batch, ...); only the batch may be unknown.
      channels: length of a last axis that is not summed over; the summand gets (batch, positions, channels).

    Returns:
      (batch, positions / slices, channels) tensor of the summand's type with the same sums by channel.
    """
    positions = tensors[0].shape[1:].num_elements() // channels
    slices = slices_of(positions)
    shape = [-1, slices, positions // slices, channels]
    sliced = [tf.unstack(tf.reshape(tensor, shape), axis=1) for tensor in tensors]
    return tf.add_n([summand(*parts) for parts in zip(*sliced, strict=True)])


def slices_of(positions: int) -> int:
    """Number of equal slices, at most `SLICES`, that `positions` divide into.

    A slice is a whole share of an example: smaller ones would have to be found by dividing indices.
    """
    return max(count for count in range(1, SLICES + 1) if positions % count == 0)
