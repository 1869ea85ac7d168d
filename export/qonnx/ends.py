"""The end of an operator: real numbers or integers in, codes of the target out.

Quant: a Quant node rounds half to even and saturates, behind a Relu or a Clip. The Relu changes nothing; FINN
takes unsigned Quant nodes behind one.
Thresholds: the integer in front of all real arithmetic is compared with one integer for each code; the code
is how many of them it reaches. Those integers are found by the runtime's own arithmetic.
"""

from collections.abc import Callable

import numpy as np

from mmx_tf.export.c_source.fixed_point import thresholds
from mmx_tf.export.qonnx.graph_builder import Value


def rounded(exporter, value: Value, target, *, shift: int = 0, rounding: str = "ROUND") -> Value:
    """Real numbers -> the integers of `target`: rounded, plus `shift`, between its lowest and highest code.

    rounding: "ROUND" is half to even.
    """
    builder, stored, name = exporter.builder, exporter.stored[target.name], target.name
    if shift or value.dtype == np.float64 or rounding != "ROUND":
        # A sum of a small real number and an integer could round to a half: first to integers, then the sum.
        value = exporter.quant_of(
            value, f"{name}/rounded", bits=32, signed=True, datatype="INT32", rounding=rounding
        )
    if shift:
        by = builder.constant(f"{name}/zero_point", shift)
        value = builder.node("Add", [value, by], value.shape, name=f"{name}/on_zero_point")
    if stored.span != stored.type_range:
        ends = [builder.constant(f"{name}/{what}", end) for what, end in zip("ab", stored.span, strict=True)]
        value = builder.node("Clip", [value, *ends], value.shape, name=f"{name}/clipped")
    elif not stored.signed:
        value = builder.node("Relu", [value], value.shape, name=f"{name}/relu")
    return exporter.quant(value, stored, name)


def thresholded(
    exporter, value: Value, target, function: Callable, sums: tuple[np.ndarray, np.ndarray], *, scale=1
) -> Value:
    """Integers -> the integers of `target`, as a MultiThreshold.

    Args:
      exporter: whose graph it is.
      value: integers / `scale`, channels second.
      target: of the file.
      function: integers [channels, n] -> codes of the target, which never fall.
      sums: int64 [channels] each, the lowest and highest integer; one channel stands for all.
      scale: of the value. With another one than 1 it may be off by less than half an integer.
    """
    low, high = exporter.stored[target.name].type_range
    codes = np.arange(low + 1, high + 1) + exporter.stored[target.name].offset
    reached = thresholds(function, *sums, codes).astype(np.float64)
    # Halfway between integers an error of the value does no harm.
    reached = reached if scale == 1 else (reached - 0.5) / scale
    return multi_threshold(exporter, value, target, reached)


def multi_threshold(exporter, value: Value, target, reached: np.ndarray) -> Value:
    """A MultiThreshold onto `target`; reached: [channels or 1, integers of its type - 1], rising."""
    builder, stored = exporter.builder, exporter.stored[target.name]
    low, _ = stored.type_range
    constant = builder.constant(f"{target.name}/thresholds", reached, dtype=value.dtype)
    name = target.name if value.dtype == np.float32 else f"{target.name}/double"
    codes = builder.node(
        "MultiThreshold",
        [value, constant],
        value.shape,
        name=name,
        dtype=value.dtype,
        datatype=stored.datatype,
        out_dtype=stored.datatype,
        out_scale=1.0,
        out_bias=float(low),
    )
    if value.dtype == np.float32:
        return codes
    return cast(exporter, codes, np.float32, target.name, datatype=stored.datatype)


def cast(exporter, value: Value, dtype, name: str, *, datatype: str | None = None) -> Value:
    """The same numbers in tensors of another numpy type."""
    to = exporter.builder.type_number(dtype)
    return exporter.builder.node(
        "Cast", [value], value.shape, name=name, dtype=dtype, datatype=datatype, to=to
    )
