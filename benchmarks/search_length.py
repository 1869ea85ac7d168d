"""How many bit-search steps a selection takes, and at which rate and lambda, on one meta-state.

    python -m benchmarks.search_length --workdir=W --steps=75,150,300 --json=OUT --png=OUT

W is the workdir of a finished search. On its meta-state, which stays fixed, bits are searched anew from equal
alphas: once for every number of steps, alpha learning rate and lambda, with the recipe's cosine schedule over
those steps. What each search selects within the budget is evaluated on the meta-state, on the same images,
beside W's own selection, those of --also, one bit-width everywhere, and bits drawn at random. So one sees
whether a search was long enough before paying for a longer one.
"""

import argparse
import dataclasses
import itertools
import sys
import time

import numpy as np
import tensorflow as tf
import tf_keras as keras
from matplotlib.figure import Figure

from benchmarks import command_line, measuring, meta_state
from mmx_tf.metamix import algorithm
from mmx_tf.report import themes
from mmx_tf.run import stages
from mmx_tf.run.given_selection import random_choice
from mmx_tf.training.optimizers import cosine_schedule

MODULE = "benchmarks.search_length"


def searched(search, data, recipe, *, steps: int, rate: float, regularizer_weight: float) -> dict:
    """Searches from equal alphas on the fixed meta-state.

    Args:
      search: compiled search network with one target; its alpha, alpha optimizer and lambda are set anew.
      data, recipe: of its run; the batches are those of the recipe's seed.
      steps: bit-search steps.
      rate: alpha learning rate at the first of them; it decays to 0.
      regularizer_weight: lambda_r.

    Returns:
      `choice`, the branch index of every searched layer after repair, `alpha_entropy`, the mean over the
      layers in nats, and `seconds`.
    """
    search.alpha.assign(tf.zeros_like(search.alpha))
    search.alpha_optimizer = keras.optimizers.Adam(cosine_schedule(rate, steps=steps))
    search.alpha_optimizer.build([search.alpha])
    search.settings = dataclasses.replace(search.settings, regularizer_weight=regularizer_weight)

    @tf.function
    def step(images, labels):
        algorithm.bit_search_step(search, (images, labels, None))

    begin = time.monotonic()
    stages.seed(recipe, "select")
    batches = data.train(batch_size=recipe.batch_size, seed=recipe.seed).repeat()
    for images, labels in batches.take(steps):
        step(images, labels)
    (target,) = search.targets
    return {
        "choice": target.choose(repair=True),
        "alpha_entropy": float(target.logs()["alpha_entropy"]),
        "seconds": round(time.monotonic() - begin, 1),
    }


def figure(document: dict, title: str) -> Figure:
    """The selections' losses over bit-search steps, a line for each rate and lambda."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    colours, kind = itertools.cycle(themes.LIGHT.lines), None
    for kind, rows in itertools.groupby(document["searches"], key=_setting):
        rows = list(rows)
        axes.plot(
            [r["steps"] for r in rows], [r["loss"] for r in rows], "o-", label=kind, color=next(colours)
        )
    losses = [row["loss"] for row in document["random"]]
    axes.axhspan(min(losses), max(losses), color=themes.LIGHT.grid, label=f"{len(losses)} random, all")
    styles = itertools.cycle(("-", "--", ":", "-."))
    for name, row in document["selections"].items():
        axes.axhline(row["loss"], color=themes.LIGHT.muted, linestyle=next(styles), linewidth=1, label=name)
    axes.set(title=title, xlabel="bit-search steps", ylabel="cross-entropy of the meta-state")
    axes.legend(fontsize="small")
    axes.grid(alpha=0.3)
    return figure


def _setting(row: dict) -> str:
    return f"alpha learning rate {row['alpha_learning_rate']:g}, lambda {row['regularizer_weight']:g}"


def parsed(argv: list[str] | None) -> argparse.Namespace:
    """The options, checked."""
    parser = command_line.argument_parser(MODULE, __doc__)
    meta_state.add_options(parser)
    numbers = command_line.numbers
    parser.add_argument(
        "--steps",
        type=command_line.integers,
        default=[75, 150, 300],
        metavar="N,M",
        help="default: 75,150,300",
    )
    parser.add_argument("--alpha_learning_rates", type=numbers, metavar="A,B", help="default: the run's")
    parser.add_argument("--regularizer_weights", type=numbers, metavar="A,B", help="default: the run's")
    parser.add_argument("--draws", type=command_line.positive, default=20, help="default: %(default)s")
    parser.add_argument(
        "--eval_images", type=command_line.positive, default=2000, help="default: %(default)s"
    )
    options = parser.parse_args(argv)
    if min(options.steps) < 1:
        parser.error(f"--steps={','.join(map(str, options.steps))}: numbers of 1 or more.")
    options.steps = sorted(set(options.steps))
    return options


def main(argv: list[str] | None = None) -> int:
    """Searches, prints and writes; returns the exit code."""
    options = parsed(argv)
    search, data, recipe, selections = meta_state.opened(options)
    budget = search.budget
    evaluate = meta_state.Evaluation(
        search, data.evaluation(batch_size=recipe.batch_size, limit=options.eval_images)
    )

    def judged(name: str, choice) -> dict:
        row = evaluate(choice) | {"bops": budget.bops_of(choice)}
        bits = [budget.bit_widths[branch] for branch in choice]
        print(f"{name}: loss {row['loss']:.4f}, top-1 {100 * row['top1']:.2f}%", flush=True)
        return row | {"bits": "".join(map(str, bits))}

    uniform = {f"{bits} bits": [i] * len(budget.searched) for i, bits in enumerate(budget.bit_widths)}
    document = measuring.document(
        meta_state.command(MODULE, options),
        target_bops=budget.target_bops,
        selections={name: judged(name, choice) for name, choice in selections.items()},
        uniform={name: judged(name, choice) for name, choice in uniform.items()},
        random=[judged(f"random {i}", random_choice(budget, i)) for i in range(options.draws)],
        searches=[],
    )
    losses = np.array([drawn["loss"] for drawn in document["random"]])
    rates = dict.fromkeys(options.alpha_learning_rates or [recipe.alpha_learning_rate])
    weights = dict.fromkeys(options.regularizer_weights or [recipe.regularizer_weight])
    for weight, rate, steps in itertools.product(weights, rates, options.steps):
        found = searched(search, data, recipe, steps=steps, rate=rate, regularizer_weight=weight)
        setting = {"alpha_learning_rate": rate, "regularizer_weight": weight, "steps": steps}
        row = setting | judged(f"{_setting(setting)}, {steps} steps", found.pop("choice")) | found
        document["searches"].append(row | {"better_than": float(np.mean(losses > row["loss"]))})
        # After each, since each takes minutes.
        if options.json:
            measuring.write_json(options.json, document)
        if options.png:
            options.png.parent.mkdir(parents=True, exist_ok=True)
            figure(document, options.workdir.name).savefig(options.png, dpi=120)
    return 0


if __name__ == "__main__":
    sys.exit(main())
