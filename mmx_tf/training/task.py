"""What a task means for training: its loss, its metrics, how a network is judged.

    model.compile(loss=task.loss(recipe.told_task, model), metrics=task.metrics(recipe.told_task, model))
    task.judged(recipe.told_task, model, evaluation)      # {"binary_accuracy": 0.97, "auc": 0.99}

The tasks and how they are told are in `export.comparing.heads`.
"""

import tensorflow as tf
import tf_keras as keras

from mmx_tf.export.comparing.heads import labels_of
from mmx_tf.export.comparing.quality import Quality
from mmx_tf.fitting.losses import ProbabilityCrossentropy, classification_loss
from mmx_tf.network.heads import gives_logits, head_of


def loss(task: str, model: keras.Model, *, label_smoothing: float = 0.0) -> keras.losses.Loss:
    """The loss with which a network learns a task."""
    if task == "regression":
        return keras.losses.MeanSquaredError()
    from_logits = gives_logits(model)
    if task == "classification":
        return classification_loss(from_logits=from_logits, label_smoothing=label_smoothing)
    if from_logits:
        return keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=label_smoothing)
    return ProbabilityCrossentropy(label_smoothing)


def metrics(task: str, model: keras.Model) -> list:
    """Keras's metrics of a task, as `compile` takes them."""
    if task == "classification":
        return ["accuracy"]
    if task == "regression":
        return [keras.metrics.MeanAbsoluteError(name="mean_absolute_error")]
    return [keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0 if gives_logits(model) else 0.5)]


def judged(task: str, model: keras.Model, evaluation) -> dict[str, float | None]:
    """The metrics of a task (`export.comparing.quality`) of a network on evaluation batches."""
    head, quality = head_of(model, model.name), Quality(task, from_logits=gives_logits(model))
    forward = None
    for images, labels in evaluation:
        if forward is None:
            # Traced once for batches of all sizes: predict_on_batch traces a smaller last one anew.
            given = tf.TensorSpec([None, *images.shape[1:]], model.inputs[0].dtype)
            forward = tf.function(
                lambda batch: model(batch, training=False), input_signature=[given], autograph=False
            )
        quality.add(forward(images).numpy(), labels_of(task, head, labels))
    return quality.result()
