"""Counting how codes of a folded model and of its file differ, batch by batch.

tensor = CodeCount()
tensor.add(expected, found)                   # int8 codes of one tensor
tensor.codes, tensor.differing, tensor.largest_difference, tensor.distinct
"""

import numpy as np


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


class LogitCount:
    """The whole file: accuracies, agreement of classes, logit codes that differ."""

    def __init__(self):
        self.images = self.codes = self.differing = self.agreeing = 0
        self.correct_folded = self.correct_file = 0

    def add(self, expected: np.ndarray, found: np.ndarray, classes: np.ndarray, labels: np.ndarray) -> None:
        """Counts one batch.

        Args:
          expected: the folded model's logit codes [N, classes].
          found: the file's.
          classes: the class [N] that the file names; the folded model's is its largest code, the first of
            equal ones.
          labels: the true classes [N].

        Raises:
          ValueError: if the outputs are no logits.
        """
        if expected.ndim != 2:
            shape = ("N", *expected.shape[1:])
            raise ValueError(
                f"the network's outputs have shape {shape}; logits of (N, classes) are compared."
            )
        self.images += len(labels)
        self.codes += found.size
        self.differing += int(np.count_nonzero(expected != found))
        self.agreeing += int(np.sum(expected.argmax(-1) == classes))
        self.correct_folded += int(np.sum(expected.argmax(-1) == labels))
        self.correct_file += int(np.sum(classes == labels))
