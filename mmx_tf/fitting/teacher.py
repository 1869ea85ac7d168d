"""A teacher: another network from whose outputs one that is trained learns, beside or in place of labels.

    loss = (1 - weight) * task loss + weight * T^2 KL(teacher || student)

Weight training has it in `mmx_tf.training.distillation`, a search in `SearchModel.compile(teacher=...)`.

>>> teacher = Teacher(float_model, student=search.network, weight=1.0, temperature=1.0)
>>> teacher.logits(images).shape
TensorShape([32, 10])
"""

import tensorflow as tf
import tf_keras as keras

from mmx_tf.fitting.losses import as_logits, distillation_loss
from mmx_tf.layers import replicas
from mmx_tf.network.heads import gives_logits


class Teacher:
    """A network in inference mode, and the share of its lesson in a loss.

    It is no attribute of what it teaches, whose variables its own would be then.

    Args:
      network: of the same images and classes as the student; it gets no gradient. A softmax or sigmoid at
        the end of either is taken off first.
      student: functional network that learns, with one output (batch, classes).
      weight: of the teacher's share, in [0, 1].
      temperature: T above 0.
      yes_or_no: each output decides for itself; the share is then the mean of the KL divergences of these
        decisions.
    """

    def __init__(
        self,
        network: keras.Model,
        *,
        student: keras.Model,
        weight: float,
        temperature: float,
        yes_or_no: bool = False,
    ):
        self.weight, self.temperature = float(weight), float(temperature)
        self._from_logits, self._yes_or_no = gives_logits(student), yes_or_no
        teaches_logits = gives_logits(network)

        def teach(images):
            outputs = network(images, training=False)
            return as_logits(outputs, from_logits=teaches_logits, yes_or_no=yes_or_no)

        self._teach = teach

    def logits(self, images) -> tf.Tensor:
        """The teacher's logits for a batch of images: (batch, classes), without a gradient."""
        return tf.stop_gradient(self._teach(images))

    def mixed(self, task_loss, outputs, teaching) -> tuple[tf.Tensor, tf.Tensor]:
        """(loss, the teacher's share before it is weighed), both scalars.

        Args:
          task_loss: of the labels, which Keras has divided by the number of replicas.
          outputs: of the student, (batch, classes).
          teaching: what `logits` gave for the same batch.
        """
        logits = as_logits(outputs, from_logits=self._from_logits, yes_or_no=self._yes_or_no)
        taught = distillation_loss(teaching, logits, self.temperature)
        loss = (1.0 - self.weight) * task_loss + self.weight * taught / replicas.count()
        return loss, taught
