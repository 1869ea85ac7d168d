"""Results of `benchmarks.selection_methods` as numbers, a table and a plot.

A row is what one run found: its `method`, `target_average_bits`, `seed`, `fixed_top1` and `float_top1`.
"""

import numpy as np
from matplotlib.figure import Figure

from mmx_tf.report import themes

METHODS = {
    "metamix": "MetaMix",
    "single": "one bit-width",
    "meta_single": "one bit-width, from a meta-state",
    "random": "random bits, from a meta-state",
    "joint": "joint search",
    "trained_weights": "MetaMix with trained weights",
    "additive": "bits by the layers' sensitivities, from the meta-state",
}
"""Method -> how plots and tables call it."""


def summarized(rows: list[dict]) -> list[dict]:
    """Mean, smallest and largest fixed top-1 of each method at each budget, and how MetaMix compares.

    `ahead` has, for each seed that both have, MetaMix's fixed top-1 less the method's, of which `ahead_mean`
    and `ahead_error` are the mean and its standard error, None of too few seeds. Of several runs with one
    method, budget and seed the mean is that seed's value.
    """
    top1: dict[tuple, list[float]] = {}
    for row in rows:
        key = (row["target_average_bits"], row["method"], row["seed"])
        top1.setdefault(key, []).append(row["fixed_top1"])
    summary = []
    for bits, method in sorted({key[:2] for key in top1}, key=lambda key: (-key[0], key[1])):
        found = {seed: values for (b, m, seed), values in sorted(top1.items()) if (b, m) == (bits, method)}
        means = {seed: float(np.mean(values)) for seed, values in found.items()}
        ours = {seed: top1.get((bits, "metamix", seed)) for seed in found}
        ahead = [float(np.mean(ours[seed])) - means[seed] for seed in found if ours[seed] is not None]
        error = float(np.std(ahead, ddof=1) / np.sqrt(len(ahead))) if len(ahead) > 1 else None
        summary.append(
            {
                "target_average_bits": bits,
                "method": method,
                "mean": float(np.mean(list(means.values()))),
                "smallest": min(value for values in found.values() for value in values),
                "largest": max(value for values in found.values() for value in values),
                "ahead": ahead,
                "ahead_mean": float(np.mean(ahead)) if ahead else None,
                "ahead_error": error,
            }
        )
    return summary


def table(summary: list[dict]) -> str:
    """A summary as text, in percent."""
    lines = [f"{'budget':>6}  {'method':<32} {'top-1':>6} {'seeds from .. to':>16}  MetaMix ahead by"]
    for row in summary:
        ahead = " ".join(f"{100 * value:+.2f}" for value in row["ahead"])
        if row["ahead_error"] is not None:
            ahead += f", mean {100 * row['ahead_mean']:+.2f} (standard error {100 * row['ahead_error']:.2f})"
        lines.append(
            f"{row['target_average_bits']:>6g}  {METHODS[row['method']]:<32} {100 * row['mean']:>6.2f} "
            f"{100 * row['smallest']:>7.2f} .. {100 * row['largest']:5.2f}  "
            + ("" if row["method"] == "metamix" else ahead)
        )
    return "\n".join(lines)


def figure(rows: list[dict], title: str) -> Figure:
    """Fixed top-1 of each method, a panel for each budget: a dot for each seed, a line at their mean."""
    theme = themes.LIGHT
    budgets = sorted({row["target_average_bits"] for row in rows}, reverse=True)
    methods = [method for method in METHODS if any(row["method"] == method for row in rows)]
    figure = Figure(figsize=(1 + 4.5 * len(budgets), 4.5), facecolor=theme.paper, layout="constrained")
    figure.suptitle(title, color=theme.ink)
    panels = figure.subplots(1, len(budgets), sharey=True, squeeze=False)[0]
    for axes, bits in zip(panels, budgets, strict=True):
        for place, method in enumerate(methods):
            found = [
                100 * row["fixed_top1"]
                for row in rows
                if (row["target_average_bits"], row["method"]) == (bits, method)
            ]
            if found:
                colour, spread = theme.lines[place % len(theme.lines)], 0.06 * (np.arange(len(found)))
                axes.plot(place + spread - spread.mean(), found, "o", color=colour, markersize=8)
                axes.hlines(np.mean(found), place - 0.3, place + 0.3, color=colour, linewidth=2)
        axes.axhline(100 * rows[0]["float_top1"], color=theme.muted, linestyle="--", label="float network")
        axes.set_title(f"{bits:g} bits on average", color=theme.ink)
        axes.set_xticks(range(len(methods)), [METHODS[m].replace(", ", ",\n") for m in methods], fontsize=9)
        axes.set_xlim(-0.6, len(methods) - 0.4)
        axes.grid(axis="y", color=theme.grid)
        axes.set_axisbelow(True)
    panels[0].set_ylabel("top-1 of the fixed network, %", color=theme.ink)
    panels[0].legend(frameon=False, labelcolor=theme.ink)
    return figure
