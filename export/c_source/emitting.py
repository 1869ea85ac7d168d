"""Steps as C: the structure that each kernel takes, its constants, and the call.

source = Source("net")
emit(source, step, number)
source.arrays, source.structures                    # what the template writes
"""

import numpy as np

from mmx_tf.export.c_source import rounding, weights
from mmx_tf.export.c_source.lowering_kinds import refused
from mmx_tf.export.c_source.rounding import Stage
from mmx_tf.export.c_source.source import Source
from mmx_tf.export.reference.activations import exponentials


def emit(source: Source, step, number: int, *, weight_bits: tuple[int, ...]) -> None:
    """Adds the constants and the structure of a step.

    Raises:
      UnsupportedError: its numbers do not fit into the kernels' integers, or XNNPACK does not take it.
    """
    step.scratch_name = f"scratch {number}"
    _EMITTERS[step.kind](source, step, number, weight_bits)


def _window_fields(step, column_low, packed_bits):
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


def columns_of(step):
    """(lowest code, highest code, bits) of what a convolution multiplies."""
    read, zero = step.reads[0], step.operator.inputs[0].zero_point
    if read.table is None:
        low, bits = read.stored.low, max(read.stored.bits, 4)
        return low, low + 2**read.stored.bits - 1, bits
    values = read.table.astype(np.int64)
    low, high = min(int(values.min()), zero), max(int(values.max()), zero)
    return low, high, 4 if high - low < 16 else 8


def _weighted(source, step, number, weight_bits):
    operator, depthwise = step.operator, step.kind == "depthwise"
    raw = operator.inputs[1].constant
    matrix = raw.reshape(-1, raw.shape[3]).T if depthwise else raw.reshape(len(raw), -1)
    # Each input channel of a depthwise filter is one row here; the kernel wants [taps, channels].
    low, high, column_bits = columns_of(step)
    packed = weights.pack(matrix, bits=tuple(b for b in weight_bits if not depthwise or b > 2))
    sums = _sums(step, matrix)
    bias = _bias(operator, matrix, low)
    found, reals = rounding.weighted_multipliers(operator, step.codes, *sums)
    scale = found.scale if found else 1
    _check_accumulators(step, packed, scale, high - low, sums)
    if depthwise:
        # A row holds what the channels are multiplied with at one tap.
        packed = weights.Weights(packed.codes.T, packed.bits, packed.factor)
    words = weights.words(packed, column_bits=column_bits)
    fields = _window_fields(step, low, weight_bits)
    fields |= {"column_bits": column_bits, "weight_bits": packed.bits}
    table = step.reads[0].table
    fields["map"] = source.table(table - low) if table is not None else "NULL"
    fields["weights"] = source.array("uint32_t", f"weights_{number}", words.reshape(-1))
    fields["out"] = _output(source, step, number, found, reals, packed.factor * scale, bias * scale)
    step.scratch = (
        0
        if depthwise or _is_direct(fields)
        else 2 * weights.padded_length(matrix.shape[1], packed.bits) * column_bits // 8
    )
    other = "NULL" if step.addition is None else source.at(step.addition.read.stored)
    name = source.structure("mmx_window", number, fields)
    arguments = [f"&{name}", source.at(step.reads[0].stored), other, source.at(step.output)]
    if not depthwise:
        arguments.append(source.scratch(step))
    source.call(step, f"mmx_{step.kind}", arguments)


def _is_direct(fields):
    """Whether the kernel multiplies pixels where they lie (`pixels_are_columns` in mmx_kernels.c)."""
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
    stored = np.abs(packed.codes + (1 << packed.bits - 1)).sum(axis=1).max() * width * packed.factor * scale
    if 2 * stored + np.abs(np.stack(sums)).max() * scale >= 2 * rounding.INT32 or stored >= rounding.INT32:
        raise refused(step.operator, "has sums beyond 32 bits on the way")


def _output(source, step, number, found, reals, factor, bias, zero_point=None):
    """The members of an mmx_output, with the addition and the tables behind."""
    operator = step.operator
    fields = {"bits": step.output.bits, "factor": factor}
    if found is not None:
        fields |= {"shift": found.shift, "real": "NULL"}
        fields["multiplier"] = source.array("int32_t", f"multipliers_{number}", found.mantissas)
    else:
        fields |= {"shift": 0, "multiplier": "NULL"}
        fields["real"] = source.array("float", f"multipliers_{number}", reals)
    fields["bias"] = source.array("int32_t", f"bias_{number}", bias)
    base = step.output.low
    if step.addition is not None:
        base = step.codes[0] if step.table is None else int(step.table.min())
        fields["add"] = _addition(source, step, number, base)
    else:
        fields["add"] = "NULL"
    zero_point = operator.outputs[0].zero_point if zero_point is None else zero_point
    stage = Stage(zero_point, step.codes, step.table, base)
    fields |= stage.shifted_fields(fields["shift"])
    fields["table"] = source.table(stage.table) if stage.table is not None else "NULL"
    return fields


def _addition(source, step, number, own_base):
    added, other = step.addition, step.addition.read.stored
    fields = rounding.addition_fields(added.operator, added.own, own_base, other.low)
    stage = Stage(
        added.operator.outputs[0].zero_point, step.addition_codes, step.addition_table, step.output.low
    )
    fields |= stage.fields() | {"bits": other.bits}
    fields["table"] = source.table(stage.table) if stage.table is not None else "NULL"
    return "&" + source.structure("mmx_add", number, fields)


def _binary(source, step, number, weight_bits):
    operator, (left, right) = step.operator, step.reads
    shape = _three(step.output.shape)
    fields = dict(zip(("height", "width", "channels"), shape, strict=True))
    for side, read, tensor in zip(("left", "right"), step.reads, operator.inputs, strict=True):
        fields[f"{side}_strides"] = _strides(read, shape, operator)
        fields[f"{side}_bits"] = read.stored.bits
        fields[f"{side}_offset"] = read.stored.low - tensor.zero_point
    stage = Stage(operator.outputs[0].zero_point, step.codes, step.table, step.output.low)
    table = source.table(stage.table) if stage.table is not None else "NULL"
    if operator.kind == "MUL":
        ends = [
            (a - operator.inputs[0].zero_point) * (b - operator.inputs[1].zero_point)
            for a in (left.low, left.high)
            for b in (right.low, right.high)
        ]
        found, reals = rounding.product_multipliers(operator, step.codes, min(ends), max(ends))
        zero = np.zeros(1, np.int64)
        fields["out"] = _output(source, step, number, found, reals, found.scale if found else 1, zero)
        fields["add"] = "NULL"
    else:
        added = rounding.addition_fields(operator, 0, left.stored.low, right.stored.low)
        added |= stage.fields() | {"bits": right.stored.bits, "table": table}
        fields["add"] = "&" + source.structure("mmx_add", number, added)
        fields["out"] = {"bits": step.output.bits}
    name = source.structure("mmx_binary", number, fields)
    places = [source.at(read.stored) for read in step.reads]
    source.call(step, "mmx_binary_op", [f"&{name}", *places, source.at(step.output)])


def _three(shape):
    """Height, width and channels of any shape; what is in front of them counts as height."""
    shape = (1, 1, *shape)
    return (int(np.prod(shape[:-2])), *map(int, shape[-2:]))


def _strides(read, shape, operator):
    """Strides of an operand that may repeat along some axes."""
    own = (1, 1, *read.shape)
    own = (int(np.prod(own[:-2])), *map(int, own[-2:]))
    if any(size not in (1, whole) for size, whole in zip(own, shape, strict=True)):
        raise refused(operator, f"has operands of shapes that do not fit: {own} and {shape}")
    steps = (own[1] * own[2], own[2], 1)
    return [step if size > 1 else 0 for step, size in zip(steps, own, strict=True)]


def _mean(source, step, number, weight_bits):
    operator, read = step.operator, step.reads[0]
    height, width, channels = read.shape
    count, zero = height * width, operator.inputs[0].zero_point
    lowest, highest = count * (read.low - zero), count * (read.high - zero)
    found, reals = rounding.mean_multipliers(operator, step.codes, lowest, highest, count)
    base = count * (read.stored.low - (zero if found else 0))
    scale = found.scale if found else 1
    fields = {"in_height": height, "in_width": width, "channels": channels, "in_bits": read.stored.bits}
    # In float32 the zero point is part of what is rounded.
    added = operator.outputs[0].zero_point if found else 0
    fields["out"] = _output(source, step, number, found, reals, scale, np.array([base * scale]), added)
    name = source.structure("mmx_pool", number, fields)
    source.call(step, "mmx_mean", [f"&{name}", source.at(read.stored), source.at(step.output)])


def _pool(source, step, number, weight_bits):
    operator, read, window = step.operator, step.reads[0], step.details["window"]
    low, high = step.codes
    height, width, channels = read.shape
    fields = {"in_height": height, "in_width": width, "channels": channels, "in_bits": read.stored.bits}
    fields |= {"out_height": window.output[0], "out_width": window.output[1]}
    fields |= {"kernel_height": window.kernel[0], "kernel_width": window.kernel[1]}
    fields |= {"stride_y": window.strides[0], "stride_x": window.strides[1]}
    fields |= {"top": window.before[0], "left": window.before[1]}
    fields |= {"in_base": read.stored.low, "low": low, "high": high}
    final = np.arange(low, high + 1) if step.table is None else step.table.astype(np.int64)
    if step.kind == "max_pool":
        codes = np.clip(np.arange(read.stored.low, read.high + 1), low, high)
        final = final[codes - low]
    table = final - step.output.low
    plain = np.array_equal(table, np.arange(len(table)))
    fields["out"] = {"bits": step.output.bits, "table": "NULL" if plain else source.table(table)}
    name = source.structure("mmx_pool", number, fields)
    source.call(step, f"mmx_{step.kind}", [f"&{name}", source.at(read.stored), source.at(step.output)])


def _move(source, step, number, weight_bits):
    shape = _three(step.output.shape)
    strides = (shape[1] * shape[2], shape[2], 1)
    for part, (read, places) in enumerate(zip(step.reads, step.details["places"], strict=True)):
        places = places.reshape(shape)
        inside = np.argwhere(places != -2)
        start, end = inside.min(axis=0), inside.max(axis=0) + 1
        places = places[tuple(slice(a, b) for a, b in zip(start, end, strict=True))]
        axes = _axes(step.operator, places)
        fields = dict(zip(("height", "width", "channels"), places.shape, strict=True))
        for name, axis in zip(("rows", "columns", "depths"), axes, strict=True):
            fields[name] = source.array("int32_t", f"{name}_{number}_{part}", axis)
        fields |= {"out_start": int(np.dot(start, strides)), "out_strides": list(strides)}
        fields |= {"in_bits": read.stored.bits, "out_bits": step.output.bits}
        fields["fill"] = max(step.operator.outputs[0].zero_point - step.output.low, 0)
        shift = read.stored.low - step.output.low
        slots = np.arange(2**read.stored.bits) + shift
        fields["map"] = source.table(np.clip(slots, 0, 255)) if shift else "NULL"
        structure = source.structure("mmx_gather", f"{number}_{part}", fields)
        source.call(step, "mmx_move", [f"&{structure}", source.at(read.stored), source.at(step.output)])


def _axes(operator, places):
    """Offsets along each axis whose sum is the place; -1 for a row, column or channel of filling."""
    inside = np.argwhere(places >= 0)
    y, x, c = inside[0]
    first = places[y, x, c]
    axes = [places[:, x, c].copy(), places[y, :, c].copy(), places[y, x, :].copy()]
    for axis in axes[1:]:
        axis[axis >= 0] -= first
    grid = axes[0][:, None, None] + axes[1][None, :, None] + axes[2]
    outside = (axes[0] < 0)[:, None, None] | (axes[1] < 0)[None, :, None] | (axes[2] < 0)
    if not np.array_equal(np.where(outside, -1, grid), places):
        raise refused(operator, "moves codes in a way that the C source does not know")
    return axes


def _map(source, step, number, weight_bits):
    read, output = step.reads[0].stored, step.output
    table = step.table.astype(np.int64) - output.low
    plain = np.array_equal(table, np.arange(len(table)))
    arguments = [source.at(read), read.bits, source.at(output), output.bits]
    source.call(step, "mmx_map", [*arguments, "NULL" if plain else source.table(table), f"{output.count}u"])


def _from_codes(source, step, number, weight_bits):
    arguments = [source.at(step.reads[0].stored), source.at(step.output), f"{step.output.count}u"]
    source.call(step, "mmx_from_codes", arguments)


def _softmax(source, step, number, weight_bits):
    operator, read = step.operator, step.reads[0]
    target = operator.outputs[0]
    if target.scale != np.float32(1 / 256) or target.zero_point != -128 or step.output.bits != 8:
        raise refused(operator, "has another output grid than 1/256 and -128")
    table = source.array("float", f"exponentials_{number}", exponentials(operator))
    rows, classes = read.stored.count // read.shape[-1], read.shape[-1]
    arguments = [source.at(read.stored), read.stored.bits, source.at(step.output), f"{rows}u", f"{classes}u"]
    source.call(step, "mmx_softmax", [*arguments, table])


def _argmax(source, step, number, weight_bits):
    read = step.reads[0]
    rows, classes = read.stored.count // read.shape[-1], read.shape[-1]
    arguments = [source.at(read.stored), read.stored.bits, source.at(step.output), f"{rows}u", f"{classes}u"]
    source.call(step, "mmx_argmax", arguments)


_EMITTERS = {
    "argmax": _argmax,
    "average_pool": _pool,
    "binary": _binary,
    "conv": _weighted,
    "depthwise": _weighted,
    "from_codes": _from_codes,
    "map": _map,
    "max_pool": _pool,
    "mean": _mean,
    "move": _move,
    "softmax": _softmax,
}
