"""The parity certificate: what of a folded model its file computes, operator by operator, on three runtimes.

`verify` runs the whole file; a code that differs early then shows in every tensor after it. Here each
operator gets its true inputs, the folded model's own codes, so that what differs is the operator's doing:

    certificate = certify(folded, data, eval_ds, kernels=("xnnpack", "builtin", "reference"))
    certificate.runtimes["builtin"].operators[7]      # name, codes, how many differ, by how much
    certificate.check(max_disagreement=0.0)           # raises DisagreementError that names the layers

The command is `python -m export.parity`.

The operators are those of the file itself, taken apart by `export.comparing.cut`, up to the logits' codes.
What output types put after them (DEQUANTIZE, ARG_MAX, SOFTMAX) has no layer in the folded model; the whole
file is judged by its codes and the class that it names.
"""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence

import tf_keras as keras

from mmx_tf.errors import DisagreementError
from mmx_tf.export.comparing.answers import FileOutput
from mmx_tf.export.comparing.cut import cut, expose
from mmx_tf.export.comparing.ends import check_tasks, tasks_of
from mmx_tf.export.comparing.evaluation import checked
from mmx_tf.export.comparing.inputs import size_of
from mmx_tf.export.comparing.operator_count import Counter, RuntimeParity
from mmx_tf.export.comparing.quality import SAME
from mmx_tf.export.comparing.trace import Trace
from mmx_tf.export.comparing.unpacked import unpacked
from mmx_tf.export.running import litert
from mmx_tf.export.running.partitions import require_xnnpack

SHOWN_OPERATORS = 3


@dataclasses.dataclass(frozen=True)
class Certificate:
    """What `certify` found.

    Attributes:
      sha256: of the file.
      folded_top1: accuracy of the folded model on the images of the first runtime; of a binary one its binary
        accuracy, None for other tasks.
      runtimes: kernels -> what they compute.
      unable: kernels -> why LiteRT cannot run the file with them.
      unpacked: kernels -> why they were given the file with its packed weights in int8 tensors, the same
        codes.
      task: what the outputs stand for, one of `export.comparing.heads.TASKS`; of several outputs by their
        names.
      folded_metrics: of the task, metric -> value of the folded model on the same images as `folded_top1`; of
        several outputs as in a `VerificationReport`.
    """

    sha256: str
    folded_top1: float | None
    runtimes: dict[str, RuntimeParity]
    unable: dict[str, str] = dataclasses.field(default_factory=dict)
    unpacked: dict[str, str] = dataclasses.field(default_factory=dict)
    task: str | dict[str, str | None] = "classification"
    folded_metrics: dict[str, float | None] = dataclasses.field(default_factory=dict)

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
                f"under the {kernels} kernels these differ from the folded model in a larger share of their "
                f"codes than {max_disagreement:g}, which is allowed: {'; '.join(broken)}."
            )


def certify(
    folded: keras.Model,
    data: bytes,
    eval_ds,
    *,
    kernels: Sequence[str] = tuple(litert.KERNELS),
    max_images: Sequence[int] | int | None = None,
    task: str | Mapping[str, str] | None = None,
    progress=None,
    trace: Trace | None = None,
) -> Certificate:
    """Compares every operator of a folded model, and the whole file, with LiteRT.

    Args:
      folded: model made by `mmx_tf.fold`.
      data: its file, with any input and output type.
      eval_ds: batches of (float images, labels), as for `verify`.
      kernels: what to run, of `litert.KERNELS`.
      max_images: images for each of `kernels`, or for all of them; None for all images. The reference
        kernels are slow.
      task: what the outputs stand for, as for `verify`.
      progress: called with (images done) after every batch.
      trace: of `folded`, if there is one already.

    Raises:
      ValueError: if there are no images or they do not fit the network, the file is not of this model, or
        LiteRT runs it without XNNPACK, which is among `kernels`.
    """
    limits = [max_images] * len(kernels) if max_images is None or isinstance(max_images, int) else max_images
    check_tasks(task)
    trace = trace or Trace(folded)
    output, pieces = _whole_and_cut(trace, data)
    unknown = {operator.output for operator in pieces.operators} - trace.names
    if unknown:
        raise ValueError(
            f"the file's tensors {sorted(unknown)} are not in the folded model: give the model's own file."
        )
    if "xnnpack" in kernels:
        require_xnnpack(data)
    counters, unable, as_int8, tasks = {}, {}, {}, None
    for name, limit in zip(kernels, limits, strict=True):
        try:
            counters[name] = Counter(trace, pieces, output, name, limit)
        except litert.KernelsMissingError as error:
            try:
                counters[name] = Counter(trace, *_whole_and_cut(trace, unpacked(data))[::-1], name, limit)
                as_int8[name] = f"{error} They were given its packed weights in int8 tensors, the same codes."
            except litert.KernelsMissingError:
                unable[name] = str(error)
    if not counters:
        raise ValueError(f"LiteRT cannot run the file: {unable}.")
    done = 0
    for images, labels in checked(eval_ds, image_shape=trace.image_shape, outputs=trace.outputs):
        codes, labels = trace(images), labels if trace.outputs.several else [labels]
        tasks = tasks or tasks_of(trace.ends, trace.outputs, labels, task)
        for counter in counters.values():
            counter.add(images, codes, labels, tasks=tasks)
        done += size_of(images)
        if progress:
            progress(done)
        if all(counter.full for counter in counters.values()):
            break
    first = next(iter(counters.values())).answers
    return Certificate(
        sha256=hashlib.sha256(data).hexdigest(),
        folded_top1=first.top1()[0],
        runtimes={name: counter.result() for name, counter in counters.items()},
        unable=unable,
        unpacked=as_int8,
        task=first.task,
        folded_metrics={name: values["folded"] for name, values in first.metrics().items()},
    )


def _whole_and_cut(trace: Trace, data: bytes):
    return FileOutput(trace, data), cut(expose(data, [end.final for end in trace.ends]))


def summary(certificate: Certificate) -> str:
    """The certificate in a few lines: a line for each set of kernels, then the operators that differ most."""
    lines = []
    for kernels, runtime in certificate.runtimes.items():
        same = _same(certificate.task, runtime.agreement)
        codes = sum(operator.codes for operator in runtime.operators)
        known = sum(operator.rules is not None for operator in runtime.operators)
        lines.append(
            f"{kernels}, {runtime.images:,} images: {runtime.differing:,} of {codes:,} codes differ; the "
            f"rounding of {known} of {len(runtime.operators)} operators is known. Whole file: "
            f"{same}, {runtime.code_disagreement:.4%} of logit codes differ"
        )
        worst = sorted(runtime.operators, key=lambda operator: -operator.disagreement)[:SHOWN_OPERATORS]
        lines += [
            f"    {operator.name} ({operator.kind}): {operator.disagreement:.4%} of its codes"
            for operator in worst
            if operator.differing
        ]
    return "\n".join([*lines, *certificate.unable.values(), *certificate.unpacked.values()])


def _same(task, agreement: float | None) -> str:
    """How far file and folded model agree, in words."""
    if isinstance(task, Mapping):
        return f"the same in {agreement:.2%} of each output or more" if agreement is not None else "no labels"
    return SAME[task].format(f"{agreement:.2%}")
