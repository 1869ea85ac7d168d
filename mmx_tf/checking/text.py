"""A `NetworkCheck` as text for a terminal."""

import collections
from collections.abc import Callable, Iterator

from mmx_tf.checking.forms import FormCheck
from mmx_tf.checking.network import CANDIDATES, WEIGHT_BITS, LayerCheck, NetworkCheck
from mmx_tf.notation import si

WIDEST = 40
"""Characters of a layer's name; of a longer one the end is shown."""


def text(found: NetworkCheck, path: str = "") -> str:
    """The table of the layers, then what has to be changed, or where the file runs."""
    table = [*_table(found), ""] if found.layers else []
    return "\n".join([*_head(found, path), "", *table, *_verdict(found)])


def _head(found: NetworkCheck, path: str) -> Iterator[str]:
    yield f"{path or found.name}: network {found.name!r}"
    yield f"input {_shapes(found.inputs)}, output {_shapes(found.outputs)}"


def _table(found: NetworkCheck) -> Iterator[str]:
    rows = [("layer", "kind", "output", "MACs", "bits"), *map(_row, found.layers)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def _row(layer: LayerCheck) -> tuple[str, ...]:
    macs = bits = ""
    if layer.cost is not None:
        macs, bits = si(layer.cost.macs), "8 (an end)" if layer.cost.end else "searched"
    bits = "cannot be used" if layer.problem else bits
    return layer.name[-WIDEST:], layer.kind, _shape(layer.shape), macs, bits


def _verdict(found: NetworkCheck) -> Iterator[str]:
    if found.problems:
        yield f"It cannot be searched and exported as it is. Change this ({len(found.problems)}):"
        yield from (f"* {problem}" for problem in found.problems)
        return
    searched = [layer for layer in found.layers if layer.cost and not layer.cost.end]
    weighted = [layer for layer in found.layers if layer.cost]
    file = found.file
    of = f"{len(searched)} of {len(weighted)} weighted layers have bits to choose"
    yield f"It can be searched ({of}), trained and exported."
    if found.takes_bytes:
        yield (
            f"It scales pixels of 0 to 255 itself (layer {found.takes_bytes!r}): train it with "
            "--pixel_scaling=1,0, else it is given pixel / 127.5 - 1."
        )
    counts = collections.Counter()
    for one in file.operators:
        counts[one.kind] += one.count  # Those of one kind with other types of weights are apart.
    operators = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    yield f"A file with weights in int8 has {file.file_bytes.total:,} bytes and the operators {operators}."
    yield _on_xnnpack(file)
    refused = dict.fromkeys(f"{refusal.kind} {refusal.reason}; {refusal.instead}" for refusal in found.micro)
    yield "TensorFlow Lite Micro: " + ("refuses " + ". ".join(refused) if refused else "has all operators.")
    yield _form("C source (--device=cortex-m4)", found.c_source, _in_c)
    yield _form("QONNX (--device=fpga)", found.qonnx, lambda facts: f"{facts['nodes']} nodes")


def _form(name: str, found: FormCheck, facts: Callable[[dict], str]) -> str:
    if found.missing:
        return f"{name}: not known, as {found.missing}."
    if found.refusal:
        return f"{name}: refused: {found.refusal}"
    return f"{name}: can be made, {facts(found.facts)}."


def _in_c(facts: dict) -> str:
    return (
        f"{facts['ram_bytes']:,} bytes of RAM and {facts['flash_bytes']:,} of constants at "
        f"{CANDIDATES[0]}-bit activations and {WEIGHT_BITS}-bit weights"
    )


def _on_xnnpack(file) -> str:
    if file.partitions is None:
        return f"XNNPACK: {file.delegation_fault}"
    outside = sorted({layer.kind for layer in file.layers if layer.delegated is False})
    parts = "one partition" if file.partitions == 1 else f"{file.partitions} partitions"
    return f"XNNPACK: {parts}; outside {', '.join(outside) or 'nothing'}."


def _shapes(shapes) -> str:
    return ", ".join(map(_shape, shapes)) or "unknown"


def _shape(shape) -> str:
    return "x".join("?" if size is None else str(size) for size in shape)
