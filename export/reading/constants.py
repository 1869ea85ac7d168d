"""The constants of a .tflite as numpy arrays; INT4 and INT2, which share bytes, as int8.

file = tflite_file.read("model.tflite")
values_of(file.tensors[3])                      # int8 [32, 3, 3, 3]; None for an activation
"""

import math

import numpy as np

from mmx_tf.export.reading.contents import Tensor, tensor_bits

PACKED_BITS = {name: tensor_bits(name) for name in ("INT4", "INT2")}
"""Types whose codes share a byte -> bits of a code. Numpy has no such types."""
NUMPY_TYPES = {"FLOAT32": np.float32, "INT32": np.int32, "INT8": np.int8, "UINT8": np.uint8} | dict.fromkeys(
    PACKED_BITS, np.int8
)


def numpy_type(tensor: Tensor) -> type[np.generic]:
    """The numpy type of a tensor's values; ValueError for a type that is not among `NUMPY_TYPES`."""
    if tensor.type not in NUMPY_TYPES:
        raise ValueError(f"tensor {tensor.name!r} is {tensor.type}; known types: {', '.join(NUMPY_TYPES)}.")
    return NUMPY_TYPES[tensor.type]


def values_of(tensor: Tensor) -> np.ndarray | None:
    """The values of a constant, an array of its shape; None for an activation.

    Raises:
      ValueError: for a type that is not among `NUMPY_TYPES`, or bytes that hold more values or fewer than
        the shape.
    """
    if tensor.data is None:
        return None
    kind, count = numpy_type(tensor), math.prod(tensor.shape)
    if tensor.type in PACKED_BITS:
        values = _unpacked(tensor.data, bits=PACKED_BITS[tensor.type])[:count]
    else:
        values = np.frombuffer(tensor.data, np.dtype(kind).newbyteorder("<"))
    if values.size != count:
        raise ValueError(
            f"constant {tensor.name!r} of shape {tensor.shape} needs {count} values; "
            f"the file holds {values.size}."
        )
    return values.astype(kind).reshape(tensor.shape)


def _unpacked(data: np.ndarray, *, bits: int) -> np.ndarray:
    """Bytes with 8 // bits codes each, the first in the lowest bits -> int8 codes of `bits` bits."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    fields = (data[:, None] >> shifts & (1 << bits) - 1).reshape(-1)
    sign = np.int8(1 << bits - 1)
    return (fields.astype(np.int8) ^ sign) - sign
