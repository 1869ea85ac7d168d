"""A .tflite taken apart: every operator a little graph of its own, with its own inputs.

So that each operator can be given its true inputs, whatever the operators before it compute. Constants,
options and quantization parameters are the file's own.

    pieces = cut(data)
    pieces.operators[3]                 # CutOperator(kind="CONV_2D", output="stem")
    runner = litert.Runner(pieces.data, kernels="builtin")
    runner({name: codes[source] for name, source in pieces.inputs.items()})["stem"]

Needs only numpy and ai-edge-litert.
"""

import copy
import dataclasses
from collections.abc import Collection

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from mmx_tf.export.reading import tflite_file
from mmx_tf.export.reading.tflite_file import FILE_IDENTIFIER


@dataclasses.dataclass(frozen=True)
class CutOperator:
    """One operator: its builtin kind and its output tensor."""

    kind: str
    output: str


@dataclasses.dataclass(frozen=True)
class Pieces:
    """A file of loose operators.

    Attributes:
      data: bytes of the file.
      operators: in the order of the original file.
      inputs: input name -> name of the original tensor that belongs there.
    """

    data: bytes
    operators: tuple[CutOperator, ...]
    inputs: dict[str, str]


def cut(data: bytes) -> Pieces:
    """Takes a .tflite of one subgraph apart.

    Raises:
      ValueError: for a file of several subgraphs, or an operator of several outputs.
    """
    kinds = [operator.kind for operator in tflite_file.parse(data).operators]
    model, graph = unpacked_model(data)
    names = [tensor.name.decode() for tensor in graph.tensors]
    contents = [model.buffers[tensor.buffer].data for tensor in graph.tensors]
    constant = [content is not None and len(content) > 0 for content in contents]
    operators, inputs, new_inputs, outputs = [], {}, [], []
    for operator, kind in zip(graph.operators, kinds, strict=True):
        if len(operator.outputs) != 1:
            raise ValueError(f"an operator has {len(operator.outputs)} outputs; one is expected.")
        output, slot, replaced = names[operator.outputs[0]], 0, []
        for index in operator.inputs:
            if index < 0 or constant[index]:
                replaced.append(index)
                continue
            tensor = copy.copy(graph.tensors[index])
            name, slot = f"{output}__input{slot}", slot + 1
            tensor.name = name.encode()
            inputs[name] = names[index]
            replaced.append(len(graph.tensors))
            new_inputs.append(len(graph.tensors))
            graph.tensors.append(tensor)
        operator.inputs = np.array(replaced, np.int32)
        outputs.append(operator.outputs[0])
        operators.append(CutOperator(kind, output))
    graph.inputs, graph.outputs = np.array(new_inputs, np.int32), np.array(outputs, np.int32)
    model.signatureDefs, model.metadata = [], []
    return Pieces(packed_model(model), tuple(operators), inputs)


def expose(data: bytes, names: Collection[str] | None = None) -> bytes:
    """The same file with other tensors as outputs: delegates hide what is inside.

    Args:
      data: bytes of the file.
      names: of the tensors, without the operators that none of them needs; None takes the output of every
        operator.

    Raises:
      ValueError: for a file of several subgraphs, or a name that none of its tensors has.
    """
    model, graph = unpacked_model(data)
    if names is None:
        graph.outputs = np.concatenate([operator.outputs for operator in graph.operators]).astype(np.int32)
    else:
        graph.outputs = _indices(graph, names)
        graph.operators = _needed(graph)
    model.signatureDefs, model.metadata = [], []
    return packed_model(model)


def _indices(graph, names):
    index = {tensor.name.decode(): place for place, tensor in enumerate(graph.tensors)}
    missing = [name for name in names if name not in index]
    if missing:
        raise ValueError(f"the file has no tensors {missing}.")
    return np.array([index[name] for name in names], np.int32)


def _needed(graph):
    """The operators that an output depends on, in their order."""
    wanted, operators = set(graph.outputs.tolist()), []
    for operator in reversed(graph.operators):
        if wanted.intersection(operator.outputs.tolist()):
            wanted.update(operator.inputs.tolist())
            operators.append(operator)
    return operators[::-1]


def unpacked_model(data: bytes):
    """(model, its one subgraph) in the schema's object form; ValueError for several subgraphs."""
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    if len(model.subgraphs) != 1:
        raise ValueError(f"the file has {len(model.subgraphs)} subgraphs; one is expected.")
    return model, model.subgraphs[0]


def packed_model(model) -> bytes:
    """The bytes of a model in object form."""
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=FILE_IDENTIFIER)
    return bytes(builder.Output())
