"""Where a search's selection stands among random ones of the same budget, on one meta-state.

    python -m benchmarks.random_selections --workdir=W --draws=50 --json=OUT --png=OUT

W is the workdir of a finished search. Its meta-state, with full-precision weights and before any weight
training, is evaluated at the bits that the search chose and at bits drawn at random within the budget. So the
noise of weight training is left out, and many draws say more than one: what is told is the share of random
selections with a larger loss. Selections of other runs of the same network can be added with --also. Batch
norm normalizes by the batch, as it does in bit-search steps; --statistics=running takes the meta-state's own.
"""

import argparse
import sys

import numpy as np
from matplotlib.figure import Figure

from benchmarks import command_line, measuring, meta_state
from mmx_tf.report import themes
from mmx_tf.run.given_selection import random_choice

MODULE = "benchmarks.random_selections"


def figure(random: list[dict], named: dict[str, dict], title: str) -> Figure:
    """Histogram of the random selections' losses, with a line for each of the others."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.hist(
        [row["loss"] for row in random], bins=20, color=themes.LIGHT.muted, label=f"{len(random)} random"
    )
    colours = themes.LIGHT.lines
    for i, (name, row) in enumerate(named.items()):
        colour, style = colours[i % len(colours)], ("-", "--")[i // len(colours) % 2]
        axes.axvline(row["loss"], color=colour, linestyle=style, label=f"{name}: {100 * row['top1']:.2f}%")
    axes.set(title=title, xlabel="cross-entropy of the meta-state", ylabel="selections")
    axes.legend()
    return figure


def parsed(argv: list[str] | None) -> argparse.Namespace:
    """The options, checked."""
    parser = command_line.argument_parser(MODULE, __doc__)
    meta_state.add_options(parser)
    parser.add_argument("--draws", type=command_line.positive, default=50, help="default: %(default)s")
    parser.add_argument("--eval_images", type=int, default=0, help="0 takes all; default: %(default)s")
    parser.add_argument(
        "--statistics", choices=meta_state.STATISTICS, default="batch", help="default: %(default)s"
    )
    options = parser.parse_args(argv)
    if options.eval_images < 0:
        parser.error(f"--eval_images={options.eval_images}: a number of images, or 0 for all.")
    return options


def main(argv: list[str] | None = None) -> int:
    """Evaluates, prints and writes; returns the exit code."""
    options = parsed(argv)
    search, data, recipe, selections = meta_state.opened(options)
    batches = data.evaluation(batch_size=recipe.batch_size, limit=options.eval_images)
    evaluate, named = meta_state.Evaluation(search, batches, statistics=options.statistics), {}
    for name, choice in selections.items():
        row = named[name] = evaluate(choice) | {"bops": search.budget.bops_of(choice)}
        print(f"{name}: loss {row['loss']:.4f}, top-1 {100 * row['top1']:.2f}%", flush=True)
    random = []
    for seed in range(options.draws):
        choice = random_choice(search.budget, seed)
        random.append(evaluate(choice) | {"bops": search.budget.bops_of(choice)})
    losses = np.array([row["loss"] for row in random])
    for row in named.values():
        row["better_than"] = float(np.mean(losses > row["loss"]))
    top1 = 100 * np.array([row["top1"] for row in random])
    print(f"{len(random)} random: loss {losses.mean():.4f}, top-1 {top1.mean():.2f}% ({top1.std():.2f})")
    for name, row in named.items():
        print(f"{name} is better than {row['better_than']:.0%} of them")
    if options.json:
        measuring.write_json(
            options.json,
            measuring.document(
                meta_state.command(MODULE, options),
                target_bops=search.budget.target_bops,
                selections=named,
                random=random,
            ),
        )
    if options.png:
        options.png.parent.mkdir(parents=True, exist_ok=True)
        figure(random, named, options.workdir.name).savefig(options.png, dpi=120)
    return 0


if __name__ == "__main__":
    sys.exit(main())
