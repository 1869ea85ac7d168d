"""The report's sections of curves: what each phase logged over its steps or epochs."""

import dataclasses
import itertools
import math
import re
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from mmx_tf.notation import prefix_of
from mmx_tf.report import plots
from mmx_tf.report.facts import RunFacts
from mmx_tf.report.parts import Picture, picture
from mmx_tf.report.themes import Theme

_SEARCH = (
    "Look for curves that still move at the right end: the search was short then. The BOPs of the most "
    "probable bits need not end at the budget, since the repair follows."
)
_TRAINING = (
    "Look for a loss that still falls at the right end: more epochs would help. If the loss falls and the "
    "accuracy on evaluation images does not rise, they would not."
)
_SCORES = ("acc", "top1", "top5")
_TITLES = {
    "losses": ("loss", "loss"),
    "accuracy": ("accuracy", "accuracy, %"),
    "regularizer": ("distance from the budgets", "share of the budget"),
    "alpha_entropy": ("entropy of alpha", "entropy, nats"),
    "weight_alpha_entropy": ("entropy of alpha of the weight bits", "entropy, nats"),
    "alpha_margin": ("lead of the most probable bits over the next", "difference of probabilities"),
    "alpha_flips": ("layers whose bits a step has changed", "layers"),
}
"""Log name -> title and unit of its panel; others are shown by their names."""
_COST = re.compile(r"cost(?:_(\d+))?")


@dataclasses.dataclass(frozen=True)
class Panel:
    """One set of curves: name -> values in `unit` over `x_label`; `level` is a line across: (name, value)."""

    title: str
    curves: Mapping[str, Sequence[float]]
    unit: str
    x_label: str = "step"
    level: tuple[str, float] | None = None


@dataclasses.dataclass(frozen=True)
class Curves:
    """The section of one phase."""

    heading: str
    figure: Picture


def curves(facts: RunFacts, history: Mapping, settings: Mapping) -> list[Curves]:
    """One section each for the search and the trainings; a phase without recorded values has none."""
    found = []
    for phase, heading, look in (
        ("select", "Bit selection over time", _SEARCH),
        ("activation", "Training of activations over time", _TRAINING),
        ("train", "Weight training over time", _TRAINING),
        ("float", "Training of the float network", _TRAINING),
    ):
        recorded = {name: values for name, values in (history.get(phase) or {}).items() if len(values)}
        panels = _panels(facts, recorded, settings.get(f"{phase}_epochs"))
        if panels:
            alt = f"{heading}: {'; '.join(panel.title for panel in panels)}."
            figure = picture(lambda theme, panels=panels: _figure(panels, theme=theme), alt, look)
            found.append(Curves(heading, figure))
    return found


def _panels(facts: RunFacts, curves: Mapping[str, Sequence[float]], epochs: object) -> list[Panel]:
    """One panel for each cost, one for losses, one for accuracies, and one for every other curve."""
    groups: dict[str, dict[str, Sequence[float]]] = {}
    for name, values in curves.items():
        low = name.lower()
        group = "losses" if "loss" in low else "accuracy" if any(score in low for score in _SCORES) else name
        groups.setdefault(group, {})[name] = values
    panels = []
    for group, lines in groups.items():
        length = max(len(values) for values in lines.values())
        named = group.replace("_", " ")
        (heading, unit), level, factor = _TITLES.get(group, (named, named)), None, 1
        cost = _cost_of(facts, group)
        if cost:
            factor, unit, target = cost
            heading = f"{unit} of the most probable bits"
            level = ("budget", target / factor) if target else None
        if group == "accuracy":
            factor = 0.01
        lines = {name: [value / factor for value in values] for name, values in lines.items()}
        x_label = "epoch" if str(length) == str(epochs) else "step"
        panels.append(Panel(heading, lines, unit, x_label=x_label, level=level))
    return panels


def _cost_of(facts: RunFacts, name: str) -> tuple[float, str, float | None] | None:
    """What the values of a cost's log are divided by, their unit then, and the budget; None of other logs.

    The logs `cost`, `cost_2`, ... are of `facts.costs`, in this order: budgets in other units than BOPs.
    """
    if name == "bops":
        factor, prefix = prefix_of(facts.bops)
        return factor, f"{prefix}BOPs", facts.target_bops
    found = _COST.fullmatch(name)
    place = int(found[1] or 1) - 1 if found else len(facts.costs)
    if place >= len(facts.costs):
        return None
    cost = facts.costs[place]
    if cost["unit"].startswith("bytes"):
        return 1000, cost["unit"].replace("bytes", "kB", 1), cost["target"]
    return 1, cost["unit"], cost["target"]


def _figure(panels: Sequence[Panel], *, theme: Theme) -> Figure:
    """One axes per panel, up to three in a row. Points that are not finite are left out of the curve."""
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(16 * columns / 3, 4.2 * rows), facecolor=theme.paper, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.15, h_pad=0.1)
    all_axes = figure.subplots(rows, columns, squeeze=False).flat
    for axes in all_axes[len(panels) :]:
        axes.set_visible(False)
    for axes, panel in zip(all_axes, panels, strict=False):
        plots.dress(axes, theme)
        for colour, (name, values) in zip(itertools.cycle(theme.lines), panel.curves.items(), strict=False):
            x = range(1, len(values) + 1)
            axes.plot(
                x,
                [v if math.isfinite(v) else math.nan for v in values],
                color=colour,
                linewidth=1.8,
                marker="o" if len(values) <= 30 else "",
                markersize=4,
                label=name.replace("_", " "),
            )
        if panel.level:
            name, value = panel.level
            axes.axhline(value, color=theme.ink, linestyle="--", linewidth=1.5, label=name)
        axes.set_title(panel.title, fontsize=13, color=theme.ink, loc="left", parse_math=False)
        axes.set_xlabel(panel.x_label, fontsize=11, color=theme.muted)
        axes.set_ylabel(panel.unit, fontsize=11, color=theme.muted, parse_math=False)
        axes.xaxis.get_major_locator().set_params(integer=True)
        if len(panel.curves) + bool(panel.level) > 1:
            plots.literally(axes.legend(frameon=False, fontsize=10.5, labelcolor=theme.ink))
    return figure
