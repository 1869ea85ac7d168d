"""Which codes a tensor takes, proved as narrowly as a layer's bits need it.

A lower clip that can do nothing is not in a file: a product of two numbers above 0 is not below 0. So sums
and products are followed from the codes of both operands, where `c_source.ranges` has their saturation alone.
"""

import itertools

import numpy as np

from mmx_tf.export.c_source.pointwise import CODES
from mmx_tf.export.c_source.ranges import mapped, range_of, root_type
from mmx_tf.export.reference import kernels

_BINARY = ("ADD", "MUL", "SUB")


def code_ranges(graph, tables) -> dict[str, tuple[int, int]]:
    """(lowest, highest) code of every int8 and uint8 tensor that is no constant, by name.

    Args:
      graph: a `reference.Graph`.
      tables: `c_source.pointwise` of it.
    """
    found = {
        tensor.name: (int(CODES[tensor.type].min()), int(CODES[tensor.type].max())) for tensor in graph.inputs
    }
    for operator in graph.operators:
        target = operator.outputs[0]
        if target.type not in CODES:
            continue
        table = tables.get(target.name)
        if table is not None:
            codes = mapped(table.values, found[table.root], root_type(graph, table.root))
        elif operator.kind in _BINARY:
            codes = _corners(operator, found)
        else:
            codes = np.array(range_of(operator, found))
        found[target.name] = (int(codes.min()), int(codes.max()))
    return found


def _corners(operator, found):
    """The codes of a sum or product where both operands are at an end; all others lie between them."""
    ends = [
        found[tensor.name] if tensor.constant is None else (tensor.constant.min(), tensor.constant.max())
        for tensor in operator.inputs
    ]
    operands = np.array(list(itertools.product(*ends)), np.int8).T
    return kernels.compute(operator, list(operands), "xnnpack")[0]
