"""The ends of a file: in which types an image goes in, and what of the logits comes out.

    index, codes = write_input(context, "image", layer, "uint8")
    outputs = write_outputs(context, {"logits_dequantize": "logits"}, produced, "class")

The operators here do not belong to the folded model, whose input and output are float. XNNPACK does not take
the QUANTIZE from uint8, nor ARG_MAX and SOFTMAX: each touches one image or its logits once. Everything
between is one XNNPACK partition all the same.
"""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from export.flatbuffer import quantization
from layers.grid import Grid
from layers.integer_layers import Dequantize

Builtin, TensorType = schema.BuiltinOperator, schema.TensorType
INPUT_TYPES = ("uint8", "int8", "float32")
OUTPUT_TYPES = ("int8", "float32", "class")
CLASS, PROBABILITIES = "class", "probabilities"
# TFLite's int8 SOFTMAX has this output grid and no other.
PROBABILITY_GRID = Grid(1 / 256, -128)


def check_outputs(folded, output_type):
    """Checks that a folded model's outputs are what an output type, one of `OUTPUT_TYPES`, needs.

    Raises:
      ValueError: for outputs that are codes, where the type is not "int8"; for "class", if there is not one
        output of shape (None, classes).
    """
    layers = [tensor._keras_history.layer for tensor in folded.outputs]
    codes = [repr(layer.name) for layer in layers if not isinstance(layer, Dequantize)]
    if codes and output_type != "int8":
        raise ValueError(
            f"output_type is {output_type!r}, but the model ends with the codes of {', '.join(codes)}. Use "
            "'int8', or end it with a Dequantize layer, as mmx_tf.fold does."
        )
    shapes = [tuple(tensor.shape) for tensor in folded.outputs]
    if output_type == "class" and (len(shapes) != 1 or len(shapes[0]) != 2):
        raise ValueError(
            f"output_type is 'class', but the model's outputs have shapes {shapes}; a class needs one of "
            "shape (None, classes). Use 'int8' or 'float32'."
        )


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


def write_outputs(context, ends, produced, output_type):
    """Writes what comes after the codes.

    Args:
      context: of the file.
      ends: dict from the name of each layer that ends the folded model to that of the layer of its codes.
      produced: dict from layer name to the index of its int8 codes.
      output_type: one of `OUTPUT_TYPES`.

    Returns:
      dict from the signature's name of each output to its tensor index.
    """
    outputs = {}
    for name, codes in ends.items():
        if output_type == "class":
            outputs |= _write_class(context, codes, produced[codes])
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


def _write_class(context, name, codes):
    # A layer of the network may be called "class" or "probabilities": the tensors have its name in front.
    axis = context.constant(f"{name}/axis", np.array(1), TensorType.INT32)
    index = context.writer.tensor(f"{name}/{CLASS}", (1,), TensorType.INT32, dynamic_batch=True)
    options = schema.ArgMaxOptionsT()
    options.outputType = TensorType.INT32
    context.writer.operator(Builtin.ARG_MAX, [codes, axis], [index], options=options, version=2)
    probabilities = context.writer.tensor(
        f"{name}/{PROBABILITIES}",
        (1, *context.shapes[name]),
        TensorType.INT8,
        quantization=quantization([PROBABILITY_GRID.scale], [PROBABILITY_GRID.zero_point]),
        dynamic_batch=True,
    )
    options = schema.SoftmaxOptionsT()
    options.beta = 1.0
    context.writer.operator(Builtin.SOFTMAX, [codes], [probabilities], options=options, version=2)
    return {CLASS: index, PROBABILITIES: probabilities}
