"""Estimates of several files side by side, as aligned text.

print(table({"int8.tflite": first, "model.tflite": second}))
"""

from collections.abc import Mapping

from mmx_tf.export.vela.estimates import Estimate

MEMORIES = {
    "SRAM": "sram_bytes",
    "DRAM": "dram_bytes",
    "on-chip flash": "on_chip_flash_bytes",
    "off-chip flash": "off_chip_flash_bytes",
}
COMPARED = ("cycles", "npu_cycles", "latency_seconds", *MEMORIES.values(), "packed_weight_bytes")
"""What has a ratio to the first file."""
NOTE = "Estimates of Vela {version}, not measured; without CPU operators; ratios are to the first file."


def ratios(found: Estimate, first: Estimate) -> dict[str, float | None]:
    """Each figure over that of the first file; None where the first has none of it."""
    return {
        name: getattr(found, name) / getattr(first, name) if getattr(first, name) else None
        for name in COMPARED
    }


def table(estimates: Mapping[str, Estimate]) -> str:
    """A line for each file, names last; memories that no file uses have no column.

    Args:
      estimates: by the names of the files, in their order; the first one is the reference.
    """
    found = list(estimates.values())
    columns = {"cycles": ("cycles", lambda value: f"{value:,}")}
    columns["latency"] = ("latency_seconds", lambda value: f"{1e3 * value:.3f} ms")
    for title, name in MEMORIES.items():
        if any(getattr(estimate, name) for estimate in found):
            columns[title] = (name, lambda value: f"{value / 1024:.1f} KiB")
    rows = [[*(cell for title in columns for cell in (title, "ratio")), "on the CPU", "file"]]
    for name, estimate in estimates.items():
        over = ratios(estimate, found[0])
        cells = []
        for attribute, shown in columns.values():
            ratio = over[attribute]
            cells += [shown(getattr(estimate, attribute)), "-" if ratio is None else f"{ratio:.3f}"]
        rows.append([*cells, f"{len(estimate.cpu_operators)} of {estimate.operators}", _one_line(name)])
    return _aligned(rows)


def cpu_table(estimates: Mapping[str, Estimate]) -> str:
    """A line for each operator that stays on the CPU, with its file; empty if none does."""
    return "\n".join(
        f"{_one_line(name)}: {operator.kind} {_one_line(operator.name)} stays on the CPU"
        for name, estimate in estimates.items()
        for operator in estimate.cpu_operators
    )


def profile(estimate: Estimate) -> str:
    """A line for each operator that takes cycles on the NPU, then what each kind takes in all."""
    taking = [operator for operator in estimate.operator_cycles if operator.cycles]
    rows = [["cycles", "share", "NPU cycles", "MACs", "operator", "name"]]
    for operator in taking:
        share = f"{operator.cycles / estimate.cycles:.1%}"
        numbers = (f"{value:,}" for value in (operator.npu_cycles, operator.macs))
        rows.append([f"{operator.cycles:,}", share, *numbers, operator.kind, _one_line(operator.name)])
    kinds: dict[str, int] = {}
    for operator in taking:
        kinds[operator.kind] = kinds.get(operator.kind, 0) + operator.cycles
    total = ", ".join(f"{kind} {count / estimate.cycles:.1%}" for kind, count in kinds.items())
    return f"{_aligned(rows)}\n{total}"


def _aligned(rows: list[list[str]]) -> str:
    """Columns to the right, the last one to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join([*map(str.rjust, row[:-1], widths[:-1]), row[-1]]) for row in rows)
    return "\n".join(lines)


def _one_line(name: str) -> str:
    """Names come from the file and may hold anything; a control character would break line or terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
