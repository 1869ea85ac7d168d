"""Reading a .tflite that may be anything: its checked contents, or an error that says what is wrong.

    file = read("model.tflite")
    file.operators[0].kind, file.tensors[file.inputs[0]].shape        # "CONV_2D", (1, 224, 224, 3)

A flatbuffer is offsets into itself, and its readers follow them in good faith: a damaged file sends them out
of the file, a C++ reader even out of its memory. `parse` reads everything once within bounds and checks every
index, so that what comes after may follow them. Needs numpy and ai-edge-litert.
"""

import math
import os
import pathlib
import struct
from collections.abc import Sequence

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from mmx_tf.export.reading.contents import Operator, Tensor, TfliteFile, TfliteFileError, tensor_bits

FILE_IDENTIFIER = b"TFL3"
SCHEMA_VERSION = 3
_OPERATORS, _TYPES = (
    {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}
    for enumeration in (schema.BuiltinOperator, schema.TensorType)
)
# What the generated readers raise where a file is damaged.
_DAMAGE = (
    struct.error,
    IndexError,
    KeyError,
    ValueError,
    TypeError,
    AttributeError,
    OverflowError,
    MemoryError,
)


def read(path: str | os.PathLike) -> TfliteFile:
    """The contents of the .tflite at `path`; raises `TfliteFileError`, which names the file and the fault."""
    path = pathlib.Path(path)
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a null character in the path.
        reason = getattr(error, "strerror", None) or str(error)
        raise TfliteFileError(f"{path}: {reason.lower()}.") from error
    try:
        return parse(data)
    except TfliteFileError as error:
        raise TfliteFileError(f"{path}: {error}") from error


def parse(data: bytes) -> TfliteFile:
    """The contents of the .tflite in `data`; raises `TfliteFileError`, which says what is wrong."""
    if not data:
        raise TfliteFileError("the file is empty.")
    if data[4:8] != FILE_IDENTIFIER:
        raise TfliteFileError("not a .tflite file (it lacks the identifier TFL3).")
    try:
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(_Bounded(data), 0))
    except _DAMAGE as error:
        raise TfliteFileError("a damaged or truncated .tflite (its parts lie outside the file).") from error
    if model.version != SCHEMA_VERSION:
        raise TfliteFileError(f"schema version {model.version}; only version {SCHEMA_VERSION} can be read.")
    if not model.subgraphs:
        raise TfliteFileError("the .tflite has no subgraph, hence no network.")
    buffers = [_buffer(*item, data) for item in enumerate(model.buffers or ())]
    graphs = [_subgraph(graph, model.operatorCodes or (), buffers) for graph in model.subgraphs]
    tensors, operators, inputs, outputs = graphs[0]
    for signature in model.signatureDefs or ():
        _check_index(signature.subgraphIndex, graphs, "a signature", "subgraph")
        for entry in (*(signature.inputs or ()), *(signature.outputs or ())):
            _check_index(entry.tensorIndex, graphs[signature.subgraphIndex][0], "a signature", "tensor")
    for entry in model.metadata or ():
        _check_index(entry.buffer, buffers, "the metadata", "buffer")
    return TfliteFile(
        data=data,
        description=_text(model.description),
        subgraphs=len(graphs),
        tensors=tensors,
        operators=operators,
        inputs=inputs,
        outputs=outputs,
        signatures=tuple(
            (_text(signature.signatureKey), _tensor_map(signature.inputs), _tensor_map(signature.outputs))
            for signature in model.signatureDefs or ()
            if signature.subgraphIndex == 0
        ),
        metadata={
            _text(entry.name): bytes(() if buffers[entry.buffer] is None else buffers[entry.buffer])
            for entry in model.metadata or ()
        },
    )


class _Bounded(bytes):
    """Bytes of which a slice beyond the end is an error: the readers of strings would take what is there."""

    def __getitem__(self, key):
        if isinstance(key, slice) and not 0 <= key.start <= key.stop <= len(self):
            raise IndexError(f"bytes {key.start} to {key.stop} of {len(self)}")
        return super().__getitem__(key)


def _text(name: bytes | None) -> str:
    return (name or b"").decode(errors="replace")


def _vector(vector: np.ndarray | None) -> np.ndarray:
    return np.empty(0) if vector is None else vector


def _numbers(vector: np.ndarray | None) -> tuple[int, ...]:
    return tuple(_vector(vector).tolist())


def _tensor_map(entries) -> dict[str, int]:
    return {_text(entry.name): entry.tensorIndex for entry in entries or ()}


def _check_index(index: int, sequence: Sequence, owner: str, kind: str) -> None:
    if not 0 <= index < len(sequence):
        raise TfliteFileError(
            f"a damaged .tflite: {owner} refers to {kind} {index}, but the file has {len(sequence)}."
        )


def _buffer(index: int, buffer, data: bytes) -> np.ndarray | None:
    # Offsets 0 and 1 mean none: the writers of large files put 1 there before they know the place.
    if buffer.offset > 1:
        if buffer.offset + buffer.size > len(data):
            raise TfliteFileError(f"a truncated .tflite: buffer {index} lies outside the file.")
        return np.frombuffer(data, np.uint8, buffer.size, buffer.offset)
    return None if buffer.data is None or not len(buffer.data) else buffer.data


def _subgraph(graph, codes, buffers):
    tensors = tuple(_tensor(*item, buffers) for item in enumerate(graph.tensors or ()))
    operators = tuple(_operator(*item, codes, tensors) for item in enumerate(graph.operators or ()))
    inputs, outputs = _numbers(graph.inputs), _numbers(graph.outputs)
    for index in (*inputs, *outputs):
        _check_index(index, tensors, "the subgraph", "tensor")
    return tensors, operators, inputs, outputs


def _tensor(index: int, tensor, buffers) -> Tensor:
    _check_index(tensor.buffer, buffers, f"tensor {index}", "buffer")
    grid = tensor.quantization or schema.QuantizationParametersT()
    result = Tensor(
        _text(tensor.name),
        type=_TYPES.get(tensor.type, f"TYPE_{tensor.type}"),
        shape=_numbers(tensor.shape),
        scales=_vector(grid.scale),
        zero_points=_vector(grid.zeroPoint),
        minima=_vector(grid.min),
        maxima=_vector(grid.max),
        data=buffers[tensor.buffer],
    )
    if min(result.shape, default=0) < 0:
        raise TfliteFileError(f"a damaged .tflite: tensor {index} has shape {result.shape}.")
    scales, zero_points = result.scales.size, result.zero_points.size
    if scales and zero_points not in (1, scales):
        raise TfliteFileError(
            f"a damaged .tflite: tensor {index} has {scales} scales and {zero_points} zero points."
        )
    # A sparse tensor stores less than its shape says.
    bits = tensor_bits(result.type)
    if result.data is not None and bits is not None and tensor.sparsity is None:
        needed = -(-math.prod(result.shape) * bits // 8)
        if result.data.size < needed:
            raise TfliteFileError(
                f"a damaged .tflite: tensor {index}, {result.type} {result.shape}, needs {needed} bytes, but "
                f"has {result.data.size}."
            )
    return result


def _operator(index: int, operator, codes, tensors) -> Operator:
    owner = f"operator {index}"
    _check_index(operator.opcodeIndex, codes, owner, "operator code")
    code = codes[operator.opcodeIndex]
    # Codes up to 127 stand in the old 8-bit field, which older writers fill alone.
    builtin = max(code.builtinCode, code.deprecatedBuiltinCode)
    kind = _OPERATORS.get(builtin, f"OPERATOR_{builtin}")
    inputs, outputs = _numbers(operator.inputs), _numbers(operator.outputs)
    for tensor in (*inputs, *outputs):
        if tensor != -1:
            _check_index(tensor, tensors, owner, "tensor")
    kind = f"CUSTOM {_text(code.customCode)}" if kind == "CUSTOM" else kind
    return Operator(kind, code.version, inputs, outputs, operator.builtinOptions)
