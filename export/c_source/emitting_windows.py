"""Convolutions, depthwise and dense layers as C: packed weights, bias, multipliers, and the call."""

import numpy as np

from mmx_tf.export.c_source import rounding, weights
from mmx_tf.export.c_source.emitting_outputs import output_fields
from mmx_tf.export.c_source.lowering_kinds import refused


def _window_fields(step, column_low):
    operator, read, window = step.operator, step.reads[0], step.details["window"]
    target = operator.outputs[0]
    matrix = operator.inputs[1].constant
    if window is None:
        channels = matrix.shape[1]
        pixels = read.stored.count // channels
        shape = {"in_height": 1, "in_width": pixels, "in_channels": channels}
        shape |= {"out_height": 1, "out_width": pixels, "out_channels": matrix.shape[0]}
        kernel, strides, dilation, before, groups = (1, 1), (1, 1), (1, 1), (0, 0), 1
    else:
        height, width, channels = read.shape
        shape = {"in_height": height, "in_width": width, "in_channels": channels}
        shape |= dict(zip(("out_height", "out_width", "out_channels"), target.shape[1:], strict=True))
        kernel, strides, dilation = window.kernel, window.strides, window.dilation
        before = tuple(a + b for a, b in zip(window.before, step.padding, strict=True))
        groups = channels // matrix.shape[3] if operator.kind == "CONV_2D" else 1
        shape["transposed"] = int(operator.kind == "TRANSPOSE_CONV")
    zero = operator.inputs[0].zero_point - column_low
    return {
        **shape,
        **dict(zip(("kernel_height", "kernel_width"), kernel, strict=True)),
        **dict(zip(("stride_y", "stride_x"), strides, strict=True)),
        **dict(zip(("dilation_y", "dilation_x"), dilation, strict=True)),
        **dict(zip(("top", "left"), before, strict=True)),
        "in_bits": read.stored.bits,
        # Only a window that reaches beyond the image asks for it, and then it is in range.
        "zero": min(max(zero, 0), 255),
        "groups": groups,
    }


def _columns_of(step):
    """(lowest code, highest code, bits) of what a convolution multiplies."""
    read, zero = step.reads[0], step.operator.inputs[0].zero_point
    if read.table is None:
        low, bits = read.stored.low, max(read.stored.bits, 4)
        return low, low + 2**read.stored.bits - 1, bits
    values = read.table.astype(np.int64)
    low, high = min(int(values.min()), zero), max(int(values.max()), zero)
    return low, high, 4 if high - low < 16 else 8


def scratch_bytes(step, weight_bits) -> int:
    """What a convolution needs for its columns; 0 for other steps."""
    if step.kind != "conv":
        return 0
    *_, column_bits = _columns_of(step)
    packed = weights.pack(_matrix(step), bits=weight_bits)
    fields = _window_fields(step, 0) | {"column_bits": column_bits, "weight_bits": packed.bits}
    fields["map"] = "NULL" if step.reads[0].table is None else "a table"
    if _is_direct(fields):
        return 0
    return 2 * weights.padded_length(packed.codes.shape[1], packed.bits) * column_bits // 8


def _matrix(step):
    """int8 [filters, taps and channels]; each input channel of a depthwise filter is one row."""
    raw = step.operator.inputs[1].constant
    return raw.reshape(-1, raw.shape[3]).T if step.kind == "depthwise" else raw.reshape(len(raw), -1)


def weighted(source, step, number, weight_bits) -> None:
    """Adds a convolution, a depthwise or a dense layer; see `emitting.emit`."""
    operator, depthwise = step.operator, step.kind == "depthwise"
    matrix = _matrix(step)
    low, high, column_bits = _columns_of(step)
    packed = weights.pack(matrix, bits=tuple(b for b in weight_bits if not depthwise or b > 2))
    sums = _sums(step, matrix)
    bias = _bias(operator, matrix, low)
    found, reals = rounding.weighted_multipliers(operator, step.codes, *sums)
    scale = found.scale if found else 1
    _check_accumulators(step, packed, scale, high - low, sums)
    fields = _window_fields(step, low)
    if depthwise:
        # The kernel wants [taps, channels].
        words = weights.by_channel(weights.Weights(packed.codes.T, packed.bits, packed.factor))
    else:
        words = weights.words(packed, column_bits=column_bits, groups=fields["groups"])
    fields |= {"column_bits": column_bits, "weight_bits": packed.bits}
    table = step.reads[0].table
    fields["map"] = source.table(table - low) if table is not None else "NULL"
    fields["weights"] = source.array("uint32_t", f"weights_{number}", words.reshape(-1))
    fields["out"] = output_fields(source, step, number, found, reals, packed.factor * scale, bias * scale)
    other = "NULL" if step.addition is None else source.at(step.addition.read.stored)
    name = source.structure("mmx_window", number, fields)
    arguments = [f"&{name}", source.at(step.reads[0].stored), other, source.at(step.output)]
    if not depthwise:
        arguments.append(source.scratch(step))
    source.call(step, f"mmx_{step.kind}", arguments)


def _is_direct(fields):
    """Whether the kernel multiplies pixels where they lie (`pixels_are_columns` in convolution.c)."""
    window = ("kernel_height", "kernel_width", "groups")
    return (
        all(fields[name] == 1 for name in window)
        and fields["top"] == fields["left"] == 0
        and fields["map"] == "NULL"
        and fields["in_bits"] == fields["column_bits"]
        and fields["in_channels"] % weights.padded_length(1, fields["weight_bits"]) == 0
    )


def _sums(step, matrix):
    """(lowest, highest) int64 [filters] of the accumulators, by the codes that arrive; padding adds 0."""
    operator, read = step.operator, step.reads[0]
    zero = operator.inputs[0].zero_point
    ends = [min(read.low - zero, 0), max(read.high - zero, 0)]
    products = np.stack([matrix.astype(np.int64) * end for end in ends])
    bias = _stored_bias(operator, len(matrix))
    lowest, highest = products.min(axis=0).sum(axis=1) + bias, products.max(axis=0).sum(axis=1) + bias
    if lowest.min() < -rounding.INT32 or highest.max() >= rounding.INT32:
        raise refused(operator, "can have sums beyond 32 bits")
    return lowest, highest


def _stored_bias(operator, filters):
    bias = operator.inputs[2] if len(operator.inputs) > 2 else None
    return np.zeros(filters, np.int64) if bias is None else bias.constant.astype(np.int64)


def _bias(operator, matrix, low):
    """Bias with what the difference of the slots' base and the zero point adds."""
    shifted = (low - operator.inputs[0].zero_point) * matrix.astype(np.int64).sum(axis=1)
    return _stored_bias(operator, len(matrix)) + shifted


def _check_accumulators(step, packed, scale, width, sums):
    """Every intermediate sum of the kernel is an int32."""
    zero = 0 if step.kind == "depthwise" else weights.zero_of(packed.bits)
    stored = np.abs(packed.codes + zero).sum(axis=1).max() * width * packed.factor * scale
    if 2 * stored + np.abs(np.stack(sums)).max() * scale >= 2 * rounding.INT32 or stored >= rounding.INT32:
        raise refused(step.operator, "has sums beyond 32 bits on the way")
