"""TensorFlow Lite Micro: the operators that it has, the types that it takes, and what it refuses in a file.

    >>> resolver_method("DEPTHWISE_CONV_2D")
    'AddDepthwiseConv2D'

Measured with the interpreter of the PyPI package tflite-micro that requirements-dev.txt pins, whose kernels
are the portable ones; a later release may take more, and a vendor's kernels less.
`tests/micro_operators_test.py` asks that interpreter for every entry. Micro has more operators than `FORMS`;
which types those take is not known.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from mmx_tf.export.reading.contents import Operator, TfliteFile

_OPERATORS = frozenset(
    """
    ABS ADD ADD_N ARG_MAX ARG_MIN ASSIGN_VARIABLE AVERAGE_POOL_2D BATCH_MATMUL BATCH_TO_SPACE_ND
    BROADCAST_ARGS BROADCAST_TO CALL_ONCE CAST CEIL CONCATENATION CONV_2D COS CUMSUM DEPTH_TO_SPACE
    DEPTHWISE_CONV_2D DEQUANTIZE DIV DYNAMIC_UPDATE_SLICE EMBEDDING_LOOKUP ELU EQUAL EXP EXPAND_DIMS FILL
    FLOOR FLOOR_DIV FLOOR_MOD FULLY_CONNECTED GATHER GATHER_ND GREATER GREATER_EQUAL HARD_SWISH IF
    L2_NORMALIZATION L2_POOL_2D LEAKY_RELU LESS LESS_EQUAL LOG LOGICAL_AND LOGICAL_NOT LOGICAL_OR LOGISTIC
    LOG_SOFTMAX MAXIMUM MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL NEG NOT_EQUAL PACK PAD PADV2 PRELU
    QUANTIZE READ_VARIABLE REDUCE_ALL REDUCE_MAX REDUCE_MIN RELU RELU6 RESHAPE RESIZE_BILINEAR
    RESIZE_NEAREST_NEIGHBOR REVERSE_V2 ROUND RSQRT SELECT_V2 SHAPE SIN SLICE SOFTMAX SPACE_TO_BATCH_ND
    SPACE_TO_DEPTH SPLIT SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE SQUEEZE STRIDED_SLICE SUB SUM SVDF TANH
    TRANSPOSE TRANSPOSE_CONV UNIDIRECTIONAL_SEQUENCE_LSTM UNPACK VAR_HANDLE WHILE ZEROS_LIKE
    """.split()
)
# Most methods are named like the operator; these are not.
_METHODS = {
    "BATCH_MATMUL": "AddBatchMatMul",
    "CUMSUM": "AddCumSum",
    "PADV2": "AddPadV2",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "AddUnidirectionalSequenceLSTM",
}

_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
_CONVERTING = ("QUANTIZE", "DEQUANTIZE")
FORMS = {
    **dict.fromkeys(_WEIGHTED, {"INT8 INT8", "INT8 INT4", "INT16 INT8", "FLOAT32 FLOAT32"}),
    **dict.fromkeys(("ADD", "SUB", "MEAN", "MAX_POOL_2D", "AVERAGE_POOL_2D"), {"INT8", "INT16", "FLOAT32"}),
    **dict.fromkeys(("LOGISTIC", "SOFTMAX", "RELU", "RELU6"), {"INT8", "INT16", "FLOAT32"}),
    **dict.fromkeys(("MUL", "PAD"), {"INT8", "INT16", "INT32", "FLOAT32"}),
    **dict.fromkeys(("ARG_MAX", "HARD_SWISH"), {"INT8", "FLOAT32"}),
    "CONCATENATION": {"INT8", "INT16", "INT32", "INT64", "FLOAT32", "BOOL"},
    "STRIDED_SLICE": {"INT8", "INT16", "INT32", "FLOAT32", "BOOL"},
    "RESIZE_BILINEAR": {"INT8", "FLOAT32"},
    **dict.fromkeys(("RESIZE_NEAREST_NEIGHBOR", "TRANSPOSE"), {"INT8", "INT16", "FLOAT32"}),
    "QUANTIZE": {
        *(f"INT8 {output}" for output in ("INT8", "UINT8", "INT16", "INT32")),
        *("UINT8 INT8", "INT16 INT8", "INT16 INT16", "INT16 INT32", "INT32 INT8", "INT32 INT16"),
        *("FLOAT32 INT8", "FLOAT32 INT16"),
    },
    "DEQUANTIZE": {"INT8 FLOAT32", "UINT8 FLOAT32", "INT16 FLOAT32"},
}
"""What mmx_tf writes, and its neighbours: types of the input, of input and weights ("INT8 INT4"), or of input
and output ("UINT8 INT8")."""
SOFTMAX_LIMIT = 512
"""Entries of a row from which on int8 SOFTMAX may abort: their exponentials can sum to 512."""
_OTHER_STORAGE = 'convert with weight_storage "int4_micro", or "int8"'


@dataclass(frozen=True)
class Refusal:
    """An operator that Micro does not run: "Micro refuses `kind` `reason`; `instead`".

    Attributes:
      kind: of the operator, as in the schema.
      reason: what about it Micro does not take.
      tensor: name of the tensor that the reason is about.
      instead: what to do, in the imperative.
    """

    kind: str
    reason: str
    tensor: str
    instead: str


def resolver_method(kind: str) -> str | None:
    """The resolver's method for an operator as the schema names it ("CONV_2D"); None: Micro lacks it."""
    if kind not in _OPERATORS:
        return None
    words = "".join(word.capitalize() for word in kind.split("_"))
    return _METHODS.get(kind, "Add" + re.sub(r"(\d)d$", r"\1D", words))


def refusals(file: TfliteFile) -> tuple[Refusal, ...]:
    """What Micro refuses of the file's first subgraph, in the order of its operators."""
    return tuple(refusal for operator in file.operators for refusal in _refused(file, operator))


def _refused(file: TfliteFile, operator: Operator) -> Iterator[Refusal]:
    kind = operator.kind
    inputs, outputs = file.at(operator.inputs), file.at(operator.outputs)
    if resolver_method(kind) is None:
        name = next((tensor.name for tensor in outputs if tensor), "")
        yield Refusal(kind, "(it has no such operator)", name, "build the network without it")
    elif kind in FORMS and inputs and inputs[0]:
        yield from _refused_form(kind, inputs, outputs)
        yield from _refused_values(kind, inputs, outputs)


def _refused_form(kind, inputs, outputs) -> Iterator[Refusal]:
    beside = inputs[1:2] if kind in _WEIGHTED else outputs[:1] if kind in _CONVERTING else ()
    tensors = [tensor for tensor in (inputs[0], *beside) if tensor]
    types = [tensor.type for tensor in tensors]
    if " ".join(types) in FORMS[kind]:
        return
    if kind in _WEIGHTED and types[1:] in (["INT4"], ["INT2"]) and types[0] == "INT8":
        yield Refusal(kind, f"with {types[1]} weights", tensors[1].name, _OTHER_STORAGE)
        return
    joint = " with weights " if kind in _WEIGHTED else " to "
    taken = ", ".join(sorted(form.replace(" ", joint) for form in FORMS[kind]))
    yield Refusal(kind, f"of {joint.join(types)}", tensors[-1].name, f"give it one of: {taken}")


def _refused_values(kind, inputs, outputs) -> Iterator[Refusal]:
    if kind == "FULLY_CONNECTED" and inputs[1].type == "INT4" and inputs[1].scales.size > 1:
        yield Refusal(kind, "with INT4 weights of several scales", inputs[1].name, _OTHER_STORAGE)
    elif kind == "DEPTHWISE_CONV_2D" and inputs[2:] == (None,):
        # Its kernel reads the place of an input that is not there.
        yield Refusal(kind, "whose bias is left out", inputs[1].name, "give it a bias of zeros")
    elif kind == "CONCATENATION" and inputs[0].type == "INT8":
        grid = (outputs[0].scale, outputs[0].zero_point)
        for tensor in inputs:
            if (tensor.scale, tensor.zero_point) != grid:
                advice = "requantize the input in front of it"
                yield Refusal(kind, "of an input on another grid than the output's", tensor.name, advice)
    elif kind == "SOFTMAX" and inputs[0].type == "INT8" and inputs[0].shape[-1:] >= (SOFTMAX_LIMIT,):
        reason = f"of {SOFTMAX_LIMIT} classes or more (where they are nearly equal, it aborts)"
        yield Refusal(kind, reason, inputs[0].name, 'convert with output_type "int8"')
