"""The stage that says why each layer got its bits: `sensitivity.json`, made once after the selection.

What is measured is in `mmx_tf.metamix.sensitivity`; the report shows it (`mmx_tf.report.reasons`).
"""

import dataclasses
import json

import tensorflow as tf
from absl import logging

from mmx_tf.data.examples import Examples
from mmx_tf.export.atomic import write_atomically
from mmx_tf.metamix.search import SearchModel
from mmx_tf.metamix.selection import BitSelection
from mmx_tf.metamix.sensitivity import NEAR_TIE, sensitivities
from mmx_tf.recipe.recipe import Recipe
from mmx_tf.report.reasons import tie_warning
from mmx_tf.run.expected import search_length
from mmx_tf.run.run import Run
from mmx_tf.training import task
from mmx_tf.training.phase import epoch_seed
from mmx_tf.waiting import busy

REASONS = "sensitivity.json"


def keep(run: Run, search: SearchModel, selection: BitSelection, *, target: int = 0) -> None:
    """Writes sensitivity.json into the workdir, unless it is there; call it in the chief alone.

    Args:
      run: of the target.
      search: at its meta-state.
      selection: of the target.
      target: the target's index in the search.
    """
    path, recipe = run.workdir.path(REASONS), run.recipe
    if path.exists() or not search.quantizers:
        return
    images = recipe.sensitivity_images
    with run.workdir.timed("sensitivity"), busy("measuring the loss at each layer's neighbouring bits"):
        found = sensitivities(
            search,
            choice_of(search, selection),
            training_batches(recipe, run.data, images) if images else (),
            task.loss(recipe.told_task, search.network),
            target=target,
            searched=recipe.searches,
        )
    # Near ties are not told here: the log of the search's end has told them (`stages.record_search`).
    length = dataclasses.asdict(search_length(recipe, run.data)) if recipe.searches else None
    document = {"schema": 1, "near_tie": NEAR_TIE, "search": length, **found.to_json()}
    write_atomically(path, json.dumps(document, indent=1) + "\n")


def kept(run: Run) -> dict | None:
    """What `keep` wrote; None where there is nothing that can be read."""
    path = run.workdir.path(REASONS)
    if not path.exists():
        return None
    try:
        document = json.loads(path.read_text())
        tie_warning(document, run.recipe.flag_texts)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        logging.warning("%s is damaged (%r), and the report goes without it.", path, error)
        return None
    return document


def choice_of(search: SearchModel, selection: BitSelection) -> list[int]:
    """The candidate's index for every searched layer, in graph order, of a selection of this network."""
    bits, budget = {layer.name: layer for layer in selection.layers}, search.budget

    def index(layer):
        own = layer.weight_bits if budget.searches_weights else budget.weight_bits
        return budget.pairs.index((own, layer.activation_bits))

    return [index(bits[cost.name]) for cost in budget.searched]


def training_batches(recipe: Recipe, data: Examples, images: int, *, skip: int = 0) -> tf.data.Dataset:
    """Training images as they are, without augmentation, in batches like those of the search.

    Args:
      recipe, data: of the run; its seed decides which images they are.
      images: about so many, in whole batches, one at least.
      skip: so many batches of them come before and are left out.
    """
    size = min(recipe.batch_size, images, data.train_images)
    seed = epoch_seed(recipe.seed, "select", 0)
    batches = data.train(batch_size=size, seed=seed, augment=False, skip_batches=skip)
    return batches.take(max(1, images // size))
