"""Which codes a tensor takes, proved as narrowly as a layer's bits need it.

A lower clip that can do nothing is not in a file: a product of two numbers above 0 is not below 0. So sums
and products are followed from the codes of both operands, where `c_source.ranges` has their saturation alone.
"""

import itertools

import numpy as np

from mmx_tf.export.c_source.ranges import range_of, ranges
from mmx_tf.export.reference import kernels

_BINARY = ("ADD", "MUL", "SUB")


def code_ranges(graph, tables) -> dict[str, tuple[int, int]]:
    """(lowest, highest) code of every int8 and uint8 tensor that is no constant, by name.

    Args:
      graph: a `reference.Graph`.
      tables: `c_source.pointwise` of it.
    """
    return ranges(graph, tables, _range_of)


def _range_of(operator, found):
    if operator.kind not in _BINARY:
        return range_of(operator, found)
    codes = _corners(operator, found)
    return int(codes.min()), int(codes.max())


def _corners(operator, found):
    """The codes of a sum or product where both operands are at an end; all others lie between them."""
    ends = [
        found[tensor.name] if tensor.constant is None else (tensor.constant.min(), tensor.constant.max())
        for tensor in operator.inputs
    ]
    operands = np.array(list(itertools.product(*ends)), np.int8).T
    return kernels.compute(operator, list(operands), "xnnpack")[0]
