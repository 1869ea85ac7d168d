"""The run: float network, bit selection, weight training, folding, export, verification, report.

The run restarts after the last finished stage (`stages`) and, inside a training stage, after the last
checkpoint.
"""

import contextlib
import pathlib

import tensorflow as tf
from absl import logging

from export.atomic import write_atomically
from mmx_tf import carriers, float_model, heads, report_scores, stages, strategies, targets, training
from mmx_tf import data as datasets
from mmx_tf.augment import augment, plan
from mmx_tf.budget import UnreachableBudgetError
from mmx_tf.canonical import UnsupportedLayerError, canonicalize
from mmx_tf.export_stage import convert_options
from mmx_tf.fold import FoldError, check_foldable, fold
from mmx_tf.given_selection import given_selection
from mmx_tf.job import Job
from mmx_tf.rebuild import rebuild
from mmx_tf.recipe import Recipe, RecipeError
from mmx_tf.recipe_checks import FLOAT_TEACHER
from mmx_tf.saving import load_model
from mmx_tf.search import SearchModel
from mmx_tf.workdir import Workdir, check_format
from mmx_tf.workdir_lock import check_free


def run(recipe: Recipe, *, command: str = "") -> dict:
    """Runs a validated recipe in its workdir, or what is left of it.

    The processes of --strategy=multi_worker each call it; one that is no chief gets {}.

    Returns:
      The metrics; with several targets, the contents of front.json.

    Raises:
      RecipeError, DataError, ModelError: for input that makes no run, before any training and before
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
    with job.peer_errors():
        return _run(recipe, job, command)


def _run(recipe: Recipe, job: Job, command: str) -> dict:
    data = datasets.load(recipe.dataset, data_dir=recipe.data_dir, image_size=recipe.image_size)
    recipe.check_classes(num_classes=data.num_classes, dataset=data.name)
    strategies.check_batch(recipe, min(recipe.batch_size, data.train_images), job)
    stages.seed(recipe, "float")
    model, trained = float_model.load_or_build(recipe, data)
    recipe, data = heads.settled(recipe, model, data)
    teacher = float_model.load_teacher(recipe, data)
    _check_float_input(recipe, model)
    # What cannot become a search network, or a file, shows in the structure: better now than after training.
    if trained or recipe.bit_selection or recipe.target_bytes:
        search = search_network(recipe, model, data)
        given_selection(recipe, search)
    else:
        with _input_errors():
            plan(model, **_search_options(recipe))
    if not trained:
        search = None
    with Workdir.opened(recipe, job) as workdir, data.reading_errors():
        return _run_in(workdir, recipe, data, model, search, teacher, command)


def _run_in(workdir: Workdir, recipe: Recipe, data, model, search, teacher, command: str) -> dict:
    """The run from its float network on; without a search network, that has to be trained first."""
    job = workdir.job
    job.on_chief(lambda: _keep_cost_table(workdir, recipe))
    several = len(recipe.target_bops) > 1
    if not several:
        finished = stages.finished_metrics(workdir, search)
        if finished is not None:
            return finished
    if search is None:
        model = stages.float_stage(workdir, recipe, data, model)
        search = search_network(recipe, model, data)
    stages.earlier_selection(workdir, search)  # an edited one is refused before anything is trained

    def judge():
        if "float_top1" not in workdir.state:
            found = heads.judged(recipe.told_task, model, stages.evaluation(recipe, data))
            workdir.record(**report_scores.float_state(recipe.told_task, found))
        logging.info("float network: %s", report_scores.float_text(recipe.told_task, workdir.state))

    job.on_chief(judge)
    if recipe.teacher == FLOAT_TEACHER:
        teacher = model
    if several:
        return targets.run_targets(workdir, recipe, data, search, teacher=teacher, command=command)

    def select():
        given = given_selection(recipe, search)
        if given is None or not recipe.from_scratch:
            stages.search_stage(workdir, recipe, data, search)
        selection = stages.kept_selection(
            workdir, search, lambda: given or search.bit_selection(repair=recipe.repair)
        )
        return selection, search_network(recipe, model, data) if recipe.from_scratch else search

    def curves():
        return training.histories(workdir)

    return stages.finish(
        workdir, recipe, data, select=select, teacher=teacher, curves=curves, command=command
    )


def _keep_cost_table(workdir: Workdir, recipe: Recipe) -> None:
    """Copies the cost table of a run into its workdir; a run goes on with equal costs only."""
    if not recipe.cost_table:
        return
    content, copy = pathlib.Path(recipe.cost_table).read_bytes(), workdir.path("cost_table.json")
    if not copy.exists():
        write_atomically(copy, content)
    elif copy.read_bytes() != content:
        raise RecipeError(
            f"--cost_table={recipe.cost_table} is not what this run began with, which is kept as {copy}. "
            "Give that file, or a new --workdir."
        )


def open_workdir(root: pathlib.Path):
    """(folded network, bytes of the .tflite, evaluation batches) of a finished workdir.

    Raises:
      RecipeError: if the folder is not a finished workdir.
    """
    root = pathlib.Path(root)
    missing = [n for n in ("run.flags", "fixed_model.keras", "model.tflite") if not (root / n).exists()]
    if missing:
        folders = sorted(str(path.parent) for path in root.glob("target_*/model.tflite"))
        advice = f" It is that of several targets: give one of {', '.join(folders)}." if folders else ""
        raise RecipeError(f"{root} is not a finished workdir: {', '.join(missing)} missing.{advice}")
    check_format(root)
    recipe = Recipe.from_flagfile((root / "run.flags").read_text())
    data = datasets.load(recipe.dataset, data_dir=recipe.data_dir, image_size=recipe.image_size)
    data = data.for_task(recipe.told_task)
    folded = fold(load_model(root / "fixed_model.keras"), weight_storage=recipe.weight_storage)
    return folded, (root / "model.tflite").read_bytes(), stages.evaluation(recipe, data)


def task_of(root: pathlib.Path) -> str:
    """What the outputs of a finished workdir's network stand for, one of `export.heads.TASKS`."""
    return Recipe.from_flagfile((pathlib.Path(root) / "run.flags").read_text()).told_task


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
      RecipeError: for a network or a budget that makes none.
    """
    stages.seed(recipe, "select")
    with _input_errors():
        search = augment(
            model,
            regularizer_weight=recipe.regularizer_weight,
            # Where the bits are given, all epochs are meta training.
            meta_epochs=1 if recipe.searches else recipe.select_epochs,
            meta_training=recipe.meta_training,
            train_weights_in_search=recipe.train_weights_in_search,
            batch_norm_update=recipe.batch_norm_update,
            # A float32 input takes the image as the network sees it, on a learnt grid.
            pixel_scaling=None if recipe.input_type == "float32" else datasets.PIXEL_SCALING,
            convert_options=convert_options(recipe, data.class_names) if recipe.target_bytes else None,
            **_search_options(recipe),
        )
        if recipe.float_model:
            check_foldable(rebuild(search, search.selection_of([0] * len(search.quantizers))))
    return search


def _search_options(recipe: Recipe) -> dict:
    uniform = recipe.selection == "uniform"
    return {
        "bit_widths": recipe.candidate_bits,
        "weight_bits": recipe.weight_bits,
        "first_last_bits": recipe.first_last_bits,
        "target_bops": None if uniform else recipe.target_bops or None,
        "target_average_bits": recipe.uniform_bits if uniform else recipe.target_average_bits or None,
        "average_bits_weighting": recipe.average_bits_weighting,
        "target_cost": recipe.target_cost or None,
        "cost_table": recipe.cost_table or None,
        "target_bytes": recipe.target_bytes or None,
    }


@contextlib.contextmanager
def _input_errors():
    """What a network or a budget is refused for is an error of the input."""
    try:
        yield
    except (UnreachableBudgetError, UnsupportedLayerError, FoldError, ValueError) as error:
        raise RecipeError(str(error)) from error
