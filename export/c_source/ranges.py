"""Which codes a tensor can take, proved operator by operator: what its slots must hold.

    found = ranges(graph, tables)
    found["conv"]                                       # (112, 127): 16 codes, 4 bits

The bits of a file's metadata are not asked: a code that is out of range would corrupt its neighbour. A
low-bit tensor of our files gets its range from the fused activation and int8's saturation (`layers.grid`).
"""

import numpy as np

from mmx_tf.export.c_source.pointwise import CODES
from mmx_tf.export.reference import kernels
from mmx_tf.export.reference.bounds import activation_bounds

SLOTS = (2, 4, 8)
"""Bits of a slot; 3-bit codes lie in 4."""


def slot_bits(low: int, high: int) -> int:
    """The bits of the smallest slot that holds the codes low..high."""
    return next(bits for bits in SLOTS if high - low < 2**bits)


def ranges(graph, tables, rule=None) -> dict[str, tuple[int, int]]:
    """(lowest, highest) code of every int8 and uint8 tensor that is no constant, by name.

    Args:
      graph: a `reference.Graph`.
      tables: `pointwise.pointwise` of it.
      rule: gives (lowest, highest) of an operator that no table computes, from the operator and what is
        found of the tensors before; by default `range_of`.
    """
    rule = rule or range_of
    found = {
        tensor.name: (int(CODES[tensor.type].min()), int(CODES[tensor.type].max()))
        for tensor in graph.inputs
        if tensor.type in CODES
    }
    for operator in graph.operators:
        target = operator.outputs[0]
        if target.type not in CODES:
            continue
        table = tables.get(target.name)
        if table is not None:
            codes = mapped(table.values, found[table.root], root_type(graph, table.root))
            found[target.name] = (int(codes.min()), int(codes.max()))
        else:
            found[target.name] = rule(operator, found)
    return found


def root_type(graph, name: str) -> str:
    """The type of a tensor."""
    return next(tensor.type for tensor in graph.tensors if tensor.name == name)


def mapped(values: np.ndarray, codes: tuple[int, int], kind: str = "INT8") -> np.ndarray:
    """The part of a pointwise table that belongs to the root's codes low..high."""
    lowest = int(CODES[kind].min())
    return values[codes[0] - lowest : codes[1] - lowest + 1]


def range_of(operator, found: dict[str, tuple[int, int]]) -> tuple[int, int]:
    """(lowest, highest) code of an operator's output, from those of its inputs."""
    sources = [
        found[tensor.name] for tensor in operator.inputs if tensor is not None and tensor.name in found
    ]
    union = (min(low for low, _ in sources), max(high for _, high in sources))
    kind = operator.kind
    if kind in ("CONCATENATION", "STRIDED_SLICE", "TRANSPOSE", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"):
        return union
    if kind == "PAD":
        return with_code(union, operator.outputs[0].zero_point)
    if kind in ("MAX_POOL_2D", "AVERAGE_POOL_2D"):
        low, high = activation_bounds(operator, "builtin")
        return (min(max(union[0], low), high), min(max(union[1], low), high))
    if kind == "MEAN":
        # A mean of equal codes is the code of one of them.
        shape = (1, *operator.inputs[0].shape[1:])
        ends = [np.full(shape, code, np.int8) for code in union]
        codes = [kernels.compute(operator, [end, operator.inputs[1].constant], "xnnpack")[0] for end in ends]
        return (int(codes[0].min()), int(codes[1].max()))
    low, high = activation_bounds(operator, "xnnpack")
    # Where a bound lies beyond the other one, the upper bound wins.
    return (min(low, high), high)


def with_code(codes: tuple[int, int], code: int) -> tuple[int, int]:
    """The range, with one more code."""
    return (min(codes[0], code), max(codes[1], code))
