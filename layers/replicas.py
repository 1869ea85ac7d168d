"""Sums over the replicas of a `tf.distribute` strategy, for arithmetic that is not linear in the batch.

A strategy runs a training step once on every device, each time on a part of the batch. What is linear in the
examples (gradients of weights) is added up by the optimizers. Statistics of the batch and limits on gradients
are not, and are worked out here from the sums over all parts, so that a step is that of the whole batch.

    >>> float(summed(tf.constant(1.0)))     # outside of a strategy; on each of two replicas: 2.0
    1.0
"""

import tensorflow as tf


def count() -> int:
    """Replicas among which the calling code is one; 1 outside of a strategy's replicas."""
    context = tf.distribute.get_replica_context()
    return context.num_replicas_in_sync if context else 1


def summed(value: tf.Tensor) -> tf.Tensor:
    """The sum of `value` over all replicas, on each of them; `value` itself where there is one.

    All replicas must call it, in the same order, and not inside of control flow (tf.cond, tf.while_loop).
    """
    if count() == 1:
        return value
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, value)


def of_first(values: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Values that are equal on all replicas, as tensors of the first alone, which Keras does not add up."""
    if count() == 1:
        return values

    def first(strategy, values):
        return tf.nest.map_structure(lambda value: strategy.experimental_local_results(value)[0], values)

    return tf.distribute.get_replica_context().merge_call(first, args=(values,))


def in_turn(times: int, body, state: tuple) -> tuple:
    """body(i, *state) -> (i + 1, *state) for i = 0, 1, ..., times - 1, one after the other; the last state.

    A `tf.while_loop`, of which one pass is traced; on several replicas the passes are traced one by one,
    since replicas cannot exchange sums inside of a loop. Each still begins when the one before has ended, so
    that one pass's activations are alive.
    """
    if count() == 1:
        return tf.while_loop(lambda i, *_: i < times, body, (0, *state), parallel_iterations=1)[1:]
    for i in range(times):
        made = [v.flow if isinstance(v, tf.TensorArray) else v for v in tf.nest.flatten(state)]
        with tf.control_dependencies([tf.group(*made)]):
            state = body(i, *state)[1:]
    return state
