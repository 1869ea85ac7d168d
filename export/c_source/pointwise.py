"""Which tensors are functions of single codes of another tensor, as tables of 256 entries.

    tables = pointwise(graph)
    tables["swish"].root, tables["swish"].values       # "conv", int8 [256]: by the code of "conv"

A lower clip (QUANTIZE), a rescale (MUL by 1), a gate, or a curve in float32 between DEQUANTIZE and
QUANTIZE is such a function, and so are several of them in a row. The reference interpreter computes the
tables, so that they are exact whatever the operators are.
"""

from dataclasses import dataclass

import numpy as np

from mmx_tf.export.c_source.errors import UnsupportedError
from mmx_tf.export.reference import kernels

CODES = {"INT8": np.arange(-128, 128).astype(np.int8), "UINT8": np.arange(256).astype(np.uint8)}
POINTWISE_KINDS = frozenset(
    [
        *kernels.kinds_on(kernels.FLOAT32),
        "DEQUANTIZE",
        "HARD_SWISH",
        "LOGISTIC",
        "QUANTIZE",
        "RELU",
        "RELU6",
        "RESHAPE",
    ]
)
"""Operators that may be pointwise; some of them are so on some tensors alone."""


@dataclass(frozen=True, eq=False)
class Pointwise:
    """A tensor as a function of another one's codes.

    Attributes:
      root: name of the tensor whose codes it is computed from.
      shape: of the tensor, without the batch.
      values: [256], by the root's codes, lowest first; in the tensor's type.
    """

    root: str
    shape: tuple
    values: np.ndarray


def pointwise(graph) -> dict[str, Pointwise]:
    """The pointwise tensors of a `reference.Graph` by name, without those that are roots."""
    found = {}
    for operator in graph.operators:
        table = _table(operator, found)
        if table is not None:
            found[operator.outputs[0].name] = table
    return found


def _table(operator, found):
    if operator.kind not in POINTWISE_KINDS:
        return None
    # A reshape's second input says what its shape is, which the output knows.
    inputs = operator.inputs[:1] if operator.kind == "RESHAPE" else operator.inputs
    computed = [tensor for tensor in inputs if tensor.constant is None]
    known = [_of(tensor, found) for tensor in computed]
    if None in known or len({table.root for table in known}) != 1:
        return None
    constants = [tensor for tensor in inputs if tensor.constant is not None]
    if any(tensor.constant.size != 1 for tensor in constants):
        return None
    shape = tuple(operator.outputs[0].shape[1:])
    if operator.kind == "RESHAPE":
        return Pointwise(known[0].root, shape, known[0].values)
    if any(table.shape != shape for table in known):
        return None
    values = {tensor.name: table.values for tensor, table in zip(computed, known, strict=True)}
    return Pointwise(known[0].root, shape, _computed(operator, values))


def _of(tensor, found):
    if tensor.name in found:
        return found[tensor.name]
    if tensor.type in CODES:
        return Pointwise(tensor.name, tuple(tensor.shape[1:]), CODES[tensor.type])
    return None


def _computed(operator, values):
    def compute(part):
        inputs = [
            values[tensor.name][part] if tensor.name in values else tensor.constant.reshape(-1)
            for tensor in operator.inputs
        ]
        return kernels.compute(operator, inputs, "xnnpack")[0]

    together = compute(slice(None))
    if not kernels.taken_by_xnnpack(operator):
        # TFLite's own kernels may round what is left behind their vectors otherwise.
        alone = np.concatenate([compute(slice(i, i + 1)) for i in range(256)])
        if not np.array_equal(together, alone):
            raise UnsupportedError(
                f"operator {operator.index} ({operator.kind}): its codes depend on their places in the "
                "runtime's vectors; use one scale for its input and output."
            )
    return together
