"""The table of a comparison, for the page and for the terminal.

view = table(metrics)
view.head, [(row.name, row.cells) for row in view.rows], view.words
"""

import dataclasses
from collections.abc import Mapping

from mmx_tf.report.comparison import Comparison, comparison, shown
from mmx_tf.report.gains import QUANTITIES


@dataclasses.dataclass(frozen=True)
class Cell:
    """A figure, and what it is beside the reference's: a ratio or a difference; "" of the reference's own."""

    value: str
    ratio: str


@dataclasses.dataclass(frozen=True)
class Row:
    """A quantity and its figure for each file."""

    name: str
    cells: tuple[Cell, ...]


@dataclasses.dataclass(frozen=True)
class Table:
    """The comparison as it is shown.

    Attributes:
      told: a paragraph for each baseline: where the file is better and where worse; the reference first.
      rest: what the figures are of, and why something is missing; "" where there is neither.
      head: names of the files; () where there is nothing to compare with.
      rows: the score first.
      scale: what the ratios and differences are to; "" without rows.
      note: what the files and the figures are.
    """

    told: tuple[str, ...]
    rest: str
    head: tuple[str, ...]
    rows: tuple[Row, ...]
    scale: str
    note: str

    @property
    def words(self) -> tuple[str, ...]:
        """All of it in paragraphs; the rest stands in the last one."""
        *head, last = self.told or ("",)
        return (*head, f"{last} {self.rest}".strip())


def table(metrics: Mapping) -> Table | None:
    """The table of a `metrics.json`; None of a run without baselines."""
    found = comparison(metrics)
    if found is None:
        return None
    told = tuple(" ".join(sentences) for sentences in found.about.values())
    rest = " ".join((*found.remarks, *found.refused))
    if found.reference is None:
        return Table(told, rest, (), (), "", "")
    rows = [Row(_capital(found.score.words), tuple(_score_cell(found, one) for one in found.candidates))]
    for key, quantity in QUANTITIES.items():
        if any(key in one.figures for one in found.candidates):
            cells = tuple(_cell(found, one, key) for one in found.candidates)
            rows.append(Row(_capital(quantity.row), cells))
    head = tuple(_capital(one.name) for one in found.candidates)
    scale = f"Ratios (x) and differences are to {found.reference.name}: x 0.50 is half of its figure."
    return Table(told, rest, head, tuple(rows), scale, _note(found, metrics))


def _cell(found: Comparison, one, quantity: str) -> Cell:
    if quantity not in one.figures:
        return Cell("not known", "")
    ratio = None if one is found.reference else found.ratio(one, quantity)
    return Cell(shown(quantity, one.figures[quantity]), "" if ratio is None else f"x {ratio:.2f}")


def _score_cell(found: Comparison, one) -> Cell:
    if one.score is None:
        return Cell("not known", "")
    other = found.reference.score
    change = "" if one is found.reference or other is None else found.score.change(one.score, other)
    return Cell(found.score.text(one.score), change)


def _note(found: Comparison, metrics: Mapping) -> str:
    keys, latency = {one.key for one in found.candidates}, metrics.get("latency") or {}
    parts = []
    if "int8" in keys:
        parts.append("Plain int8 is the float network as AI Edge Quantizer makes it after training.")
    if "uniform" in keys:
        name = next(one.name for one in found.candidates if one.key == "uniform")
        parts.append(f"{_capital(name)} had the same weight training from the same start.")
    if "median_ms" in latency:
        cpu = f" of {latency['cpu_model']}" if latency.get("cpu_model") else ""
        parts.append(
            f"Times are medians of {latency['runs']} interleaved runs on {latency['threads']} thread{cpu}."
        )
    if any("ram_bytes" in one.figures for one in found.candidates):
        parts.append("RAM and flash are those of the C source: activations, and constants.")
    return " ".join(parts)


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
