"""Counting what differs between a folded model and its file under one set of kernels, batch by batch.

pieces = cut(expose(data, [end.final for end in trace.ends]))
counter = Counter(trace, pieces, FileOutput(trace, data), "builtin", limit=100)
counter.add(images, trace(images), [labels], tasks=["classification"])
counter.result()                                  # a RuntimeParity
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from mmx_tf.export import reference
from mmx_tf.export.comparing.answers import FileOutput
from mmx_tf.export.comparing.count import CodeCount, WholeCount
from mmx_tf.export.comparing.cut import Pieces
from mmx_tf.export.comparing.inputs import head, size_of
from mmx_tf.export.comparing.trace import ImageInput, Trace
from mmx_tf.export.running import litert

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
      top1: accuracy of the whole file; of a binary one its binary accuracy, None for other tasks.
      top1_agreement: share of images on which the whole file names the folded model's class; None as `top1`.
      code_disagreement: share of the whole file's logit codes that differ, of all outputs.
      metrics: of the task, metric -> value of the whole file; of several outputs as a `VerificationReport`
        has them.
      agreement: share of what the whole file and the folded model name that is the same, as that of a
        `VerificationReport`.
    """

    images: int
    operators: tuple[OperatorParity, ...]
    top1: float | None
    top1_agreement: float | None
    code_disagreement: float
    metrics: dict[str, float | None] = dataclasses.field(default_factory=dict)
    agreement: float | None = None

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
        self.image = ImageInput(trace, output.file)
        self.counts = {operator.output: CodeCount() for operator in pieces.operators}
        self.answers: WholeCount | None = None

    @property
    def full(self) -> bool:
        """Whether the limit is reached."""
        return self.limit is not None and self.images >= self.limit

    @property
    def images(self) -> int:
        """Images that have been counted."""
        return self.answers.images if self.answers else 0

    def add(
        self, images: np.ndarray, codes: dict[str, np.ndarray], labels: Sequence, *, tasks: Sequence
    ) -> None:
        """Counts one batch, or what of it the limit leaves; labels and tasks of each output may be None."""
        size = size_of(images) if self.limit is None else min(size_of(images), self.limit - self.images)
        if not size:
            return
        codes = {name: values[:size] for name, values in codes.items()}
        labels = [None if part is None else part[:size] for part in labels]
        pixels = self.image(head(images, size), codes)
        values = {**codes, **pixels}
        inputs = {name: values[source] for name, source in self.pieces.inputs.items()}
        if not self.images:
            self.answers = WholeCount(self.trace.ends, tasks)
            first = {name: tensor[:RULE_IMAGES] for name, tensor in inputs.items()}
            self.rules = rules_followed(self.graph, first, self.operators(first), own=self.kernels)
        found = self.operators(inputs)
        for name, count in self.counts.items():
            count.add(codes[name], found[name])
        self.answers.add(self.output.folded(codes), self.output(self.whole(pixels)), labels)

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
        whole = self.answers
        _, top1 = whole.top1()
        return RuntimeParity(
            images=whole.images,
            operators=operators,
            top1=top1,
            top1_agreement=None if top1 is None else whole.agreement,
            code_disagreement=whole.code_disagreement,
            metrics={name: values["tflite"] for name, values in whole.metrics().items()},
            agreement=whole.agreement,
        )


def rules_followed(graph, values, found, *, own: str) -> dict[str, str | None]:
    """Operator -> the rules by which the reference interpreter gives its output `found`; `own` come first."""
    followed = {}
    # What lies inside of a smooth activation is no output, but what the operators after it take.
    computed = {rules: dict(values) for rules in sorted(reference.RULES, key=lambda rules: rules != own)}
    for operator in graph.operators:
        name = operator.outputs[0].name
        results = {
            rules: reference.step(graph, operator.index, known, rules=rules)[name]
            for rules, known in computed.items()
        }
        if name in found:
            equal = (rules for rules, result in results.items() if np.array_equal(result, found[name]))
            followed[name] = next(equal, None)
            continue
        for rules, result in results.items():
            computed[rules][name] = result
    return followed
