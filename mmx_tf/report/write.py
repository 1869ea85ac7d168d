"""The report of a run: one HTML file to read, print or hand on.

    write_report("report.html", selection=selection, metrics=metrics, history=history, settings=settings)

and for a run with several targets, from the contents of its `front.json`:

    write_front_report("report.html", document, settings=settings)

`selection` and `metrics` are the contents of `bit_selection.json` and `metrics.json`: a finished workdir has
all that a report needs. A page loads nothing else: its style and figures are inside it.
"""

import os
from collections.abc import Mapping

from mmx_tf.export.atomic import write_atomically
from mmx_tf.report import device, front, sections, summary
from mmx_tf.report.answers import answers
from mmx_tf.report.comparison import comparison
from mmx_tf.report.comparison_table import table
from mmx_tf.report.curves import curves
from mmx_tf.report.facts import run_facts
from mmx_tf.report.memory import memory
from mmx_tf.report.parity import certificate
from mmx_tf.report.parts import picture
from mmx_tf.report.reasons import near_ties
from mmx_tf.report.reasons import reasons as why
from mmx_tf.report.rendering import rendered


def write_report(
    path: str | os.PathLike,
    *,
    selection: Mapping,
    metrics: Mapping,
    history: Mapping | None = None,
    settings: Mapping | None = None,
    parity: Mapping | None = None,
    reasons: Mapping | None = None,
) -> None:
    """Writes the report of a run to `path`, atomically: an older report stays until the new one is complete.

    Args:
      path: the file to write; its folder must exist.
      selection: the contents of `bit_selection.json`.
      metrics: the contents of `metrics.json`. The float network's metrics, `average_bits`, `seconds` and
        `versions` may be missing.
      history: curves by phase and name, `{"float" | "select" | "train": {name: [value per step or epoch]}}`.
        `select`'s `bops` is drawn against the budget.
      settings: the run's flags by name, and its command line under "command".
      parity: the contents of `parity.json`.
      reasons: the contents of `sensitivity.json`.

    Raises:
      TypeError: `selection` or `metrics` is not a mapping.
      ValueError: `selection` or `metrics` lacks required keys; the message names them.
    """
    facts, compared = run_facts(selection, metrics), comparison(metrics)
    settings = settings or {}
    page = rendered(
        "report.html.jinja",
        title=summary.title(settings),
        facts=facts,
        comparison=table(metrics),
        summary=summary.summary(facts, settings),
        answers=answers(facts, compared, near_ties=near_ties(reasons)),
        exactness=summary.exactness(facts),
        bits=sections.bits(facts),
        reasons=why(reasons, settings),
        accuracy=sections.accuracy(facts),
        parity=certificate(parity),
        cost=sections.cost(facts),
        memory=memory(facts.microcontroller, compared),
        device=dict(device.lines(facts.device)),
        curves=curves(facts, history or {}, settings),
        run=sections.run(settings, seconds=facts.seconds, versions=facts.versions),
    )
    write_atomically(path, page)


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
    head, *body = front.rows(document)
    page = rendered(
        "front.html.jinja",
        title=summary.title(settings),
        summary=front.summary(document),
        figure=picture(lambda theme: front.front_figure(document, theme=theme), alt, front.LOOK),
        head=head,
        targets=[(target["folder"], row) for target, row in zip(document["targets"], body, strict=True)],
        run=sections.run(settings, seconds=document["seconds"]),
    )
    write_atomically(path, page)
