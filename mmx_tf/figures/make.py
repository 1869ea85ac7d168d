"""The paper's Figures 1, 2, 5, 6 and 7 for one's own network.

    python -m mmx_tf.figures --which=1,6,2 --flagfile=cifar10_mbv2.flags --data_dir=DIR \\
        --float_model=FILE.keras --workdir=DIR --steps=100
    python -m mmx_tf.figures --which=5 --workdir=DIR --compare=DIR,DIR
    python -m mmx_tf.figures --which=7 --workdir=DIR --compare=DIR

Each figure is written as soon as it is done, as figureN.png and figureN.json (all numbers that are drawn, the
command, commit, machine, date, versions, seed), into --out. The recipe is that of the workdir's run, where
there is one; flags that are given come before it. Exit codes are those of `python -m mmx_tf.train`.

    1, 6  distributions of what quantizers are given (`mmx_tf.figures.instability`); the JSON of the later one
          has the spread of both side by side
    2     running variance behind a layer whose bits switch
    5     accuracy over BOPs of finished workdirs: this one's, where it is finished, and those of --compare
    7     bits of every layer: (b) of this workdir, (a) of --compare; Hessian traces of the float network
"""

import contextlib
import dataclasses
import functools
import json
import pathlib
import time

import tensorflow as tf
from absl import logging
from matplotlib.figure import Figure

from mmx_tf import data as datasets
from mmx_tf.errors import RecipeError
from mmx_tf.export.atomic import write_atomically
from mmx_tf.export.provenance import commit, provenance
from mmx_tf.figures import comparison
from mmx_tf.figures import documents as figure_documents
from mmx_tf.figures import plots as paper_plots
from mmx_tf.figures.instability import Instability
from mmx_tf.figures.options import OF_FLOAT_NETWORK, TRAINED, FigureOptions, check_first
from mmx_tf.recipe.recipe import Recipe
from mmx_tf.report import plots
from mmx_tf.run import export_stage, float_network
from mmx_tf.run.task import settled
from mmx_tf.workdir import results

RECORDED = (
    "dataset", "image_size", "model", "width", "candidate_bits", "first_last_bits", "batch_size",
    "select_learning_rate", "step_learning_rate", "momentum", "nesterov", "weight_decay",
    "weight_decay_kind", "seed",
)  # fmt: skip
"""What of the recipe decides the numbers."""
UNRECORDED = ("which", "out", "compare")
TITLES = {
    "1": "Input of the quantizer after single-precision training",
    "6": "Input of the quantizer after bit-meta training",
}


def make(options: FigureOptions, recipe: Recipe, *, command: str = "") -> dict[str, dict]:
    """Makes the figures that are asked for.

    Args:
      options, recipe: validated here, before any work.
      command: for the JSON files.

    Returns:
      The contents of the JSON files, by figure.

    Raises:
      RecipeError, DataError, ModelError: for input from which no figure can be made, before any work.
      DivergenceError: if training has diverged.
    """
    options.validate()
    check_first(options, recipe)
    commit()  # asked for now: the figures name the code that this process has begun with
    if recipe.deterministic:
        tf.config.experimental.enable_op_determinism()
    workdir = pathlib.Path(recipe.workdir)
    makers, data, start_of_all = {}, None, {}
    compare = [pathlib.Path(path) for path in options.compare]
    if "5" in options.which:
        own = [workdir] if results.finished_folders(workdir) else []
        accuracies = figure_documents.accuracy_document([*own, *compare])
        makers["5"] = lambda: accuracies
    if set(options.which) & set(OF_FLOAT_NETWORK):
        data = datasets.of_recipe(recipe)
        recipe.check_classes(num_classes=data.num_classes, dataset=data.name)
        network = float_network.load_trained(recipe, data)
        recipe, data = settled(recipe, network, data)
        if recipe.told_task != "classification":
            raise RecipeError(
                f"--task={recipe.task}: these figures of the paper are of classifiers. Give a float network "
                "that is one."
            )
        start_of_all = {"float_weights": comparison.checksum(network)}
        makers |= _bit_makers(options, recipe, data, network, compare)
        makers |= _training_makers(options, recipe, data, network)
    out = pathlib.Path(options.out or workdir / "figures")
    out.mkdir(parents=True, exist_ok=True)
    documents = {}
    with data.reading_errors() if data else contextlib.nullcontext():
        for which in options.which:
            logging.info("figure %s", which)
            start = time.monotonic()
            document = (
                makers[which]()
                | start_of_all
                | {
                    "figure": which,
                    "provenance": provenance(),
                    "command": command,
                    "versions": export_stage.versions(),
                    "seed": recipe.seed,
                    "options": {k: v for k, v in dataclasses.asdict(options).items() if k not in UNRECORDED},
                    "recipe": {name: getattr(recipe, name) for name in RECORDED},
                    "seconds": round(time.monotonic() - start, 1),
                }
            )
            documents[which] = _written(out, which, json.loads(json.dumps(document)))
    return documents


def _training_makers(options: FigureOptions, recipe: Recipe, data, network) -> dict:
    if not set(options.which) & set(TRAINED):
        return {}
    try:
        instability = Instability(recipe, data, network, options)
    except RecipeError:
        raise
    except ValueError as error:
        raise RecipeError(str(error)) from error
    return {
        "1": functools.partial(instability.distributions, meta=False),
        "6": functools.partial(instability.distributions, meta=True),
        "2": instability.switching,
    }


def _bit_makers(options: FigureOptions, recipe: Recipe, data, network, compare) -> dict:
    if "7" not in options.which:
        return {}
    figure_documents.check_run(recipe, data, network)
    selections = [
        (figure_documents.name_of(path, trains_weights=trains), figure_documents.load_selection(path))
        for path, trains in [*((path, True) for path in compare), (pathlib.Path(recipe.workdir), False)]
    ]
    figure_documents.check_selections(network, [selection for _, selection in selections])
    size = min(recipe.batch_size, options.hessian_images, data.train_images)
    batches = data.train(batch_size=size, seed=recipe.seed, augment=False)
    # Iterated once for each sample: the same images each time.
    batches = batches.take(-(-options.hessian_images // size)).cache()
    make = functools.partial(
        figure_documents.bits_document, network, batches, selections,
        samples=options.hessian_samples, seed=recipe.seed,
    )  # fmt: skip
    return {"7": make}


def _written(out: pathlib.Path, which: str, document: dict) -> dict:
    """Writes a figure; returns its document, with the comparison of 1 and 6 where both are there."""
    if which in TITLES:
        other = "6" if which == "1" else "1"
        both = {which: document, other: _earlier(out / f"figure{other}.json")}
        rows = both[other] and comparison.compared(both["1"], both["6"])
        document = document | ({"figures_1_and_6": rows} if rows else {})
    path = out / f"figure{which}"
    write_atomically(path.with_suffix(".json"), json.dumps(document, indent=1) + "\n")
    write_atomically(path.with_suffix(".png"), plots.render(_drawn(which, document), "png"))
    logging.info("%s.png and .json are written (%.0f s)", path, document["seconds"])
    return document


def _earlier(path: pathlib.Path) -> dict | None:
    """A figure's document that was written before; None if none can be read."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        logging.warning("%s cannot be read and is not compared with: %s", path, error)
        return None


def _drawn(which: str, document: dict) -> Figure:
    if which in TITLES:
        return paper_plots.distributions_figure(document, title=TITLES[which])
    return {
        "2": paper_plots.switching_figure,
        "5": paper_plots.accuracy_figure,
        "7": paper_plots.bits_figure,
    }[which](document)
