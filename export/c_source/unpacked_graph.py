"""A graph with its packed weights as int8: what the file's numbers are, whatever it stores them in.

    graph = unpacked_graph(data)

XNNPACK takes packed weights in some operators alone and leaves the others to kernels that round otherwise.
What was trained is what it computes of int8 weights, and that is what the C source computes.
"""

from dataclasses import replace

from mmx_tf.export.reading.constants import PACKED_BITS
from mmx_tf.export.reference.graph import Graph, load


def unpacked_graph(data: bytes) -> Graph:
    """The `reference.Graph` of a .tflite without INT4 and INT2 constants; errors as of `reference.load`."""
    graph = load(data)
    tensors = {
        tensor: replace(tensor, type="INT8")
        if tensor.type in PACKED_BITS and tensor.constant is not None
        else tensor
        for tensor in graph.tensors
    }
    tensors[None] = None
    operators = (
        replace(
            operator,
            inputs=tuple(tensors[tensor] for tensor in operator.inputs),
            outputs=tuple(tensors[tensor] for tensor in operator.outputs),
        )
        for operator in graph.operators
    )
    return replace(
        graph, operators=tuple(operators), tensors=tuple(tensors[tensor] for tensor in graph.tensors)
    )
