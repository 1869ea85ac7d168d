"""Where the bytes of a .tflite go.

parts = file_bytes(tflite_file.read("model.tflite"))
parts.weights, parts.zero_points, parts.total
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from mmx_tf.export.reading.contents import TfliteFile
from mmx_tf.export.reading.layers import weights_and_bias


@dataclass(frozen=True)
class FileBytes:
    """The parts of a file in bytes; they add up to `total`.

    `constants`: buffers that are neither weights nor biases (paddings, axes, shapes). `ranges`: minima and
    maxima kept beside the scales. `names`: of tensors. `structure`: what is left, such as tables, offsets,
    shapes, options, padding, further subgraphs.
    """

    total: int
    weights: int
    biases: int
    constants: int
    metadata: int
    scales: int
    zero_points: int
    ranges: int
    names: int
    structure: int


def file_bytes(file: TfliteFile) -> FileBytes:
    """The `FileBytes` of a file; what several tensors share counts once, for the first of its uses."""
    counted: set[int] = set()
    weighted = [weights_and_bias(file, index) for index in range(len(file.operators))]
    parts = {
        "weights": _size((tensor.data for tensor, _ in weighted if tensor), counted),
        "biases": _size((tensor.data for _, tensor in weighted if tensor), counted),
        "constants": _size((tensor.data for tensor in file.tensors), counted),
        "metadata": sum(map(len, file.metadata.values())),
        "scales": _size((tensor.scales for tensor in file.tensors), counted),
        "zero_points": _size((tensor.zero_points for tensor in file.tensors), counted),
        "ranges": _size(
            (part for tensor in file.tensors for part in (tensor.minima, tensor.maxima)), counted
        ),
        # A flatbuffer ends its strings with a zero.
        "names": sum(len(tensor.name.encode()) + 1 for tensor in file.tensors if tensor.name),
    }
    return FileBytes(total=len(file.data), **parts, structure=len(file.data) - sum(parts.values()))


def _size(arrays: Iterable[np.ndarray | None], counted: set[int]) -> int:
    """Bytes of the arrays, views of the file, whose places are not among the `counted`, which they join."""
    total = 0
    for array in arrays:
        if array is not None and array.size and (place := array.ctypes.data) not in counted:
            counted.add(place)
            total += array.nbytes
    return total
