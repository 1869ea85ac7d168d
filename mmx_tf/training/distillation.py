"""Weight training with a teacher: the fixed network, or its folded graph, learns from another one's outputs.

    loss = (1 - weight) * task loss + weight * T^2 KL(teacher || student)

>>> distilled = DistilledModel(fixed, teacher=float_model, weight=0.5, temperature=1.0)
>>> distilled.compile(optimizer="sgd", loss=loss, metrics=["accuracy"])
>>> _ = distilled.fit(train_ds.take(1), verbose=0); fixed.save("fixed.keras")
"""

import tensorflow as tf
import tf_keras as keras

from mmx_tf.fitting.teacher import Teacher


class DistilledModel(keras.Model):
    """A network of the student's layers, and so of its variables, whose training step has a teacher.

    The log "loss" and evaluation are those of the labels alone; "distillation_loss" is the teacher's share
    before it is weighed. It is not saved itself; save the student.

    Args:
      student: functional network that is trained, with one output (batch, classes).
      teacher: network of the same images and classes. It runs in inference mode and gets no gradient. A
        softmax or sigmoid at the end of either is taken off first.
      task: "classification", or "binary" or "multi_label", where the teacher's share is the mean of the KL
        divergences of each output's decision.
      weight: of the teacher's share, in [0, 1].
      temperature: T above 0.
    """

    def __init__(
        self,
        student: keras.Model,
        *,
        teacher: keras.Model,
        weight: float,
        temperature: float,
        task: str = "classification",
    ):
        super().__init__(student.inputs, student.outputs, name=student.name)
        self._teacher = Teacher(
            teacher,
            student=student,
            weight=weight,
            temperature=temperature,
            yes_or_no=task != "classification",
        )
        self._tracker = keras.metrics.Mean(name="distillation_loss")

    def train_step(self, data):
        """One step on (images, labels); the logs."""
        images, labels, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        teaching = self._teacher.logits(images)
        with tf.GradientTape() as tape:
            outputs = self(images, training=True)
            task = self.compute_loss(images, labels, outputs, sample_weight)
            loss, taught = self._teacher.mixed(task, outputs, teaching)
        self.optimizer.minimize(loss, self.trainable_variables, tape=tape)
        self._tracker.update_state(taught)
        return self.compute_metrics(images, labels, outputs, sample_weight)

    def test_step(self, data):
        """Evaluation without the teacher."""
        logs = super().test_step(data)
        return {name: value for name, value in logs.items() if name != self._tracker.name}

    @property
    def metrics(self):
        """Keras metrics plus the running mean of the distillation loss."""
        return [*(m for m in super().metrics if m is not self._tracker), self._tracker]

    def get_config(self):
        """Refuses: the layers are those of the student."""
        raise NotImplementedError("a distilled network is not saved itself: save the student.")
