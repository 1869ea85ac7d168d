"""Additions, products, means and poolings as C."""

import numpy as np

from mmx_tf.export.c_source import rounding
from mmx_tf.export.c_source.emitting_outputs import output_fields
from mmx_tf.export.c_source.lowering_kinds import refused
from mmx_tf.export.c_source.rounding import Stage


def binary(source, step, number) -> None:
    """Adds an ADD, SUB or MUL of two stored tensors."""
    operator, (left, right) = step.operator, step.reads
    shape = three(step.output.shape)
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
        fields["out"] = output_fields(source, step, number, found, reals, found.scale if found else 1, zero)
        fields["add"] = "NULL"
    else:
        added = rounding.addition_fields(operator, 0, left.stored.low, right.stored.low)
        added |= stage.fields() | {"bits": right.stored.bits, "table": table}
        fields["add"] = "&" + source.structure("mmx_add", number, added)
        fields["out"] = {"bits": step.output.bits}
    name = source.structure("mmx_binary", number, fields)
    places = [source.at(read.stored) for read in step.reads]
    source.call(step, "mmx_binary_op", [f"&{name}", *places, source.at(step.output)])


def three(shape):
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


def mean(source, step, number) -> None:
    """Adds a MEAN over height and width."""
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
    fields["out"] = output_fields(
        source, step, number, found, reals[:1], scale, np.array([base * scale]), added
    )
    if found is None:
        fields["out"]["real"] = source.array("float", f"real_{number}", reals)
    name = source.structure("mmx_pool", number, fields)
    source.call(step, "mmx_mean", [f"&{name}", source.at(read.stored), source.at(step.output)])


def pool(source, step, number) -> None:
    """Adds a MAX_POOL_2D or AVERAGE_POOL_2D."""
    read, window = step.reads[0], step.details["window"]
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
