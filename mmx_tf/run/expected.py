"""What a run has before it, for the time that it says is left, and the costs that it shows meanwhile.

>>> recipe, digits = Recipe.from_flagfile("--train_epochs=2"), mmx_tf.data.load("digits", image_size=16)
>>> for stage in stages_of(recipe, digits, trains_float=False):
...     print(stage.key, stage.epochs, stage.steps)
('.', 'select') ('meta', 'search') 11
('.', 'train') ('fixed', 'fixed') 11
('.', 'check') ('checked',) 3
"""

import dataclasses
import math
import pathlib
from collections.abc import Iterator, Sequence

from absl import logging

from mmx_tf.data.examples import Examples
from mmx_tf.metamix.target import TargetSearch, cost_logs
from mmx_tf.recipe.recipe import Recipe
from mmx_tf.recipe.search_length import SearchLength
from mmx_tf.run.run import Run, evaluation_images
from mmx_tf.training.forecast import CHECK, META, Stage
from mmx_tf.training.phase import steps_per_epoch
from mmx_tf.training.told import Told
from mmx_tf.workdir import results

SEARCH_PASS = 1.0
"""Cost of a bit-search step for one target, beside the meta step, in training steps of the fixed network."""


def stages_of(recipe: Recipe, data: Examples, *, trains_float: bool) -> list[Stage]:
    """The stages of a run from its beginning to the end, those that a resumed one has behind it included.

    Args:
      recipe, data: of the run.
      trains_float: whether its float network has to be trained.
    """
    stages, several = [], len(recipe.target_bops) > 1
    if trains_float:
        stages.append(_stage(recipe, data, "float", ("float",) * recipe.float_epochs, held_out=True))
    meta = 1 if recipe.searches else recipe.select_epochs
    kinds = (META,) * meta + ("search",) * (recipe.select_epochs - meta)
    passes = float(len(recipe.candidate_bits))
    searched = passes + SEARCH_PASS * max(1, len(recipe.target_bops))
    select = _stage(recipe, data, "select", kinds, held_out=True)
    stages.append(dataclasses.replace(select, weights=((META, passes), ("search", searched))))
    for target in map(recipe.for_target, recipe.exported_targets) if several else (recipe,):
        stages += _of_target(target, data)
    return stages


def search_length(recipe: Recipe, data: Examples) -> SearchLength:
    """How many bit-search steps a recipe that searches has on its data."""
    steps = steps_per_epoch(recipe, data)
    return SearchLength.of_epochs(recipe.select_epochs, steps, recipe.alpha_learning_rate)


def warn_of_short_search(run: Run) -> None:
    """Tells a run that has not begun to search that its search will be too short, and what is long enough."""
    begun = run.workdir.path("checkpoints", "select").exists() or run.workdir.path(results.SELECTION).exists()
    warning = search_length(run.recipe, run.data).warning if run.recipe.searches and not begun else ""
    if warning:
        logging.warning("%s", warning)


def _of_target(recipe: Recipe, data: Examples) -> Iterator[Stage]:
    yield from _training(recipe, data)
    if "uniform" in recipe.baselines:
        # The folder of `mmx_tf.run.baselines`.
        folder = pathlib.Path(recipe.workdir, "baselines", "uniform")
        yield from _training(dataclasses.replace(recipe, workdir=str(folder)), data)


def _training(recipe: Recipe, data: Examples) -> Iterator[Stage]:
    if recipe.activation_epochs:
        yield _stage(recipe, data, "activation", ("fixed",) * recipe.activation_epochs)
    yield _stage(recipe, data, "train", ("fixed",) * recipe.train_epochs)
    batches = math.ceil(evaluation_images(recipe, data) / recipe.batch_size)
    yield Stage((_root(recipe), CHECK), ("checked",), batches)


def _stage(
    recipe: Recipe, data: Examples, name: str, kinds: tuple[str, ...], *, held_out: bool = False
) -> Stage:
    """A phase; with `held_out` it is judged on images that are held out alone, not on those of evaluation."""
    judged = data.validation_images or (0 if held_out else evaluation_images(recipe, data))
    batches = math.ceil(judged / recipe.batch_size)
    return Stage((_root(recipe), name), kinds, steps_per_epoch(recipe, data), judged=batches)


def _root(recipe: Recipe) -> str:
    return str(pathlib.Path(recipe.workdir))


def costs_of(targets: Sequence[TargetSearch]) -> list[Told]:
    """The costs in a search's logs: BOPs, then those of its other budgets, each with the targets' budgets."""
    budget = targets[0].budget

    def names(name):
        return tuple(target.prefix + name for target in targets)

    bops = [target.budget.target_bops for target in targets]
    found = [Told("BOPs", names("bops"), tuple(bops) if all(bops) else ())]
    for name, (costs, goal) in zip(cost_logs(budget), budget.others, strict=True):
        found.append(Told(costs.unit, names(name), (goal,)))
    return found
