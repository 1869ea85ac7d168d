"""The contents of a .tflite as plain values: tensors, operators, inputs, outputs, signatures, metadata.

    file = export.reading.tflite_file.read("model.tflite")      # a TfliteFile
    image, weights, bias = file.at(file.operators[1].inputs)
    weights.type, weights.shape, weights.scales         # "INT8", (32, 3, 3, 3), 32 numbers

Names of operators and types are those of the schema.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

# Types without an entry (strings, resources, types of later schemas) have no size that a shape would tell.
_BITS = {
    **{"INT2": 2, "INT4": 4, "UINT4": 4, "INT8": 8, "UINT8": 8, "BOOL": 8, "INT16": 16, "UINT16": 16},
    **{"FLOAT8_E4M3FN": 8, "FLOAT8_E5M2": 8, "FLOAT16": 16, "BFLOAT16": 16, "FLOAT32": 32, "INT32": 32},
    **{"UINT32": 32, "INT64": 64, "UINT64": 64, "FLOAT64": 64, "COMPLEX64": 64, "COMPLEX128": 128},
}


def tensor_bits(tensor_type: str) -> int | None:
    """Bits of one element of a type ("INT4": 4); None for a type that has no size of its own."""
    return _BITS.get(tensor_type)


class TfliteFileError(ValueError):
    """A file that is no .tflite, or a damaged one; the message is one line."""


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor of the file; its arrays are views of the file.

    Attributes:
      name: the tensor's name.
      type: as in the schema ("INT8").
      shape: the file's shape; an activation's first dimension is the batch.
      scales: float32, one entry, or one per channel, or none without quantization.
      zero_points: int64, one for all scales, or one for each.
      minima, maxima: float32. Some writers keep them beside the scales; they mean nothing to a runtime.
      data: uint8, the stored bytes of a constant (see `export.reading.constants`); None for an activation.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    scales: np.ndarray
    zero_points: np.ndarray
    minima: np.ndarray
    maxima: np.ndarray
    data: np.ndarray | None

    @property
    def scale(self) -> float | None:
        """The (first) scale, None without one."""
        return float(self.scales[0]) if self.scales.size else None

    @property
    def zero_point(self) -> int | None:
        """The (first) zero point, None without one."""
        return int(self.zero_points[0]) if self.zero_points.size else None


@dataclass(frozen=True, eq=False)
class Operator:
    """An operator: `kind` as in the schema ("CONV_2D"; "CUSTOM NAME"), tensors by index, -1: none.

    `options` is the schema's object, such as Conv2DOptionsT, or None.
    """

    kind: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: object = None


@dataclass(frozen=True, eq=False)
class TfliteFile:
    """The contents of a .tflite; tensors and operators are those of the first of its `subgraphs`.

    `signatures` are (key, {name: input tensor}, {name: output tensor}) of the first subgraph; `metadata` is
    {name: bytes}.
    """

    data: bytes
    description: str
    subgraphs: int
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    signatures: tuple[tuple[str, dict[str, int], dict[str, int]], ...]
    metadata: dict[str, bytes]

    def at(self, indices: Iterable[int]) -> tuple[Tensor | None, ...]:
        """The tensors of these indices; None for -1, an optional input that is left out."""
        return tuple(None if index == -1 else self.tensors[index] for index in indices)
