"""The files of a C program: what `export.c_source` writes, as texts.

made = c_source(data, name="net")
made.files["net.c"], made.ram_bytes, made.plan
"""

import functools
import hashlib
import importlib.resources
import numbers
import re
from dataclasses import dataclass

import numpy as np

from mmx_tf.export.c_source import storing
from mmx_tf.export.c_source.emitting import emit
from mmx_tf.export.c_source.errors import BudgetError, UnsupportedError
from mmx_tf.export.c_source.lowering import Lowering
from mmx_tf.export.c_source.memory_plan import Plan, table
from mmx_tf.export.c_source.planning import plan_of, scratch_name
from mmx_tf.export.c_source.prefix import RUNTIME, check_prefix
from mmx_tf.export.c_source.program import Program, Step, Stored
from mmx_tf.export.c_source.source import Source, ascii_text, quoted
from mmx_tf.export.c_source.unpacked_graph import unpacked_graph
from mmx_tf.export.reading import metadata, tflite_file
from mmx_tf.version import VERSION

WEIGHT_BITS = {"packed": (2, 4, 8), "int8": (8,)}
WIDTHS = tuple(WEIGHT_BITS)
_KERNEL_PARTS = ("slots.h", "outputs.h", "convolution.c", "depthwise.c", "elements.c", "moves.c")
_C_TYPES = {"INT8": "int8_t", "UINT8": "uint8_t", "INT32": "int32_t"}


@dataclass(frozen=True, eq=False)
class CSource:
    """A file as a C program.

    Attributes:
      files: text by name: the network's .c and .h, and the kernels.
      ram_bytes: of the arena for activations and scratch memory, without the caller's image and outputs.
      flash_bytes: of the constants.
      plan: where activations lie.
      program: the steps.
      name: the prefix of names in C.
    """

    files: dict[str, str]
    ram_bytes: int
    flash_bytes: int
    plan: Plan
    program: Program
    name: str


def c_source(
    data: bytes,
    *,
    name: str = "net",
    activations: str = "packed",
    weights: str = "packed",
    max_ram: int | None = None,
    fused: bool = True,
    source: str = "a .tflite",
) -> CSource:
    """The .tflite in `data` as C99 that computes the same codes as the file under XNNPACK.

    Args:
      data: the contents of a .tflite that `convert` has made, or of another int8 one with its operators.
      name: prefix of everything that the program defines: `net_run`, `NET_RAM_BYTES`, net.c.
      activations: "packed" stores them in 2, 4 or 8 bits, as their codes allow; "int8" always in 8.
      weights: the same of weights.
      max_ram: bytes that the activations may take; None: any.
      fused: leave out what need not be stored. False stores every tensor of the file, for comparisons.
      source: what the files say that they were made from.

    Raises:
      UnsupportedError: the file has operators, types or numbers that the kernels do not have.
      BudgetError: the activations take more than `max_ram`.
      ValueError: `data` is no .tflite or a damaged one, a word is not one of those above, or `name` is no C
        identifier, or that of a header.
      TypeError: `data` is not bytes.
    """
    if not isinstance(data, bytes | bytearray | memoryview):
        raise TypeError(f"data is of type {type(data).__name__}; give the bytes of a .tflite.")
    check_prefix(name)
    for what, value in (("activations", activations), ("weights", weights)):
        if value not in WIDTHS:
            raise ValueError(f"{what} is {value!r}; use one of {', '.join(map(repr, WIDTHS))}.")
    number = isinstance(max_ram, numbers.Real) and not isinstance(max_ram, bool)
    if max_ram is not None and not (number and max_ram >= 1):
        raise ValueError(f"max_ram is {max_ram!r}; give a number of bytes above 0.")
    graph = unpacked_graph(data)
    weight_bits = WEIGHT_BITS[weights]
    program = storing.smallest(Lowering(graph, packed=activations == "packed", fused=fused), weight_bits)
    text = Source(graph)
    for number, step in enumerate(program.steps):
        emit(text, step, number, weight_bits=weight_bits)
    plan = plan_of(program)
    if max_ram is not None and plan.bytes > max_ram:
        raise BudgetError(_over_budget(plan, max_ram))
    values = _values(data, graph, program, text, plan, name, source)
    files = {f"{name}.{end}": rendered(f"net.{end}.jinja", **values) for end in ("c", "h")}
    files |= {file: runtime(file) for file in RUNTIME}
    return CSource(files, plan.bytes, sum(text.bytes.values()), plan, program, name)


def _over_budget(plan, max_ram):
    live = ", ".join(f"{block.name} ({block.size:,} bytes)" for block in plan.live_at(plan.peak))
    return (
        f"The activations take {plan.bytes:,} bytes, more than the {max_ram:,} allowed; live at the peak "
        f"are {live}."
    )


def _values(data, graph, program, text, plan, name, source):
    upper = name.upper()
    ends = [*_ends("input", program.inputs, graph, name), *_ends("output", program.outputs, graph, name)]
    places = _Places(plan, {end["stored"]: end["parameter"] for end in ends if end["stored"] is not None})
    traced = [step for step in program.steps if step.output.place == "arena"]
    calls = []
    for number, (step, function, arguments) in enumerate(text.calls):
        calls.append(f"{function}({', '.join(map(places.text, arguments))});")
        done = number + 1 == len(text.calls) or text.calls[number + 1][0] is not step
        if done and step in traced:
            output = step.output
            calls.append(
                f"TRACE({traced.index(step)}, {places.text(output)}, {output.bits}, {output.count}u);"
            )
    for end in ends:
        if end["what"] == "output" and end["read"] is not None:
            stored = end["read"].stored
            where = f"{places.text(stored)}, {stored.bits}, {stored.low}"
            calls.append(f"mmx_codes({where}, {end['parameter']}, {end['count']}u);")
    return {
        "source": ascii_text(source),
        "version": VERSION,
        "digest": hashlib.sha256(data).hexdigest(),
        "plan": plan,
        "peak": ascii_text(", ".join(block.name for block in plan.live_at(plan.peak))),
        "table": ascii_text(table(plan)).split("\\n"),
        "flash": sum(text.bytes.values()),
        "upper": upper,
        "name": name,
        "ends": ends,
        "labels": list(_labels(data, ends)),
        "parameters": ", ".join(f"{end['declaration']}{end['parameter']}" for end in ends),
        "traced": [{"name": quoted(step.output.name)} for step in traced],
        "arrays": text.arrays,
        "structures": text.structures,
        "calls": calls,
    }


def ends_of(made: CSource) -> tuple[list[dict], list[dict]]:
    """What templates say of inputs and outputs."""
    program = made.program
    return tuple(
        list(_ends(what, ends, program.graph, made.name))
        for what, ends in (("input", program.inputs), ("output", program.outputs))
    )


def _labels(data, ends):
    """Names of classes, and the end of their array's name: the number of one of several outputs."""
    file = tflite_file.parse(data)
    labels = (metadata.read(file).document or {}).get("labels")
    if isinstance(labels, list):
        yield {"suffix": "", "texts": list(map(quoted, labels))}
    elif isinstance(labels, dict):
        parameters = {end["tensor_name"]: end["parameter"] for end in ends if end["what"] == "output"}
        named = {name: index for _, _, outputs in file.signatures for name, index in outputs.items()}
        for output, names in labels.items():
            # Of the file's type "class" an output is two tensors, of which the first has the number.
            index = named.get(f"{output}_class", named.get(output))
            if index is not None and isinstance(names, list):
                suffix = parameters[file.tensors[index].name].removeprefix("output")
                yield {"suffix": suffix, "texts": list(map(quoted, names))}


def _ends(what, ends, graph, name):
    for number, (seen, tensor) in enumerate(ends):
        alone = len(ends) == 1
        parameter = ("image" if what == "input" else "logits") if alone else f"{what}_{number}"
        kind = _C_TYPES[tensor.type]
        grid = len(tensor.scales) == 1
        stored = seen if isinstance(seen, Stored) else None
        yield {
            "what": what,
            "tensor": quoted(tensor.name),
            "tensor_name": tensor.name,
            "type": tensor.type.lower(),
            "shape": list(tensor.shape[1:]),
            "count": stored.count if stored else seen.stored.count,
            "macro": f"{name}_{parameter}".upper(),
            # Decimal, as C++ has hexadecimal floats since C++17 only; float32 is read from it unchanged.
            "scale": f"{np.float32(tensor.scale)!s}f" if grid else None,
            "zero_point": tensor.zero_point,
            "parameter": parameter,
            "ctype": kind,
            "declaration": f"const {kind} *" if what == "input" else f"{kind} *",
            "stored": stored,
            "read": None if stored else seen,
        }


class _Places:
    """Where stored tensors and scratch memory lie, as C."""

    def __init__(self, plan, parameters):
        self._plan, self._parameters = plan, parameters

    def text(self, argument):
        if isinstance(argument, Stored):
            if argument.place == "arena":
                return f"arena + {self._plan.offsets[argument.name]}"
            return self._parameters[argument]
        if isinstance(argument, Step):
            if not argument.scratch:
                return "NULL"
            return f"(uint32_t *)(void *)(arena + {self._plan.offsets[scratch_name(argument)]})"
        return str(argument)


def runtime(file: str) -> str:
    """The text of one of the kernels' files, of which mmx_kernels.c is put together."""
    folder = importlib.resources.files("mmx_tf.export.c_source") / "runtime"
    if file != "mmx_kernels.c":
        return (folder / file).read_text()
    texts = [(folder / part).read_text() for part in _KERNEL_PARTS]
    # Each part includes the one that it needs, which stands in front of it here.
    return '/* See mmx_kernels.h. */\n#include "mmx_kernels.h"\n\n' + "\n".join(
        re.sub(r'#include "\w+\.h"\n\n?', "", text) for text in texts
    )


def rendered(template: str, /, **values: object) -> str:
    """The text of a template; see `mmx_tf.report.rendering`, which makes pages."""
    return _environment().get_template(template).render(values)


@functools.cache
def _environment():
    import jinja2

    return jinja2.Environment(
        loader=jinja2.PackageLoader("mmx_tf.export.c_source", "templates"),
        # C, whose texts are quoted by `source.quoted`.
        autoescape=False,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


__all__ = ["CSource", "UnsupportedError", "c_source", "rendered", "runtime"]
