"""Whether a file can be written in QONNX: what is refused before any number is looked at."""

from mmx_tf.export.c_source.checking import check_ends, check_numbers
from mmx_tf.export.c_source.lowering_kinds import ROUNDED
from mmx_tf.export.c_source.pointwise import POINTWISE_KINDS
from mmx_tf.export.qonnx.errors import UnsupportedError, refused
from mmx_tf.export.reference import kernels


def check(graph, written) -> None:
    """UnsupportedError for a `reference.Graph` with what QONNX lacks, or that is malformed.

    written: the kinds of operators that have a form in QONNX, beside pointwise ones.
    """
    for operator in graph.operators:
        if operator.kind not in written and operator.kind not in POINTWISE_KINDS:
            known = ", ".join(sorted({*written, *POINTWISE_KINDS}))
            raise refused(operator, f"is not among the operators that are written in QONNX: {known}")
        if not operator.inputs or not operator.outputs or None in (operator.inputs[0], operator.outputs[0]):
            raise refused(operator, "has no input or no output")
        try:
            kernels.check(operator)
        except ValueError as error:
            raise UnsupportedError(str(error)) from error
        if operator.kind in ROUNDED and operator.outputs[0].type == "INT8":
            _check_rounding(operator)
    try:
        check_ends(graph, language="QONNX", program="QONNX graph")
        check_numbers(graph)
    except ValueError as error:
        raise UnsupportedError(str(error)) from error


def _check_rounding(operator):
    try:
        taken = kernels.taken_by_xnnpack(operator)
    except ValueError as error:
        raise refused(operator, f"cannot be written as it stands in the file ({error})") from error
    if not taken:
        raise refused(operator, "is not taken by XNNPACK, whose rounding the QONNX graph has")
