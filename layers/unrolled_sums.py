"""Sums over large tensors inside an XLA-compiled function, at the speed of memory.

XLA:CPU computes a reduction element by element, without vector instructions, and in a loop apart from the one
that computes what is summed. Adding up a few slices element by element is an ordinary loop instead: it is
vectorised, split over threads, and the summand never reaches memory. It leaves partial sums, a small fraction
of the tensor, which TensorFlow's own kernels add up. Several sums over the same tensors are stacked, so
that one loop reads the tensors once for all of them.

    @tf.function(jit_compile=True)
    def partial(x, y):
        return partial_sums(lambda x, y: [x, x * y], x, y)

    total_of_x, dot_product = totals(partial(x, y))[:, 0]
"""

import tensorflow as tf

SLICES = 8
"""Most slices that are added in one expression; more would only take longer to compile."""
_FEWER_FROM_ELEMENTS = 2**13
"""Partial sums of one example from which on a compiled loop over them repays its call."""


def partial_sums(summands, *tensors, channels: int = 1) -> tf.Tensor:
    """Partial sums of each of summands(*tensors) over slices of each example, for use inside jit_compile.

    Args:
      summands: function of as many tensors, element by element; gives a list of T tensors. It is called once
        per slice: XLA would not take a summand that was computed before, and used by every slice, into the
        loop.
      *tensors: float tensors of one shape (batch, ...); only the batch may be unknown.
      channels: length of a last axis that is not summed over; the summands get (batch, positions, channels).

    Returns:
      (batch, T, positions / slices, channels) tensor, for `totals`.
    """
    slices = zip(*(_slices(tensor, channels) for tensor in tensors), strict=True)
    return tf.add_n([tf.stack(summands(*parts), axis=1) for parts in slices])


def totals(partial: tf.Tensor) -> tf.Tensor:
    """The sums (T, channels) of what `partial_sums` made, outside of its compiled function.

    Inside, XLA would compute each slice's summands in a loop of its own.
    """
    large = partial.shape[1:].num_elements() >= _FEWER_FROM_ELEMENTS
    fewer = _fewer_positions(partial) if large else partial
    shape = fewer.shape[1:]
    if shape[0] == shape[2] == 1:
        return tf.reshape(tf.reduce_sum(fewer), [1, 1])
    # Over the first axis alone, which TensorFlow's kernel adds row by row without moving anything.
    examples = tf.reduce_sum(tf.reshape(fewer, [-1, shape.num_elements()]), axis=0)
    return tf.reduce_sum(tf.reshape(examples, shape), axis=1)


def slices_of(positions: int) -> int:
    """Number of equal slices, at most `SLICES`, that `positions` divide into.

    A slice is a whole share of an example: smaller ones would have to be found by dividing indices.
    """
    return max(count for count in range(1, SLICES + 1) if positions % count == 0)


def _slices(tensor, channels):
    positions = tensor.shape[1:].num_elements() // channels
    count = slices_of(positions)
    return tf.unstack(tf.reshape(tensor, [-1, count, positions // count, channels]), axis=1)


@tf.function(jit_compile=True, autograph=False)
def _fewer_positions(partial):
    terms, positions, channels = partial.shape[1:]
    count = slices_of(positions)
    sliced = tf.reshape(partial, [-1, terms, count, positions // count, channels])
    return tf.add_n(tf.unstack(sliced, axis=2))
