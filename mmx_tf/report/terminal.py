"""The report of a run in short form: aligned columns of text on the terminal.

    print_summary(selection, metrics)
    print_front(document)

Both take what the run's JSON files hold, and print to standard output or to a file.
"""

import os
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import TextIO

from mmx_tf import waiting
from mmx_tf.notation import percent, si
from mmx_tf.report import device, front
from mmx_tf.report.comparison_table import table
from mmx_tf.report.facts import own_cost, run_facts
from mmx_tf.report.gains import beside
from mmx_tf.report.scores import FORMS, NAMED


def print_summary(
    selection: Mapping,
    metrics: Mapping,
    file: TextIO | None = None,
    *,
    folder: str | os.PathLike | None = None,
) -> None:
    """Prints what the file is worth, the table of layers, the cost and the accuracies in aligned columns.

    Args:
      selection: the contents of `bit_selection.json`.
      metrics: the contents of `metrics.json`.
      file: where to; standard output when None.
      folder: the workdir, whose files the last lines name; None for no such lines.

    Raises:
      ValueError: `selection` or `metrics` lacks required keys; the message names them.
    """
    facts = run_facts(selection, metrics)
    rows = [("#", "layer", "kind", "MACs", "act bits", "weight bits", "BOPs", "share")]
    rows += [
        (
            str(index),
            layer.name,
            layer.kind,
            si(layer.macs).rstrip(),
            str(layer.activation_bits),
            str(layer.weight_bits),
            si(layer.bops).rstrip(),
            percent(layer.bops_share),
        )
        for index, layer in enumerate(facts.layers, start=1)
    ]
    lines = _align(rows, left=(1, 2))
    rule = "-" * max(map(len, lines))
    cost = f"{si(facts.bops)}BOPs"
    if facts.target_bops:
        cost += f"  (budget {si(facts.target_bops)}BOPs)"
    totals = [("cost of one image", cost)]
    totals += [("cost in the budget's unit", own_cost(cost)) for cost in facts.costs]
    if facts.microcontroller and "packed" in facts.microcontroller:
        packed, wide = (facts.microcontroller[width]["ram_bytes"] for width in ("packed", "int8"))
        totals.append(
            ("RAM of the C source", f"{packed:,} bytes  ({beside(packed / wide)} with 8 bits everywhere)")
        )
    totals += [(f"{facts.device['name']}: {what}", text) for what, text in device.lines(facts.device)]
    if facts.average_bits:
        averages = (f"{value:.2f} {key}" for key, value in facts.average_bits.items() if value is not None)
        totals.append(("average bits", ", ".join(averages)))
    totals += [
        (f"{score.words}, {FORMS[form]}", score.text(value))
        for score in facts.scores
        for form, value in score.values.items()
    ]
    what = "" if facts.task in ("classification", "binary") else f"the {NAMED[facts.task][1]} of "
    totals += [
        (
            "file and folded agree",
            f"{percent(facts.agreement)} of {what}{facts.eval_images:,} images, "
            f"{percent(facts.code_disagreement)} of logit codes differ",
        ),
        ("file size", f"{facts.file_bytes:,} bytes"),
    ]
    lines = [lines[0], rule, *lines[1:], rule, *_align(totals, left=(0, 1))]
    compared = _compared(metrics, width=max(len(rule), 80))
    lines = [*compared, rule, *lines] if compared else lines
    if folder is not None:
        lines += [rule, *_places(folder, [("the file", "model.tflite"), ("the report", "report.html")])]
    _print(lines, file)


def print_front(
    document: Mapping, file: TextIO | None = None, *, folder: str | os.PathLike | None = None
) -> None:
    """Prints the front of a run with several targets.

    Args:
      document: the contents of `front.json`.
      file: where to; standard output when None.
      folder: the workdir, whose files the last lines name; None for no such lines.
    """
    lines = _align(front.rows(document), left=())
    if folder is not None:
        places = [
            (f"the file of {row[0]}", os.path.join(target["folder"], "model.tflite"))
            for target, row in zip(document["targets"], front.rows(document)[1:], strict=True)
        ]
        rule = "-" * max(map(len, lines))
        lines += [rule, *_places(folder, [*places, ("the report", "report.html")])]
    _print(lines, file)


def _print(lines: Sequence[str], file: TextIO | None) -> None:
    with waiting.aside():
        print("\n".join(lines), file=file or sys.stdout, flush=True)


def _places(folder: str | os.PathLike, named: Sequence[tuple[str, str]]) -> list[str]:
    return _align([(what, os.path.join(folder, name)) for what, name in named], left=(0, 1))


def _compared(metrics: Mapping, *, width: int) -> list[str]:
    """The table of what the file is worth, and the sentences below it; [] of a run without baselines."""
    found = table(metrics)
    if found is None:
        return []
    rows = [("", *(cell for name in found.head for cell in (name, "")))]
    rows += [
        (row.name, *(text for cell in row.cells for text in (cell.value, cell.ratio))) for row in found.rows
    ]
    words = [line for paragraph in found.words for line in textwrap.wrap(paragraph, width)]
    return [*([*_align(rows, left=(0,)), found.scale] if found.rows else []), *words]


def _align(rows: Sequence[Sequence[str]], *, left: Sequence[int]) -> list[str]:
    """Rows as lines with columns padded to their widest cell; the columns in `left` are left-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if index in left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
