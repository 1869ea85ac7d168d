"""Results of `benchmarks.ram_budgets` as numbers, a table and a plot.

A row is what one run found: its `arm`, `seed`, `ram_bytes`, `tflite_top1` and `float_top1`.
"""

import numpy as np
from matplotlib.figure import Figure

from mmx_tf.report import plots, themes


def summarized(rows: list[dict]) -> dict[str, dict]:
    """For each arm its seeds, RAM and the .tflite's top-1: mean, smallest and largest of its seeds.

    `share` is its mean RAM over that of int8 where that is known, `behind_int8` int8's top-1 less the arm's
    for each seed that both have.
    """
    int8 = {row["seed"]: row for row in rows if row["arm"] == "int8"}
    summary = {}
    for arm in dict.fromkeys(row["arm"] for row in rows):
        own = [row for row in rows if row["arm"] == arm]
        top1 = [row["tflite_top1"] for row in own]
        paired = [(int8[row["seed"]], row) for row in own if row["seed"] in int8]
        summary[arm] = {
            "seeds": [row["seed"] for row in own],
            "ram_bytes": float(np.mean([row["ram_bytes"] for row in own])),
            "share": float(np.mean([row["ram_bytes"] / full["ram_bytes"] for full, row in paired]))
            if paired
            else None,
            "mean": float(np.mean(top1)),
            "smallest": min(top1),
            "largest": max(top1),
            "behind_int8": [full["tflite_top1"] - row["tflite_top1"] for full, row in paired],
        }
    return summary


def table(summary: dict[str, dict]) -> str:
    """A summary as text, RAM in bytes and top-1 in percent."""
    lines = [f"{'arm':<10} {'RAM':>7} {'of int8':>8} {'top-1':>6}  {'seeds from .. to':>16}  behind int8 by"]
    for arm, row in summary.items():
        share = "" if row["share"] is None else f"{row['share']:.1%}"
        lines.append(
            f"{arm:<10} {row['ram_bytes']:>7.0f} {share:>8} {100 * row['mean']:>6.2f}  "
            f"{100 * row['smallest']:>6.2f} .. {100 * row['largest']:6.2f}  "
            + " ".join(f"{100 * value:+.2f}" for value in row["behind_int8"])
        )
    return "\n".join(lines)


def figure(rows: list[dict], title: str) -> Figure:
    """Top-1 of the .tflite over RAM: a dot for each run, and a ring at each arm's mean."""
    theme = themes.LIGHT
    figure = Figure(figsize=(8, 4.5), facecolor=theme.paper, layout="constrained")
    axes = figure.subplots()
    plots.dress(axes, theme)
    summary = summarized(rows)
    for place, (arm, found) in enumerate(summary.items()):
        own, colour = [row for row in rows if row["arm"] == arm], theme.lines[place % len(theme.lines)]
        axes.plot(
            [row["ram_bytes"] / 1024 for row in own],
            [100 * row["tflite_top1"] for row in own],
            "o",
            color=colour,
            markersize=6,
        )
        axes.plot(
            found["ram_bytes"] / 1024,
            100 * found["mean"],
            "o",
            color=colour,
            markersize=14,
            markerfacecolor="none",
            markeredgewidth=2,
            label=arm if len(found["seeds"]) > 1 else f"{arm}, one seed",
        )
    level = 100 * np.mean(list({row["seed"]: row["float_top1"] for row in rows}.values()))
    axes.axhline(level, color=theme.muted, linestyle="--", label="float network")
    axes.set_xlim(left=0)
    axes.set_title(title, color=theme.ink)
    axes.set_xlabel("RAM of the C source, KiB", color=theme.ink)
    axes.set_ylabel("top-1 of the .tflite, %", color=theme.ink)
    plots.literally(axes.legend(frameon=False, labelcolor=theme.ink))
    return figure
