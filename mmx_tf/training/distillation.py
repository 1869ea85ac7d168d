"""Weight training with a teacher: the fixed network, or its folded graph, learns from another one's outputs.

    loss = (1 - weight) * task loss + weight * T^2 KL(teacher || student)

>>> distilled = DistilledModel(fixed, teacher=float_model, weight=0.5, temperature=1.0)
>>> distilled.compile(optimizer=fixed.optimizer, loss=loss, metrics=["accuracy"])
>>> distilled.fit(train_ds); fixed.save("fixed.keras")
"""

import tensorflow as tf
import tf_keras as keras

from mmx_tf.fitting.losses import as_logits, distillation_loss
from mmx_tf.layers import replicas
from mmx_tf.network.heads import gives_logits


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
        self._weight, self._temperature = float(weight), float(temperature)
        self._from_logits = gives_logits(student)
        teaches_logits = gives_logits(teacher)
        self._yes_or_no = task != "classification"

        def teach(images):
            outputs = teacher(images, training=False)
            return as_logits(outputs, from_logits=teaches_logits, yes_or_no=self._yes_or_no)

        # A function: as an attribute the teacher's variables would be the student's.
        self._teach = teach
        self._tracker = keras.metrics.Mean(name="distillation_loss")

    def train_step(self, data):
        """One step on (images, labels); the logs."""
        images, labels, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        teaching = tf.stop_gradient(self._teach(images))
        with tf.GradientTape() as tape:
            outputs = self(images, training=True)
            task = self.compute_loss(images, labels, outputs, sample_weight)
            logits = as_logits(outputs, from_logits=self._from_logits, yes_or_no=self._yes_or_no)
            taught = distillation_loss(teaching, logits, self._temperature)
            # Keras has divided the labels' share already.
            loss = (1.0 - self._weight) * task + self._weight * taught / replicas.count()
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
