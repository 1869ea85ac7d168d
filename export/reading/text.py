"""The command `python -m export.inspect`: a `FileSummary` as text or as JSON.

print(text(summary(data)))
"""

import dataclasses
import json
import os
import platform
import sys
from collections.abc import Sequence
from importlib import metadata

from mmx_tf import command_line
from mmx_tf.export.reading import tflite_file
from mmx_tf.export.reading.contents import TfliteFileError
from mmx_tf.export.reading.summary import Endpoint, FileSummary, summarize

JSON_SCHEMA = 1
_HEADER = (
    "#",
    "name",
    "operator",
    "bits",
    "types",
    "weights",
    "bias",
    "MACs",
    "BOPs",
    "XNNPACK",
    "output",
    "grid",
)
_LEFT_ALIGNED = {"name", "operator", "types", "output", "grid"}
_SHOWN_LABELS, _SHOWN_LETTERS = 5, 48


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = command_line.parser("inspect", "Show what a .tflite holds and costs.")
    parser.add_argument("file", metavar="FILE.tflite")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)
    try:
        found = summarize(tflite_file.read(options.file))
    except TfliteFileError as error:
        print(_one_line(error), file=sys.stderr)
        return 2
    if options.json:
        document = {"schema": JSON_SCHEMA, "file": options.file, "machine": _machine()}
        output = json.dumps(document | dataclasses.asdict(found), indent=1)
    else:
        output = text(found)
    try:
        print(output, flush=True)
    except BrokenPipeError:
        # The reader has seen enough ("| head"); what is still buffered must not be flushed into the pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def text(found: FileSummary) -> str:
    """The summary as aligned text: a line per operator, then the totals.

    A dash stands for what a layer does not have or the file does not tell. In the column XNNPACK, "no" is an
    operator that runs in a slower kernel on this machine.
    """
    return "\n".join([*_table(found), "", *_totals(found)])


def _table(found: FileSummary) -> list[str]:
    rows = [_HEADER]
    for layer in found.layers:
        rows.append(
            (
                str(layer.index),
                _short(_one_line(layer.name)),
                _one_line(layer.kind),
                _pair(layer.activation_bits, layer.weight_bits),
                _pair(layer.activation_type, layer.weight_type),
                *(f"{number:,}" if number else "-" for number in (layer.weight_bytes, layer.bias_bytes)),
                *(f"{number:,}" if number else "-" for number in (layer.macs, layer.bops)),
                {True: "yes", False: "no", None: "?"}[layer.delegated],
                f"{layer.output_type or '-'} {_shape(layer.output_shape)}",
                _grid(layer.output_scale, layer.output_zero_point),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligned = [str.ljust if name in _LEFT_ALIGNED else str.rjust for name in _HEADER]
    return [
        "  ".join(
            align(cell, width) for align, cell, width in zip(aligned, row, widths, strict=True)
        ).rstrip()
        for row in rows
    ]


def _totals(found: FileSummary) -> list[str]:
    parts = found.file_bytes
    shares = (
        f"{name.replace('_', ' ')} {size:,} ({size / parts.total:.1%})"
        for name, size in dataclasses.asdict(parts).items()
        if name != "total" and size
    )
    by = "bits of the metadata" if found.bits_known else "bits of the types, for want of metadata"
    lines = [
        f"file        {parts.total:,} bytes: {', '.join(shares)}",
        f"cost        {found.macs:,} MACs, {found.bops:,} BOPs on one image ({by})",
    ]
    if found.uncounted:
        lines.append(f"not counted {', '.join(map(_one_line, found.uncounted))}")
    if found.average_bits:
        averages = (f"{value:.3f} {name.replace('_', ' ')}" for name, value in found.average_bits.items())
        lines.append(f"average     activation bits, first and last layer aside: {', '.join(averages)}")
    lines.append(f"XNNPACK     {_delegation(found)}")
    counts = (f"{_one_line(used.kind)} v{used.version} x{used.count}" for used in found.operators)
    lines.append(f"operators   {', '.join(counts) or 'none'}")
    lines += [f"input       {_endpoint(endpoint)}" for endpoint in found.inputs]
    lines += [f"output      {_endpoint(endpoint)}" for endpoint in found.outputs]
    for signature in found.signatures:
        inputs, outputs = (map(_one_line, names) for names in (signature.inputs, signature.outputs))
        lines.append(f"signature   {_one_line(signature.key)}: {', '.join(inputs)} -> {', '.join(outputs)}")
    if found.subgraphs > 1:
        lines.append(f"subgraphs   {found.subgraphs}, of which the first is shown")
    lines.append(f"metadata    {_one_line(', '.join(found.metadata_names)) or 'none'}")
    lines += [f"  {_one_line(key)}: {_value(value)}" for key, value in (found.metadata or {}).items()]
    lines += [f"FAULT       {_one_line(fault)}" for fault in found.faults]
    return lines


def _delegation(found: FileSummary) -> str:
    if found.partitions is None:
        return f"not known: {_one_line(found.delegation_fault or 'not asked')}"
    outside = [f"{layer.index} {layer.kind}" for layer in found.layers if layer.delegated is False]
    left = f"outside: {', '.join(map(_one_line, outside))}" if outside else "nothing outside"
    plural = "" if found.partitions == 1 else "s"
    return f"{found.partitions} partition{plural}, {left} ({_machine()})"


def _machine() -> str:
    return f"{platform.machine()}, ai-edge-litert {metadata.version('ai-edge-litert')}"


def _endpoint(endpoint: Endpoint) -> str:
    grid = _grid(endpoint.scale, endpoint.zero_point)
    return f"{_one_line(endpoint.name)}: {endpoint.type} {_shape(endpoint.shape)}, grid {grid}"


def _grid(scale: float | None, zero_point: int | None) -> str:
    return "-" if scale is None else f"{scale:.8g} @ {zero_point if zero_point is not None else '-'}"


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _pair(activation: object, weight: object) -> str:
    return f"{'-' if activation is None else activation}/{'-' if weight is None else weight}"


def _short(name: str) -> str:
    # Converters join the names of all that they merged, a hundred letters and more.
    half = (_SHOWN_LETTERS - 3) // 2
    return name if len(name) <= _SHOWN_LETTERS else f"{name[:half]}...{name[-half:]}"


def _value(value: object) -> str:
    if isinstance(value, list) and len(value) > _SHOWN_LABELS:
        shown = ", ".join(json.dumps(item) for item in value[:_SHOWN_LABELS])
        return f"{len(value)} entries: {shown}, ..."
    return json.dumps(value)


def _one_line(value: object) -> str:
    """Names come from the file and may hold anything; a control character would break line or terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(value))
