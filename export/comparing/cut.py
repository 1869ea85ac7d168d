"""A .tflite taken apart: every operator a little graph of its own, with its own inputs.

Each operator can then be given its true inputs, whatever the operators before it compute. Constants, options
and quantization parameters are the file's own. The float operators of a smooth activation stay together: they
are one function from codes to codes.

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

from mmx_tf.export.reading.contents import TfliteFile
from mmx_tf.export.reading.tflite_file import FILE_IDENTIFIER, contents_of, model_of


@dataclasses.dataclass(frozen=True)
class CutOperator:
    """One operator: its builtin kind and its output tensor; of several that stay together, the last one's."""

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
      TfliteFileError: for bytes that are no .tflite, or a damaged one.
      ValueError: for a file of several subgraphs, or an operator of several outputs.
    """
    model, file = read_to_change(data)
    graph = model.subgraphs[0]
    made = {index for operator in file.operators for index in operator.outputs}
    used = {index for operator in file.operators for index in operator.inputs}
    inside = {index for index in made & used if file.tensors[index].type == "FLOAT32"}
    operators, inputs, new_inputs, outputs = [], {}, [], []
    for operator, changed in zip(file.operators, graph.operators, strict=True):
        if len(operator.outputs) != 1:
            raise ValueError(f"an operator has {len(operator.outputs)} outputs; one is expected.")
        (output,), slot, replaced = file.at(operator.outputs), 0, []
        for index, source in zip(operator.inputs, file.at(operator.inputs), strict=True):
            if source is None or source.data is not None or index in inside:
                replaced.append(index)
                continue
            tensor = copy.copy(graph.tensors[index])
            name, slot = f"{output.name}__input{slot}", slot + 1
            tensor.name = name.encode()
            inputs[name] = source.name
            replaced.append(len(graph.tensors))
            new_inputs.append(len(graph.tensors))
            graph.tensors.append(tensor)
        changed.inputs = np.array(replaced, np.int32)
        if operator.outputs[0] in inside:
            continue
        outputs.append(operator.outputs[0])
        operators.append(CutOperator(operator.kind, output.name))
    graph.inputs, graph.outputs = np.array(new_inputs, np.int32), np.array(outputs, np.int32)
    return Pieces(_without_signatures(model), tuple(operators), inputs)


def expose(data: bytes, names: Collection[str] | None = None) -> bytes:
    """The same file with other tensors as outputs: delegates hide what is inside.

    Args:
      data: bytes of the file.
      names: of the tensors, without the operators that none of them needs; None takes the output of every
        operator.

    Raises:
      TfliteFileError: for bytes that are no .tflite, or a damaged one.
      ValueError: for a file of several subgraphs, or a name that none of its tensors has.
    """
    model, file = read_to_change(data)
    graph = model.subgraphs[0]
    if names is None:
        outputs = [index for operator in file.operators for index in operator.outputs]
    else:
        outputs = _indices(file, names)
        graph.operators = [graph.operators[place] for place in _needed(file, outputs)]
    graph.outputs = np.array(outputs, np.int32)
    return _without_signatures(model)


def _indices(file: TfliteFile, names: Collection[str]) -> list[int]:
    index = {tensor.name: place for place, tensor in enumerate(file.tensors)}
    missing = [name for name in names if name not in index]
    if missing:
        raise ValueError(f"the file has no tensors {missing}.")
    return [index[name] for name in names]


def _needed(file: TfliteFile, outputs: Collection[int]) -> list[int]:
    """Places of the operators that an output depends on, in their order."""
    wanted, places = set(outputs), []
    for place, operator in reversed(list(enumerate(file.operators))):
        if wanted.intersection(operator.outputs):
            wanted.update(operator.inputs)
            places.append(place)
    return places[::-1]


def read_to_change(data: bytes):
    """(model in the schema's object form, contents) of a file of one subgraph.

    Raises:
      TfliteFileError: for bytes that are no .tflite, or a damaged one.
      ValueError: for several subgraphs.
    """
    model = model_of(data)
    file = contents_of(model, data)
    if file.subgraphs != 1:
        raise ValueError(f"the file has {file.subgraphs} subgraphs; one is expected.")
    return model, file


def _without_signatures(model) -> bytes:
    """The bytes of a model whose outputs are others than its signatures and metadata tell."""
    model.signatureDefs, model.metadata = [], []
    return packed_model(model)


def packed_model(model) -> bytes:
    """The bytes of a model in object form."""
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=FILE_IDENTIFIER)
    return bytes(builder.Output())
