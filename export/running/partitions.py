"""Which operators of a .tflite XNNPACK takes: on this machine, with this LiteRT.

    delegation = delegated_ops(data)
    delegation.partitions, delegation.left_outside        # 1, () when everything runs in XNNPACK

Needs only numpy and ai-edge-litert.
"""

from dataclasses import dataclass

from ai_edge_litert.interpreter import Interpreter

from mmx_tf.export.benchmark.interpreter import operators, partitions


@dataclass(frozen=True)
class Delegation:
    """Number of XNNPACK partitions, and the operators outside them as (index in the file, operator name)."""

    partitions: int
    left_outside: tuple


class DelegateMissingError(ValueError):
    """LiteRT runs a file without XNNPACK."""


def require_xnnpack(data: bytes) -> Delegation:
    """The `Delegation` of a file of which XNNPACK takes something.

    Raises:
      DelegateMissingError: if it takes nothing.
    """
    delegation = delegated_ops(data)
    if not delegation.partitions:
        raise DelegateMissingError(
            "XNNPACK takes no operator of the file: this LiteRT was built without the delegate, or the file "
            "has nothing for it. Compare it under other kernels: python -m export.parity --kernels=builtin."
        )
    return delegation


def delegated_ops(data):
    """The `Delegation` of the .tflite in `data` (bytes) under LiteRT's default interpreter, with XNNPACK."""
    interpreter = Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    taken = partitions(interpreter)
    inside = frozenset().union(*taken)
    outside = tuple((op.index, op.kind) for op in operators(interpreter) if op.index not in inside)
    return Delegation(len(taken), outside)
