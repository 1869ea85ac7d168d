"""Steps that the paper compares MetaMix with."""

import tensorflow as tf

from mmx_tf.layers.branches import JOINT
from mmx_tf.metamix import passes
from mmx_tf.metamix.algorithm import search_loss


def joint_step(search, batch) -> tf.Tensor:
    """Updates weights, step sizes and alpha together on the mix of all branches; one target.

    Running statistics move too. It is the step of a search without bit-meta steps (DNAS, EdMIPS), and with
    them that of Figure 7a.

    Args:
      search, batch: as for `algorithm.bit_meta_step`.

    Returns:
      The task loss, a scalar.
    """
    images, labels, sample_weight = batch
    groups = (search.meta_weights, search.step_sizes, [search.alpha])
    teaching = search.teaching(images)
    with tf.GradientTape() as tape:
        outputs = search(images, training=True, branch=JOINT)
        task_loss = search.task_loss(labels, outputs, sample_weight)
        taught = search.taught(task_loss, outputs, teaching)
        loss = search_loss(search, taught, search.regularizer())
    gradients = tape.gradient(loss, groups)
    passes.require_gradients(gradients[:2])
    optimizers = (search.optimizer, search.step_optimizer, search.alpha_optimizer)
    for optimizer, group, values in zip(optimizers, groups, gradients, strict=True):
        optimizer.apply_gradients(zip(values, group, strict=True))
    if not search.meta_training:
        # The logs of loss and metrics, which are otherwise the bit-meta step's.
        search.compute_loss(images, labels, outputs, sample_weight)
        search.compute_metrics(images, labels, outputs, sample_weight)
    logged = passes.as_logged(task_loss)
    search.search_loss_trackers[0].update_state(logged)
    return logged
