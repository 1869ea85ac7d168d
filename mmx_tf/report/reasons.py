"""The report's section on why each layer got its bits: losses at the neighbouring candidates, and near ties.

It shows the contents of `sensitivity.json`, which `mmx_tf.run.reasons` writes.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from mmx_tf.recipe.search_length import advice_of
from mmx_tf.report import plots
from mmx_tf.report.parts import Picture, picture
from mmx_tf.report.rendering import listed
from mmx_tf.report.themes import Theme

_LOOK = (
    "Look in the upper chart for layers whose next lower candidate is far above zero: they need their "
    "bits. Where the next higher candidate is far below zero, more bits would help. Bars that their error "
    "lines cross are chance. In the lower chart, bars below the dashed line are choices that the search "
    "could not tell apart."
)
MANY = 0.25
"""Share of near ties from which on a warning asks for a longer search."""
STANDARD_ERRORS = 2


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of the table; texts, "" for what there is not."""

    name: str
    what: str
    bits: int
    lower: str
    higher: str
    probabilities: str
    margin: str
    tie: bool


@dataclasses.dataclass(frozen=True)
class Reasons:
    """The section: the chart, the table, what to look for, and a warning, which may be empty."""

    figure: Picture
    rows: tuple[Row, ...]
    words: str
    warning: str
    mixed_weights: bool


def reasons(document: Mapping | None, settings: Mapping) -> Reasons | None:
    """The section; None of a run that has no sensitivity.json.

    Args:
      document: the contents of sensitivity.json.
      settings: the run's flags by name.
    """
    if not document or not document["layers"]:
        return None
    parts = _parts(document)
    measured = [(name, what, one) for name, what, one in parts if one["lower"] or one["higher"]]
    if not measured and not any(one["probabilities"] for _, _, one in parts):
        return None
    words = []
    if document["images"]:
        words.append(
            f"The loss of the selection is {document['loss']:.4g}: that of the meta-state, whose weights are "
            f"in full precision, on {document['images']:,} training images with batch statistics."
        )
    clear, told = _clear(measured)
    if told:
        words.append(f"{clear} of {told} changes are larger than {STANDARD_ERRORS} of their standard errors.")
    dearest = _most(measured, "lower", 1)
    if dearest:
        words.append(f"Fewer bits would cost the most in {dearest}.")
    best = _most(measured, "higher", -1)
    if best:
        words.append(f"More bits would help the most in {best}.")
    alt = (
        f"Two bar charts over {len(document['layers'])} layers: change of the loss at the next lower and the "
        "next higher candidate, and the margin between the two most probable candidates. The same figures "
        "are in the table."
    )
    return Reasons(
        figure=picture(lambda theme: reasons_figure(document, theme=theme), alt, _LOOK),
        rows=tuple(_row(name, what, one, document["near_tie"]) for name, what, one in parts),
        words=" ".join(words),
        warning=tie_warning(document, settings),
        mixed_weights=any(what == "weights" for _, what, _ in parts),
    )


def tie_warning(document: Mapping, settings: Mapping) -> str:
    """What to do where many choices are near ties; "" where there are few.

    Args:
      document: the contents of sensitivity.json.
      settings: flags by name; `alpha_learning_rate` counts where the document has no length of the search.
    """
    ties, choices = near_ties(document)
    if not short(ties, choices):
        return ""
    return (
        f"{ties} of {choices} choices of bits are near ties: the probabilities of the two best "
        f"candidates differ by less than {document['near_tie']:g}, so the search did not tell them apart. "
        f"{advice_of(document.get('search'), settings)}"
    )


def near_ties(document: Mapping | None) -> tuple[int, int]:
    """How many choices of bits are near ties, and of how many; (0, 0) for a run without sensitivity.json."""
    parts = _parts(document) if document else []
    margins = [one["margin"] for _, _, one in parts if one["margin"] is not None]
    return sum(margin < document["near_tie"] for margin in margins), len(margins)


def short(ties: int, choices: int) -> bool:
    """Whether so many near ties call for a longer search."""
    return choices > 0 and ties >= MANY * choices


def reasons_figure(document: Mapping, *, theme: Theme) -> Figure:
    """Change of the loss at both neighbours of each layer's bits, and below it the margin of its choice."""
    layers = document["layers"]
    figure = Figure(figsize=(16, 7), facecolor=theme.paper)
    changes, margins = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    many = len(layers) > plots.FLAT_NAMES
    figure.subplots_adjust(left=0.066, right=0.992, top=0.93, bottom=0.27 if many else 0.075, hspace=0.09)
    width = min(0.4, 0.025 * len(layers) + 0.05)
    looks = (("lower", -1, theme.lines[1], "next lower"), ("higher", 1, theme.lines[0], "next higher"))
    for key, side, colour, label in looks:
        found = [
            (place, layer["activation"][key])
            for place, layer in enumerate(layers)
            if layer["activation"][key]
        ]
        changes.bar(
            [place + side * width / 2 for place, _ in found],
            [one["change"] for _, one in found],
            yerr=[one["standard_error"] or 0 for _, one in found],
            error_kw={"ecolor": theme.muted, "elinewidth": 1},
            width=width,
            color=colour,
            label=f"{label} candidate of the activation bits",
        )
    changes.axhline(0, color=theme.ink, linewidth=1)
    changes.margins(y=0.18)
    own = [(place, layer["activation"]["margin"]) for place, layer in enumerate(layers)]
    own = [(place, margin) for place, margin in own if margin is not None]
    margins.bar([p for p, _ in own], [m for _, m in own], width=2 * width, color=theme.muted)
    margins.axhline(
        document["near_tie"], color=theme.ink, linestyle="--", linewidth=1.5, label="below: a near tie"
    )
    for axes, label in ((changes, "change of the loss"), (margins, "margin of probability")):
        plots.dress(axes, theme)
        axes.set_ylabel(label, color=theme.ink, fontsize=12)
        plots.literally(axes.legend(frameon=False, fontsize=11, labelcolor=theme.ink, ncols=2))
    margins.set_xlim(-0.7, len(layers) - 0.3)
    plots.name_layers(margins, [layer["name"] for layer in layers], theme)
    figure.align_ylabels((changes, margins))
    return figure


def _parts(document: Mapping) -> list[tuple[str, str, Mapping]]:
    """(layer, "activations" or "weights", what is known of its bits)."""
    return [
        (layer["name"], what, layer[key])
        for layer in document["layers"]
        for what, key in (("activations", "activation"), ("weights", "weights"))
        if layer[key] is not None
    ]


def _most(parts: Sequence, key: str, sign: int) -> str:
    """The three layers whose change at a neighbour is the largest of a sign, in words."""
    found = [(sign * one[key]["change"], name, one) for name, _, one in parts if one[key]]
    found = sorted((entry for entry in found if entry[0] > 0), key=lambda entry: -entry[0])[:3]
    return listed(
        f"{name} ({one[key]['change']:+.3g} at {one[key]['bits']} instead of {one['bits']} bits)"
        for _, name, one in found
    ) if found else ""  # fmt: skip


def _clear(parts: Sequence) -> tuple[int, int]:
    """How many changes of the loss are no chance, and how many have a standard error that tells."""
    found = [one[key] for _, _, one in parts for key in ("lower", "higher") if one[key]]
    found = [one for one in found if one["standard_error"] is not None]
    return sum(abs(one["change"]) > STANDARD_ERRORS * one["standard_error"] for one in found), len(found)


def _row(name: str, what: str, one: Mapping, near_tie: float) -> Row:
    def neighbour(found):
        if not found:
            return ""
        error = found["standard_error"]
        return f"{found['bits']} bits: {found['change']:+.4f}" + (
            f" ± {error:.4f}" if error is not None else ""
        )

    probabilities, margin = one["probabilities"] or {}, one["margin"]
    return Row(
        name=name,
        what=what,
        bits=one["bits"],
        lower=neighbour(one["lower"]),
        higher=neighbour(one["higher"]),
        probabilities=", ".join(f"{bits}: {p:.3f}" for bits, p in probabilities.items()),
        margin="" if margin is None else f"{margin:.3f}",
        tie=margin is not None and margin < near_tie,
    )
