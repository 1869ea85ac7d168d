"""Reading a .tflite that may be anything: its checked contents, or an error that says what is wrong.

    file = read("model.tflite")
    file.operators[0].kind, file.tensors[file.inputs[0]].shape        # "CONV_2D", (1, 224, 224, 3)

A flatbuffer is offsets into itself, and its readers follow them in good faith: a damaged file sends them out
of the file, a C++ reader even out of its memory. `parse` reads everything once within bounds and checks every
index, so that what comes after may follow them. This is the only module that decodes a file: whoever changes
one takes its object form from `model_of`, and what stands in it from `contents_of`. Needs numpy and
ai-edge-litert.
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
    return contents_of(model_of(data), data)


def model_of(data: bytes) -> schema.ModelT:
    """The schema's object form of the .tflite in `data`, to change it; errors as for `parse`.

    Data behind the flatbuffer, where files of more than 2 GB keep theirs, is in the buffers like all other.
    """
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
    for index, buffer in enumerate(model.buffers or ()):
        # Offsets 0 and 1 mean none: the writers of large files put 1 there before they know the place.
        if buffer.offset > 1:
            if buffer.offset + buffer.size > len(data):
                raise TfliteFileError(f"a truncated .tflite: buffer {index} lies outside the file.")
            buffer.data = np.frombuffer(data, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    return model


def contents_of(model: schema.ModelT, data: bytes) -> TfliteFile:
    """The contents of a .tflite from its object form, which is that of `data`; errors as for `parse`."""
    stored = (buffer.data for buffer in model.buffers or ())
    buffers = [None if values is None or not len(values) else values for values in stored]
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


def kind_of(code: schema.OperatorCodeT) -> str:
    """The operator that a code stands for, as `Operator.kind` names it."""
    # Codes up to 127 stand in the old 8-bit field, which older writers fill alone.
    builtin = max(code.builtinCode, code.deprecatedBuiltinCode)
    kind = _OPERATORS.get(builtin, f"OPERATOR_{builtin}")
    return f"CUSTOM {_text(code.customCode)}" if kind == "CUSTOM" else kind


def _text(name: bytes | None) -> str:
    return (name or b"").decode(errors="replace")


def _numbers(vector: np.ndarray | None) -> tuple[int, ...]:
    return () if vector is None else tuple(vector.tolist())


def _array(vector: np.ndarray | None, dtype: type[np.generic]) -> np.ndarray:
    return np.empty(0, dtype) if vector is None else np.asarray(vector, dtype)


def _tensor_map(entries) -> dict[str, int]:
    return {_text(entry.name): entry.tensorIndex for entry in entries or ()}


def _check_index(index: int, sequence: Sequence, owner: str, kind: str) -> None:
    if not 0 <= index < len(sequence):
        raise TfliteFileError(
            f"a damaged .tflite: {owner} refers to {kind} {index}, but the file has {len(sequence)}."
        )


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
        scales=_array(grid.scale, np.float32),
        zero_points=_array(grid.zeroPoint, np.int64),
        minima=_array(grid.min, np.float32),
        maxima=_array(grid.max, np.float32),
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
    kind = kind_of(code)
    inputs, outputs = _numbers(operator.inputs), _numbers(operator.outputs)
    for tensor in (*inputs, *outputs):
        if tensor != -1:
            _check_index(tensor, tensors, owner, "tensor")
    return Operator(kind, code.version, inputs, outputs, operator.builtinOptions)
