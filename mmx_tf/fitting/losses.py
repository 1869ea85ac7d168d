"""Losses of weight training: cross entropy with label smoothing, and what a teacher adds to it.

With class probabilities p = softmax(z):

    label smoothing e over K classes    sum_k -((1 - e) [k = label] + e / K) log p_k
    distillation at temperature T       T^2 KL(softmax(z_teacher / T) || softmax(z / T))

The first is Szegedy et al. 2016 (arXiv 1512.00567), section 7. The second is Hinton et al. 2015 (arXiv
1503.02531), section 2; T^2 keeps its gradients' size when T changes.
"""

import tensorflow as tf
import tf_keras as keras

SMALLEST_PROBABILITY = 1e-7
"""Probabilities are kept above it before their logarithm is taken."""
HALF_A_CODE = 1 / 512
"""Half the step of a quantized sigmoid."""


@keras.saving.register_keras_serializable(package="mmx_tf")
class SmoothedCrossentropy(keras.losses.Loss):
    """Cross entropy of integer labels (batch,) or (batch, 1) and outputs (batch, classes), smoothed.

    Keras has label smoothing for one-hot labels alone; this makes them.

    Args:
      label_smoothing: share e of a label that is spread over all classes, in [0, 1).
      from_logits: whether the outputs are logits; else they are probabilities.
    """

    def __init__(self, label_smoothing: float, *, from_logits: bool, name="smoothed_crossentropy", **kwargs):
        super().__init__(name=name, **kwargs)
        self.label_smoothing, self.from_logits = float(label_smoothing), bool(from_logits)

    def call(self, y_true, y_pred):
        """The loss of each example, (batch,)."""
        labels = tf.cast(tf.reshape(y_true, [-1]), tf.int32)
        return keras.losses.categorical_crossentropy(
            tf.one_hot(labels, y_pred.shape[-1]),
            y_pred,
            from_logits=self.from_logits,
            label_smoothing=self.label_smoothing,
        )

    def get_config(self):
        """Returns the constructor's arguments."""
        own = {"label_smoothing": self.label_smoothing, "from_logits": self.from_logits}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="mmx_tf")
class ProbabilityCrossentropy(keras.losses.Loss):
    """Binary cross entropy of labels 0 and 1 and the probabilities of sigmoids, both (batch, labels).

    A quantized sigmoid gives k / 256, also 0, where Keras's own has no gradient: a label of 1 could not be
    learnt there. Here probabilities are limited to half a code above 0 and below 1, and the gradient passes.

    Args:
      label_smoothing: share e of a label that is taken for 1/2, in [0, 1).
    """

    def __init__(self, label_smoothing: float = 0.0, *, name="probability_crossentropy", **kwargs):
        super().__init__(name=name, **kwargs)
        self.label_smoothing = float(label_smoothing)

    def call(self, y_true, y_pred):
        """The loss of each example, (batch,)."""
        limited = tf.clip_by_value(y_pred, HALF_A_CODE, 1 - HALF_A_CODE)
        probabilities = y_pred + tf.stop_gradient(limited - y_pred)
        return keras.losses.binary_crossentropy(y_true, probabilities, label_smoothing=self.label_smoothing)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {**super().get_config(), "label_smoothing": self.label_smoothing}


def classification_loss(*, from_logits: bool, label_smoothing: float = 0.0) -> keras.losses.Loss:
    """The loss of integer labels; Keras's own without smoothing."""
    if label_smoothing:
        return SmoothedCrossentropy(label_smoothing, from_logits=from_logits)
    return keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits)


def distillation_loss(teacher_logits, logits, temperature: float) -> tf.Tensor:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)), averaged over the batch: a scalar.

    Args:
      teacher_logits, logits: (batch, classes).
      temperature: T above 0.
    """
    teacher = tf.nn.log_softmax(teacher_logits / temperature)
    student = tf.nn.log_softmax(logits / temperature)
    divergence = tf.reduce_sum(tf.exp(teacher) * (teacher - student), axis=-1)
    return temperature**2 * tf.reduce_mean(divergence)


def as_logits(outputs, *, from_logits: bool, yes_or_no: bool = False) -> tf.Tensor:
    """Logits of a network's outputs, in float32; of probabilities their logarithms: the same softmax.

    Args:
      outputs: (batch, classes), logits or probabilities.
      from_logits: which of them.
      yes_or_no: each output decides for itself, by a sigmoid. Each is then two logits
        (batch * outputs, 2), whose softmax is that sigmoid and its complement.
    """
    outputs = tf.cast(outputs, tf.float32)
    if yes_or_no:
        if not from_logits:
            limited = tf.clip_by_value(outputs, HALF_A_CODE, 1 - HALF_A_CODE)
            outputs += tf.stop_gradient(limited - outputs)
            outputs = tf.math.log(outputs) - tf.math.log(1 - outputs)
        logits = tf.reshape(outputs, [-1])
        return tf.stack([logits, tf.zeros_like(logits)], axis=-1)
    return outputs if from_logits else tf.math.log(tf.maximum(outputs, SMALLEST_PROBABILITY))
