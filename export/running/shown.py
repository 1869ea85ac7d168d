"""What the outputs of a .tflite say, in lines of text: classes with their probabilities, or numbers.

    outputs = outputs_of(file, labels=None, task=None)
    lines(outputs, found, top=5)                   # found: what LiteRT gave for one image, by tensor name

A class without a name goes by its number.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mmx_tf.export.reading import metadata
from mmx_tf.export.reading.contents import Tensor, TfliteFile
from mmx_tf.export.running import ends

RANKED = ("classification", "binary", "multi_label")
"""Tasks whose outputs are probabilities, or become such."""
CLASS, PROBABILITIES = "class", "probabilities"
MOST_NUMBERS = 20
"""Of an output that is printed whole."""


class Output(NamedTuple):
    """One output of a file.

    Attributes:
      name: in the signature, where there are several; '' for the only one.
      tensor: what LiteRT gives.
      task: what it stands for, one of `choices.TASKS`; None where nothing says so.
      labels: names of its classes; () without.
      are_probabilities: and not logits.
    """

    name: str
    tensor: Tensor
    task: str | None
    labels: tuple[str, ...]
    are_probabilities: bool


def outputs_of(file: TfliteFile, *, labels: Sequence[str] | None, task: str | None) -> list[Output]:
    """The outputs of a file; of type `class` the probabilities, which say the class too.

    Args:
      file: the contents.
      labels: names of the classes of a single output; None takes those in the file's metadata.
      task: of a single output whose file records none.

    Raises:
      ValueError: for labels that are not as many as the classes, or given for several outputs.
    """
    named = next((outputs for _, _, outputs in file.signatures), {})
    named = named or {file.tensors[index].name: index for index in file.outputs}
    document = metadata.read(file).document or {}
    shown = {}
    for name, index in sorted(named.items(), key=lambda entry: file.outputs.index(entry[1])):
        if name.endswith(CLASS) and f"{name.removesuffix(CLASS)}{PROBABILITIES}" in named:
            continue
        classes = f"{name.removesuffix(PROBABILITIES)}{CLASS}" in named
        shown[name.removesuffix(PROBABILITIES).rstrip("_") if classes else name] = index
    if labels is not None and len(shown) > 1:
        raise ValueError(f"labels are for one output; the file has {', '.join(map(repr, shown))}.")
    return [
        _output(file, name if len(shown) > 1 else "", index, document, labels, task)
        for name, index in shown.items()
    ]


def _output(file: TfliteFile, name: str, index: int, document: Mapping, labels, task) -> Output:
    tensor = file.tensors[index]
    classes = tensor.shape[-1] if len(tensor.shape) > 1 else 0
    own, recorded = document.get("labels"), document.get("task")
    if name:
        own, recorded = (one.get(name) if isinstance(one, dict) else None for one in (own, recorded))
    fits = {2} if classes == 1 else {classes}
    if labels is not None and len(labels) not in fits:
        raise ValueError(f"there are {len(labels)} labels, and the output has {max(fits)} classes.")
    if labels is None:
        # Those that do not fit are told by `export.inspect`.
        labels = own if isinstance(own, list) and len(own) in fits else ()
    already = ends.are_probabilities(file, index)
    told = recorded if isinstance(recorded, str) else task
    if told is None and labels and len(tensor.shape) == 2:
        told = "binary" if classes == 1 else "classification"
    return Output(name, tensor, told, tuple(map(_printable, labels)), already)


def lines(outputs: Sequence[Output], found: Mapping[str, np.ndarray], *, top: int) -> list[str]:
    """What the outputs of one image say; `found` has a batch of one for each, `top` classes are told."""
    told = []
    for output in outputs:
        indent = "  "
        if output.name:
            told.append(f"{indent}{_printable(output.name)}:")
            indent *= 2
        numbers = ends.numbers_of(found[output.tensor.name][0], output.tensor)
        told += [f"{indent}{line}" for line in _of_one(output, numbers, top)]
    return told


def _of_one(output: Output, numbers: np.ndarray, top: int) -> list[str]:
    if output.task in RANKED and numbers.ndim == 1:
        found = ends.probabilities(numbers, output.task, are_already=output.are_probabilities)
        return _ranked(output.labels, found, "{:6.2%}", top)
    if output.task == "segmentation" and numbers.ndim > 1:
        threshold = 0.5 if output.are_probabilities else 0.0
        chosen = numbers.argmax(-1) if numbers.shape[-1] > 1 else numbers[..., 0] > threshold
        shares = np.bincount(chosen.ravel().astype(np.int64), minlength=max(2, numbers.shape[-1]))
        return _ranked(output.labels, shares / chosen.size, "{:6.2%} of the image", top)
    if numbers.size > MOST_NUMBERS:
        shape = " x ".join(map(str, numbers.shape))
        return [f"{shape} numbers from {numbers.min():g} to {numbers.max():g}, mean {numbers.mean():g}"]
    as_text = {"float_kind": "{:.7g}".format}
    return [" ".join(np.array2string(numbers, separator=", ", formatter=as_text).split())]


def _ranked(labels: Sequence[str], values: np.ndarray, form: str, top: int) -> list[str]:
    # The first of equal ones, as the runtimes' ARG_MAX has it.
    order = np.argsort(-values, kind="stable")[:top]
    names = [labels[index] if labels else f"class {index}" for index in order]
    width = max(map(len, names))
    return [
        f"{name:<{width}}  {form.format(values[index])}" for name, index in zip(names, order, strict=True)
    ]


def _printable(name) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in str(name))
