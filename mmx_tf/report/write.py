"""The report of a run: one HTML file to read, print or hand on.

    write_report("report.html", selection=selection, metrics=metrics, history=history, settings=settings)

and, of a run with several targets, with the contents of its `front.json`:

    write_front_report("report.html", document, settings=settings)

`selection` and `metrics` are the contents of `bit_selection.json` and `metrics.json`, so a report can be
written again from a finished workdir. The page loads nothing: style and figures are inside it.
"""

import html
import os
import pathlib
from collections.abc import Mapping, Sequence

from mmx_tf.export.atomic import write_atomically
from mmx_tf.report import accuracy, curves, front, parts
from mmx_tf.report import page as report_page
from mmx_tf.report.facts import run_facts
from mmx_tf.report.parity import parity_section

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
