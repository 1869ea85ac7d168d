"""Results of `benchmarks.practices` as numbers, a table and a plot.

A row is what one run found: its `practice`, `bits`, `seed`, `float_top1`, `fixed_top1` and `folded_top1`.
"""

import numpy as np
from matplotlib.figure import Figure

from benchmarks import measuring
from mmx_tf.report import themes

JUDGED = ("fixed_top1", "folded_top1")
MARKS = (("fixed_top1", "o", -0.12), ("folded_top1", "s", 0.12))
"""What is plotted, its marker and how far from the line of its practice."""
PLAIN = "plain"


def summarized(rows: list[dict]) -> list[dict]:
    """For each number of bits and practice: top-1 seed by seed, and what it gains over "plain".

    `gain` has, for each seed that both have, the practice's top-1 less that of plain, of which `gain_mean`
    and `gain_error` are the mean and its standard error, None of too few seeds. All of it stands under
    "fixed_top1" and "folded_top1".
    """
    found = {(row["bits"], row["practice"], row["seed"]): row for row in rows}
    summary = []
    for bits, practice in dict.fromkeys(key[:2] for key in found):
        of_practice = {key[2]: row for key, row in found.items() if key[:2] == (bits, practice)}
        line = {"bits": bits, "practice": practice, "seeds": sorted(of_practice)}
        for name in JUDGED:
            top1 = [of_practice[seed][name] for seed in line["seeds"]]
            gain = [
                of_practice[seed][name] - found[bits, PLAIN, seed][name]
                for seed in line["seeds"]
                if (bits, PLAIN, seed) in found
            ]
            mean, error = measuring.mean_and_error(gain)
            line[name] = {"top1": top1, "gain": gain, "gain_mean": mean, "gain_error": error}
        summary.append(line)
    return summary


def table(summary: list[dict]) -> str:
    """A summary as text, in percent."""
    lines = [f"{'bits':>4}  {'practice':<14} {'fixed':>14}  gain      {'folded':>14}  gain"]
    for line in summary:
        words = f"{line['bits']:>4}  {line['practice']:<14}"
        for name in JUDGED:
            words += f" {' '.join(f'{100 * value:.2f}' for value in line[name]['top1']):>14}  "
            words += f"{'' if line['practice'] == PLAIN else _gain(line[name]):<9}"
        lines.append(words.rstrip())
    return "\n".join(lines)


def _gain(line: dict) -> str:
    if line["gain_mean"] is None:
        return ""
    error = "" if line["gain_error"] is None else f" ±{100 * line['gain_error']:.2f}"
    return f"{100 * line['gain_mean']:+.2f}{error}"


def figure(rows: list[dict], title: str) -> Figure:
    """What every practice gains in points of the folded network's top-1; a panel for each number of bits."""
    theme = themes.LIGHT
    summary = [line for line in summarized(rows) if line["practice"] != PLAIN]
    widths = sorted({row["bits"] for row in rows}, reverse=True)
    names = list(dict.fromkeys(line["practice"] for line in summary))
    figure = Figure(figsize=(1 + 4.5 * len(widths), 4.5), facecolor=theme.paper, layout="constrained")
    figure.suptitle(f"{title}: top-1 beside plain training", color=theme.ink)
    panels = figure.subplots(1, len(widths), sharex=True, sharey=True, squeeze=False)[0]
    for axes, bits in zip(panels, widths, strict=True):
        for line in summary:
            if line["bits"] == bits:
                place = names.index(line["practice"])
                for index, (name, marker, shift) in enumerate(MARKS):
                    gain = 100 * np.array(line[name]["gain"])
                    axes.plot(gain, np.full(len(gain), place + shift), marker, color=theme.lines[index])
        axes.axvline(0, color=theme.muted)
        axes.set_title(f"{bits}-bit activations", color=theme.ink)
        axes.set_yticks(range(len(names)), names)
        axes.set_xlabel("points; a dot for each seed", color=theme.ink)
        axes.grid(axis="x", color=theme.grid)
        axes.set_axisbelow(True)
    panels[0].invert_yaxis()
    for index, (name, marker, _) in enumerate(MARKS):
        label = f"{name.removesuffix('_top1')} network"
        panels[0].plot([], [], marker, color=theme.lines[index], label=label)
    panels[0].legend(frameon=False, labelcolor=theme.ink)
    return figure
