"""The meta-state of a finished search, looked at with bits of one's choice and no weight training.

search, data, recipe = restored(workdir)
evaluate = Evaluation(search, data.evaluation(batch_size=recipe.batch_size, limit=4000))
evaluate(choice_of(BitSelection.load(file), search))       # {"loss": ..., "top1": ...}
"""

import argparse
import dataclasses
import pathlib
import sys

import numpy as np
import tensorflow as tf
import tf_keras as keras

from benchmarks import command_line
from mmx_tf import data as datasets
from mmx_tf import exit_codes, quiet
from mmx_tf.metamix.selection import BitSelection, SelectionMismatchError
from mmx_tf.network import graph
from mmx_tf.recipe.recipe import Recipe
from mmx_tf.run import float_network, phases, pipeline
from mmx_tf.workdir import fingerprints
from mmx_tf.workdir.belonging import check_inputs, earlier_state
from mmx_tf.workdir.workdir import Workdir

STATISTICS = ("batch", "running")
"""What batch norm normalizes by: the batch, as in training and bit-search steps, or running statistics.

A meta-state has one set of running statistics, a mean over its branches, which fits no selection well until
weight training has brought it up to date.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds --workdir, --also and --png."""
    parser.add_argument("--workdir", required=True, type=pathlib.Path, help="of a run with a finished search")
    parser.add_argument(
        "--also", type=pathlib.Path, nargs="*", default=[], metavar="WORKDIR", help="more runs' selections"
    )
    parser.add_argument("--png", type=pathlib.Path, metavar="OUT", help="where the plot is written")


def opened(options: argparse.Namespace):
    """(search network, data, recipe) of --workdir, and its and --also's selections as `selections_of`'s.

    Ends the program, before any network is built, where a folder has no selection or two have one name.
    """
    folders = [options.workdir, *options.also]
    check_workdirs(folders)
    quiet.set_up_logging()
    search, data, recipe = restored(options.workdir)
    return search, data, recipe, selections_of(folders, search)


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
    try:
        data = datasets.of_recipe(recipe)
        network = float_network.load_trained(recipe, data)
        check_inputs(recipe, earlier_state(folder), fingerprints.of_inputs(recipe, data, network))
        search = pipeline.search_network(recipe, network, data)
        if search.budget.target_bops is None:
            sys.exit(f"{folder} has no budget in BOPs, in which random selections are drawn.")
        with Workdir.opened(recipe) as workdir:
            # Not as a stage, whose seconds would be added to those of the run.
            phases.train_search(workdir, recipe, data, search)
    except exit_codes.ERRORS as error:
        sys.exit(str(error))
    return search, data, recipe


class Evaluation:
    """Loss and top-1 of a search network at given bits, on the same images each time."""

    def __init__(self, search, batches, *, statistics: str = "batch"):
        """Takes a search network, (images, labels) batches and one of `STATISTICS`."""
        if statistics not in STATISTICS:
            raise ValueError(f"statistics={statistics!r}: one of {STATISTICS}.")
        self._batches, by_batch = list(batches), statistics == "batch"
        loss_of = keras.losses.SparseCategoricalCrossentropy(
            from_logits=not float_network.gives_probabilities(search.network), reduction="sum"
        )

        @tf.function
        def of_batch(images, labels, alpha):
            kept = [tf.identity(variable) for variable in search.batch_norm_statistics]
            call = search.layer_call(alpha=alpha)

            def of_layer(layer, args, kwargs):
                # Not the whole network in training: Dropout would add its noise.
                if isinstance(layer, keras.layers.BatchNormalization):
                    kwargs = {**kwargs, "training": by_batch}
                return call(layer, args, kwargs)

            outputs = graph.replay(search.network, images, of_layer)
            for variable, value in zip(search.batch_norm_statistics, kept, strict=True):
                variable.assign(value)
            right = tf.equal(tf.argmax(outputs, axis=-1), tf.cast(labels, tf.int64))
            return loss_of(labels, outputs), tf.reduce_sum(tf.cast(right, tf.float32))

        self._of_batch, self._branches = of_batch, len(search.budget.bit_widths)

    def __call__(self, choice) -> dict[str, float]:
        """Mean cross-entropy `loss` and `top1` at a choice, the branch index of every searched layer."""
        alpha = tf.one_hot(choice, self._branches)
        sums = sum(np.array(self._of_batch(images, labels, alpha)) for images, labels in self._batches)
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


def selections_of(folders: list[pathlib.Path], search) -> dict[str, list[int]]:
    """Branch indices by workdir name, of the bit selections that workdirs of one network hold.

    Ends the program where a selection is of another network.
    """
    found = {}
    for folder in folders:
        try:
            found[folder.name] = choice_of(BitSelection.load(folder / "bit_selection.json"), search)
        except SelectionMismatchError as error:
            sys.exit(f"{folder}: {error}")
    return found


def check_workdirs(folders: list[pathlib.Path]) -> None:
    """Ends the program where a folder has no selection, or two have one name, which tells results apart."""
    for folder in folders:
        if not (folder / "bit_selection.json").exists():
            sys.exit(
                f"{folder} has no bit_selection.json: give the workdir of a run whose search is finished."
            )
    names = [folder.name for folder in folders]
    if len(set(names)) < len(names):
        sys.exit(f"two workdirs have one name ({', '.join(names)}), by which results are told: rename one.")


def command(module: str, options: argparse.Namespace) -> str:
    """The command line of parsed options with --workdir and --also, paths of this machine left out."""
    hidden = ("png", "json", "also")
    shown = {name: value for name, value in vars(options).items() if value and name not in hidden}
    words = [command_line.command(module, argparse.Namespace(**shown), workdir=options.workdir.name)]
    return " ".join([*words, *(["--also"] if options.also else []), *(path.name for path in options.also)])
