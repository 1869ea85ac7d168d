"""Counting how codes of a folded model and of its file differ, batch by batch.

tensor = CodeCount()
tensor.add(expected, found)                   # int8 codes of one tensor
tensor.codes, tensor.differing, tensor.largest_difference, tensor.distinct
whole = WholeCount(trace.ends, ["classification", "regression"])
whole.add(output.folded(codes), output(found), [classes, boxes])
whole.differing, whole.of_output["box"].metrics()
"""

from collections.abc import Sequence

import numpy as np

from mmx_tf.export.comparing.answers import Answer
from mmx_tf.export.comparing.ends import End
from mmx_tf.export.comparing.heads import Head, labels_of
from mmx_tf.export.comparing.quality import Quality, decisions


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
    """An output of a file: how good its answers and the folded model's are, and how far they are the same.

    Args:
      task: what it stands for, one of `export.comparing.heads.TASKS`; None where there are no labels for it,
        and codes alone are counted.
      head: of the folded model's output.

    Attributes:
      images: counted so far.
      codes, differing: codes of logits and outputs, and how many differ.
      folded, file: `Quality` of each.
    """

    def __init__(self, task: str | None, head: Head):
        self.task, self._head = task, head
        # A hard-sigmoid's outputs are all that is known of it.
        self._from_logits = head.activation != "hard_sigmoid"
        self.folded = Quality(task, from_logits=self._from_logits)
        self.file = Quality(task, from_logits=self._from_logits)
        self.images = self.codes = self.differing = 0
        self._named = self._agreeing = 0

    @property
    def agreement(self) -> float | None:
        """Share of what is named (the class of an image or a pixel, a decision, a number) that is equal."""
        return self._agreeing / self._named if self._named else None

    @property
    def code_disagreement(self) -> float:
        """Share of the codes that differ."""
        return self.differing / self.codes

    def add(self, folded: Answer, file: Answer, labels: np.ndarray | None) -> None:
        """Counts one batch; `labels` in any form that fits the task.

        Raises:
          ValueError: if they do not fit.
        """
        labels = None if self.task is None else labels_of(self.task, self._head, labels)
        self.images += len(file.outputs)
        for expected, found in zip(folded.codes, file.codes, strict=True):
            self.codes += found.size
            self.differing += int(np.count_nonzero(expected != found))
        if self.task is None:
            return
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
        """Metric -> its value for "folded" and for "tflite", the file; empty without labels."""
        if self.task is None:
            return {}
        folded, file = self.folded.result(), self.file.result()
        return {name: {"folded": folded[name], "tflite": file[name]} for name in folded}

    def top1(self) -> tuple[float | None, float | None]:
        """(folded, file): accuracy of a classification, binary accuracy of a binary one; else None, None."""
        if self.task not in ("classification", "binary"):
            return None, None
        return tuple(next(iter(self.metrics().values())).values())

    def _decided(self, answer: Answer) -> np.ndarray:
        return decisions(self.task, answer.logits, from_logits=self._from_logits)


class WholeCount:
    """A whole file: an `AnswerCount` for each of its outputs.

    Args:
      ends: of the folded model.
      tasks: what each output stands for; None for one without labels.

    Attributes:
      of_output: by the output's name, in the model's order.
    """

    def __init__(self, ends: Sequence[End], tasks: Sequence[str | None]):
        self.of_output = {
            end.name: AnswerCount(task, end.head) for end, task in zip(ends, tasks, strict=True)
        }

    @property
    def several(self) -> bool:
        """Whether there are several outputs."""
        return len(self.of_output) > 1

    @property
    def only(self) -> AnswerCount:
        """The first output, which is the only one of most models."""
        return next(iter(self.of_output.values()))

    @property
    def images(self) -> int:
        """Images counted so far."""
        return self.only.images

    @property
    def code_disagreement(self) -> float:
        """Share of the codes of all outputs that differ."""
        counts = self.of_output.values()
        return sum(count.differing for count in counts) / sum(count.codes for count in counts)

    @property
    def agreement(self) -> float | None:
        """That of the one output; of several the smallest."""
        return min((count.agreement for count in self.of_output.values() if count.task), default=None)

    @property
    def task(self) -> str | dict[str, str | None]:
        """That of the one output; of several by their names."""
        return (
            {name: count.task for name, count in self.of_output.items()} if self.several else self.only.task
        )

    def add(self, folded: Sequence[Answer], file: Sequence[Answer], labels: Sequence) -> None:
        """Counts one batch; each has a part for every output."""
        for count, *parts in zip(self.of_output.values(), folded, file, labels, strict=True):
            count.add(*parts)

    def metrics(self) -> dict[str, dict[str, float | None]]:
        """Those of the one output; of several with the output's name in front, as Keras names them."""
        return {
            f"{name}_{metric}" if self.several else metric: values
            for name, count in self.of_output.items()
            for metric, values in count.metrics().items()
        }

    def top1(self) -> tuple[float | None, float | None]:
        """(folded, file): that of the one output; None, None of several."""
        return (None, None) if self.several else self.only.top1()
