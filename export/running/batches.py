"""The batch that a file names itself: in the output shape of a TRANSPOSE_CONV.

    data = of_batch(data, 90)           # the same bytes, but for the first number of these shapes

XNNPACK takes the batch from the input. LiteRT's other kernels compare it with that shape and refuse any
other than the one image that the file was written for.
"""

import numpy as np
from ai_edge_litert import schema_py_generated as schema


def names_its_batch(data: bytes) -> bool:
    """Whether a file names the batch in a constant."""
    return bool(_shapes(schema.Model.GetRootAs(data, 0)))


def of_batch(data: bytes, size: int) -> bytes:
    """A file with `size` in the place of the batches that it names."""
    changed = bytearray(data)
    model = schema.Model.GetRootAs(changed, 0)
    for buffer in _shapes(model):
        # A view of the bytes.
        model.Buffers(buffer).DataAsNumpy().view(np.int32)[0] = size
    return bytes(changed)


def _shapes(model) -> set[int]:
    """Indices of the buffers with the output shapes of transposed convolutions."""
    graph, found = model.Subgraphs(0), set()
    for index in range(graph.OperatorsLength()):
        operator = graph.Operators(index)
        code = model.OperatorCodes(operator.OpcodeIndex())
        if max(code.BuiltinCode(), code.DeprecatedBuiltinCode()) == schema.BuiltinOperator.TRANSPOSE_CONV:
            found.add(graph.Tensors(operator.Inputs(0)).Buffer())
    return found
