"""Counting what differs between a folded model and its file under one set of kernels, batch by batch.

counter = Counter(trace, cut(data), data, "builtin", limit=100)
counter.add(images, trace(images), labels)
counter.result()                                  # a RuntimeParity
"""

import dataclasses

import numpy as np

from export import litert, reference
from export.cut import Pieces
from export.trace import ImageInput, Trace

RULE_IMAGES = 4
"""Images on which a runtime is told by its rounding: the reference interpreter is plain numpy."""


@dataclasses.dataclass(frozen=True)
class OperatorParity:
    """Codes of one operator, given the folded model's codes as inputs.

    Attributes:
      name: the operator's output tensor, named like the folded layer that computes it.
      kind: the builtin operator, such as CONV_2D.
      codes: number of codes compared.
      differing: number of codes that differ.
      largest_difference: largest absolute difference of two codes.
      rules: those of `export.reference.RULES` by which the reference interpreter, which knows the file alone,
        computes the runtime's every code on the first images; None where none does.
    """

    name: str
    kind: str
    codes: int
    differing: int
    largest_difference: int
    rules: str | None = None

    @property
    def disagreement(self) -> float:
        """Share of codes that differ."""
        return self.differing / self.codes


@dataclasses.dataclass(frozen=True)
class RuntimeParity:
    """What one set of kernels computes.

    Attributes:
      images: number of images.
      operators: every operator of the file, in order.
      top1: accuracy of the whole file.
      top1_agreement: share of images on which the whole file names the folded model's class.
      code_disagreement: share of the whole file's logit codes that differ.
    """

    images: int
    operators: tuple[OperatorParity, ...]
    top1: float
    top1_agreement: float
    code_disagreement: float

    @property
    def differing(self) -> int:
        """Number of codes that differ, over all operators."""
        return sum(operator.differing for operator in self.operators)


class Counter:
    """Counts what differs under one set of kernels, batch by batch, up to a limit of images."""

    def __init__(self, trace: Trace, pieces: Pieces, data: bytes, kernels: str, limit: int | None):
        self.trace, self.pieces, self.kernels, self.limit = trace, pieces, kernels, limit
        self.graph = reference.load(data)
        self.operators = litert.Runner(pieces.data, kernels=kernels)
        self.whole = litert.Runner(data, kernels=kernels)
        self.image = ImageInput(trace, self.whole)
        self.counts = {operator.output: [0, 0, 0] for operator in pieces.operators}
        self.images = self.correct = self.correct_folded = self.agreeing = self.differing = self.logits = 0

    @property
    def full(self) -> bool:
        """Whether the limit is reached."""
        return self.limit is not None and self.images >= self.limit

    def add(self, images: np.ndarray, codes: dict[str, np.ndarray], labels: np.ndarray) -> None:
        """Counts one batch, or what of it the limit leaves."""
        size = len(labels) if self.limit is None else min(len(labels), self.limit - self.images)
        if not size:
            return
        codes, labels = {name: values[:size] for name, values in codes.items()}, labels[:size]
        pixels = self.image(images[:size], codes)
        values = {**codes, **pixels}
        if not self.images:
            first = {name: tensor[:RULE_IMAGES] for name, tensor in values.items()}
            self.rules = rules_followed(self.graph, first, self._run_operators(first), own=self.kernels)
        found = self._run_operators(values)
        for name, count in self.counts.items():
            difference = np.abs(codes[name].astype(np.int16) - found[name])
            count[0] += difference.size
            count[1] += int(np.count_nonzero(difference))
            count[2] = max(count[2], int(difference.max()))
        self._add_whole(codes[self.trace.final], self.whole(pixels), labels)

    def _run_operators(self, values):
        return self.operators({name: values[source] for name, source in self.pieces.inputs.items()})

    def _add_whole(self, expected, outputs, labels):
        (found,) = outputs.values()
        self.images += len(labels)
        self.logits += found.size
        self.differing += int(np.count_nonzero(expected != found))
        self.agreeing += int(np.sum(expected.argmax(-1) == found.argmax(-1)))
        self.correct_folded += int(np.sum(expected.argmax(-1) == labels))
        self.correct += int(np.sum(found.argmax(-1) == labels))

    def result(self) -> RuntimeParity:
        """What was counted."""
        operators = tuple(
            OperatorParity(
                operator.output, operator.kind, *self.counts[operator.output], self.rules[operator.output]
            )
            for operator in self.pieces.operators
        )
        return RuntimeParity(
            images=self.images,
            operators=operators,
            top1=self.correct / self.images,
            top1_agreement=self.agreeing / self.images,
            code_disagreement=self.differing / self.logits,
        )


def rules_followed(graph, values, found, *, own: str) -> dict[str, str | None]:
    """Operator -> the rules by which the reference interpreter gives its output `found`; `own` come first."""
    followed = {}
    for operator in graph.operators:
        name = operator.outputs[0].name
        followed[name] = next(
            (
                rules
                for rules in sorted(reference.RULES, key=lambda rules: rules != own)
                if np.array_equal(
                    reference.step(graph, operator.index, values, rules=rules)[name], found[name]
                )
            ),
            None,
        )
    return followed
