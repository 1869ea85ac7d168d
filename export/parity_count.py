"""Counting what differs between a folded model and its file under one set of kernels, batch by batch.

counter = Counter(trace, cut(expose(data, [trace.final])), FileOutput(trace, data), "builtin", limit=100)
counter.add(images, trace(images), labels)
counter.result()                                  # a RuntimeParity
"""

import dataclasses

import numpy as np

from export import litert, reference
from export.counting import CodeCount, LogitCount
from export.cut import Pieces
from export.trace import FileOutput, ImageInput, Trace

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

    def __init__(self, trace: Trace, pieces: Pieces, output: FileOutput, kernels: str, limit: int | None):
        self.trace, self.pieces, self.output, self.kernels, self.limit = trace, pieces, output, kernels, limit
        self.graph = reference.load(pieces.data)
        self.operators = litert.Runner(pieces.data, kernels=kernels)
        self.whole = litert.Runner(output.data, kernels=kernels)
        self.image = ImageInput(trace, self.whole)
        self.counts = {operator.output: CodeCount() for operator in pieces.operators}
        self.logits = LogitCount()

    @property
    def full(self) -> bool:
        """Whether the limit is reached."""
        return self.limit is not None and self.logits.images >= self.limit

    def add(self, images: np.ndarray, codes: dict[str, np.ndarray], labels: np.ndarray) -> None:
        """Counts one batch, or what of it the limit leaves."""
        size = len(labels) if self.limit is None else min(len(labels), self.limit - self.logits.images)
        if not size:
            return
        codes, labels = {name: values[:size] for name, values in codes.items()}, labels[:size]
        pixels = self.image(images[:size], codes)
        values = {**codes, **pixels}
        inputs = {name: values[source] for name, source in self.pieces.inputs.items()}
        if not self.logits.images:
            first = {name: tensor[:RULE_IMAGES] for name, tensor in inputs.items()}
            self.rules = rules_followed(self.graph, first, self.operators(first), own=self.kernels)
        found = self.operators(inputs)
        for name, count in self.counts.items():
            count.add(codes[name], found[name])
        self.logits.add(codes[self.trace.final], *self.output(self.whole(pixels)), labels)

    def result(self) -> RuntimeParity:
        """What was counted."""
        operators = tuple(
            OperatorParity(
                name=operator.output,
                kind=operator.kind,
                codes=count.codes,
                differing=count.differing,
                largest_difference=count.largest_difference,
                rules=self.rules[operator.output],
            )
            for operator, count in zip(self.pieces.operators, self.counts.values(), strict=True)
        )
        return RuntimeParity(
            images=self.logits.images,
            operators=operators,
            top1=self.logits.correct_file / self.logits.images,
            top1_agreement=self.logits.agreeing / self.logits.images,
            code_disagreement=self.logits.differing / self.logits.codes,
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
