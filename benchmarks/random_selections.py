"""Where a search's selection stands among random ones of the same budget, on one meta-state.

    python -m benchmarks.random_selections --workdir=W --draws=50 --json=OUT --png=OUT

W is the workdir of a finished search. Its meta-state, with full-precision weights and before any weight
training, is evaluated at the bits that the search chose and at bits drawn at random within the budget. So the
noise of weight training is left out, and many draws say more than one: what is told is the share of random
selections with a larger loss. Selections of other runs of the same network can be added with --also.
"""

import argparse
import dataclasses
import pathlib
import sys

import numpy as np
import tensorflow as tf
import tf_keras as keras
from matplotlib.figure import Figure

from benchmarks import command_line, measuring
from mmx_tf import data as datasets
from mmx_tf import float_model, pipeline, quiet, stages
from mmx_tf.bit_selection import BitSelection, SelectionMismatchError
from mmx_tf.given_selection import random_choice
from mmx_tf.recipe import Recipe
from mmx_tf.workdir import Workdir

MODULE = "benchmarks.random_selections"


def restored(folder: pathlib.Path):
    """(search network at the end of its training, data, recipe) of a workdir whose search is finished."""
    flags = (folder / "run.flags").read_text()
    recipe = dataclasses.replace(Recipe.from_flagfile(flags), workdir=str(folder))
    if recipe.searches_weights:
        sys.exit(f"{folder} searched weight bits too: this compares activation bits alone.")
    # Without a meta-state the search would be trained here, in a workdir that is finished.
    if not any((folder / "checkpoints" / "select").glob("*")):
        sys.exit(
            f"{folder} has no checkpoints of bit selection, as a run with given bits and --from_scratch, or "
            "one target of several: give the workdir of a search of its own."
        )
    data = datasets.load(recipe.dataset, data_dir=recipe.data_dir, image_size=recipe.image_size)
    search = pipeline.search_network(recipe, float_model.load_trained(recipe, data), data)
    if search.budget.target_bops is None:
        sys.exit(f"{folder} has no budget in BOPs, in which random selections are drawn.")
    with Workdir.opened(recipe) as workdir:
        stages.search_stage(workdir, recipe, data, search)
    return search, data, recipe


class Evaluation:
    """Loss and top-1 of a search network at given bits, on the same images each time."""

    def __init__(self, search, batches):
        self._batches = list(batches)
        loss_of = keras.losses.SparseCategoricalCrossentropy(
            from_logits=not float_model.gives_probabilities(search.network), reduction="sum"
        )

        @tf.function
        def of_batch(images, labels, alphas):
            outputs = search(images, training=False, alphas=alphas)
            right = tf.equal(tf.argmax(outputs, axis=-1), tf.cast(labels, tf.int64))
            return loss_of(labels, outputs), tf.reduce_sum(tf.cast(right, tf.float32))

        self._of_batch, self._branches = of_batch, len(search.budget.bit_widths)

    def __call__(self, choice) -> dict[str, float]:
        """Mean cross-entropy `loss` and `top1` at a choice, the branch index of every searched layer."""
        alphas = tf.one_hot(choice, self._branches)
        sums = sum(np.array(self._of_batch(images, labels, alphas)) for images, labels in self._batches)
        loss, top1 = sums / sum(len(labels) for _, labels in self._batches)
        return {"loss": float(loss), "top1": float(top1)}


def choice_of(selection: BitSelection, search) -> list[int]:
    """The branch indices of a selection.

    Raises:
      SelectionMismatchError: if it is of another network.
    """
    selection.check_fits(search.selection_of([0] * len(search.quantizers)))
    bits = {layer.name: layer.activation_bits for layer in selection.layers}
    return [search.budget.bit_widths.index(bits[cost.name]) for cost in search.budget.searched]


def figure(random: list[dict], named: dict[str, dict], title: str) -> Figure:
    """Histogram of the random selections' losses, with a line for each of the others."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.hist([row["loss"] for row in random], bins=20, color="#8c8c8c", label=f"{len(random)} random")
    colours = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
    for i, (name, row) in enumerate(named.items()):
        colour, style = colours[i % len(colours)], ("-", "--")[i // len(colours) % 2]
        axes.axvline(row["loss"], color=colour, linestyle=style, label=f"{name}: {100 * row['top1']:.2f}%")
    axes.set(title=title, xlabel="cross-entropy of the meta-state", ylabel="selections")
    axes.legend()
    return figure


def parsed(argv: list[str] | None) -> argparse.Namespace:
    """The options, checked."""
    parser = command_line.argument_parser(MODULE, __doc__)
    parser.add_argument("--workdir", required=True, type=pathlib.Path, help="of a run with a finished search")
    parser.add_argument("--draws", type=command_line.positive, default=50, help="default: %(default)s")
    parser.add_argument("--eval_images", type=int, default=0, help="0 takes all; default: %(default)s")
    parser.add_argument(
        "--also", type=pathlib.Path, nargs="*", default=[], metavar="WORKDIR", help="more runs' selections"
    )
    parser.add_argument("--png", type=pathlib.Path, metavar="OUT", help="where the plot is written")
    options = parser.parse_args(argv)
    if options.eval_images < 0:
        parser.error(f"--eval_images={options.eval_images}: a number of images, or 0 for all.")
    return options


def _check(folders: list[pathlib.Path]) -> None:
    """Ends the program where a folder has no selection, or two have one name, which tells results apart."""
    for folder in folders:
        if not (folder / "bit_selection.json").exists():
            sys.exit(
                f"{folder} has no bit_selection.json: give the workdir of a run whose search is finished."
            )
    names = [folder.name for folder in folders]
    if len(set(names)) < len(names):
        sys.exit(f"two workdirs have one name ({', '.join(names)}), by which results are told: rename one.")


def _command(options: argparse.Namespace) -> str:
    """The command line, with paths of this machine left out."""
    shown = argparse.Namespace(draws=options.draws, eval_images=options.eval_images)
    words = [command_line.command(MODULE, shown), f"--workdir={options.workdir.name}"]
    return " ".join([*words, *(["--also"] if options.also else []), *(path.name for path in options.also)])


def main(argv: list[str] | None = None) -> int:
    """Evaluates, prints and writes; returns the exit code."""
    options = parsed(argv)
    folders = [options.workdir, *options.also]
    _check(folders)
    quiet.set_up_logging()
    search, data, recipe = restored(options.workdir)
    batches = data.evaluation(batch_size=recipe.batch_size, limit=options.eval_images)
    evaluate, named = Evaluation(search, batches), {}
    for folder in folders:
        selection = BitSelection.load(folder / "bit_selection.json")
        try:
            choice = choice_of(selection, search)
        except SelectionMismatchError as error:
            sys.exit(f"{folder}: {error}")
        row = evaluate(choice) | {"bops": selection.bops}
        named[folder.name] = row
        print(f"{folder.name}: loss {row['loss']:.4f}, top-1 {100 * row['top1']:.2f}%", flush=True)
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
                _command(options),
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
