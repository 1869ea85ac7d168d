"""Bit selection on a minibatch: lines 4 to 15 of the paper's Algorithm 1.

    bit_meta_step(search, (images, labels, sample_weight))      # weights and step sizes; alpha is fixed
    bit_search_step(search, (images, labels, sample_weight))    # alpha; the meta-state is fixed

They are the training steps of a compiled `mmx_tf.metamix.search.SearchModel`, which is B-META-FWD with
`branch=i` and B-SEARCH-FWD with `branch=MIXED`. Replicas, running statistics and several targets are in
`mmx_tf.metamix.passes`.
"""

import tensorflow as tf

from mmx_tf.layers import replicas
from mmx_tf.layers.branches import MIXED
from mmx_tf.metamix import passes, target


def bit_meta_step(search, batch) -> None:
    """Updates weights, batch norm and step sizes by the mean loss of the B networks of one bit-width (eq. 1).

    Alpha is not touched. With W weight candidates pass i runs with the weight branch `passes.weight_branch`.

    Args:
      search: compiled search network.
      batch: (images (batch, height, width, channels), labels, sample weights or None).

    Raises:
      ValueError: for a loss by which no weight has a gradient.
    """
    images, labels, sample_weight = batch
    variables = search.meta_weights + search.step_sizes
    teaching = search.teaching(images)

    def single_bit_width_gradient(i):
        with tf.GradientTape() as tape:
            outputs = search(images, training=True, branch=i, weight_branch=passes.weight_branch(search, i))
            loss = search.compute_loss(images, labels, outputs, sample_weight)
            loss = search.taught(loss, outputs, teaching)
        search.compute_metrics(images, labels, outputs, sample_weight)
        return tape.gradient(loss, variables)

    gradients = passes.mean_over_branches(search, single_bit_width_gradient, variables)
    weights = len(search.meta_weights)
    search.optimizer.apply_gradients(zip(gradients[:weights], search.meta_weights, strict=True))
    search.step_optimizer.apply_gradients(zip(gradients[weights:], search.step_sizes, strict=True))


def bit_search_step(search, batch) -> tf.Tensor:
    """Updates alpha by task loss + lambda_r * r(alpha) on the fixed meta-state (eq. 2 to 5).

    With several targets there is one forward and backward pass for each.

    Args:
      search, batch: as for `bit_meta_step`.

    Returns:
      The task loss, a scalar; its mean over the targets.
    """
    teaching = search.teaching(batch[0])
    with passes.fixed_statistics(search):
        gradients, losses = target.over_targets(
            search.targets, lambda alpha, goal: alpha_gradient(search, batch, alpha, goal, teaching)
        )
    search.alpha_optimizer.apply_gradients([(gradients, search.alpha)])
    for tracker, loss in zip(search.search_loss_trackers, tf.unstack(losses), strict=True):
        tracker.update_state(loss)
    return tf.reduce_mean(losses)


def alpha_gradient(search, batch, alpha, goal, teaching=None) -> tuple[tf.Tensor, tf.Tensor]:
    """Forward and backward pass of a bit-search step for one target.

    The tape watches alpha alone, so no weight gradient is computed (with several weight candidates those of
    the mixed kernels are, since alpha's columns of the weights depend on them).

    Args:
      search, batch: as for `bit_meta_step`.
      alpha: of the target, (L, B) or (L, B + W).
      goal: scalar float64 in place of the budget's target, or None.
      teaching: `SearchModel.teaching` of the images.

    Returns:
      (gradient of the search loss by alpha, task loss as it is logged).
    """
    images, labels, sample_weight = batch
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(alpha)
        outputs = search(images, training=True, branch=MIXED, alpha=alpha)
        task_loss = search.task_loss(labels, outputs, sample_weight)
        regularizer = target.regularizer(search.budget, alpha, goal)
        loss = search_loss(search, search.taught(task_loss, outputs, teaching), regularizer)
    return tape.gradient(loss, alpha), passes.as_logged(task_loss)


def search_loss(search, task_loss: tf.Tensor, regularizer: tf.Tensor) -> tf.Tensor:
    """Task loss + lambda_r * r(alpha) (eq. 3), a scalar: the share of one replica.

    Args:
      search: knows lambda_r.
      task_loss: `SearchModel.task_loss`. Keras has divided it by the number of replicas where it takes means.
        With Keras's reduction NONE it is a vector, whose gradient is that of its sum.
      regularizer: r(alpha), a scalar, the same on all replicas.
    """
    return tf.reduce_sum(task_loss) + search.regularizer_weight * regularizer / replicas.count()
