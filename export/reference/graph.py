"""A .tflite as the kernels take it: operators that hold their tensors, tensors that hold their constants.

    graph = load(data)
    [operator.kind for operator in graph.operators]        # ["QUANTIZE", "CONV_2D", ...]
    graph.operators[1].outputs[0].scale                    # float32

What stands in the file is read by `export.reading`. Of its subgraphs only the first is taken: that is the
whole of an exported network.
"""

from dataclasses import dataclass

import numpy as np

from mmx_tf.export.reading import constants, tflite_file
from mmx_tf.export.reading.constants import values_of


@dataclass(frozen=True, eq=False)
class Tensor:
    """One tensor of the file.

    Attributes:
      name: the tensor's name.
      type: name of its schema TensorType.
      shape: the file's shape; an activation's first dimension is the batch.
      scales: float32 [1] or [channels]; empty without quantization.
      zero_points: int64, as many as scales.
      constant: array of the tensor's shape, INT4 and INT2 as int8; None for an activation.
    """

    name: str
    type: str
    shape: tuple
    scales: np.ndarray
    zero_points: np.ndarray
    constant: np.ndarray | None

    @property
    def scale(self):
        """The float32 scale of a tensor with one grid; ValueError when it has none or one per channel."""
        if len(self.scales) != 1:
            raise ValueError(f"tensor {self.name!r} has {len(self.scales)} scales; this operator needs one.")
        return self.scales[0]

    @property
    def zero_point(self):
        """The int zero point of a tensor with one grid; 0 where the file leaves it out."""
        return int(self.zero_points[0]) if len(self.zero_points) else 0

    @property
    def numpy_type(self):
        """The numpy type of this tensor's arrays; ValueError for a type without one."""
        return constants.numpy_type(self)


@dataclass(frozen=True, eq=False)
class Operator:
    """One operator: its index, kind (name of the BuiltinOperator), options object of the schema, tensors.

    An optional input that is left out is None.
    """

    index: int
    kind: str
    options: object
    inputs: tuple
    outputs: tuple


@dataclass(frozen=True, eq=False)
class Graph:
    """Operators in execution order; every tensor of the file; the input and output tensors."""

    operators: tuple
    tensors: tuple
    inputs: tuple
    outputs: tuple


def load(data):
    """The `Graph` of the .tflite in `data` (bytes); a `Graph` is passed through.

    ValueError when the bytes are no .tflite, end early, hold no subgraph, name two tensors alike, or hold a
    constant of an unknown type or a wrong length.
    """
    if isinstance(data, Graph):
        return data
    file = tflite_file.parse(bytes(data))
    tensors = tuple(_tensor(tensor) for tensor in file.tensors)
    names = [tensor.name for tensor in tensors]
    if len(set(names)) < len(names):
        alike = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"tensors are named alike: {alike}; results are returned by name.")

    def at(indices):
        return tuple(None if index == -1 else tensors[index] for index in indices)

    operators = tuple(
        Operator(index, entry.kind, entry.options, at(entry.inputs), at(entry.outputs))
        for index, entry in enumerate(file.operators)
    )
    return Graph(operators, tensors, at(file.inputs), at(file.outputs))


def _tensor(tensor):
    return Tensor(
        tensor.name, tensor.type, tensor.shape, tensor.scales, tensor.zero_points, values_of(tensor)
    )
