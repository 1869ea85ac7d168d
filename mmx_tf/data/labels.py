"""The labels of a dataset: the class of an example, or an array of numbers that belongs to it.

labels = Labels(class_names=("cat", "dog"))
labels = Labels(shape=(40,))                    # 40 numbers for each image
labels.for_task("multi_label").wrong(batch)     # which images have other numbers than 0 and 1
"""

import dataclasses
import math

import tensorflow as tf


@dataclasses.dataclass(frozen=True, kw_only=True)
class Labels:
    """What labels are like, and which are wrong.

    Attributes:
      class_names: names of the classes, whose numbers labels are; () where they are arrays of numbers.
      shape: of one label, as it is read: of the array, (1,) for a number; () for a class.
      task: what they are used for, one of `export.comparing.heads.TASKS`; "" while that is not known.
    """

    class_names: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()
    task: str = ""

    @property
    def size(self) -> int:
        """How many numbers one label has; 0 where labels are classes."""
        return math.prod(self.shape) if self.shape else 0

    @property
    def dtype(self) -> tf.DType:
        """int32 for classes, float32 for numbers."""
        return tf.float32 if self.shape else tf.int32

    @property
    def allowed(self) -> str:
        """What labels must be, in words."""
        if not self.shape:
            return f"0 to {len(self.class_names) - 1}"
        return "0 or 1" if self.task == "multi_label" else "finite numbers"

    def for_task(self, task: str) -> "Labels":
        """The same labels, used for a task."""
        return dataclasses.replace(self, task=task)

    def read(self, label: tf.Tensor) -> tf.Tensor:
        """One label as a dataset stores it -> a tensor of `shape` and `dtype`."""
        return tf.reshape(tf.cast(label, self.dtype), self.shape)

    def wrong(self, labels: tf.Tensor) -> tf.Tensor:
        """Which of the labels [N, ...] cannot be used: bool [N]."""
        if not self.shape:
            return (labels < 0) | (labels >= len(self.class_names))
        fine = tf.math.is_finite(labels)
        if self.task == "multi_label":
            fine = (labels == 0) | (labels == 1)
        return ~tf.reduce_all(fine, axis=range(1, len(self.shape) + 1))

    @tf.autograph.experimental.do_not_convert
    def given(self, labels: tf.Tensor) -> tf.Tensor:
        """Labels [N, ...] as training and evaluation get them: of a binary task float32 [N, 1]."""
        if self.task == "binary":
            return tf.cast(labels, tf.float32)[:, tf.newaxis]
        return labels

    def name_of(self, label) -> str:
        """A label in words."""
        return f"class {self.class_names[label]}" if not self.shape else f"label {label.tolist()}"
