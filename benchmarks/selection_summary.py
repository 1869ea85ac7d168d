"""Results of `benchmarks.selection_methods` as numbers, a table and a plot.

A row is what one run found: its `method`, `target_average_bits`, `seed`, `fixed_top1` and `float_top1`.
"""

import numpy as np
from matplotlib.figure import Figure

from benchmarks import measuring
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
        ahead_mean, error = measuring.mean_and_error(ahead)
        summary.append(
            {
                "target_average_bits": bits,
                "method": method,
                "mean": float(np.mean(list(means.values()))),
                "smallest": min(value for values in found.values() for value in values),
                "largest": max(value for values in found.values() for value in values),
                "ahead": ahead,
                "ahead_mean": ahead_mean,
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
    """Fixed top-1 of each method, a panel for each budget: a dot for each run, a colour for each seed.

    A line is at the mean over seeds, a dashed one at the float networks'.
    """
    theme = themes.LIGHT
    budgets = sorted({row["target_average_bits"] for row in rows}, reverse=True)
    seeds = sorted({row["seed"] for row in rows})
    methods = [method for method in METHODS if any(row["method"] == method for row in rows)]
    means = {(line["target_average_bits"], line["method"]): 100 * line["mean"] for line in summarized(rows)}
    size = (3.2 + 4 * len(budgets), 1.4 + 0.45 * len(methods))
    figure = Figure(figsize=size, facecolor=theme.paper, layout="constrained")
    figure.suptitle(title, color=theme.ink)
    panels = figure.subplots(1, len(budgets), sharey=True, squeeze=False)[0]
    for axes, bits in zip(panels, budgets, strict=True):
        for number, seed in enumerate(seeds):
            found = [row for row in rows if (row["target_average_bits"], row["seed"]) == (bits, seed)]
            places = [methods.index(row["method"]) for row in found]
            colour = theme.lines[number % len(theme.lines)]
            top1 = [100 * row["fixed_top1"] for row in found]
            axes.plot(top1, places, "o", color=colour, markersize=7, label=f"seed {seed}")
        for place, method in enumerate(methods):
            if (bits, method) in means:
                axes.vlines(means[bits, method], place - 0.3, place + 0.3, color=theme.ink, linewidth=2)
        floats = {row["seed"]: 100 * row["float_top1"] for row in rows}
        axes.axvline(np.mean(list(floats.values())), color=theme.muted, linestyle="--", label="float network")
        axes.set_title(f"{bits:g} bits on average", color=theme.ink)
        axes.set_yticks(range(len(methods)), [METHODS[method] for method in methods])
        axes.set_ylim(len(methods) - 0.4, -0.6)
        axes.set_xlabel("top-1 of the fixed network, %", color=theme.ink)
        axes.grid(axis="x", color=theme.grid)
        axes.set_axisbelow(True)
    panels[0].legend(frameon=False, labelcolor=theme.ink, fontsize=9)
    return figure
