"""A .tflite as plain Python: tensors with their grids and constants, operators with their options.

    graph = load(data)
    [operator.kind for operator in graph.operators]        # ["QUANTIZE", "CONV_2D", ...]
    graph.operators[1].outputs[0].scale                    # float32

Constants are unpacked to numpy arrays, INT4 and INT2 included. Only the first subgraph is read: that is the
whole of an exported network.
"""

from dataclasses import dataclass, replace

import numpy as np

from mmx_tf.export.reading import tflite_file

# Packed codes have no numpy type: they are held as int8.
PACKED_BITS = {"INT4": 4, "INT2": 2}
NUMPY_TYPES = {"FLOAT32": np.float32, "INT32": np.int32, "INT8": np.int8, "UINT8": np.uint8} | dict.fromkeys(
    PACKED_BITS, np.int8
)


@dataclass(frozen=True, eq=False)
class Tensor:
    """One tensor of the file.

    Attributes:
      name: the tensor's name.
      type: name of its schema TensorType.
      shape: the file's shape; an activation's first dimension is the batch.
      scales: float32 [1] or [channels]; empty without quantization.
      zero_points: int64, as many as scales.
      constant: array of the tensor's shape, or None for an activation.
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
        if self.type not in NUMPY_TYPES:
            raise ValueError(f"tensor {self.name!r} is {self.type}; known types: {', '.join(NUMPY_TYPES)}.")
        return NUMPY_TYPES[self.type]


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
        return tuple(tensors[index] if index >= 0 else None for index in indices)

    operators = tuple(
        Operator(index, entry.kind, entry.options, at(entry.inputs), at(entry.outputs))
        for index, entry in enumerate(file.operators)
    )
    return Graph(operators, tensors, at(file.inputs), at(file.outputs))


def _tensor(tensor):
    parsed = Tensor(
        name=tensor.name,
        type=tensor.type,
        shape=tensor.shape,
        scales=np.asarray(tensor.scales, np.float32),
        zero_points=np.asarray(tensor.zero_points, np.int64),
        constant=None,
    )
    return parsed if tensor.data is None else replace(parsed, constant=_constant(parsed, tensor.data))


def _constant(tensor, raw):
    count = int(np.prod(tensor.shape))
    if tensor.type in PACKED_BITS:
        values = unpacked(raw, bits=PACKED_BITS[tensor.type])[:count]
    else:
        values = np.frombuffer(raw, np.dtype(tensor.numpy_type).newbyteorder("<"))
    if values.size != count:
        raise ValueError(
            f"constant {tensor.name!r} of shape {tensor.shape} needs {count} values; "
            f"the file holds {values.size}."
        )
    return values.astype(tensor.numpy_type).reshape(tensor.shape)


def unpacked(raw, *, bits):
    """Bytes with 8 // bits codes each, the first in the lowest bits -> int8 codes of `bits` bits."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    fields = (np.frombuffer(raw, np.uint8)[:, None] >> shifts & (1 << bits) - 1).reshape(-1)
    sign = np.int8(1 << bits - 1)
    return (fields.astype(np.int8) ^ sign) - sign
