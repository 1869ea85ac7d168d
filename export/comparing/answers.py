"""What a file says of its images, output by output, beside what its folded model says.

output = FileOutput(trace, data)
runner = litert.Runner(output.data)
found = output(runner(image(images, codes)))      # an `Answer` for each output, whatever the file's types
found[0].logits, found[0].named                   # and output.folded(codes) are the folded model's
"""

import dataclasses

import numpy as np

from mmx_tf.export.comparing.cut import expose
from mmx_tf.export.comparing.ends import End
from mmx_tf.export.comparing.trace import Trace, check_grid
from mmx_tf.export.reading import tflite_file

_BEHIND_CODES = ("DEQUANTIZE", "ARG_MAX", "SOFTMAX", "LOGISTIC")
"""Operators that an output type puts behind the codes."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a folded model, or its file, says in one output of a batch of images.

    Attributes:
      codes: int8 codes of the outputs [N, ...], of one shape; behind them those of the logits, where a
        sigmoid is between.
      logits: float logits [N, ...], of the outputs' shape.
      outputs: float outputs: the same, but where a sigmoid makes probabilities of them.
      named: the classes, or decisions, that a file of output type "class" names; None for others.
    """

    codes: tuple[np.ndarray, ...]
    logits: np.ndarray
    outputs: np.ndarray
    named: np.ndarray | None = None


class FileOutput:
    """What a file says, whatever its output types, and what its folded model does.

    Args:
      trace: of the folded model.
      data: bytes of its file.

    Attributes:
      file: the contents of `data` as it was given.
      data: the file with the codes as outputs too. It has no SOFTMAX, on which LiteRT's reference kernels
        abort the process where a row's exponentials sum to 512 or more.

    Raises:
      ValueError: if the file's outputs are not made from the folded model's.
    """

    def __init__(self, trace: Trace, data: bytes):
        self.file = file = tflite_file.parse(data)
        names = [file.tensors[index].name for index in file.outputs]
        found = [_made(file, name, trace.ends) for name in names]
        self._made = {end.final: {} for end in trace.ends}
        for name, made in zip(names, found, strict=True):
            if made is None or made[1] in self._made[made[0].final]:
                raise _another(trace, names)
            self._made[made[0].final][made[1]] = name
        if not all(made.keys() & {"CODES", "DEQUANTIZE", "ARG_MAX"} for made in self._made.values()):
            raise _another(trace, names)
        by_name = {tensor.name: tensor for tensor in file.tensors}
        exposed = {}
        for end in trace.ends:
            for name, grid in ((end.logits, end.logits_grid), (end.final, end.final_grid)):
                if name not in by_name:
                    raise ValueError(f"the file has no tensor {name!r}: it was made from another model.")
                check_grid("output", by_name[name], grid)
            own = [self._made[end.final].get(kind) for kind in ("ARG_MAX", "DEQUANTIZE")]
            exposed |= dict.fromkeys([end.logits, end.final, *filter(None, own)])
        self._ends = trace.ends
        self.data = expose(data, exposed)

    def __call__(self, outputs: dict[str, np.ndarray]) -> list[Answer]:
        """The file's answer in each output, from what `data` gave."""
        return [
            _answer(end, outputs, outputs.get(made.get("DEQUANTIZE")), outputs.get(made.get("ARG_MAX")))
            for end, made in zip(self._ends, self._made.values(), strict=True)
        ]

    def folded(self, codes: dict[str, np.ndarray]) -> list[Answer]:
        """The folded model's answer in each output, from the codes that its trace gave."""
        return [_answer(end, codes) for end in self._ends]


def _made(file, name: str, ends: tuple[End, ...]) -> tuple[End, str] | None:
    """The end that an output of a file is made from, and the operator behind its codes ("CODES": none)."""
    makers = {file.tensors[index].name: operator for operator in file.operators for index in operator.outputs}

    def source(operator) -> str:
        return file.tensors[operator.inputs[0]].name

    finals = {end.final: end for end in ends}
    logits = {end.logits: end for end in ends} | finals
    if name in logits:
        return logits[name], "CODES"
    operator = makers.get(name)
    if operator is None or operator.kind not in _BEHIND_CODES:
        return None
    behind = source(operator)
    # Shapes and paddings of the codes in front of an ARG_MAX are not what makes an output.
    while operator.kind == "ARG_MAX" and behind not in logits:
        if behind not in makers or makers[behind].kind not in ("RESHAPE", "PAD"):
            return None
        behind = source(makers[behind])
    end = (finals if operator.kind == "DEQUANTIZE" else logits).get(behind)
    return None if end is None else (end, operator.kind)


def _another(trace: Trace, names: list[str]) -> ValueError:
    expected = []
    for end in trace.ends:
        what = "logits" if end.logits == end.final else "probabilities"
        expected.append(f"{what} {end.final!r}")
    return ValueError(
        f"the file has outputs {names}; expected are the folded model's {' and '.join(expected)}, as "
        "codes, as floats or as class and probabilities: the file was made from another model."
    )


def _answer(end: End, tensors, floats=None, named=None) -> Answer:
    final, logits = tensors[end.final], tensors[end.logits]
    outputs = end.final_grid.dequantize(final) if floats is None else floats
    if end.logits == end.final:
        return Answer((final,), outputs, outputs, named)
    as_floats = end.logits_grid.dequantize(logits).reshape(outputs.shape)
    return Answer((final, logits), as_floats, outputs, named)
