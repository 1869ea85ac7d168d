"""Whether a file can be written in C: everything that is refused before any number is looked at."""

import math

import numpy as np

from mmx_tf.export.c_source.errors import UnsupportedError
from mmx_tf.export.c_source.lowering_kinds import STEPS, refused
from mmx_tf.export.c_source.pointwise import CODES, POINTWISE_KINDS
from mmx_tf.export.reference import kernels, step

INPUTS, OUTPUTS = ("INT8", "UINT8"), ("INT8", "INT32")

_LARGEST = 2**24
"""Elements of a tensor: more than any microcontroller has bytes for."""
_MALFORMED = (ArithmeticError, AttributeError, IndexError, KeyError, MemoryError, TypeError, ValueError)


def check(graph) -> None:
    """UnsupportedError for a `reference.Graph` with what the kernels in C lack, or that is malformed."""
    for operator in graph.operators:
        if operator.kind not in STEPS and operator.kind not in POINTWISE_KINDS:
            known = ", ".join(sorted({*STEPS, *POINTWISE_KINDS}))
            raise refused(operator, f"is not among the operators that are written in C: {known}")
        if not operator.inputs or not operator.outputs or None in (operator.inputs[0], operator.outputs[0]):
            raise refused(operator, "has no input or no output")
        try:
            kernels.check(operator)
        except ValueError as error:
            raise UnsupportedError(str(error)) from error
    check_ends(graph)
    check_numbers(graph)


def check_numbers(graph) -> None:
    """UnsupportedError for sizes, grids or shapes that no file of a real network has."""
    for tensor in graph.tensors:
        if math.prod(tensor.shape) > _LARGEST or min(tensor.shape, default=1) < 1:
            raise UnsupportedError(
                f"tensor {tensor.name!r} has shape {tensor.shape}; it may have 1 to {_LARGEST:,} numbers."
            )
        if tensor.type in CODES and any(int(zero) not in CODES[tensor.type] for zero in tensor.zero_points):
            raise UnsupportedError(
                f"tensor {tensor.name!r} has a zero point that is no code of {tensor.type}."
            )
        if not (np.isfinite(tensor.scales).all() and (tensor.scales > 0).all()):
            raise UnsupportedError(f"tensor {tensor.name!r} has a scale that is not above 0 and finite.")
    _check_shapes(graph)


def check_ends(graph, *, language: str = "C", program: str = "C source") -> None:
    """Refuses (`UnsupportedError`) ends of other types, of several images, or that nothing computes.

    Args:
      graph: a `reference.Graph`.
      language, program: what it is written in, and what computes it, for messages.
    """
    for what, tensors, allowed, words in (
        ("input", graph.inputs, INPUTS, "--input_type=uint8 or int8"),
        ("output", graph.outputs, OUTPUTS, "--output_type=int8 or class"),
    ):
        for tensor in tensors:
            if tensor.type not in allowed:
                raise UnsupportedError(
                    f"{what} {tensor.name!r} is {tensor.type}; in {language} it is one of "
                    f"{', '.join(allowed)}. Make the file with {words}."
                )
            if len(tensor.shape) < 2 - (tensor.type == "INT32") or tensor.shape[0] != 1:
                raise UnsupportedError(
                    f"{what} {tensor.name!r} has shape {tensor.shape}; the {program} computes one image."
                )
    computed = {operator.outputs[0] for operator in graph.operators}
    for tensor in graph.outputs:
        if tensor not in computed:
            raise UnsupportedError(f"output {tensor.name!r} is computed by no operator.")


def _check_shapes(graph):
    """Memory is planned by the file's shapes, so they must be those that the operators give."""
    values = {tensor.name: np.zeros(tensor.shape, tensor.numpy_type) for tensor in graph.inputs}
    for operator in graph.operators:
        target = operator.outputs[0]
        try:
            values |= step(graph, operator.index, values)
        except _MALFORMED as error:
            raise refused(operator, f"cannot be computed as it stands in the file ({error})") from error
        shape = values[target.name].shape
        if shape != tuple(target.shape):
            raise refused(operator, f"gives shape {shape}, but the file says {tuple(target.shape)}")
