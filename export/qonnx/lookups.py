"""Functions of single codes, and what is computed along the classes: ARG_MAX and SOFTMAX.

A lower clip, a rescale, a gate or a curve is a table of at most 256 codes. One that never falls is a
MultiThreshold, which FPGA flows have; any other is a Gather.
"""

import numpy as np

from mmx_tf.export.c_source.pointwise import CODES
from mmx_tf.export.qonnx.ends import cast, multi_threshold
from mmx_tf.export.qonnx.errors import refused
from mmx_tf.export.qonnx.stored import onnx_axis
from mmx_tf.export.reference import kernels
from mmx_tf.export.reference.activations import exponentials


def source_of(exporter, operator):
    """The tensor of whose codes a pointwise operator's output is a function; None if it is another kind."""
    target = operator.outputs[0]
    if target.name not in exporter.tables:
        return None
    codes = [tensor for tensor in operator.inputs if tensor.constant is None]
    if any(tensor.type not in CODES for tensor in codes):
        # Of float operators the last one makes the codes.
        return exporter.tensors[exporter.tables[target.name].root]
    return codes[0] if len(codes) == 1 else None


def table(exporter, operator, source):
    """The output of a pointwise operator, by the codes of `source`."""
    target = operator.outputs[0]
    known = exporter.tables[target.name]
    values = known.values if source.name == known.root else _computed(operator, source)
    read, stored = exporter.stored[source.name], exporter.stored[target.name]
    first = int(CODES[source.type].min())
    values = values[read.low - first : read.high - first + 1].astype(np.int64) - stored.offset
    own, value = np.arange(read.span[0], read.span[1] + 1), exporter.values[source.name]
    if np.array_equal(own, values) and read.datatype == stored.datatype:
        return exporter.builder.node(
            "Identity", [value], value.shape, name=target.name, datatype=stored.datatype
        )
    if (np.diff(values) >= 0).all():
        low, high = stored.type_range
        # The first integer that reaches each one; one too many where none does.
        reached = own[0] + np.searchsorted(values, np.arange(low + 1, high + 1))
        return multi_threshold(exporter, value, target, reached[None].astype(np.float32))
    builder, name = exporter.builder, target.name
    by = builder.constant(f"{name}/first", -own[0])
    places = builder.node("Add", [value, by], value.shape, name=f"{name}/places")
    places = cast(exporter, places, np.int64, f"{name}/indices")
    constant = builder.constant(f"{name}/table", values, datatype=stored.datatype)
    looked = builder.node(
        "Gather", [constant, places], value.shape, name=f"{name}/looked_up", datatype=stored.datatype, axis=0
    )
    return exporter.quant(looked, stored, name)


def _computed(operator, source):
    inputs = [
        CODES[source.type] if tensor is source else tensor.constant.reshape(-1) for tensor in operator.inputs
    ]
    return kernels.compute(operator, inputs, "xnnpack")[0]


def arg_max(exporter, operator):
    """ARG_MAX along the last axis, the first of equal codes."""
    source, target = operator.inputs[0], operator.outputs[0]
    rank = len(source.shape)
    axis = int(operator.inputs[1].constant.reshape(-1)[0]) % rank
    if axis != rank - 1 or rank < 2:
        raise refused(operator, "is not along the last axis")
    shape = (exporter.batch, *target.shape[1:])
    places = exporter.builder.node(
        "ArgMax",
        [exporter.values[source.name]],
        shape,
        name=f"{target.name}/index",
        dtype=np.int64,
        axis=onnx_axis(axis, rank),
        keepdims=0,
    )
    return cast(exporter, places, np.int32, target.name)


def softmax(exporter, operator):
    """SOFTMAX along the last axis: TFLite's table of float32 exponentials, summed from left to right."""
    source, target = operator.inputs[0], operator.outputs[0]
    stored = exporter.stored[target.name]
    if stored.offset != target.zero_point:
        raise refused(operator, "has an output grid other than 1/256 with zero point -128")
    builder, name, value = exporter.builder, target.name, exporter.values[source.name]
    axis = onnx_axis(-1, len(source.shape))
    single = [1 if i == axis else size for i, size in enumerate(value.shape)]
    largest = builder.node(
        "ReduceMax", [value], single, name=f"{name}/largest", datatype=value.datatype, axes=[axis], keepdims=1
    )
    below = builder.node("Sub", [largest, value], value.shape, name=f"{name}/below")
    below = cast(exporter, below, np.int64, f"{name}/places")
    table = builder.constant(f"{name}/exponentials", exponentials(operator))
    shares = builder.node("Gather", [table, below], value.shape, name=f"{name}/shares", axis=0)
    along = builder.constant(f"{name}/axis", axis, dtype=np.int64)
    sums = builder.node("CumSum", [shares, along], value.shape, name=f"{name}/sums")
    last = value.shape[axis] - 1
    ends = [
        builder.constant(f"{name}/{what}", [number], dtype=np.int64)
        for what, number in (("from", last), ("to", last + 1), ("axes", axis))
    ]
    total = builder.node("Slice", [sums, *ends], single, name=f"{name}/total")
    scale = builder.constant(f"{name}/output_scale", target.scale)
    total = builder.node("Mul", [total, scale], single, name=f"{name}/steps")
    one = builder.constant(f"{name}/one", 1)
    inverse = builder.node("Div", [one, total], single, name=f"{name}/inverse")
    steps = builder.node("Mul", [shares, inverse], value.shape, name=f"{name}/real")
    # Half up in float64, which adds a half without rounding.
    steps = cast(exporter, steps, np.float64, f"{name}/double")
    return exporter.quant(steps, stored, name, rounding="HALF_UP")
