"""The steps of bit selection on a minibatch (paper Algorithm 1), and that of a joint search.

    bit_meta_step(search, (images, labels, sample_weight))      # weights and step sizes; alpha is fixed
    bit_search_step(search, (images, labels, sample_weight))    # alpha; the meta-state is fixed

They are the training steps of a compiled `mmx_tf.metamix.search.SearchModel`.
"""

import functools

import tensorflow as tf

from mmx_tf.layers import replicas
from mmx_tf.layers.branches import JOINT, MIXED
from mmx_tf.metamix import target as target_search


def bit_meta_step(search, batch) -> None:
    """Updates weights, batch norm and step sizes by the mean loss over the B single-bit-width networks.

    Paper eq. 1. Alpha is not touched. One pass's activations are alive at a time: gradients are accumulated
    pass by pass. Each pass starts from the same running statistics, whose new value is the mean of what the B
    passes make of them, so that no branch is privileged; with `batch_norm_update` "sequential" they are what
    the passes make of them one after the other, with "none" they stay.

    With W weight candidates pass i of step t runs activation branch i with weight branch (i + t) mod W: the
    cost stays that of B passes, each step has every activation branch, and in any W steps every pair of
    branches comes once, so that their mean gradient is that of eq. 1 over all B * W networks. t is the
    optimizer's number of steps, which checkpoints hold.

    Args:
      search: compiled search network.
      batch: (images (batch, height, width, channels), labels, sample weights or None).
    """
    images, labels, sample_weight = batch
    branches = len(search.budget.bit_widths)
    variables = search.meta_weights + search.step_sizes
    running = search.batch_norm_statistics
    statistics = [tf.identity(variable) for variable in running]

    def single_precision_pass(i, gradients, new_statistics):
        if search.batch_norm_update != "sequential":
            _assign(running, statistics)
        with tf.GradientTape() as tape:
            outputs = search(images, training=True, branch=i, weight_branch=weight_branch(search, i))
            loss = search.compute_loss(images, labels, outputs, sample_weight)
        search.compute_metrics(images, labels, outputs, sample_weight)
        found = tape.gradient(loss, variables)
        _require_gradients(found)
        gradients = _accumulate(gradients, found)
        return i + 1, gradients, _accumulate(new_statistics, running)

    # A loop, since one pass is traced in a third of the time of three.
    gradients, new_statistics = replicas.in_turn(
        branches,
        single_precision_pass,
        ([tf.zeros_like(v) for v in variables], [tf.zeros_like(v) for v in statistics]),
    )
    if search.batch_norm_update == "mean":
        _assign(running, [value / branches for value in new_statistics])
    elif search.batch_norm_update == "none":
        _assign(running, statistics)
    gradients = [gradient / branches for gradient in gradients]
    weights = len(search.meta_weights)
    search.optimizer.apply_gradients(zip(gradients[:weights], search.meta_weights, strict=True))
    search.step_optimizer.apply_gradients(zip(gradients[weights:], search.step_sizes, strict=True))


def bit_search_step(search, batch) -> tf.Tensor:
    """Updates alpha by task loss + lambda_r * r(alpha) on the fixed meta-state (paper eq. 2-5).

    The tape watches alpha alone, so no weight gradient is computed (with several weight candidates those of
    the mixed kernels are, since the weights' alphas depend on them). Running statistics are put back. With
    several targets there is one forward and backward pass for each.

    Args:
      search, batch: as for `bit_meta_step`.

    Returns:
      The task loss, a scalar; its mean over the targets.
    """
    statistics = [tf.identity(variable) for variable in search.batch_norm_statistics]
    gradients, losses = target_search.over_targets(
        search.targets, functools.partial(search_pass, search, batch)
    )
    _assign(search.batch_norm_statistics, statistics)
    gradients = [
        gradient
        for of_target in tf.unstack(gradients)
        for gradient in target_search.by_variable(of_target, search.budget)
    ]
    search.alpha_optimizer.apply_gradients(zip(gradients, search.alphas, strict=True))
    for tracker, loss in zip(search.search_loss_trackers, tf.unstack(losses), strict=True):
        tracker.update_state(loss)
    return tf.reduce_mean(losses)


def joint_step(search, batch) -> tf.Tensor:
    """Updates weights, step sizes and alpha together on the mix of all branches, for ablations; one target.

    Running statistics move too.

    Args:
      search, batch: as for `bit_meta_step`.

    Returns:
      The task loss, a scalar.
    """
    images, labels, sample_weight = batch
    groups = (search.meta_weights, search.step_sizes, search.alphas)
    with tf.GradientTape() as tape:
        outputs = search(images, training=True, branch=JOINT)
        task_loss = search.task_loss(labels, outputs, sample_weight)
        loss = search_loss(search, task_loss, search.regularizer())
    gradients = tape.gradient(loss, groups)
    _require_gradients(gradients[:2])
    optimizers = (search.optimizer, search.step_optimizer, search.alpha_optimizer)
    for optimizer, group, values in zip(optimizers, groups, gradients, strict=True):
        optimizer.apply_gradients(zip(values, group, strict=True))
    if not search.meta_training:
        # The logs of loss and metrics, which are otherwise the bit-meta step's.
        search.compute_loss(images, labels, outputs, sample_weight)
        search.compute_metrics(images, labels, outputs, sample_weight)
    logged = _as_logged(task_loss)
    search.search_loss_trackers[0].update_state(logged)
    return logged


def search_loss(search, task_loss: tf.Tensor, regularizer: tf.Tensor) -> tf.Tensor:
    """Task loss + lambda_r * r(alpha) (paper eq. 3), a scalar: the share of one replica.

    Args:
      search: knows lambda_r.
      task_loss: `SearchModel.task_loss`. Keras has divided it by the number of replicas where it takes means.
        With Keras's reduction NONE it is a vector, whose gradient is that of its sum.
      regularizer: r(alpha), a scalar, the same on all replicas.
    """
    return tf.reduce_sum(task_loss) + search.regularizer_weight * regularizer / replicas.count()


def _as_logged(task_loss: tf.Tensor) -> tf.Tensor:
    """A replica's task loss as Keras logs losses: the mean over the replicas is that of the whole batch."""
    return tf.reduce_mean(task_loss) * replicas.count()


def search_pass(search, batch, alphas, target) -> tuple[tf.Tensor, tf.Tensor]:
    """Forward and backward pass of a bit-search step for one target.

    Args:
      search, batch: as for `bit_meta_step`.
      alphas: `TargetSearch.stacked` of the target.
      target: scalar float64 in place of the budget's, or None.

    Returns:
      (gradient of the search loss by the alphas, task loss as it is logged).
    """
    images, labels, sample_weight = batch
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(alphas)
        outputs = search(images, training=True, branch=MIXED, alphas=alphas)
        task_loss = search.task_loss(labels, outputs, sample_weight)
        regularizer = target_search.regularizer(search.budget, alphas, target)
        loss = search_loss(search, task_loss, regularizer)
    return tape.gradient(loss, alphas), _as_logged(task_loss)


def weight_branch(search, i) -> tf.Tensor | None:
    """The weight branch of pass i of the coming bit-meta step; None where weight bits are given."""
    if not search.budget.searches_weights:
        return None
    return (i + tf.cast(search.optimizer.iterations, tf.int32)) % len(search.budget.weight_bits)


def _assign(variables, values):
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _require_gradients(gradients) -> None:
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
