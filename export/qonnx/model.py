"""The QONNX model of a .tflite: what `export.qonnx` writes.

made = qonnx_model(pathlib.Path("model.tflite").read_bytes())
made.model                                          # an onnx.ModelProto
made.tensors["conv"].offset                         # codes of the file = numbers of the graph + offset
"""

import hashlib
import json
from dataclasses import dataclass

from mmx_tf.export.c_source.unpacked_graph import unpacked_graph
from mmx_tf.export.qonnx import elements, lookups, moves, weighted
from mmx_tf.export.qonnx.checking import check
from mmx_tf.export.qonnx.errors import UnsupportedError, refused
from mmx_tf.export.qonnx.exporter import FORMS, Exporter
from mmx_tf.export.qonnx.stored import Stored
from mmx_tf.export.reading import metadata, tflite_file
from mmx_tf.export.reading.contents import tensor_bits
from mmx_tf.export.reading.layers import WEIGHTED, layer_name, layer_table, weights_and_bias
from mmx_tf.version import VERSION

EXPORTS = {
    "ADD": elements.add,
    "ARG_MAX": lookups.arg_max,
    "AVERAGE_POOL_2D": elements.average_pool,
    "CONCATENATION": moves.concatenate,
    "CONV_2D": weighted.convolution,
    "DEPTHWISE_CONV_2D": weighted.depthwise,
    "FULLY_CONNECTED": weighted.dense,
    "MAX_POOL_2D": elements.max_pool,
    "MEAN": elements.mean,
    "MUL": elements.multiply,
    "PAD": moves.pad,
    "RESHAPE": moves.reshape,
    "RESIZE_BILINEAR": moves.resize_bilinear,
    "RESIZE_NEAREST_NEIGHBOR": moves.resize_nearest,
    "SOFTMAX": lookups.softmax,
    "STRIDED_SLICE": moves.strided_slice,
    "SUB": elements.subtract,
    "TRANSPOSE": moves.transpose,
    "TRANSPOSE_CONV": weighted.transposed,
}
"""Kind of operator -> function (exporter, operator) that writes it -> the `Value` of its output, or None."""


@dataclass(frozen=True, eq=False)
class QonnxModel:
    """A file as a QONNX model.

    Attributes:
      model: an `onnx.ModelProto`.
      tensors: how the graph has the file's tensors of codes, by name.
      names: names in the graph of the file's tensors, by their names in the file. Real numbers are not among
        them, nor what convolutions pad.
      bops: bit operations on one image, as `export.inspect` counts them.
    """

    model: object
    tensors: dict[str, Stored]
    names: dict[str, str]
    bops: int


def qonnx_model(data: bytes, *, form: str = "quant", batch: int = 1) -> QonnxModel:
    """The .tflite in `data` as a QONNX model that computes the same codes as the file under XNNPACK.

    Args:
      data: the contents of a .tflite that `convert` has made, or of another int8 one with its operators.
      form: how codes are rounded: "quant" by float32 multipliers and Quant nodes, "thresholds" by integer
        thresholds (MultiThreshold), as FPGAs compare them.
      batch: images that one run computes.

    Raises:
      UnsupportedError: the file has what has no exact form here.
      ValueError: `data` is no .tflite or a damaged one, or `form` is not one of those above.
      MissingPackageError: onnx is not installed.
      TypeError: `data` is not bytes.
    """
    if not isinstance(data, bytes | bytearray | memoryview):
        raise TypeError(f"data is of type {type(data).__name__}; give the bytes of a .tflite.")
    if form not in FORMS:
        raise ValueError(f"form is {form!r}; use one of {', '.join(map(repr, FORMS))}.")
    data = bytes(data)
    graph, file = unpacked_graph(data), tflite_file.parse(data)
    check(graph, EXPORTS)
    recorded = metadata.read(file)
    exporter = Exporter(graph, _layer_bits(file, recorded.bits), form=form, batch=batch)
    for operator in graph.operators:
        _write(exporter, operator)
    bops = sum(layer.bops for layer in layer_table(file, recorded.bits, None))
    values = exporter.values
    return QonnxModel(
        exporter.builder.model(
            [values[tensor.name] for tensor in graph.outputs],
            _properties(data, exporter, recorded.document or {}, bops),
        ),
        exporter.stored,
        {name: value.name for name, value in values.items()},
        bops,
    )


def _write(exporter, operator):
    target = operator.outputs[0]
    if target.type == "FLOAT32":
        if target.name not in exporter.tables:
            raise refused(
                operator, f"makes real numbers, {target.name!r}, that are no function of one tensor's codes"
            )
        return
    source = None if operator.kind == "RESHAPE" else lookups.source_of(exporter, operator)
    try:
        if source is not None:
            value = lookups.table(exporter, operator, source)
        elif operator.kind in EXPORTS:
            value = EXPORTS[operator.kind](exporter, operator)
        else:
            raise refused(operator, "has no exact form in QONNX on these tensors")
    except (ArithmeticError, AttributeError, IndexError, KeyError, MemoryError, TypeError) as error:
        raise refused(operator, f"cannot be written as it stands in the file ({error!r})") from error
    if value is not None:
        exporter.values[target.name] = value


def _layer_bits(file, bits):
    """(activation bits, weight bits) of the weighted operators that count, by index."""
    found = {}
    for index, operator in enumerate(file.operators):
        if operator.kind not in WEIGHTED:
            continue
        weights, _ = weights_and_bias(file, index)
        if bits is None:
            source = file.at(operator.inputs)[WEIGHTED[operator.kind][0]]
            found[index] = (tensor_bits(source.type) or 8, tensor_bits(weights.type) or 8)
        elif layer_name(file, operator) in bits:
            found[index] = bits[layer_name(file, operator)]
    return found


def _properties(data, exporter, document, bops):
    tensors = {
        tensor.name: {
            "scale": float(tensor.scales[0]) if len(tensor.scales) else None,
            "zero_point": tensor.zero_point,
            "offset": exporter.stored[tensor.name].offset,
            "datatype": exporter.stored[tensor.name].datatype,
            "tensor": exporter.values[tensor.name].name,
        }
        for tensor in exporter.graph.tensors
        if tensor.name in exporter.stored and tensor.name in exporter.values
    }
    properties = {
        "mmx_tf.version": VERSION,
        "mmx_tf.tflite_sha256": hashlib.sha256(data).hexdigest(),
        "mmx_tf.bops": str(bops),
        "mmx_tf.tensors": json.dumps(tensors),
        "mmx_tf.inputs": json.dumps([tensor.name for tensor in exporter.graph.inputs]),
        "mmx_tf.outputs": json.dumps([tensor.name for tensor in exporter.graph.outputs]),
    }
    if document.get("labels") is not None:
        properties["mmx_tf.labels"] = json.dumps(document["labels"])
    return properties


__all__ = ["EXPORTS", "QonnxModel", "UnsupportedError", "qonnx_model"]
