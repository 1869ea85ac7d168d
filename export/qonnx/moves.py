"""Operators that move codes: paddings, joins, slices, shapes, orders of axes; and resizing."""

import numpy as np

from mmx_tf.export.qonnx.ends import cast, rounded
from mmx_tf.export.qonnx.errors import refused
from mmx_tf.export.qonnx.graph_builder import Value
from mmx_tf.export.qonnx.stored import layout, onnx_axis, onnx_shape, to_onnx
from mmx_tf.export.reference import moving, resizing
from mmx_tf.export.reference.resizing import XNNPACK_BITS
from mmx_tf.export.reference.windows import VALID

_INT64 = np.int64
_PADS = ("CONV_2D", "DEPTHWISE_CONV_2D")


def pad(exporter, operator):
    """PAD with real 0; None where it goes into the convolutions behind it."""
    source, target = operator.inputs[0], operator.outputs[0]
    stored = exporter.stored[target.name]
    amounts = operator.inputs[1].constant.tolist()
    amounts = [amounts[axis] for axis in layout(len(amounts))]
    if (
        stored.zero == 0
        and exporter.stored[source.name].offset == stored.offset
        and _folds(exporter, operator)
    ):
        exporter.folded[target.name] = (source.name, amounts[2:])
        return None
    value = exporter.at_offset(source.name, stored.offset)
    value = padded(exporter, value, amounts, stored.zero, f"{target.name}/padded")
    return exporter.quant(value, stored, target.name)


def _folds(exporter, operator):
    target = operator.outputs[0]
    readers = exporter.readers.get(target.name, [])
    amounts = operator.inputs[1].constant
    return (
        len(target.shape) == 4
        and not amounts[[0, 3]].any()
        and readers
        and all(reader.kind in _PADS and reader.options.padding == VALID for reader in readers)
        and target not in exporter.graph.outputs
    )


def padded(exporter, value: Value, amounts, number: int, name: str) -> Value:
    """A value with a number around it; amounts: (before, behind) of each axis of the graph's tensor."""
    before, behind = zip(*amounts, strict=True)
    constants = (
        exporter.builder.constant(f"{name}/amounts", [*before, *behind], dtype=_INT64),
        exporter.builder.constant(f"{name}/by", number),
    )
    shape = [size + sum(pair) for size, pair in zip(value.shape, amounts, strict=True)]
    return exporter.builder.node(
        "Pad", [value, *constants], shape, name=name, datatype=value.datatype, mode="constant"
    )


def concatenate(exporter, operator):
    """CONCATENATION of codes of one grid."""
    target = operator.outputs[0]
    stored = exporter.stored[target.name]
    values = [
        exporter.at_offset(tensor.name, stored.offset)
        if tensor.constant is None
        else _constant(exporter, tensor, stored)
        for tensor in operator.inputs
    ]
    axis = onnx_axis(operator.options.axis, len(target.shape))
    value = exporter.builder.node(
        "Concat", values, exporter.shape(target), name=f"{target.name}/joined", axis=axis
    )
    return exporter.quant(value, stored, target.name)


def _constant(exporter, tensor, stored):
    if exporter.batch != 1:
        raise ValueError("a constant that is joined with codes is of one image")
    codes = tensor.constant.astype(_INT64) - stored.offset
    return exporter.builder.constant(tensor.name, to_onnx(codes), datatype=stored.datatype)


def strided_slice(exporter, operator):
    """STRIDED_SLICE."""
    source, target = operator.inputs[0], operator.outputs[0]
    rank = len(source.shape)
    # Which places of each axis remain.
    places = [np.arange(size) for size in source.shape]
    kept = []
    for axis, own in enumerate(places):
        shape = tuple(size if i == axis else 1 for i, size in enumerate(source.shape))
        whole = np.broadcast_to(own.reshape(shape), source.shape)
        inputs = [whole, *(tensor.constant for tensor in operator.inputs[1:])]
        sliced = moving.strided_slice(operator, inputs, "xnnpack")
        kept.append(np.unique(sliced))
    value = exporter.at_offset(source.name, exporter.stored[target.name].offset)
    axes = [axis for axis in range(1, rank) if len(kept[axis]) != source.shape[axis]]
    if axes:
        lists = {
            "starts": [kept[axis][0] for axis in axes],
            "ends": [kept[axis][-1] + 1 for axis in axes],
            "axes": [onnx_axis(axis, rank) for axis in axes],
            "steps": [kept[axis][1] - kept[axis][0] if len(kept[axis]) > 1 else 1 for axis in axes],
        }
        constants = [
            exporter.builder.constant(f"{target.name}/{name}", numbers, dtype=_INT64)
            for name, numbers in lists.items()
        ]
        value = exporter.builder.node(
            "Slice",
            [value, *constants],
            exporter.shape(target),
            name=f"{target.name}/slice",
            datatype=value.datatype,
        )
    return exporter.quant(value, exporter.stored[target.name], target.name)


def reshape(exporter, operator):
    """RESHAPE, which takes the file's order of numbers."""
    source, target = operator.inputs[0], operator.outputs[0]
    stored = exporter.stored[target.name]
    value = exporter.at_offset(source.name, stored.offset)
    value = with_shape(exporter, value, source.shape, target.shape, f"{target.name}/reshaped")
    if value.datatype == stored.datatype:
        return exporter.builder.node(
            "Identity", [value], value.shape, name=target.name, datatype=stored.datatype
        )
    return exporter.quant(value, stored, target.name)


def with_shape(exporter, value: Value, source, target, name: str) -> Value:
    """The numbers of a tensor of the file's shape `source` in its shape `target`, in the file's order."""
    source, target = ((exporter.batch, *shape[1:]) for shape in (source, target))
    # A pixel's channels are in one order in both layouts.
    if len(source) == 4 and source[1:3] != (1, 1):
        value = _permuted(exporter, value, [0, 2, 3, 1], f"{name}/channels_last")
    direct = len(target) != 4 or target[1:3] == (1, 1)
    shape = onnx_shape(target) if direct else target
    constant = exporter.builder.constant(f"{name}/shape", shape, dtype=_INT64)
    value = exporter.builder.node("Reshape", [value, constant], shape, name=name, datatype=value.datatype)
    return value if direct else _permuted(exporter, value, [0, 3, 1, 2], f"{name}/channels_first")


def _permuted(exporter, value, axes, name):
    shape = [value.shape[axis] for axis in axes]
    return exporter.builder.node(
        "Transpose", [value], shape, name=name, datatype=value.datatype, perm=[int(axis) for axis in axes]
    )


def transpose(exporter, operator):
    """TRANSPOSE."""
    source, target = operator.inputs[0], operator.outputs[0]
    order = [int(axis) for axis in operator.inputs[1].constant]
    rank = len(order)
    if order[0] != 0:
        raise refused(operator, "moves the axis of images")
    value = exporter.at_offset(source.name, exporter.stored[target.name].offset)
    axes = [onnx_axis(order[axis], rank) for axis in layout(rank)]
    value = _permuted(exporter, value, axes, f"{target.name}/moved")
    return exporter.quant(value, exporter.stored[target.name], target.name)


def resize_nearest(exporter, operator):
    """RESIZE_NEAREST_NEIGHBOR: Resize by whole factors, else Gather."""
    source, target = operator.inputs[0], operator.outputs[0]
    stored = exporter.stored[target.name]
    value = exporter.at_offset(source.name, stored.offset)
    rows, columns = source.shape[1:3]
    places = np.arange(rows * columns).reshape(1, rows, columns, 1)
    places = resizing.resize_nearest(operator, [places, operator.inputs[1].constant], "xnnpack")[0, :, :, 0]
    indices = [places[:, 0] // columns, places[0] % columns]
    factors = [len(own) // size for own, size in zip(indices, (rows, columns), strict=True)]
    repeated = all(
        np.array_equal(own, np.repeat(np.arange(size), factor))
        for own, size, factor in zip(indices, (rows, columns), factors, strict=True)
    )
    builder, name = exporter.builder, f"{target.name}/resized"
    if repeated:
        region = builder.constant(f"{name}/region", [])
        scales = builder.constant(f"{name}/scales", [1, 1, *factors])
        value = builder.node(
            "Resize",
            [value, region, scales],
            exporter.shape(target),
            name=name,
            datatype=value.datatype,
            mode="nearest",
            nearest_mode="floor",
            coordinate_transformation_mode="asymmetric",
        )
    else:
        for axis, own in enumerate(indices, start=2):
            value = _taken(exporter, value, own, axis, f"{name}/{axis}")
    return exporter.quant(value, stored, target.name)


def _taken(exporter, value, indices, axis, name):
    constant = exporter.builder.constant(f"{name}/indices", indices, dtype=_INT64)
    shape = [len(indices) if i == axis else size for i, size in enumerate(value.shape)]
    return exporter.builder.node(
        "Gather",
        [value, constant],
        shape,
        name=name,
        dtype=value.dtype,
        datatype=value.datatype,
        axis=axis,
    )


def resize_bilinear(exporter, operator):
    """RESIZE_BILINEAR: two pixels of each axis in whole parts of 2^11, halves up."""
    source, target = operator.inputs[0], operator.outputs[0]
    stored = exporter.stored[target.name]
    builder, name = exporter.builder, target.name
    value = exporter.at_offset(source.name, stored.offset)
    value = cast(exporter, value, np.float64, f"{name}/double", datatype=value.datatype)
    whole = 1 << XNNPACK_BITS
    for axis, size in ((3, int(operator.inputs[1].constant[1])), (2, int(operator.inputs[1].constant[0]))):
        first, second, weights = resizing.xnnpack_places(value.shape[axis], size, operator.options)
        shape = [-1 if i == axis else 1 for i in range(4)]
        terms = []
        for indices, parts, which in ((first, whole - weights, "first"), (second, weights, "second")):
            at = f"{name}/{which}_{axis}"
            taken = _taken(exporter, value, indices, axis, at)
            by = builder.constant(f"{at}_parts", parts.reshape(shape) / whole, dtype=np.float64)
            terms.append(builder.node("Mul", [taken, by], taken.shape, name=f"{at}_part", dtype=np.float64))
        value = builder.node("Add", terms, terms[0].shape, name=f"{name}/mixed_{axis}", dtype=np.float64)
    half = builder.constant(f"{name}/half", 0.5, dtype=np.float64)
    value = builder.node("Add", [value, half], value.shape, name=f"{name}/above", dtype=np.float64)
    return rounded(exporter, value, target, rounding="FLOOR")
