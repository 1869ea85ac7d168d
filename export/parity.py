"""The parity certificate: what of a folded model its file computes, operator by operator, on three runtimes.

`verify` runs the whole file; a code that differs early then shows in every tensor after it. Here each
operator gets its true inputs, the folded model's own codes, so that what differs is the operator's doing:

    certificate = certify(folded, data, eval_ds, kernels=("xnnpack", "builtin", "reference"))
    certificate.runtimes["builtin"].operators[7]      # name, codes, how many differ, by how much
    certificate.check(max_disagreement=0.0)           # raises DisagreementError that names the layers

The operators are those of the file itself, taken apart by `export.cut`.
"""

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np
import tf_keras as keras

from export import litert, reference
from export.cut import Pieces, cut
from export.trace import ImageInput, Trace

RULE_IMAGES = 4
"""Images on which a runtime is told by its rounding: the reference interpreter is plain numpy."""


class DisagreementError(ValueError):
    """A file whose codes differ from the folded model's more than allowed."""


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


@dataclasses.dataclass(frozen=True)
class Certificate:
    """What `certify` found.

    Attributes:
      sha256: of the file.
      folded_top1: accuracy of the folded model on the images of the first runtime.
      runtimes: kernels -> what they compute.
      unable: kernels -> why LiteRT cannot run the file with them.
    """

    sha256: str
    folded_top1: float
    runtimes: dict[str, RuntimeParity]
    unable: dict[str, str] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict:
        """The certificate as plain JSON values."""
        return {"schema": 1, **dataclasses.asdict(self)}

    def check(self, *, max_disagreement: float, kernels: str = "xnnpack") -> None:
        """Checks a limit on the share of differing codes, for each operator and for the logits.

        Raises:
          DisagreementError: with the layers that are beyond it.
        """
        runtime = self.runtimes[kernels]
        broken = [
            f"{operator.name} ({operator.kind}): {operator.differing} of {operator.codes} codes"
            for operator in runtime.operators
            if operator.disagreement > max_disagreement
        ]
        if runtime.code_disagreement > max_disagreement:
            broken.append(f"logits of the whole file: {100 * runtime.code_disagreement:.4g}% of the codes")
        if broken:
            raise DisagreementError(
                f"under the {kernels} kernels these differ from the folded model by more than the share "
                f"{max_disagreement:g} of their codes that is allowed: {'; '.join(broken)}."
            )


def certify(
    folded: keras.Model,
    data: bytes,
    eval_ds,
    *,
    kernels: Sequence[str] = tuple(litert.KERNELS),
    max_images: Sequence[int] | int | None = None,
    progress=None,
    trace: Trace | None = None,
) -> Certificate:
    """Compares every operator of a folded model, and the whole file, with LiteRT.

    Args:
      folded: model made by `mmx_tf.fold`, with one logits output.
      data: its file, with int8 output.
      eval_ds: batches of (float images, integer labels).
      kernels: what to run, of `litert.KERNELS`.
      max_images: images for each of `kernels`, or for all of them; None for all images. The reference
        kernels are slow.
      progress: called with (images done) after every batch.
      trace: of `folded`, if there is one already.

    Raises:
      ValueError: if there are no images or the file is not of this model.
    """
    limits = [max_images] * len(kernels) if max_images is None or isinstance(max_images, int) else max_images
    trace = trace or Trace(folded)
    pieces = cut(data)
    unknown = {operator.output for operator in pieces.operators} - trace.names
    if unknown:
        raise ValueError(
            f"the file's tensors {sorted(unknown)} are not in the folded model: give the model's own file, "
            "with int8 output."
        )
    counters, unable = {}, {}
    for name, limit in zip(kernels, limits, strict=True):
        try:
            counters[name] = _Counter(trace, pieces, data, name, limit)
        except litert.KernelsMissingError as error:
            unable[name] = str(error)
    if not counters:
        raise ValueError(f"LiteRT cannot run the file: {unable}.")
    done = 0
    for images, labels in eval_ds:
        codes, labels = trace(images), np.asarray(labels).reshape(-1)
        for counter in counters.values():
            counter.add(np.asarray(images), codes, labels)
        done += len(labels)
        if progress:
            progress(done)
        if all(counter.full for counter in counters.values()):
            break
    if not done:
        raise ValueError("eval_ds has no images; give at least one batch of (images, labels).")
    first = next(iter(counters.values()))
    return Certificate(
        sha256=hashlib.sha256(data).hexdigest(),
        folded_top1=first.correct_folded / first.images,
        runtimes={name: counter.result() for name, counter in counters.items()},
        unable=unable,
    )


class _Counter:
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
            self.rules = _rules_followed(self.graph, first, self._run_operators(first), own=self.kernels)
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


def _rules_followed(graph, values, found, *, own: str) -> dict[str, str | None]:
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
