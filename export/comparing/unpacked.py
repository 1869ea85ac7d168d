"""The same .tflite with its packed weights in int8 tensors: for kernels that have no packed ones.

    twin = unpacked(data)               # the same codes, scales and operators; larger

LiteRT's reference kernels, whose rounding TensorFlow Lite Micro shares, have no INT4 in DEPTHWISE_CONV_2D.

Needs only numpy and ai-edge-litert.
"""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from mmx_tf.export.comparing.cut import packed_model, read_to_change
from mmx_tf.export.reading.constants import PACKED_BITS, values_of
from mmx_tf.export.reading.tflite_file import kind_of

# The lowest versions of the operators with int8 weights and one scale a channel.
_VERSIONS = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 12}


def unpacked(data: bytes) -> bytes:
    """The file with every INT4 and INT2 constant as INT8; its metadata and signatures stay.

    Raises:
      TfliteFileError: for bytes that are no .tflite, or a damaged one.
      ValueError: for a file of several subgraphs, or a packed constant whose bytes do not fit its shape.
    """
    model, file = read_to_change(data)
    for tensor, changed in zip(file.tensors, model.subgraphs[0].tensors, strict=True):
        if tensor.type in PACKED_BITS and tensor.data is not None:
            changed.type = schema.TensorType.INT8
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(values_of(tensor).tobytes(), np.uint8)
            changed.buffer = len(model.buffers)
            model.buffers.append(buffer)
    for code in model.operatorCodes:
        code.version = min(code.version, _VERSIONS.get(kind_of(code), code.version))
    return packed_model(model)
