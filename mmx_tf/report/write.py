"""The report of a run: one HTML file to read, print or hand on, and its short form on the terminal.

    write_report("report.html", selection=selection, metrics=metrics, history=history, settings=settings)
    print_summary(selection, metrics)
    save_bits_plot("bits.png", selection, metrics)

and, of a run with several targets, with the contents of its `front.json`:

    write_front_report("report.html", document, settings=settings)
    print_front(document)

`selection` and `metrics` are the contents of `bit_selection.json` and `metrics.json`, so a report can be
written again from a finished workdir. The page loads nothing: style and figures are inside it.
"""

import html
import os
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import TextIO

from mmx_tf.export.atomic import write_atomically
from mmx_tf.notation import percent, si
from mmx_tf.report import accuracy, curves, front, parts
from mmx_tf.report import page as report_page
from mmx_tf.report.facts import own_cost, run_facts
from mmx_tf.report.parity import parity_section
from mmx_tf.report.plots import save_bits_plot
from mmx_tf.report.scores import FORMS, NAMED

__all__ = ["print_front", "print_summary", "save_bits_plot", "write_front_report", "write_report"]

_STYLE = pathlib.Path(__file__).with_name("report.css")


def write_report(
    path: str | os.PathLike,
    *,
    selection: Mapping,
    metrics: Mapping,
    history: Mapping | None = None,
    settings: Mapping | None = None,
    parity: Mapping | None = None,
) -> None:
    """Writes the report of a run to `path`, atomically: an older report stays whole until the new one is.

    Args:
      path: the file to write; its folder must exist.
      selection: the contents of `bit_selection.json`.
      metrics: the contents of `metrics.json`; the float network's, `average_bits`, `seconds` and
        `versions` may be missing.
      history: curves by phase and name, `{"float" | "select" | "train": {name: [value per step or epoch]}}`.
        `select`'s `bops` is drawn against the budget.
      settings: the run's flags by name, and its command line under "command".
      parity: the contents of `parity.json`.

    Raises:
      ValueError: `selection` or `metrics` lacks required keys; the message names them.
    """
    facts = run_facts(selection, metrics)
    settings = settings or {}
    title = html.escape(report_page.title(settings))
    sections = (
        report_page.summary(facts, settings),
        report_page.tiles(facts),
        report_page.honest_note(),
        report_page.bits_section(facts),
        accuracy.accuracy_section(facts),
        parity_section(parity),
        report_page.cost_section(facts),
        curves.history_section(facts, history or {}, settings),
        report_page.layers_section(facts),
        report_page.run_section(settings, seconds=facts.seconds, versions=facts.versions),
    )
    _write_page(path, title, sections)


def write_front_report(path: str | os.PathLike, document: Mapping, *, settings: Mapping) -> None:
    """Writes the report of a run with several targets, atomically.

    Args:
      path: the file to write; its folder must exist. Links go to the targets' folders beside it.
      document: the contents of `front.json`.
      settings: as for `write_report`.
    """
    score = front.score_of(document)
    alt = (
        f"{score[0].upper()}{score[1:]} of the files over their BOPs. The same figures are in the table "
        "below."
    )
    sections = (
        front.summary(document),
        parts.picture(lambda theme: front.front_figure(document, theme=theme), alt, ""),
        front.table(document),
        report_page.honest_note(),
        report_page.run_section(settings, seconds=document["seconds"]),
    )
    _write_page(path, html.escape(report_page.title(settings)), sections)


def _write_page(path: str | os.PathLike, title: str, sections: Sequence[str]) -> None:
    style = _STYLE.read_text(encoding="utf-8")
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{style}</style></head>\n"
        f"<body><h1>{title}</h1>\n" + "\n".join(sections) + "</body></html>\n"
    )
    write_atomically(path, page)


def print_summary(selection: Mapping, metrics: Mapping, file: TextIO | None = None) -> None:
    """Prints the table of layers, the cost and the accuracies in aligned columns.

    Args:
      selection: the contents of `bit_selection.json`.
      metrics: the contents of `metrics.json`.
      file: where to; standard output when None.

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
    if facts.cost:
        totals.append(("cost in the budget's unit", own_cost(facts.cost)))
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
    print("\n".join(lines), file=file or sys.stdout)


def print_front(document: Mapping, file: TextIO | None = None) -> None:
    """Prints the front of a run with several targets; `document` is the contents of `front.json`."""
    print("\n".join(_align(front.rows(document), left=())), file=file or sys.stdout)


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
