"""The paper's Figures 1, 2, 5, 6 and 7, drawn from the documents that their JSON files hold.

distributions_figure(document), switching_figure(document), accuracy_figure(document), bits_figure(document)
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from mmx_tf.figures.options import weights_label
from mmx_tf.notation import prefix_of
from mmx_tf.report import plots, themes
from mmx_tf.report.facts import KINDS

INK = themes.LIGHT


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def distributions_figure(document: Mapping, *, title: str) -> Figure:
    """Histograms of Figures 1 and 6: a row per weight precision, for each layer a column per bit-width."""
    layers, cells = document["layers"], document["cells"]
    rows = list(dict.fromkeys(cell["weight_bits"] for cell in cells))
    columns = list(dict.fromkeys(cell["activation_bits"] for cell in cells))
    figure = Figure(figsize=(16, 2.2 * len(rows) + 1.6), facecolor=INK.paper, layout="constrained")
    figure.suptitle(title, fontsize=16, fontweight="bold", color=INK.ink, x=0.01, ha="left")
    parts = np.atleast_1d(figure.subfigures(1, len(layers), wspace=0.03))
    for part, layer in zip(parts, layers, strict=True):
        part.set_facecolor(INK.paper)
        part.suptitle(f"input of {layer}", fontsize=13, color=INK.ink, parse_math=False)
        axes = part.subplots(len(rows), len(columns), sharex=True, sharey=True, squeeze=False)
        for cell in (cell for cell in cells if cell["layer"] == layer):
            row, column = rows.index(cell["weight_bits"]), columns.index(cell["activation_bits"])
            ax = axes[row, column]
            plots.dress(ax, INK)
            edges = document["edges"][layer]
            ax.stairs(cell["counts"], edges, fill=True, color=INK.lines[column % len(INK.lines)])
            ax.set_yscale("log")
            ax.set_ylim(bottom=0.5)
            ax.set_xlim(edges[0], edges[-1])
            ax.tick_params(labelsize=9)
            ax.text(
                0.97, 0.93, f"σ {cell['standard_deviation']:.3f}", transform=ax.transAxes, ha="right",
                va="top", fontsize=10, color=INK.ink,
            )  # fmt: skip
            if row == 0:
                ax.set_title(f"{columns[column]}-bit activations", fontsize=11, color=INK.ink)
            if column == 0:
                spread = _row_of(document["spread"], layer, cell["weight_bits"])["running"]
                ax.set_ylabel(
                    f"{weights_label(cell['weight_bits'])}\nσ ratio {_number(spread['deviation_ratio'])}, "
                    f"distance {_number(spread['distance'])}", fontsize=9, color=INK.ink,
                )  # fmt: skip
    return figure


def _row_of(spreads: Sequence[Mapping], layer: str, weight_bits) -> Mapping:
    return next(row for row in spreads if (row["layer"], row["weight_bits"]) == (layer, weight_bits))


def switching_figure(document: Mapping) -> Figure:
    """Figure 2: the running variance over steps, each point in the colour of the bits in force."""
    bits = np.asarray(document["bits"])
    figure = Figure(figsize=(12, 8), facecolor=INK.paper, layout="constrained")
    figure.suptitle(
        f"Running variance behind {document['layer']}, whose bits switch at random",
        fontsize=15, fontweight="bold", color=INK.ink, parse_math=False,
    )  # fmt: skip
    for ax, row in zip(figure.subplots(3, 1, sharex=True, sharey=True), document["rows"], strict=True):
        plots.dress(ax, INK)
        values, steps = np.asarray(row["running_variance"]), np.arange(1, len(bits) + 1)
        ax.plot(steps, values, color=INK.grid, linewidth=1.5, zorder=2)
        for colour, width in zip(INK.lines, sorted(set(document["bits"]), reverse=True), strict=False):
            there = bits == width
            ax.plot(
                steps[there], values[there], color=colour, linestyle="none", marker="o", markersize=4,
                label=f"{width} bits", zorder=3,
            )  # fmt: skip
        share = row["explained_share"]
        ax.set_title(
            f"{row['row']}: the bits explain {_number(share['running_variance'])} of the running, "
            f"{_number(share['batch_variance'])} of the batch variance "
            f"(by chance {document['chance_share']:.2f})",
            fontsize=11, loc="left", color=INK.ink,
        )  # fmt: skip
        ax.set_ylabel("running variance", fontsize=11, color=INK.ink)
    ax.set_xlabel("step", fontsize=11, color=INK.ink)
    figure.axes[0].legend(frameon=False, fontsize=10.5, labelcolor=INK.ink, ncols=3, loc="upper right")
    return figure


def accuracy_figure(document: Mapping) -> Figure:
    """Figure 5: top-1 of the fixed-bit networks over BOPs; a line for each way to choose bits.

    Where several runs have one budget, the line goes through their mean.
    """
    runs = document["runs"]
    factor, prefix = prefix_of(max(run["bops"] for run in runs))
    figure = Figure(figsize=(10, 6), facecolor=INK.paper, layout="constrained")
    axes = figure.subplots()
    plots.dress(axes, INK)
    labels = list(dict.fromkeys(run["label"] for run in runs))
    for index, label in enumerate(labels):
        there = [run for run in runs if run["label"] == label]
        style = {"color": INK.lines[index % len(INK.lines)], "marker": "os^Dv"[index % 5], "markersize": 8}
        points = np.array([(run["bops"] / factor, 100 * run["fixed_top1"]) for run in there])
        axes.plot(*points.T, linestyle="none", **style)
        # Runs of one budget differ by their seeds: the line goes through their mean.
        targets = np.array([run["target_bops"] or run["bops"] for run in there])
        means = np.array([points[targets == target].mean(axis=0) for target in np.unique(targets)])
        axes.plot(*means.T, color=style["color"], linewidth=1.8)
        axes.plot([], [], linewidth=1.8, label=label, **style)
    # Other kernels decide an image in thousands otherwise.
    found = {round(run["float_top1"], 3) for run in runs if run["float_top1"] is not None}
    for i, value in enumerate(sorted(found)):
        label = None if i else "float network" if len(found) == 1 else "float networks"
        axes.axhline(100 * value, color=INK.muted, linestyle="--", linewidth=1.5, label=label)
    axes.set_title("Accuracy over BOPs", fontsize=15, color=INK.ink, loc="left")
    axes.set_xlabel(f"{prefix}BOPs of one image", fontsize=12, color=INK.ink)
    axes.set_ylabel(f"top-1 on {document['eval_images']:,} images, %", fontsize=12, color=INK.ink)
    axes.margins(x=0.1, y=0.15)
    legend = axes.legend(frameon=False, fontsize=10.5, labelcolor=INK.ink)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def bits_figure(document: Mapping) -> Figure:
    """Figure 7: bars of every layer's bits for each selection; over (b) the Hessian trace per operation."""
    selections, layers = document["selections"], document["layers"]
    figure = Figure(figsize=(16, 3.4 * len(selections) + 1.2), facecolor=INK.paper, layout="constrained")
    places = range(len(layers))
    all_axes = figure.subplots(len(selections), 1, sharex=True, squeeze=False)[:, 0]
    for ax, selection in zip(all_axes, selections, strict=True):
        plots.dress(ax, INK)
        ax.bar(places, selection["activation_bits"], color=[INK.kind(layer["kind"]) for layer in layers])
        ax.set_ylabel("activation bits", fontsize=12, color=INK.ink)
        ax.set_yticks(sorted({*selection["activation_bits"], *document["bit_widths"]}))
        text = f"({selection['part']}) {selection['name']}: {selection['bops']:,} BOPs"
        ax.set_title(text, fontsize=13, loc="left", color=INK.ink)
    means = np.array([layer["trace_per_operation"] for layer in layers])
    errors = np.array([layer["standard_error_per_operation"] or 0.0 for layer in layers])
    twin = all_axes[-1].twinx()
    twin.errorbar(
        places, means, yerr=errors, color=INK.lines[1], marker="o", markersize=4, linewidth=1.8, capsize=2
    )
    twin.axhline(0, color=INK.lines[1], linewidth=0.8, linestyle=":")
    twin.set_ylabel("Hessian trace / operations", fontsize=11, color=INK.lines[1])
    twin.tick_params(colors=INK.lines[1], labelsize=9)
    for spine in twin.spines.values():
        spine.set_visible(False)
    all_axes[-1].set_xlim(-0.7, len(layers) - 0.3)
    all_axes[-1].set_xticks(places)
    all_axes[-1].set_xticklabels(
        [layer["name"] for layer in layers], rotation=60, ha="right", rotation_mode="anchor", fontsize=8,
        parse_math=False,
    )  # fmt: skip
    present = [kind for kind in KINDS if any(layer["kind"] == kind for layer in layers)]
    figure.legend(
        handles=[Patch(color=INK.kind(kind), label=kind) for kind in present],
        loc="outside upper right", ncols=len(present), frameon=False, fontsize=11, labelcolor=INK.ink,
    )  # fmt: skip
    return figure
