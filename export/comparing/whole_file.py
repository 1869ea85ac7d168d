"""Does the file compute what the folded model computes? Judged by running it in LiteRT under XNNPACK.

    report = verify(folded, data, eval_ds)
    report.code_disagreement, report.agreement               # 0.0, 1.0 when every code is equal
    report.task, report.metrics                              # "classification", {"accuracy": {...}}
    report.tensors[0]                                        # the same, tensor by tensor
    report.outputs["box"].metrics                            # of a network of several outputs

The command is `python -m export.verify`.
"""

import dataclasses
import numbers
import os
import pathlib
from collections.abc import Callable, Mapping

import tf_keras as keras
from absl import logging

from mmx_tf.export.comparing.answers import FileOutput
from mmx_tf.export.comparing.count import AnswerCount, CodeCount, WholeCount
from mmx_tf.export.comparing.cut import expose
from mmx_tf.export.comparing.ends import check_tasks, tasks_of
from mmx_tf.export.comparing.evaluation import checked
from mmx_tf.export.comparing.inputs import size_of
from mmx_tf.export.comparing.trace import ImageInput, Trace
from mmx_tf.export.running import litert
from mmx_tf.export.running.partitions import require_xnnpack


@dataclasses.dataclass(frozen=True)
class TensorParity:
    """Codes of one tensor in the folded model and in the file.

    Attributes:
      name: the tensor's name, that of the folded layer that produces it.
      codes: number of codes compared.
      differing: number of codes that differ.
      largest_difference: largest absolute difference of two codes.
      distinct: number of different codes that the tensor took in the file.
    """

    name: str
    codes: int
    differing: int
    largest_difference: int
    distinct: int


@dataclasses.dataclass(frozen=True)
class OutputReport:
    """One of several outputs: figures that a `VerificationReport` has of the one output of most networks.

    Attributes:
      task: what it stands for; None where `verify` was given no labels for it: then codes alone are compared.
      folded_top1, tflite_top1, top1_agreement, code_disagreement, metrics, agreement: as there.
    """

    task: str | None
    folded_top1: float | None
    tflite_top1: float | None
    top1_agreement: float | None
    code_disagreement: float
    metrics: dict[str, dict[str, float | None]]
    agreement: float | None


@dataclasses.dataclass(frozen=True)
class VerificationReport:
    """What `verify` found; all fractions are over the same images.

    For a network of several outputs, `outputs` has the figures of each. Then `code_disagreement` counts the
    codes of all outputs, `agreement` is the smallest of theirs, and `task` is a dict by their names. Names of
    `metrics` begin with the output's, as Keras's do ("box_mean_absolute_error"), and top-1 is None.

    Attributes:
      eval_images: number of images.
      folded_top1, tflite_top1: accuracy of the folded model and of the file. It is top-1 for a
        classification and the binary accuracy for a binary task; None for every other task.
      top1_agreement: `agreement` for a classification or a binary task; None for every other task.
      code_disagreement: share of the logits' codes that differ. If the network ends with a sigmoid, it is
        over the codes of logits and probabilities together.
      tensors: how many codes differ in the output of each operator, on the first `traced_images` images. A
        code that differs here makes others differ in the operators behind it; `export.parity` tells the
        operators apart.
      traced_images: number of images that `tensors` was counted on.
      partitions: XNNPACK partitions of the file on this machine.
      left_outside: operators that XNNPACK does not take, as (index, name).
      task: what the outputs stand for, one of `export.comparing.heads.TASKS`.
      metrics: metric of the task (`export.comparing.quality`) -> {"folded": value, "tflite": value of the
        file}. Decisions and areas are computed from logits, also if the outputs are a sigmoid's.
      agreement: share of answers that are the same in both. An answer is the class of an image (its largest
        logit, of equal ones the first; 1 for a binary logit above 0), the decision on a label, the class of a
        pixel, or the number of a regression.
      outputs: output name -> its figures, in the network's order; empty for a network of one output.
    """

    eval_images: int
    folded_top1: float | None
    tflite_top1: float | None
    top1_agreement: float | None
    code_disagreement: float
    tensors: tuple[TensorParity, ...]
    traced_images: int
    partitions: int
    left_outside: tuple
    task: str | dict[str, str | None] = "classification"
    metrics: dict[str, dict[str, float | None]] = dataclasses.field(default_factory=dict)
    agreement: float | None = None
    outputs: dict[str, OutputReport] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict:
        """The report as plain JSON values."""
        found = dataclasses.asdict(self)
        if not self.outputs:
            del found["outputs"]
        return found


def verify(
    folded: keras.Model,
    data: bytes | str | os.PathLike,
    eval_ds,
    *,
    task: str | Mapping[str, str] | None = None,
    traced_images: int = 128,
    trace: Trace | None = None,
    progress: Callable[[int], None] | None = None,
) -> VerificationReport:
    """Compares a folded model with its file on evaluation images.

    Args:
      folded: model made by `mmx_tf.fold`.
      data: what `convert` made of it, with any input and output type, or the path of that file. If the file
        gives classes, they are compared, and the codes of the logits with them.
      eval_ds: batches of (float images, labels), as the network was trained on; `export.comparing.heads` has
        the forms of labels that fit each task. For several outputs labels are a dict by their names, or a
        tuple; of an output that the dict leaves out only the codes are compared.
      task: what the outputs stand for, one of `export.comparing.heads.TASKS`; for several outputs a dict by
        their names. By default it follows from the network's last activation, the labels and the loss that
        the network was compiled with before `fold`.
      traced_images: the number of images on which every tensor is compared, and not the outputs alone.
      trace: a trace of `folded` that was made before; without one it is made.
      progress: called after every batch with the number of images that are done.

    Raises:
      ValueError: if there are no images, images or labels do not fit the network, the task cannot be told,
        the file is damaged or of another model, or LiteRT runs it without XNNPACK.
    """
    check_tasks(task)
    if not isinstance(traced_images, numbers.Integral) or traced_images < 0:
        raise ValueError(f"traced_images={traced_images!r}: an integer of 0 or more.")
    data = file_contents(data)
    trace = trace or Trace(folded)
    output = FileOutput(trace, data)
    runner, exposed = litert.Runner(output.data), litert.Runner(expose(data))
    image = ImageInput(trace, output.file)
    delegation = require_xnnpack(data)
    tensors = {name: CodeCount() for name in exposed.outputs if name in trace.names}
    whole, traced = None, 0
    for batch, labels in checked(eval_ds, image_shape=trace.image_shape, outputs=trace.outputs):
        if whole is None and (outside := trace.told_outside(batch)):
            logging.warning("%s: these are not the images that the network was trained on.", outside)
        expected = trace(batch)
        pixels = image(batch, expected)
        labels = labels if trace.outputs.several else [labels]
        whole = whole or WholeCount(trace.ends, tasks_of(trace.ends, trace.outputs, labels, task))
        whole.add(output.folded(expected), output(runner(pixels)), labels)
        if size := min(traced_images - traced, size_of(batch)):
            everything = exposed({name: values[:size] for name, values in pixels.items()})
            for name, counter in tensors.items():
                counter.add(expected[name][:size], everything[name])
            traced += size
        if progress:
            progress(whole.images)
    folded_top1, tflite_top1 = whole.top1()
    return VerificationReport(
        eval_images=whole.images,
        folded_top1=folded_top1,
        tflite_top1=tflite_top1,
        top1_agreement=None if tflite_top1 is None else whole.agreement,
        code_disagreement=whole.code_disagreement,
        tensors=tuple(
            TensorParity(name, count.codes, count.differing, count.largest_difference, count.distinct)
            for name, count in tensors.items()
        ),
        traced_images=traced,
        partitions=delegation.partitions,
        left_outside=delegation.left_outside,
        task=whole.task,
        metrics=whole.metrics(),
        agreement=whole.agreement,
        outputs={name: _of_output(count) for name, count in whole.of_output.items()} if whole.several else {},
    )


def _of_output(count: AnswerCount) -> OutputReport:
    folded_top1, tflite_top1 = count.top1()
    return OutputReport(
        task=count.task,
        folded_top1=folded_top1,
        tflite_top1=tflite_top1,
        top1_agreement=None if tflite_top1 is None else count.agreement,
        code_disagreement=count.code_disagreement,
        metrics=count.metrics(),
        agreement=count.agreement,
    )


def file_contents(data) -> bytes:
    """The bytes of a .tflite that is given as bytes or as a path.

    Raises:
      FileNotFoundError: if there is no such file.
      TypeError: for anything else.
    """
    if isinstance(data, str | os.PathLike):
        path = pathlib.Path(data)
        if not path.is_file():
            raise FileNotFoundError(
                f"there is no file {str(path)!r}: give the .tflite that convert's bytes went to."
            )
        return path.read_bytes()
    if not isinstance(data, bytes | bytearray | memoryview):
        raise TypeError(
            f"the file is of type {type(data).__name__}: give the bytes that convert returns, or a path."
        )
    return bytes(data)
