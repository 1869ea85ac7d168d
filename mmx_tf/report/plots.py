"""The bit plot of a run: each layer's activation bits and cost. Other figures use `render` and `dress` too.

The bit plot is the paper's Figure 7 with a cost panel below it: one bar per layer in graph order, coloured by
layer kind, with its bits above it. If the weight bits of the searched layers differ, a diamond marks those of
each layer.

    save_bits_plot("bits.png", selection, metrics)

Figures are built on `matplotlib.figure.Figure` directly: no pyplot, so no global state and no display.
"""

import io
import math
import os
from collections.abc import Mapping, Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from mmx_tf.export.atomic import write_atomically
from mmx_tf.notation import si
from mmx_tf.report import facts as report_facts
from mmx_tf.report.facts import RunFacts
from mmx_tf.report.themes import LIGHT, Theme

_KIND_LABELS = {
    "conv": "convolution",
    "depthwise": "depthwise convolution",
    "dense": "dense",
    "transposed": "transposed convolution",
}
_MAX_NAMES = 72  # more layer names than this do not fit side by side at a readable size
FLAT_NAMES = 8
"""This many names of layers fit below an axis without a slant."""
_MAX_NAME_LENGTH = 24


def bits_figure(facts: RunFacts, *, theme: Theme = LIGHT, title: str | None = None) -> Figure:
    """Bars of the activation bits of every layer, and below them every layer's share of BOPs and of MACs."""
    figure = Figure(figsize=(16, 7), facecolor=theme.paper)
    bits_axes, cost_axes = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    figure.subplots_adjust(
        left=0.066,
        right=0.992,
        top=0.865,
        bottom=0.27 if len(facts.layers) > FLAT_NAMES else 0.075,
        hspace=0.09,
    )
    places = range(len(facts.layers))
    width = min(0.8, 0.05 * len(facts.layers))  # few layers would get very wide bars
    colours = [theme.kind(layer.kind) for layer in facts.layers]

    bits = [layer.activation_bits for layer in facts.layers]
    bits_axes.bar(places, bits, color=colours, width=width)
    dress(bits_axes, theme)
    shown, top = {*facts.bit_widths, *bits}, max(bits)
    if facts.mixed_weights:
        weights = [layer.weight_bits for layer in facts.layers]
        bits_axes.plot(places, weights, **_weight_marks(theme))
        shown, top = shown | set(weights), max(top, *weights)
    bits_axes.set_yticks(sorted(shown))
    bits_axes.set_ylim(0, top * 1.13)
    bits_axes.set_ylabel("bits" if facts.mixed_weights else "activation bits", color=theme.ink, fontsize=12)
    above = 0.04 if facts.mixed_weights else 0.015  # a diamond may stand on the bar
    if len(bits) <= _MAX_NAMES:
        for place, value in zip(places, bits, strict=True):
            bits_axes.text(
                place,
                value + max(bits) * above,
                str(value),
                ha="center",
                va="bottom",
                fontsize=9.5,
                color=theme.ink,
            )

    shares = [100 * layer.bops_share for layer in facts.layers]
    cost_axes.bar(places, shares, color=colours, width=width)
    cost_axes.plot(
        places,
        [100 * layer.macs_share for layer in facts.layers],
        linestyle="none",
        marker="_",
        markersize=10,
        markeredgewidth=2,
        color=theme.ink,
    )
    dress(cost_axes, theme)
    cost_axes.set_ylim(bottom=0)
    cost_axes.set_ylabel("share of BOPs, %", color=theme.ink, fontsize=12)
    cost_axes.set_xlim(-0.7, len(bits) - 0.3)
    name_layers(cost_axes, [layer.name for layer in facts.layers], theme)

    figure.align_ylabels((bits_axes, cost_axes))
    _bits_legend(figure, facts, theme)
    figure.text(
        0.052,
        0.945,
        title or f"Activation {'and weight ' if facts.mixed_weights else ''}bits of every layer",
        fontsize=16,
        fontweight="bold",
        color=theme.ink,
        parse_math=False,
    )
    figure.text(0.052, 0.893, _cost_line(facts), fontsize=12, color=theme.muted)
    return figure


def save_bits_plot(
    path: str | os.PathLike, selection: Mapping, metrics: Mapping, *, title: str | None = None
) -> None:
    """Writes the bit plot of a run as a PNG of 1600 x 700 pixels, atomically.

    Args:
      path: the file to write; its folder must exist.
      selection: the contents of `bit_selection.json`.
      metrics: the contents of `metrics.json`.
      title: bold first line of the figure.

    Raises:
      ValueError: `selection` or `metrics` lacks a required key.
    """
    figure = bits_figure(report_facts.run_facts(selection, metrics), title=title)
    write_atomically(path, render(figure, "png"))


def render(figure: Figure, form: str) -> bytes:
    """The figure as "png" (100 dots per inch) or "svg"; equal figures give equal bytes."""
    buffer = io.BytesIO()
    stamp = {"Date": None} if form == "svg" else {"Software": None}
    with matplotlib.rc_context({"svg.hashsalt": "mmx_tf"}):
        figure.savefig(buffer, format=form, dpi=100, metadata=stamp)
    return buffer.getvalue()


def dress(axes: Axes, theme: Theme) -> None:
    """Gives the axes the grid, ticks and spines of a theme."""
    axes.set_facecolor(theme.paper)
    axes.grid(axis="y", color=theme.grid, linewidth=1)
    axes.set_axisbelow(True)
    axes.tick_params(colors=theme.muted, labelcolor=theme.ink, length=0, labelsize=11)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(theme.muted)


def literally(legend: Legend) -> None:
    """Shows the names in a legend as they are: a dollar sign would otherwise open a formula."""
    for text in legend.get_texts():
        text.set_parse_math(False)


def _bits_legend(figure: Figure, facts: RunFacts, theme: Theme) -> None:
    present = {layer.kind for layer in facts.layers}
    unknown = sorted(present - set(report_facts.KINDS))
    kinds = [kind for kind in report_facts.KINDS if kind in present] + unknown
    handles = [Patch(color=theme.kind(kind), label=_KIND_LABELS.get(kind, kind)) for kind in kinds]
    tick = Line2D(
        [],
        [],
        linestyle="none",
        marker="_",
        markersize=10,
        markeredgewidth=2,
        color=theme.ink,
        label="share of MACs, for comparison",
    )
    if facts.mixed_weights:
        handles.append(Line2D([], [], label="weight bits", **_weight_marks(theme)))
    literally(
        figure.legend(
            handles=[*handles, tick],
            loc="upper right",
            bbox_to_anchor=(0.996, 0.995),
            ncols=math.ceil((len(handles) + 1) / 2),
            frameon=False,
            fontsize=11,
            labelcolor=theme.ink,
        )
    )


def _weight_marks(theme: Theme) -> dict:
    """The look of the diamonds at the weight bits."""
    colours = {"markerfacecolor": theme.paper, "markeredgecolor": theme.ink}
    return {"linestyle": "none", "marker": "D", "markersize": 6, "markeredgewidth": 1.5, **colours}


def _cost_line(facts: RunFacts) -> str:
    line = f"{si(facts.bops)}BOPs"
    if facts.target_bops:
        line += f" (budget {si(facts.target_bops)}BOPs)"
    if "by_ops" in facts.average_bits:
        line += f", {facts.average_bits['by_ops']:.2f} activation bits on average, weighted by operations"
    return f"{line}; first and last layer are not searched"


def name_layers(axes: Axes, names: Sequence[str], theme: Theme) -> None:
    """Writes the names of layers below an axis, which has one place for each."""
    places = range(0, len(names), math.ceil(len(names) / _MAX_NAMES))
    slanted = {"rotation": 60, "ha": "right", "rotation_mode": "anchor", "fontsize": 9}
    axes.set_xticks(places)
    axes.set_xticklabels(
        [_shorten(names[place]) for place in places],
        color=theme.ink,
        parse_math=False,
        **({"fontsize": 11} if len(names) <= FLAT_NAMES else slanted),
    )


def _shorten(name: str) -> str:
    if len(name) <= _MAX_NAME_LENGTH:
        return name
    half = (_MAX_NAME_LENGTH - 1) // 2
    return f"{name[:half]}…{name[-half:]}"
