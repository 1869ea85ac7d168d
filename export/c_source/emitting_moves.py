"""Copies, tables and the ends of a network as C."""

import numpy as np

from mmx_tf.export.c_source.emitting_elements import three
from mmx_tf.export.c_source.lowering_kinds import refused
from mmx_tf.export.reference.activations import exponentials
from mmx_tf.export.reference.resizing import xnnpack_places


def move(source, step, number) -> None:
    """Adds copies from every input to its places of the output."""
    shape = three(step.output.shape)
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


def map_codes(source, step, number) -> None:
    """Adds a table that is looked up for every code."""
    read, output = step.reads[0].stored, step.output
    table = step.table.astype(np.int64) - output.low
    plain = np.array_equal(table, np.arange(len(table)))
    arguments = [source.at(read), read.bits, source.at(output), output.bits]
    source.call(step, "mmx_map", [*arguments, "NULL" if plain else source.table(table), f"{output.count}u"])


def from_codes(source, step, number) -> None:
    """Adds the way from an int8 input to slots."""
    arguments = [source.at(step.reads[0].stored), source.at(step.output), f"{step.output.count}u"]
    source.call(step, "mmx_from_codes", arguments)


def softmax(source, step, number) -> None:
    """Adds a SOFTMAX over the last axis; UnsupportedError for another grid than TFLite's."""
    operator, read = step.operator, step.reads[0]
    target = operator.outputs[0]
    if target.scale != np.float32(1 / 256) or target.zero_point != -128 or step.output.bits != 8:
        raise refused(operator, "has another output grid than 1/256 and -128")
    table = source.array("float", f"exponentials_{number}", exponentials(operator))
    rows, classes = read.stored.count // read.shape[-1], read.shape[-1]
    arguments = [source.at(read.stored), read.stored.bits, source.at(step.output), f"{rows}u", f"{classes}u"]
    source.call(step, "mmx_softmax", [*arguments, table])


def argmax(source, step, number) -> None:
    """Adds an ARG_MAX over the last axis."""
    read = step.reads[0]
    rows, classes = read.stored.count // read.shape[-1], read.shape[-1]
    arguments = [source.at(read.stored), read.stored.bits, source.at(step.output), f"{rows}u", f"{classes}u"]
    source.call(step, "mmx_argmax", arguments)


def bilinear(source, step, number) -> None:
    """Adds a RESIZE_BILINEAR, by the pixels and weights that XNNPACK has for every place."""
    read, shape = step.reads[0], step.output.shape
    fields = {"in_width": read.shape[1], "channels": read.shape[2]}
    fields |= {"out_height": shape[0], "out_width": shape[1]}
    for axis, name in enumerate(("rows", "columns")):
        places = xnnpack_places(read.shape[axis], shape[axis], step.operator.options)
        for part, values in zip(("first", "second", "weights"), places, strict=True):
            fields[f"{name}_{part}"] = source.array("int32_t", f"{name}_{part}_{number}", values)
    fields |= {"in_bits": read.stored.bits, "out_bits": step.output.bits}
    fields["shift"] = read.stored.low - step.output.low
    name = source.structure("mmx_resize", number, fields)
    source.call(step, "mmx_bilinear", [f"&{name}", source.at(read.stored), source.at(step.output)])
