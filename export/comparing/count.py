"""Counting how codes of a folded model and of its file differ, batch by batch.

tensor = CodeCount()
tensor.add(expected, found)                   # int8 codes of one tensor
tensor.codes, tensor.differing, tensor.largest_difference, tensor.distinct
"""

import numpy as np

from mmx_tf.export.comparing.heads import Head, labels_of
from mmx_tf.export.comparing.quality import Quality, decisions
from mmx_tf.export.comparing.trace import Answer


class CodeCount:
    """One tensor: codes compared, how many differ, by how much at most, how many different were found."""

    def __init__(self):
        self.codes = self.differing = self.largest_difference = 0
        self._seen = np.zeros(256, bool)

    @property
    def distinct(self) -> int:
        """Number of different codes that the file's tensor took."""
        return int(self._seen.sum())

    def add(self, expected: np.ndarray, found: np.ndarray) -> None:
        """Counts one batch of int8 codes of one shape."""
        difference = np.abs(expected.astype(np.int16) - found)
        self.codes += difference.size
        self.differing += int(np.count_nonzero(difference))
        self.largest_difference = max(self.largest_difference, int(difference.max()))
        self._seen[found.astype(np.int16).reshape(-1) + 128] = True


class AnswerCount:
    """A whole file: how good its answers and the folded model's are, and how far they are the same.

    Args:
      task: what the outputs stand for, one of `export.comparing.heads.TASKS`.
      head: of the folded model.

    Attributes:
      images: counted so far.
      codes, differing: codes of logits and outputs, and how many differ.
      folded, file: `Quality` of each.
    """

    def __init__(self, task: str, head: Head):
        self.task, self._head = task, head
        # A hard-sigmoid's outputs are all that is known of it.
        self._from_logits = head.activation != "hard_sigmoid"
        self.folded = Quality(task, from_logits=self._from_logits)
        self.file = Quality(task, from_logits=self._from_logits)
        self.images = self.codes = self.differing = 0
        self._named = self._agreeing = 0

    @property
    def agreement(self) -> float:
        """Share of what is named (the class of an image or a pixel, a decision, a number) that is equal."""
        return self._agreeing / self._named

    def add(self, folded: Answer, file: Answer, labels: np.ndarray) -> None:
        """Counts one batch; `labels` in any form that fits the task.

        Raises:
          ValueError: if they do not fit.
        """
        labels = labels_of(self.task, self._head, labels)
        self.images += len(labels)
        for expected, found in zip(folded.codes, file.codes, strict=True):
            self.codes += found.size
            self.differing += int(np.count_nonzero(expected != found))
        if self.task == "regression":
            equal = folded.outputs == file.outputs
            self.folded.add(folded.outputs, labels)
            self.file.add(file.outputs, labels)
        else:
            expected = self._decided(folded)
            found = self._decided(file) if file.named is None else file.named
            equal = expected == found
            self.folded.add(folded.logits, labels, expected)
            self.file.add(file.logits, labels, found)
        self._named += equal.size
        self._agreeing += int(equal.sum())

    def metrics(self) -> dict[str, dict[str, float | None]]:
        """Metric -> its value for "folded" and for "tflite", the file."""
        folded, file = self.folded.result(), self.file.result()
        return {name: {"folded": folded[name], "tflite": file[name]} for name in folded}

    def top1(self) -> tuple[float | None, float | None]:
        """(folded, file): accuracy of a classification, binary accuracy of a binary one; else None, None."""
        if self.task not in ("classification", "binary"):
            return None, None
        return tuple(next(iter(self.metrics().values())).values())

    def _decided(self, answer: Answer) -> np.ndarray:
        return decisions(self.task, answer.logits, from_logits=self._from_logits)
