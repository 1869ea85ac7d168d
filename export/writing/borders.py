"""The ends of a file: in which types an image goes in, and what of the logits comes out.

    index, codes = write_input(context, "image", layer, "uint8")
    ends = file_ends(folded, "class")
    outputs = write_outputs(context, ends, produced)

The operators here do not belong to the folded model, whose input and output are float. XNNPACK does not take
the QUANTIZE from uint8, nor ARG_MAX and SOFTMAX: each touches one image or its logits once. Everything
between is one XNNPACK partition all the same.

"class" gives the index of the largest logit and the softmax of all where one of several classes is true.
Where the task is binary or multi-label (or a mask of one channel) it gives 1 where a logit is above 0, else
0, and the sigmoid of each.

An output of several is written as one alone is, each of its own type.
"""

from collections.abc import Sequence

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from mmx_tf.export.writing.file_ends import CLASS, PROBABILITIES, FileEnd, signature_names
from mmx_tf.export.writing.flatbuffer import quantization
from mmx_tf.layers.grid import Grid

Builtin, TensorType = schema.BuiltinOperator, schema.TensorType
# TFLite's int8 SOFTMAX has this output grid and no other.
PROBABILITY_GRID = Grid(1 / 256, -128)


def write_input(context, name, layer, input_type):
    """Writes the input `name` of a `QuantizeInput` -> (index of the input, index of the int8 codes)."""
    if input_type == "int8":
        index = context.codes(layer, name=name)
        return index, index
    if input_type == "uint8":
        index = context.codes(layer, name=name, unsigned=True)
    else:
        shape = (1, *context.shapes[layer.name])
        index = context.writer.tensor(name, shape, TensorType.FLOAT32, dynamic_batch=True)
    codes = context.codes(layer)
    version = 2 if input_type == "uint8" else 1
    context.writer.operator(
        Builtin.QUANTIZE, [index], [codes], options=schema.QuantizeOptionsT(), version=version
    )
    return index, codes


def write_outputs(context, ends: Sequence[FileEnd], produced) -> dict[str, int]:
    """Writes what comes after the codes.

    Args:
      context: of the file.
      ends: what `file_ends` gave.
      produced: dict from layer name to the index of its int8 codes.

    Returns:
      dict from the signature's name of each output to its tensor index.
    """
    outputs = {}
    for end in ends:
        if end.output_type == "class":
            indices = _write_class(context, end.codes, produced, end.task, end.logits)
        elif end.output_type == "float32":
            indices = [_write_float(context, end.layer, produced[end.codes])]
        else:
            indices = [produced[end.codes]]
        outputs |= zip(signature_names(end), indices, strict=True)
    return outputs


def _write_float(context, name, codes):
    index = context.writer.tensor(name, (1, *context.shapes[name]), TensorType.FLOAT32, dynamic_batch=True)
    context.writer.operator(
        Builtin.DEQUANTIZE, [codes], [index], options=schema.DequantizeOptionsT(), version=2
    )
    return index


def _write_class(context, final, produced, task, logits):
    """Indices of class and probabilities of layer `final`, which gives what `logits` or a sigmoid does."""
    name, shape = logits or final, context.shapes[final]
    codes, grid = produced[name], context.grids[name]
    yes_or_no = task in ("binary", "multi_label") or shape[-1] == 1
    scored, axes = _against_zero(context, name, codes, shape, grid, task) if yes_or_no else (codes, shape)
    # A layer of the network may be called "class" or "probabilities": the tensors have its name in front.
    axis = context.constant(f"{name}/axis", np.array(len(axes)), TensorType.INT32)
    index = context.writer.tensor(f"{name}/{CLASS}", (1, *axes[:-1]), TensorType.INT32, dynamic_batch=True)
    options = schema.ArgMaxOptionsT()
    options.outputType = TensorType.INT32
    context.writer.operator(Builtin.ARG_MAX, [scored, axis], [index], options=options, version=2)
    if logits:
        return index, produced[final]
    probabilities = context.writer.tensor(
        f"{name}/{PROBABILITIES}",
        (1, *shape),
        TensorType.INT8,
        quantization=quantization([PROBABILITY_GRID.scale], [PROBABILITY_GRID.zero_point]),
        dynamic_batch=True,
    )
    if yes_or_no:
        context.writer.operator(Builtin.LOGISTIC, [codes], [probabilities], version=2)
    else:
        options = schema.SoftmaxOptionsT()
        options.beta = 1.0
        context.writer.operator(Builtin.SOFTMAX, [codes], [probabilities], options=options, version=2)
    return index, probabilities


def _against_zero(context, name, codes, shape, grid, task):
    """Each logit behind a 0, so that ARG_MAX, the first of equal ones, gives whether the logit is above 0.

    TFLite pads with the code of 0, the zero point.

    Returns:
      (index of the pairs, their shape without the batch).
    """
    if task == "multi_label" or context.shapes[name] != shape:
        shape = (*shape, 1) if task == "multi_label" else shape
        codes = _coded(context, f"{name}/single", shape, grid, Builtin.RESHAPE, codes)
    return _coded(context, f"{name}/pairs", (*shape[:-1], 2), grid, Builtin.PAD, codes), (*shape[:-1], 2)


def _coded(context, name, shape, grid, builtin, codes):
    index = context.writer.tensor(
        name,
        (1, *shape),
        TensorType.INT8,
        quantization=quantization([grid.scale], [grid.zero_point]),
        dynamic_batch=True,
    )
    if builtin == Builtin.RESHAPE:
        values, options = np.array([-1, *shape]), schema.ReshapeOptionsT()
        options.newShape = values.astype(np.int32)
        version = 1
    else:
        values, options, version = np.array([(0, 0)] * len(shape) + [(1, 0)]), schema.PadOptionsT(), 2
    constant = context.constant(f"{name}/by", values, TensorType.INT32)
    context.writer.operator(builtin, [codes, constant], [index], options=options, version=version)
    return index
