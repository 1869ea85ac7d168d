"""An integer interpreter of exported .tflite files in plain numpy, written from TFLite's specification.

    tensors = run(data, {"image": codes})                  # dict from tensor name to array, for every tensor
    tensors = run(data, {"image": codes}, rules="builtin")
    graph = load(data)
    outputs = step(graph, 3, tensors)                      # operator 3 alone, on the inputs that it is given

It shares nothing with the graph that was trained, so that the two judge each other, and it tells what each
runtime computes without one. LiteRT 2.3 on x86-64 computes by three sets of rules:

    rules        runtime
    "xnnpack"    the default interpreter: XNNPACK, and "builtin" for what XNNPACK does not take
    "builtin"    TFLite's optimized kernels (BUILTIN_WITHOUT_DEFAULT_DELEGATES), on one thread
    "reference"  TFLite's reference kernels (BUILTIN_REF)

Each operator has its own rule; the names are those of `export.reference.rounding`:

    operator             "xnnpack"              "builtin"                    "reference"
    CONV_2D              scale_half_even        double_rounding_up           double_rounding_away
    CONV_2D of groups    scale_half_even        double_rounding_away         double_rounding_away
    DEPTHWISE_CONV_2D    scale_half_even        up, last channels % 8 away   double_rounding_away
    TRANSPOSE_CONV       scale_half_even        up, last channels % 8 away   double_rounding_away
    FULLY_CONNECTED      scale_half_even        double_rounding_up           float64, half_away
    ADD                  21 bits, half up       away, on a 2^20 finer grid   away, on a 2^20 finer grid
    SUB                  21 bits, half up       away, on a 2^20 finer grid   away, on a 2^20 finer grid
    MUL                  scale_half_even        double_rounding_away         double_rounding_away
    MEAN, keepDims       float32, half to even  sum of raw codes, up         sum of shifted codes, away
    MEAN without         float32, half to even  sum of shifted codes, away   sum of shifted codes, away
    QUANTIZE, float      x * (1 / s), to even   x * (1 / s), to even         x / s, half_away
    QUANTIZE, int8       8 bits, half up        up, last codes % 16 away     double_rounding_away
    DEQUANTIZE           (q - z) * s            q * s - z * s                (q - z) * s
    LOGISTIC             float64, half to even  float32, half_away           float32, half_away
    SOFTMAX              not taken              float32 table, half_away     32-bit fixed point
    HARD_SWISH           not taken              16-bit fixed point           16-bit fixed point
    TANH, ELU            float32, nearest       float32, nearest             float32, nearest; no ELU
    RELU, RELU6          not taken              double_rounding_away         double_rounding_away
    AVERAGE_POOL_2D      not taken              integers, half away          integers, half away
    RESIZE_BILINEAR      11 bits, half up       10 bits, half away           10 bits, half away
    fused activation     zero point inside      half_away, zero point after  half_away, zero point after

XNNPACK takes no convolution with INT4 weights, no dense layer with INT4 rows of odd length, no QUANTIZE from
uint8, no ARG_MAX, no TRANSPOSE_CONV of padding SAME whose window is smaller than its stride, and no ratios of
scales outside its range. ARG_MAX (the first of equal codes), MAX_POOL_2D, PAD, CONCATENATION, RESHAPE,
TRANSPOSE, STRIDED_SLICE and RESIZE_NEAREST_NEIGHBOR leave no choice. Operators of float32 are computed to the
last digit, in which the runtimes differ (`export.reference.curves`).
"builtin" works in vectors and leaves the last few to another rule, so that codes depend on their place in
the batch (QUANTIZE, DEQUANTIZE, ADD and MUL): give `run` the batches that the runtime gets.
"""

import importlib
import pkgutil

import numpy as np

from mmx_tf.export.reference import kernels
from mmx_tf.export.reference.graph import Graph, load
from mmx_tf.export.reference.kernels import RULES

__all__ = ["RULES", "Graph", "load", "run", "step"]

# Kernels register themselves when their module is loaded.
for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")


def run(data, inputs, *, rules="xnnpack"):
    """Every tensor of the file on a batch -> dict from tensor name to array.

    Args:
      data: bytes of a .tflite, or the `Graph` that `load` made of it.
      inputs: dict from the name of each input tensor to an array [N, ...] in the tensor's type; N is free.
      rules: "xnnpack", "builtin" or "reference": whose arithmetic.

    Activations come as [N, ...] in their tensor's type, constants as the file holds them, INT4 as int8.
    ValueError when the bytes are no .tflite, an operator, type or fused activation is not here, `rules` is
    none of the three, or `inputs` does not fit the file.
    """
    graph = load(data)
    for operator in graph.operators:
        kernels.check(operator)
    _check_inputs(graph, inputs)
    arrays = {tensor.name: tensor.constant for tensor in graph.tensors if tensor.constant is not None}
    arrays |= {name: np.asarray(values) for name, values in inputs.items()}
    for operator in graph.operators:
        arrays |= step(graph, operator.index, arrays, rules=rules)
    return arrays


def step(data, operator_index, tensors, *, rules="xnnpack"):
    """One operator alone -> dict from the name of its output tensor to its array.

    data, rules: as for `run`. tensors: dict from tensor name to array with at least the operator's inputs;
    constants may be left out. Errors as for `run`; ValueError when the file has no such operator or an input
    is missing.
    """
    graph = load(data)
    if not 0 <= operator_index < len(graph.operators):
        raise ValueError(
            f"operator_index is {operator_index}; the file has operators 0..{len(graph.operators) - 1}."
        )
    operator = graph.operators[operator_index]
    inputs = [None if tensor is None else _value(tensor, tensors, operator) for tensor in operator.inputs]
    outputs = kernels.compute(operator, inputs, rules)
    return {tensor.name: values for tensor, values in zip(operator.outputs, outputs, strict=True)}


def _value(tensor, arrays, operator):
    if tensor.name in arrays:
        return np.asarray(arrays[tensor.name])
    if tensor.constant is None:
        raise ValueError(f"operator {operator.index} ({operator.kind}) needs tensor {tensor.name!r}.")
    return tensor.constant


def _check_inputs(graph, inputs):
    expected = {tensor.name: tensor for tensor in graph.inputs}
    if set(inputs) != set(expected):
        raise ValueError(f"inputs are named {sorted(inputs)}; the file's inputs are {sorted(expected)}.")
    counts = set()
    for name, tensor in expected.items():
        values = np.asarray(inputs[name])
        if values.dtype != tensor.numpy_type:
            raise ValueError(f"input {name!r} is {values.dtype}; the file takes {tensor.type}.")
        if values.ndim != len(tensor.shape) or values.shape[1:] != tensor.shape[1:]:
            raise ValueError(
                f"input {name!r} has shape {values.shape}; the file takes [N, *{tensor.shape[1:]}]."
            )
        counts.add(len(values))
    if len(counts) > 1:
        raise ValueError(f"inputs have {sorted(counts)} images; give all the same number.")
