"""ADD, SUB, MUL, MEAN and the poolings."""

import numpy as np

from mmx_tf.export.qonnx.ends import cast, multi_threshold, rounded, thresholded
from mmx_tf.export.qonnx.errors import refused
from mmx_tf.export.qonnx.exporter import FLOAT32_EXACT
from mmx_tf.export.qonnx.stored import signed_type
from mmx_tf.export.reference import kernels, rounding
from mmx_tf.export.reference.binary import XNNPACK_ADD_BITS
from mmx_tf.export.reference.bounds import activation_bounds, saturate
from mmx_tf.export.reference.windows import Window


def add(exporter, operator):
    """ADD: floor of one binary fraction of both codes, which float64 holds."""
    return _sum(exporter, operator, 1)


def subtract(exporter, operator):
    """SUB, likewise."""
    return _sum(exporter, operator, -1)


def _sum(exporter, operator, sign):
    (first, second), target = operator.inputs, operator.outputs[0]
    ratios = np.array([first.scale / target.scale, second.scale / target.scale], np.float32)
    shift = XNNPACK_ADD_BITS - (int(np.frexp(ratios.max())[1]) - 1)
    one, other = (int(value) for value in np.rint(np.ldexp(ratios.astype(np.float64), shift)))
    builder, name, zero = exporter.builder, target.name, exporter.stored[target.name].zero
    terms, constant, ends = [], 1 << (shift - 1), []
    for tensor, factor, which in ((first, one, "first"), (second, sign * other, "second")):
        value, offset, span = _operand(exporter, operator, tensor)
        constant -= factor * offset
        value = cast(exporter, value, np.float64, f"{name}/{which}_double", datatype=value.datatype)
        # In thresholds the sum is an integer, elsewhere a number in steps of the codes.
        by = factor if exporter.form == "thresholds" else factor / 2**shift
        by = builder.constant(f"{name}/{which}_factor", by, dtype=np.float64)
        terms.append(builder.node("Mul", [value, by], value.shape, name=f"{name}/{which}", dtype=np.float64))
        ends.append(sorted(factor * end for end in span))
    value = builder.node("Add", terms, exporter.shape(target), name=f"{name}/sum", dtype=np.float64)
    if exporter.form == "thresholds":
        low, high = (np.array([sum(pair)]) for pair in zip(*ends, strict=True))

        def codes(sums):
            return saturate(
                (sums + constant >> shift) + target.zero_point, activation_bounds(operator, "xnnpack")
            )

        return thresholded(exporter, value, target, codes, (low, high))
    by = builder.constant(f"{name}/offset", constant / 2**shift + zero, dtype=np.float64)
    value = builder.node("Add", [value, by], value.shape, name=f"{name}/on_zero_point", dtype=np.float64)
    return rounded(exporter, value, target, rounding="FLOOR")


def multiply(exporter, operator):
    """MUL: the product times a float32 multiplier."""
    (first, second), target = operator.inputs, operator.outputs[0]
    builder, name, factors, ends = exporter.builder, target.name, [], []
    for tensor, which in ((first, "first"), (second, "second")):
        value, offset, (low, high) = _operand(exporter, operator, tensor)
        if offset:
            by = builder.constant(f"{name}/{which}_by", -offset)
            value = builder.node(
                "Add",
                [value, by],
                value.shape,
                name=f"{name}/{which}",
                datatype=signed_type(low - offset, high - offset),
            )
        factors.append(value)
        ends.append((low - offset, high - offset))
    value = builder.node("Mul", factors, exporter.shape(target), name=f"{name}/product", datatype="INT32")
    multiplier = np.float32(first.scale * second.scale / target.scale)
    if exporter.form == "thresholds":
        products = [one * other for one in ends[0] for other in ends[1]]

        def codes(values):
            values = rounding.scale_half_even(values, multiplier) + target.zero_point
            return saturate(values, activation_bounds(operator, "xnnpack"))

        return thresholded(
            exporter, value, target, codes, (np.array([min(products)]), np.array([max(products)]))
        )
    by = builder.constant(f"{name}/multiplier", multiplier)
    value = builder.node("Mul", [value, by], value.shape, name=f"{name}/scaled")
    return rounded(exporter, value, target, shift=exporter.stored[name].zero)


def _operand(exporter, operator, tensor):
    rank = len(operator.outputs[0].shape)
    if tensor.constant is None and len(tensor.shape) != rank:
        raise refused(operator, f"has an input of {len(tensor.shape)} and an output of {rank} dimensions")
    return exporter.shifted(tensor, rank)


def mean(exporter, operator):
    """MEAN over height and width: the sum of codes, scaled in float32."""
    source, target = operator.inputs[0], operator.outputs[0]
    stored = exporter.stored[source.name]
    count = source.shape[1] * source.shape[2]
    if count * 256 >= FLOAT32_EXACT:
        raise refused(operator, f"has sums of {count:,} codes, which float32 does not hold")
    builder, name, shape = exporter.builder, target.name, exporter.shape(target)
    value, keep = exporter.values[source.name], bool(operator.options.keepDims)
    if exporter.form == "thresholds":

        def codes(sums):
            # As the sum of a pixel and of zeros: the kernel sums codes of any size.
            pixels = np.zeros((sums.size, source.shape[1], source.shape[2], 1), np.int64)
            pixels[:, 0, 0, 0] = sums.reshape(-1) + count * stored.offset
            return kernels.compute(operator, [pixels, operator.inputs[1].constant], "xnnpack")[0].reshape(
                sums.shape
            )

        pooled = builder.node("GlobalAveragePool", [value], (*value.shape[:2], 1, 1), name=f"{name}/average")
        pooled = (
            pooled
            if keep
            else builder.node(
                "Reshape",
                [pooled, builder.constant(f"{name}/shape", shape, dtype=np.int64)],
                shape,
                name=f"{name}/flat",
            )
        )
        ends = tuple(np.array([count * end]) for end in stored.span)
        return thresholded(exporter, pooled, target, codes, ends, scale=count)
    value = builder.node(
        "ReduceSum", [value], shape, name=f"{name}/sum", datatype="INT32", axes=[2, 3], keepdims=int(keep)
    )
    if stored.offset:
        by = builder.constant(f"{name}/offsets", count * stored.offset)
        value = builder.node("Add", [value, by], shape, name=f"{name}/codes_sum", datatype="INT32")
    scale = source.scale / target.scale * (np.float32(1) / np.float32(count))
    offset = np.float32(target.zero_point) - np.float32(count * source.zero_point) * scale
    by = builder.constant(f"{name}/multiplier", scale)
    value = builder.node("Mul", [value, by], shape, name=f"{name}/scaled")
    by = builder.constant(f"{name}/real_offset", offset)
    value = builder.node("Add", [value, by], shape, name=f"{name}/real")
    return rounded(exporter, value, target, shift=-exporter.stored[name].offset)


def max_pool(exporter, operator):
    """MAX_POOL_2D."""
    value = _pooled(exporter, operator, "MaxPool")
    return _clipped(exporter, operator, value)


def average_pool(exporter, operator):
    """AVERAGE_POOL_2D: the mean without the padding, halves away from zero, as a MultiThreshold.

    A mean of up to `taps` codes differs from a half by 1 / (2 taps) at least, so that thresholds half as far
    from it are right though the mean is rounded.
    """
    source, target = operator.inputs[0], operator.outputs[0]
    taps = operator.options.filterHeight * operator.options.filterWidth
    if taps > 2**12:
        raise refused(operator, f"has a window of {taps:,} places; up to {2**12:,} are exact in float32")
    value = _pooled(exporter, operator, "AveragePool", count_include_pad=0)
    stored, (lowest, highest) = exporter.stored[target.name], activation_bounds(operator, "builtin")
    low, high = stored.type_range
    codes = np.arange(low + 1, high + 1) + stored.offset
    # A half is rounded away from zero: 0.5 is 1, and -0.5 is -1.
    reached = codes - 0.5 + np.where(codes > 0, -1, 1) / (4 * taps)
    reached = np.where(codes > highest, 2.0**20, np.where(codes <= lowest, -(2.0**20), reached))
    return multi_threshold(exporter, value, target, (reached - exporter.stored[source.name].offset)[None])


def _pooled(exporter, operator, kind, **attributes):
    source, target = operator.inputs[0], operator.outputs[0]
    options = operator.options
    window = Window.from_options(source.shape[1:3], (options.filterHeight, options.filterWidth), options)
    value = exporter.values[source.name]
    return exporter.builder.node(
        kind,
        [value],
        exporter.shape(target),
        name=f"{target.name}/pooled",
        datatype=value.datatype if kind == "MaxPool" else None,
        kernel_shape=list(window.kernel),
        strides=list(window.strides),
        pads=[*window.before, *window.behind(source.shape[1:3])],
        **attributes,
    )


def _clipped(exporter, operator, value):
    source, target = operator.inputs[0], operator.outputs[0]
    shift = exporter.stored[source.name].offset - exporter.stored[target.name].offset
    return rounded(exporter, value, target, shift=shift)
