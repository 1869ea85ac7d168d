"""What a step of Algorithm 1 does around its passes: means over branches, running statistics, checks.

gradients = mean_over_branches(search, gradient_of_branch, variables)
with fixed_statistics(search):
    search(images, training=True)               # batch statistics; the running ones stay
"""

import contextlib
from collections.abc import Callable, Iterator

import tensorflow as tf

from mmx_tf.layers import replicas


def mean_over_branches(search, gradient_of: Callable, variables) -> list[tf.Tensor]:
    """The mean of a gradient over the B branches of activation bits.

    One pass's activations are alive at a time: gradients are accumulated pass by pass. Each pass starts from
    the same running statistics, whose new value is the mean of what the B passes make of them, so that no
    branch is privileged; with `batch_norm_update` "sequential" they are what the passes make of them one
    after the other, with "none" they stay.

    Args:
      search: search network.
      gradient_of: branch index -> the gradients of the variables.
      variables: what the gradients are by.

    Raises:
      ValueError: if no variable has a gradient.
    """
    branches = len(search.budget.bit_widths)
    running = search.batch_norm_statistics
    statistics = [tf.identity(variable) for variable in running]

    def one(i, gradients, new_statistics):
        if search.batch_norm_update != "sequential":
            assign(running, statistics)
        found = gradient_of(i)
        require_gradients(found)
        return i + 1, _accumulate(gradients, found), _accumulate(new_statistics, running)

    # A loop, since one pass is traced in a third of the time of three.
    zeros = ([tf.zeros_like(v) for v in variables], [tf.zeros_like(v) for v in statistics])
    gradients, new_statistics = replicas.in_turn(branches, one, zeros)
    if search.batch_norm_update == "mean":
        assign(running, [value / branches for value in new_statistics])
    elif search.batch_norm_update == "none":
        assign(running, statistics)
    return [gradient / branches for gradient in gradients]


@contextlib.contextmanager
def fixed_statistics(search) -> Iterator[None]:
    """A block whose passes leave the running statistics of batch norm what they were."""
    statistics = [tf.identity(variable) for variable in search.batch_norm_statistics]
    yield
    assign(search.batch_norm_statistics, statistics)


def weight_branch(search, i) -> tf.Tensor | None:
    """The weight branch of pass i of the coming bit-meta step t: (i + t) mod W; None where bits are given.

    The cost stays that of B passes, each step has every activation branch, and in any W steps every pair of
    branches comes once, so that their mean gradient is that of eq. 1 over all B * W networks. t is the
    optimizer's number of steps, which checkpoints hold.
    """
    if not search.budget.searches_weights:
        return None
    return (i + tf.cast(search.optimizer.iterations, tf.int32)) % len(search.budget.weight_bits)


def as_logged(task_loss: tf.Tensor) -> tf.Tensor:
    """A replica's task loss as Keras logs losses: the mean over the replicas is that of the whole batch."""
    return tf.reduce_mean(task_loss) * replicas.count()


def assign(variables, values) -> None:
    """Gives each variable its value."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def require_gradients(gradients) -> None:
    """Refuses (ValueError) a loss by which no weight has a gradient."""
    if all(gradient is None for gradient in tf.nest.flatten(gradients)):
        raise ValueError(
            "the loss does not depend on the network's outputs, so that no weight has a gradient: look at "
            "what it does with y_pred (tf.stop_gradient, tf.argmax, rounding, NumPy)."
        )


def _accumulate(totals, values):
    return [
        total if value is None else total + tf.convert_to_tensor(value)
        for total, value in zip(totals, values, strict=True)
    ]
