"""The ends of a file: in which types an image goes in, and what of the logits comes out.

    index, codes = write_input(context, "image", layer, "uint8")
    outputs = write_outputs(context, {"logits_dequantize": "logits"}, produced, "class")

The operators here do not belong to the folded model, whose input and output are float. XNNPACK does not take
the QUANTIZE from uint8, nor ARG_MAX and SOFTMAX: each touches one image or its logits once. Everything
between is one XNNPACK partition all the same.

"class" gives the index of the largest logit and the softmax of all where one of several classes is true.
Where the task is binary or multi-label (or a mask of one channel) it gives 1 where a logit is above 0, else
0, and the sigmoid of each.
"""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from mmx_tf.export.comparing.heads import check_task, told
from mmx_tf.export.comparing.trace import head_of
from mmx_tf.export.writing.flatbuffer import quantization
from mmx_tf.layers.grid import Grid
from mmx_tf.layers.integer.layers import Dequantize

Builtin, TensorType = schema.BuiltinOperator, schema.TensorType
CLASS, PROBABILITIES = "class", "probabilities"
# TFLite's int8 SOFTMAX has this output grid and no other.
PROBABILITY_GRID = Grid(1 / 256, -128)


def check_outputs(folded, output_type, task=None):
    """Checks that a folded model's outputs are what an output type, one of `OUTPUT_TYPES`, needs.

    Returns:
      What the outputs of "class" stand for, one of `export.comparing.heads.TASKS`; None for the other types.

    Raises:
      ValueError: for outputs that are codes, where the type is not "int8"; for "class", if there is not one
        output, or it names no class: it is that of a regression, a hard-sigmoid's, or it cannot be told.
    """
    check_task(task)
    layers = [tensor._keras_history.layer for tensor in folded.outputs]
    codes = [repr(layer.name) for layer in layers if not isinstance(layer, Dequantize)]
    if codes and output_type != "int8":
        raise ValueError(
            f"output_type is {output_type!r}, but the model ends with the codes of {', '.join(codes)}. Use "
            "'int8', or end it with a Dequantize layer, as mmx_tf.fold does."
        )
    if output_type != "class":
        return None
    shapes = [tuple(tensor.shape) for tensor in folded.outputs]
    if len(shapes) != 1:
        raise ValueError(
            f"output_type is 'class', but the model's outputs have shapes {shapes}; a class needs one of "
            "shape (None, classes). Use 'int8' or 'float32'."
        )
    head = head_of(folded)
    task = told(head, task=task)
    if task == "regression":
        raise ValueError(
            f"output_type is 'class', but {head.name!r} with outputs of shape {shapes[0]} is a regression, "
            "which names no class. Use 'int8' or 'float32'."
        )
    if head.activation == "hard_sigmoid":
        raise ValueError(
            f"output_type is 'class', but {head.name!r} ends with a hard-sigmoid, whose probabilities are "
            "its outputs. Use 'int8' or 'float32' and compare with 0.5, or end the network with a sigmoid."
        )
    fits = {
        "classification": len(head.shape) == 1 and head.shape[0] > 1,
        "binary": head.shape == (1,),
        "segmentation": len(head.shape) in (2, 3),
        "multi_label": 1 <= len(head.shape) <= 3,
    }
    if not fits[task]:
        raise ValueError(
            f"output_type is 'class' and the task {task!r}, which the model's outputs of shape {shapes[0]} "
            "do not fit. Use 'int8' or 'float32', or give another task."
        )
    return task


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


def write_outputs(context, ends, produced, output_type, *, task=None, logits=None):
    """Writes what comes after the codes.

    Args:
      context: of the file.
      ends: dict from the name of each layer that ends the folded model to that of the layer of its codes.
      produced: dict from layer name to the index of its int8 codes.
      output_type: one of `OUTPUT_TYPES`.
      task: for "class", what `check_outputs` returned.
      logits: name of the layer of the logits, where those of `ends` are what a sigmoid made of them.

    Returns:
      dict from the signature's name of each output to its tensor index.
    """
    outputs = {}
    for name, codes in ends.items():
        if output_type == "class":
            outputs |= _write_class(context, codes, produced, task, logits)
        elif output_type == "float32":
            outputs[codes] = _write_float(context, name, produced[codes])
        else:
            outputs[codes] = produced[codes]
    return outputs


def _write_float(context, name, codes):
    index = context.writer.tensor(name, (1, *context.shapes[name]), TensorType.FLOAT32, dynamic_batch=True)
    context.writer.operator(
        Builtin.DEQUANTIZE, [codes], [index], options=schema.DequantizeOptionsT(), version=2
    )
    return index


def _write_class(context, final, produced, task, logits):
    """Class and probabilities of the outputs of layer `final`, which are those of `logits` or a sigmoid's."""
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
        return {CLASS: index, PROBABILITIES: produced[final]}
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
    return {CLASS: index, PROBABILITIES: probabilities}


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
