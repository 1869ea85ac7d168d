"""The same .tflite with its packed weights in int8 tensors: for kernels that have no packed ones.

    twin = unpacked(data)               # the same codes, scales and operators; larger

LiteRT's reference kernels, whose rounding TensorFlow Lite Micro shares, have no INT4 in DEPTHWISE_CONV_2D.

Needs only numpy and ai-edge-litert.
"""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from mmx_tf.export import reference
from mmx_tf.export.comparing.cut import packed_model, unpacked_model
from mmx_tf.export.reference.graph import PACKED_BITS

_TYPES = {getattr(schema.TensorType, name) for name in PACKED_BITS}
# The lowest versions of the operators with int8 weights and one scale a channel.
_VERSIONS = {
    schema.BuiltinOperator.CONV_2D: 3,
    schema.BuiltinOperator.DEPTHWISE_CONV_2D: 3,
    schema.BuiltinOperator.FULLY_CONNECTED: 12,
}


def unpacked(data: bytes) -> bytes:
    """The file with every INT4 and INT2 constant as INT8; its metadata and signatures stay.

    Raises:
      ValueError: for a file of several subgraphs, or a constant that `reference.load` refuses.
    """
    constants = [tensor.constant for tensor in reference.load(data).tensors]
    model, graph = unpacked_model(data)
    for tensor, constant in zip(graph.tensors, constants, strict=True):
        if tensor.type in _TYPES and constant is not None:
            tensor.type = schema.TensorType.INT8
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(constant, np.int8).tobytes(), np.uint8)
            tensor.buffer = len(model.buffers)
            model.buffers.append(buffer)
    for code in model.operatorCodes:
        code.version = min(code.version, _VERSIONS.get(code.builtinCode, code.version))
    return packed_model(model)
