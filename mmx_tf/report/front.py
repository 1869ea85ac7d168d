"""Accuracy over BOPs: the results of one run's targets, as JSON, as a figure and as the rows of a table.

A result is on the *front* if no other result beats it: one with a score at least as good and no more BOPs,
and better in one of the two. The score is the first metric of the task (`export.comparing.quality`).

    found = document({"target_4.5G": metrics, "target_5G": other_metrics}, seconds={"select": 1200.0})
    save_front_plot("front.png", found)
"""

import os
from collections.abc import Mapping

from matplotlib.figure import Figure

from mmx_tf.export.atomic import write_atomically
from mmx_tf.notation import duration, prefix_of, si
from mmx_tf.report import plots, themes
from mmx_tf.report.scores import Score, scores_of

SCHEMA = 1
LOOK = (
    "Look for the leftmost file that is good enough. Files on the line are on the front; any other is "
    "beaten by one of them in both. Where the line is flat, more BOPs buy nothing."
)
"""What to look for in the figure."""
_COPIED = ("target_bops", "bops", "average_bits", "fixed_top1", "folded_top1", "tflite_top1",
           "quality", "code_disagreement", "file_bytes")  # fmt: skip


def document(
    results: Mapping[str, Mapping], *, seconds: Mapping[str, float], searched: int | None = None
) -> dict:
    """The contents of front.json: the finished targets, and which of them are on the front.

    Args:
      results: folder of the target -> contents of its metrics.json; at least one.
      seconds: time in seconds of the phases that the targets share.
      searched: number of the targets that the search was for, finished or not; None where nobody says it.

    Returns:
      `schema`, `float_top1`, `eval_images`, `searched`, `seconds` and `targets`. The targets are in the
      order of their BOPs. Each has its `folder`, `on_front`, and from its metrics.json the BOPs, average
      bits, accuracies and figures of the file. Tasks other than classification add `task`; those without
      an accuracy have no `float_top1`.
    """
    targets = [
        {"folder": folder} | {key: m[key] for key in _COPIED if key in m} for folder, m in results.items()
    ]
    first = next(iter(results.values()))
    task = {"task": first["task"]} if "task" in first else {}
    for target in targets:
        target["on_front"] = not any(_dominates(other | task, target | task) for other in targets)
    return {
        "schema": SCHEMA,
        **task,
        **({"float_top1": first["float_top1"]} if "float_top1" in first else {}),
        "eval_images": first["eval_images"],
        **({} if searched is None else {"searched": searched}),
        "targets": sorted(targets, key=lambda target: (target["bops"], target["target_bops"])),
        "seconds": dict(seconds),
    }


def front_figure(document: Mapping, *, theme: themes.Theme = themes.LIGHT) -> Figure:
    """The score of each file over its BOPs of one image. A line joins the front; dotted lines are budgets."""
    targets = document["targets"]
    share = _score(document, targets[0]).share
    factor_of_score = 100 if share else 1

    def height(target, form):
        return factor_of_score * _score(document, target).values[form]

    factor, prefix = prefix_of(targets[-1]["bops"])
    figure = Figure(figsize=(10, 6), facecolor=theme.paper, layout="constrained")
    axes = figure.subplots()
    plots.dress(axes, theme)
    on_front = [target for target in targets if target["on_front"]]
    for chosen, style in ((on_front, {"marker": "o"}), (targets, {"marker": "o", "linestyle": "none"})):
        axes.plot(
            [target["bops"] / factor for target in chosen],
            [height(target, "tflite") for target in chosen],
            color=theme.lines[0] if chosen is on_front else theme.muted,
            zorder=3 if chosen is on_front else 2,
            linewidth=1.8,
            markersize=8,
            label=".tflite file" if chosen is on_front else None,
            **style,
        )
    axes.plot(
        [target["bops"] / factor for target in targets],
        [height(target, "fixed") for target in targets],
        color=theme.lines[1],
        linestyle="none",
        marker="_",
        markersize=14,
        markeredgewidth=2,
        label="fixed-bit network",
    )
    for target in targets:
        axes.annotate(
            f"{target['average_bits']['by_ops']:.2f} bits",
            (target["bops"] / factor, height(target, "tflite")),
            xytext=(0, 10),
            textcoords="offset points",
            ha="center",
            fontsize=10,
            color=theme.ink,
        )
        axes.axvline(target["target_bops"] / factor, color=theme.muted, linestyle=":", linewidth=1)
    float_score = _float_score(document)
    if float_score is not None:
        axes.axhline(
            factor_of_score * float_score,
            color=theme.ink,
            linestyle="--",
            linewidth=1.5,
            label="float network",
        )
    axes.set_title("Accuracy over cost", fontsize=15, color=theme.ink, loc="left")
    axes.set_xlabel(f"{prefix}BOPs of one image (dotted: budgets)", fontsize=12, color=theme.ink)
    unit = ", %" if share else ""
    label = f"{score_of(document)} on {document['eval_images']:,} images{unit}"
    axes.set_ylabel(label, fontsize=12, color=theme.ink)
    axes.margins(x=0.12, y=0.15)
    axes.legend(frameon=False, fontsize=10.5, labelcolor=theme.ink)
    return figure


def save_front_plot(path: str | os.PathLike, document: Mapping) -> None:
    """Writes the figure of a front as a PNG of 1000 x 600 pixels, atomically."""
    write_atomically(path, plots.render(front_figure(document), "png"))


def rows(document: Mapping) -> list[tuple[str, ...]]:
    """The front as a table of text: a row of headings, then one row per target."""
    words = score_of(document)
    found = [
        ("target", "BOPs", "bits by ops", f"fixed {words}", f"file {words}", "file size", "on the front")
    ]
    for target in document["targets"]:
        score = _score(document, target)
        found.append(
            (
                f"{si(target['target_bops'])}BOPs",
                f"{si(target['bops'])}BOPs",
                f"{target['average_bits']['by_ops']:.2f}",
                score.text(score.values["fixed"]),
                score.text(score.values["tflite"]),
                f"{si(target['file_bytes'])}B",
                "yes" if target["on_front"] else "no",
            )
        )
    return found


def summary(document: Mapping) -> str:
    """The front in one or two sentences of plain text."""
    count, seconds = len(document["targets"]), document["seconds"].get("select")
    searched = document.get("searched", count)
    if searched > count:
        text = f"{count} of the {searched} targets of one search"
    else:
        text = f"{count} target{'s' if count > 1 else ''} of one search"
    if seconds:
        text += f" of {duration(seconds)}, whose bit-meta steps ran once for all targets"
    if searched > count:
        others = "the others follow" if searched - count > 1 else "the other follows"
        text += f"; {others} from the same search with --export_target"
    found, score = _float_score(document), _score(document, document["targets"][0])
    if found is not None and document.get("task", "classification") in ("classification", "binary"):
        text += f". The float network is right on {score.text(found)} of the images"
    elif found is not None:
        text += f". The float network has {score.text(found)} as {score.words}"
    return f"{text}."


def score_of(document: Mapping) -> str:
    """The name of the score that the front compares."""
    return _score(document, document["targets"][0]).words


def _score(document: Mapping, target: Mapping) -> Score:
    return scores_of({"task": document.get("task", "classification"), **target})[0]


def _float_score(document: Mapping) -> float | None:
    found = _score(document, document["targets"][0]).values.get("float")
    return document.get("float_top1") if found is None else found


def _dominates(one: Mapping, other: Mapping) -> bool:
    ours, theirs = scores_of(one)[0], scores_of(other)[0]
    sign = -1 if ours.less_is_better else 1
    good, others = (sign * score.values["tflite"] for score in (ours, theirs))
    return (one["bops"] < other["bops"] or good > others) and one["bops"] <= other["bops"] and good >= others
