"""Accuracy over BOPs: the results of the targets of one run, as JSON, as a figure and for a report.

A result is on the *front* if no other is as accurate at no more BOPs, and better in one of the two.

    found = document({"target_4.5G": metrics, "target_5G": other_metrics}, seconds={"select": 1200.0})
    save_front_plot("front.png", found)
"""

import html
import os
from collections.abc import Mapping

from matplotlib.figure import Figure

from export.atomic import write_atomically
from mmx_tf import plots, themes
from mmx_tf.report_facts import duration, percent, prefix_of, si

SCHEMA = 1
_COPIED = ("target_bops", "bops", "average_bits", "fixed_top1", "folded_top1", "tflite_top1",
           "code_disagreement", "file_bytes")  # fmt: skip


def document(results: Mapping[str, Mapping], *, seconds: Mapping[str, float]) -> dict:
    """The front of the finished targets, as it is in front.json.

    Args:
      results: folder of the target -> contents of its metrics.json; at least one.
      seconds: time of the phases that the targets have in common.

    Returns:
      `schema`, `float_top1`, `eval_images`, `seconds`, and `targets`: for each, in the order of their BOPs,
      its `folder`, `on_front`, and what its metrics.json has of BOPs, average bits, accuracies and file.
    """
    targets = [{"folder": folder} | {key: m[key] for key in _COPIED} for folder, m in results.items()]
    for target in targets:
        target["on_front"] = not any(_dominates(other, target) for other in targets)
    first = next(iter(results.values()))
    return {
        "schema": SCHEMA,
        "float_top1": first["float_top1"],
        "eval_images": first["eval_images"],
        "targets": sorted(targets, key=lambda target: (target["bops"], target["target_bops"])),
        "seconds": dict(seconds),
    }


def front_figure(document: Mapping, *, theme: themes.Theme = themes.LIGHT) -> Figure:
    """Top-1 of the files over the BOPs of one image; the front is the line, the budgets are ticks below."""
    targets = document["targets"]
    factor, prefix = prefix_of(targets[-1]["bops"])
    figure = Figure(figsize=(10, 6), facecolor=theme.paper, layout="constrained")
    axes = figure.subplots()
    plots.dress(axes, theme)
    on_front = [target for target in targets if target["on_front"]]
    for chosen, style in ((on_front, {"marker": "o"}), (targets, {"marker": "o", "linestyle": "none"})):
        axes.plot(
            [target["bops"] / factor for target in chosen],
            [100 * target["tflite_top1"] for target in chosen],
            color=theme.lines[0] if chosen is on_front else theme.muted,
            zorder=3 if chosen is on_front else 2,
            linewidth=1.8,
            markersize=8,
            label=".tflite file" if chosen is on_front else None,
            **style,
        )
    axes.plot(
        [target["bops"] / factor for target in targets],
        [100 * target["fixed_top1"] for target in targets],
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
            (target["bops"] / factor, 100 * target["tflite_top1"]),
            xytext=(0, 10),
            textcoords="offset points",
            ha="center",
            fontsize=10,
            color=theme.ink,
        )
        axes.axvline(target["target_bops"] / factor, color=theme.muted, linestyle=":", linewidth=1)
    if document["float_top1"] is not None:
        axes.axhline(
            100 * document["float_top1"],
            color=theme.ink,
            linestyle="--",
            linewidth=1.5,
            label="float network",
        )
    axes.set_title("Accuracy over cost", fontsize=15, color=theme.ink, loc="left")
    axes.set_xlabel(f"{prefix}BOPs of one image (dotted: budgets)", fontsize=12, color=theme.ink)
    axes.set_ylabel(f"top-1 on {document['eval_images']:,} images, %", fontsize=12, color=theme.ink)
    axes.margins(x=0.12, y=0.15)
    axes.legend(frameon=False, fontsize=10.5, labelcolor=theme.ink)
    return figure


def save_front_plot(path: str | os.PathLike, document: Mapping) -> None:
    """Writes the figure of a front as a PNG of 1000 x 600 pixels, atomically."""
    write_atomically(path, plots.render(front_figure(document), "png"))


def rows(document: Mapping) -> list[tuple[str, ...]]:
    """The front as a table of text: a row of headings, then one row per target."""
    found = [("target", "BOPs", "bits by ops", "fixed top-1", "file top-1", "file size", "on the front")]
    for target in document["targets"]:
        found.append(
            (
                f"{si(target['target_bops'])}BOPs",
                f"{si(target['bops'])}BOPs",
                f"{target['average_bits']['by_ops']:.2f}",
                percent(target["fixed_top1"]),
                percent(target["tflite_top1"]),
                f"{si(target['file_bytes'])}B",
                "yes" if target["on_front"] else "no",
            )
        )
    return found


def summary(document: Mapping) -> str:
    """The front in one paragraph of HTML."""
    count, seconds = len(document["targets"]), document["seconds"].get("select")
    text = f"{count} target{'s' if count > 1 else ''} of one search"
    if seconds:
        text += f" of {duration(seconds)}, whose bit-meta steps were paid once"
    if document["float_top1"] is not None:
        text += f". The float network is right on {percent(document['float_top1'])} of the images"
    return f"<p>{text}. Each target's folder holds its file, its bits and its own report.</p>"


def table(document: Mapping) -> str:
    """The front as a table of HTML with links to the targets' reports."""
    head, *body = rows(document)
    cells = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    lines = "".join(
        f'<tr><td><a href="{html.escape(target["folder"], quote=True)}/report.html">{row[0]}</a></td>'
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for target, row in zip(document["targets"], body, strict=True)
    )
    return f'<div class="scroll"><table><thead><tr>{cells}</tr></thead><tbody>{lines}</tbody></table></div>'


def _dominates(one: Mapping, other: Mapping) -> bool:
    better = one["bops"] < other["bops"] or one["tflite_top1"] > other["tflite_top1"]
    return better and one["bops"] <= other["bops"] and one["tflite_top1"] >= other["tflite_top1"]
