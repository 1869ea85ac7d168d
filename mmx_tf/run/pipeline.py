"""The run: float network, bit selection, weight training, folding, export, verification, report.

The run restarts after the last finished stage (`stages`) and, inside a training stage, after the last
checkpoint.
"""

import contextlib
import dataclasses
import functools
import pathlib

import tensorflow as tf
import tf_keras as keras
from absl import logging

from mmx_tf import data as datasets
from mmx_tf.budget.budget import UnreachableBudgetError
from mmx_tf.devices import kept
from mmx_tf.distribution import strategies
from mmx_tf.distribution.job import Job
from mmx_tf.errors import RecipeError
from mmx_tf.export.atomic import write_atomically
from mmx_tf.folding import carriers
from mmx_tf.folding.fold import FoldError, check_foldable
from mmx_tf.layers import keras_defaults
from mmx_tf.metamix.augment import augment, plan
from mmx_tf.metamix.rebuild import rebuild
from mmx_tf.metamix.search import SearchModel
from mmx_tf.metamix.selection import BitSelection
from mmx_tf.network.canonical import UnsupportedLayerError, canonicalize
from mmx_tf.recipe import budget_rules
from mmx_tf.recipe.recipe import Recipe
from mmx_tf.recipe.rules import FLOAT_TEACHER, IMAGENET_WEIGHTS
from mmx_tf.report import scores
from mmx_tf.run import device_budget, finished, phases, reasons, several_targets, stages
from mmx_tf.run import float_network as float_model
from mmx_tf.run.baselines import Baselines
from mmx_tf.run.expected import stages_of, warn_of_short_search
from mmx_tf.run.export_stage import convert_options
from mmx_tf.run.given_selection import given_selection
from mmx_tf.run.run import Run
from mmx_tf.run.task import settled
from mmx_tf.training import forecast
from mmx_tf.training.forecast import Forecast
from mmx_tf.training.task import judged
from mmx_tf.waiting import busy
from mmx_tf.workdir import fingerprints, results
from mmx_tf.workdir.belonging import COST_TABLE, check
from mmx_tf.workdir.lock import check_free
from mmx_tf.workdir.workdir import Workdir


@keras_defaults.float32()
def run(recipe: Recipe, *, command: str = "") -> dict:
    """Runs a validated recipe in its workdir, or what is left of it.

    The processes of --strategy=multi_worker each call it; one that is no chief gets {}.

    Returns:
      The metrics; with several targets, the contents of front.json.

    Raises:
      RecipeError, DataError, ModelError: for input that cannot be run, before any training and before
        anything is written; WorkdirInUseError, a RecipeError, if another process works in the workdir.
      DivergenceError: if training has diverged and the recipe does not let it recover.
      DisagreementError: if the file differs from the folded network by more than the recipe allows.
      PeerError: if another process of the job has ended.
    """
    if recipe.deterministic:
        tf.config.experimental.enable_op_determinism()
    if strategies.is_chief(recipe):
        check_free(pathlib.Path(recipe.workdir))
        if len(recipe.target_bops) > 1:
            for bops in recipe.exported_targets:
                check_free(pathlib.Path(recipe.for_target(bops).workdir))
    job = strategies.start(recipe)
    # What nothing more exact is said of in the meantime.
    with job.peer_errors(), kept.using(device_budget.costs_of(recipe)), busy("preparing data and networks"):
        return _run(recipe, job, command)


def _run(recipe: Recipe, job: Job, command: str) -> dict:
    data = datasets.of_recipe(recipe)
    inputs = fingerprints.of_inputs(recipe, data)
    # Before networks are loaded: one that has changed need not fit any more.
    job.on_chief(lambda: _check_workdirs(recipe, inputs))
    recipe.check_classes(num_classes=data.num_classes, dataset=data.name)
    strategies.check_batch(recipe, min(recipe.batch_size, data.train_images), job)
    stages.seed(recipe, "float")
    model, trained = float_model.load_or_build(recipe, data)
    if recipe.float_model == IMAGENET_WEIGHTS:
        inputs["float_model"] = fingerprints.of_weights(model)
    recipe, data = settled(recipe, model, data)
    teacher = float_model.load_teacher(recipe, data)
    _check_float_input(recipe, model)
    search = _checked_search(recipe, model, data, trained=trained)
    expected = Forecast(stages_of(recipe, data, trains_float=not trained))
    with Workdir.opened(recipe, job, inputs) as workdir, data.reading_errors(), forecast.using(expected):
        return _run_in(Run(workdir, recipe, data, teacher, command), Networks(model, trained, search))


def _checked_search(recipe: Recipe, model: keras.Model, data, *, trained: bool) -> SearchModel | None:
    """The search network of a trained float network; None of others, and where it may not be needed.

    What cannot become a search network, or a file for the device, shows in the structure: better now than
    after training.
    """
    root = pathlib.Path(recipe.workdir)
    finished_before = bool(results.finished_folders(root))
    if finished_before and device_budget.measured(recipe) and results.has_sources(root):
        # Costs that are not known would be asked of a tool that need not be there any more.
        with _input_errors():
            plan(model, **_search_options(recipe))
        return None
    if not (trained or recipe.bit_selection or budget_rules.of_recipe(recipe).measured):
        with _input_errors():
            plan(model, **_search_options(recipe))
        return None
    search = search_network(recipe, model, data)
    given_selection(recipe, search)
    if not trained:
        return None
    if not finished_before:
        with _input_errors(), data.reading_errors():
            device_budget.check_trial(recipe, search, data)
    return search


def _check_workdirs(recipe: Recipe, inputs: fingerprints.Inputs) -> None:
    several = recipe.target_bops if len(recipe.target_bops) > 1 else ()
    for one in (recipe, *(recipe.for_target(bops) for bops in several)):
        check(one, inputs)


@dataclasses.dataclass
class Networks:
    """The networks that a run starts from.

    Attributes:
      model: the float network.
      trained: whether it is trained already.
      search: its search network; None until `built`.
    """

    model: keras.Model
    trained: bool
    search: SearchModel | None

    def built(self, run: Run) -> SearchModel:
        """The search network, for which the float network may have to be trained."""
        if self.search is None:
            if not self.trained:
                self.model = stages.float_stage(run, self.model)
                self.trained = True
            self.search = search_network(run.recipe, self.model, run.data)
        return self.search

    def float_network(self, run: Run) -> keras.Model:
        """The float network, trained."""
        if not self.trained:
            self.built(run)
        return self.model


def _run_in(run: Run, networks: Networks) -> dict:
    """The run from its float network on; without a search network, that has to be trained first."""
    workdir, recipe, job = run.workdir, run.recipe, run.job
    job.on_chief(lambda: _keep_cost_table(workdir, recipe))
    job.on_chief(kept.current().save)
    several = len(recipe.target_bops) > 1

    def ending():
        return {
            "select": functools.partial(_select, run, networks),
            "curves": functools.partial(phases.histories, workdir),
            "baselines": Baselines(run, lambda: networks.float_network(run), lambda: _start(run, networks)),
        }

    if not several and job.chief_says(workdir.finished):
        given = networks.search
        return finished.completed(run, search=given, network=lambda: networks.built(run), **ending())
    job.on_chief(lambda: warn_of_short_search(run))
    search = networks.built(run)
    stages.earlier_selection(workdir, search)  # an edited one is refused before anything is trained
    job.on_chief(lambda: _judge(run, networks.model))
    if recipe.teacher == FLOAT_TEACHER:
        run = dataclasses.replace(run, teacher=networks.model)
    if several:
        return several_targets.run_targets(run, search, networks.model)
    return stages.finish(run, **ending())


def _select(run: Run, networks: Networks) -> tuple[BitSelection, SearchModel]:
    """The bit selection of a run with one target, and the network that fine-tuning starts from."""
    workdir, recipe, search = run.workdir, run.recipe, networks.built(run)
    given = given_selection(recipe, search)
    # The checkpoint of a finished run's weight training has all that the meta-state would give.
    selected = run.job.chief_says(workdir.finished and workdir.path(results.SELECTION).exists())
    has_meta_state = given is None or not recipe.from_scratch
    if has_meta_state and not selected:
        stages.search_stage(run, search)
        if recipe.searches:
            stages.record_search(run, search)
    selection = stages.kept_selection(workdir, search, lambda: given or device_budget.selection(run, search))
    run.job.on_chief(kept.current().save)
    if has_meta_state and not selected:
        run.job.on_chief(lambda: reasons.keep(run, search, selection))
    return selection, search_network(recipe, networks.model, run.data) if recipe.from_scratch else search


def _start(run: Run, networks: Networks) -> SearchModel:
    """What weight training starts from, read from the checkpoint of the search's end where there was one."""
    if run.recipe.from_scratch:
        return search_network(run.recipe, networks.float_network(run), run.data)
    search = networks.built(run)
    stages.search_stage(run, search)
    return search


def _judge(run: Run, model: keras.Model) -> None:
    """Records how good the float network is."""
    task, workdir = run.recipe.told_task, run.workdir
    if "float_top1" not in workdir.state:
        with busy("evaluating the float network"):
            workdir.record(**scores.float_state(task, judged(task, model, run.evaluation())))
    logging.info("float network: %s", scores.float_text(task, workdir.state))


def _keep_cost_table(workdir: Workdir, recipe: Recipe) -> None:
    """Copies the cost table of a run, which is the one that it began with, into its workdir."""
    copy = workdir.path(COST_TABLE)
    if recipe.cost_table and not copy.exists():
        write_atomically(copy, pathlib.Path(recipe.cost_table).read_bytes())


def _check_float_input(recipe: Recipe, model) -> None:
    if recipe.input_type != "float32":
        return
    rescalings = carriers.image_rescalings(canonicalize(model))
    if rescalings:
        raise RecipeError(
            f"--input_type=float32, but the network rescales its image ({rescalings[0]!r}), which stays in "
            "front of the file: a float32 input would hold the rescaled image. Use --input_type=uint8 "
            "(pixels) or int8 (pixels less 128)."
        )


def search_network(recipe: Recipe, model, data) -> SearchModel:
    """The search network of a recipe, untrained.

    Raises:
      RecipeError: for a network or a budget that cannot be searched.
    """
    stages.seed(recipe, "select")
    with _input_errors():
        search = augment(
            model,
            # Where the bits are given, all epochs are meta training.
            meta_epochs=1 if recipe.searches else recipe.select_epochs,
            # A float32 input takes the image as the network sees it, on a learnt grid.
            pixel_scaling=None if recipe.input_type == "float32" else data.pixel_scaling,
            convert_options=(
                convert_options(recipe, data.class_names) if budget_rules.of_recipe(recipe).measured else None
            ),
            device=recipe.device,
            **_search_options(recipe),
            **recipe.search_settings,
        )
        if recipe.float_model:
            check_foldable(rebuild(search, search.selection_of([0] * len(search.quantizers))))
    return search


def _search_options(recipe: Recipe) -> dict:
    return {
        "bit_widths": recipe.candidate_bits,
        "weight_bits": recipe.weight_bits,
        "first_last_bits": recipe.first_last_bits,
        **budget_rules.of_search(recipe).arguments,
    }


@contextlib.contextmanager
def _input_errors():
    """What a network or a budget is refused for is an error of the input."""
    try:
        yield
    except (UnreachableBudgetError, UnsupportedLayerError, FoldError, ValueError) as error:
        raise RecipeError(str(error)) from error
