"""The layers of a .tflite, one per operator: bits, bytes, multiply-accumulates, bit operations.

    layers = layer_table(tflite_file.read("model.tflite"), {"Conv1": (8, 8)}, None)
    sum(layer.bops for layer in layers)

BOPs = MACs * activation bits * weight bits, counted for convolutions of all kinds and dense layers on one
image from the shapes in the file; bias, batch norm, additions and pooling do not count. The bits are those
that the metadata names; a file that names none has those of its tensors' types.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from mmx_tf.export.reading.contents import Operator, Tensor, TfliteFile, TfliteFileError, tensor_bits

WEIGHTED = {
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"), (0, 1, 2)),
    "TRANSPOSE_CONV": (2, 1, 3),
}
"""Weighted operators, and the places of input, weights and bias among their inputs."""
# Operators, by part of their name, that multiply too (custom ones may), but that BOPs as defined do not know.
UNCOUNTED = ("BATCH_MATMUL", "CONV_3D", "CUSTOM", "LSTM", "RNN", "SVDF")


@dataclass(frozen=True)
class LayerInfo:
    """One operator of a file.

    Attributes:
      index: place in the file, from 0.
      name: name of its first output tensor; in files of this package it is the Keras layer's.
      kind: the operator as the schema names it.
      version: the operator's version.
      activation_bits, weight_bits: from the metadata; None where it does not name the layer.
      activation_type, weight_type: types of the tensors that hold them ("INT8"); None: there is no tensor.
      weight_bytes, bias_bytes: stored bytes.
      macs, bops: on one image; 0 where nothing is counted.
      input_elements: elements of the input of one image, without a padding's zeros.
      end: whether it is a first or last weighted layer, with no other before it, or no other after it.
      delegated: whether XNNPACK takes it on this machine; None: not known.
      output_type, output_shape: of the first output tensor.
      output_scale, output_zero_point: its grid; None without quantization.
    """

    index: int
    name: str
    kind: str
    version: int
    activation_bits: int | None
    weight_bits: int | None
    activation_type: str | None
    weight_type: str | None
    weight_bytes: int
    bias_bytes: int
    macs: int
    bops: int
    input_elements: int
    end: bool
    delegated: bool | None
    output_type: str | None
    output_shape: tuple[int, ...]
    output_scale: float | None
    output_zero_point: int | None


def layer_table(
    file: TfliteFile, bits: Mapping[str, tuple[int, int]] | None, outside: frozenset[int] | None
) -> tuple[LayerInfo, ...]:
    """One `LayerInfo` per operator, in the file's order.

    Args:
      file: the contents of a file.
      bits: (activation bits, weight bits) by layer name; None takes the bits of the tensors' types. With
        names, only the layers named have MACs and BOPs: a batch norm that became a depthwise convolution has
        none.
      outside: indices of the operators that XNNPACK leaves; None where that is not known.

    Raises:
      TfliteFileError: a weighted operator lacks its weights or its output.
    """
    batch, unpadded = _batch(file), _before_padding(file)
    ends = _ends(file, {index for index in range(len(file.operators)) if _counts(file, index, bits)})
    return tuple(
        _layer(
            file,
            index,
            bits,
            batch=batch,
            input_elements=_input_elements(file, index, unpadded) // batch,
            end=index in ends,
            delegated=None if outside is None else index not in outside,
        )
        for index in range(len(file.operators))
    )


def weights_and_bias(file: TfliteFile, index: int) -> tuple[Tensor | None, Tensor | None]:
    """Weights and bias of an operator, None where it has none."""
    operator = file.operators[index]
    if operator.kind not in WEIGHTED:
        return None, None
    source, weights, bias = WEIGHTED[operator.kind]
    inputs, outputs = file.at(operator.inputs), file.at(operator.outputs)
    enough = len(inputs) > max(source, weights) and outputs
    if not enough or None in (inputs[source], inputs[weights], *outputs):
        raise TfliteFileError(
            f"a damaged .tflite: operator {index} ({operator.kind}) lacks weights or output."
        )
    return inputs[weights], inputs[bias] if len(inputs) > bias else None


def layer_name(file: TfliteFile, operator: Operator) -> str:
    """Name of the operator's first output tensor; empty without one."""
    output = _first(file, operator.outputs)
    return "" if output is None else output.name


def _layer(file, index, bits, *, batch, input_elements, end, delegated) -> LayerInfo:
    operator = file.operators[index]
    source, output = _source(file, operator), _first(file, operator.outputs)
    weights, bias = weights_and_bias(file, index)
    name = layer_name(file, operator)
    activation_bits, weight_bits = (bits or {}).get(name, (None, None)) if weights else (None, None)
    macs = bops = 0
    if _counts(file, index, bits):
        # A transposed convolution multiplies each pixel of its input by all weights.
        positions = (source if operator.kind == "TRANSPOSE_CONV" else output).shape[:-1]
        macs = math.prod(positions) * math.prod(weights.shape) // batch
        bops = (
            macs
            * (activation_bits or tensor_bits(source.type) or 0)
            * (weight_bits or tensor_bits(weights.type) or 0)
        )
    return LayerInfo(
        index=index,
        name=name,
        kind=operator.kind,
        version=operator.version,
        activation_bits=activation_bits,
        weight_bits=weight_bits,
        activation_type=source.type if source else None,
        weight_type=weights.type if weights else None,
        weight_bytes=_stored(weights),
        bias_bytes=_stored(bias),
        macs=macs,
        bops=bops,
        input_elements=input_elements,
        end=end,
        delegated=delegated,
        output_type=output.type if output else None,
        output_shape=output.shape if output else (),
        output_scale=output.scale if output else None,
        output_zero_point=output.zero_point if output else None,
    )


def _counts(file, index, bits) -> bool:
    operator = file.operators[index]
    return operator.kind in WEIGHTED and (bits is None or layer_name(file, operator) in bits)


def _first(file: TfliteFile, indices: tuple[int, ...]) -> Tensor | None:
    return next(iter(file.at(indices[:1])), None)


def _source(file: TfliteFile, operator: Operator) -> Tensor | None:
    """What an operator computes with: its first input but in a transposed convolution."""
    place = WEIGHTED.get(operator.kind, (0,))[0]
    return _first(file, operator.inputs[place:])


def _stored(tensor: Tensor | None) -> int:
    return 0 if tensor is None or tensor.data is None else tensor.data.size


def _batch(file: TfliteFile) -> int:
    """Images that one run takes: the first dimension of the first input."""
    shape = file.tensors[file.inputs[0]].shape if file.inputs else ()
    return max(shape[0], 1) if len(shape) > 1 else 1


def _before_padding(file: TfliteFile) -> dict[int, int]:
    """For the output tensor of every PAD, what was padded."""
    sources: dict[int, int] = {}
    for operator in file.operators:
        if operator.kind == "PAD" and operator.inputs:
            sources |= dict.fromkeys(operator.outputs, sources.get(operator.inputs[0], operator.inputs[0]))
    return sources


def _input_elements(file: TfliteFile, index: int, unpadded: dict[int, int]) -> int:
    operator = file.operators[index]
    tensor = next(iter(operator.inputs[WEIGHTED.get(operator.kind, (0,))[0] :]), -1)
    tensor = unpadded.get(tensor, tensor)
    return 0 if tensor == -1 else math.prod(file.tensors[tensor].shape)


def _ends(file: TfliteFile, counted: set[int]) -> set[int]:
    """Those of the `counted` operators that have none of the others before them, or none after them."""
    upstream: dict[int, frozenset[int]] = {}
    before, after = set(), set()
    for index, operator in enumerate(file.operators):
        reached = frozenset().union(*(upstream.get(tensor, ()) for tensor in operator.inputs if tensor != -1))
        if index in counted:
            if reached:
                before.add(index)
            after |= reached
            reached |= {index}
        upstream |= dict.fromkeys(operator.outputs, reached)
    return {index for index in counted if index not in before or index not in after}
