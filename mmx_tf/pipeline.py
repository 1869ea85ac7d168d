"""The run: float network, bit selection, weight training, folding, export, verification, report.

Every stage leaves its result in the workdir, so that the run restarts after the last finished stage (and,
inside a training stage, after the last checkpoint). What a stage starts from is the same when it follows the
stage before and when it is resumed: the seeds are set anew, and networks are read from their files.
"""

import contextlib
import json
import os
import pathlib

import tensorflow as tf
import tf_keras as keras
from absl import logging

from export.atomic import write_atomically
from mmx_tf import carriers, float_model, report, training
from mmx_tf import data as datasets
from mmx_tf.augment import augment, plan
from mmx_tf.bit_selection import BitSelection, SelectionMismatchError
from mmx_tf.budget import UnreachableBudgetError
from mmx_tf.canonical import UnsupportedLayerError, canonicalize
from mmx_tf.export_stage import export_and_verify
from mmx_tf.fold import FoldError, check_foldable, fold
from mmx_tf.phase import epoch_seed
from mmx_tf.rebuild import rebuild
from mmx_tf.recipe import Recipe, RecipeError
from mmx_tf.saving import load_model
from mmx_tf.workdir import Workdir, check_format
from mmx_tf.workdir_lock import check_free


def run(recipe: Recipe, *, command: str = "") -> dict:
    """Runs a validated recipe in its workdir, or what is left of it; returns the metrics.

    Raises:
      RecipeError, DataError, ModelError: for input that makes no run, before any training and before
        anything is written; WorkdirInUseError, a RecipeError, if another process works in the workdir.
      DivergenceError: if training has diverged and the recipe does not let it recover.
      DisagreementError: if the file differs from the folded network by more than the recipe allows.
    """
    if recipe.deterministic:
        tf.config.experimental.enable_op_determinism()
    check_free(pathlib.Path(recipe.workdir))
    data = datasets.load(recipe.dataset, data_dir=recipe.data_dir, image_size=recipe.image_size)
    recipe.check_classes(num_classes=data.num_classes, dataset=data.name)
    _seed(recipe, "float")
    model, trained = float_model.load_or_build(recipe, data)
    _check_float_input(recipe, model)
    # What cannot become a search network, or a file, shows in the structure: better now than after training.
    if trained:
        search = _search_network(recipe, model)
    else:
        search = None
        with _input_errors():
            plan(model, **_search_options(recipe))
    with Workdir.opened(recipe) as workdir, data.reading_errors():
        return _run_in(workdir, recipe, data, model, search, command)


def _run_in(workdir: Workdir, recipe: Recipe, data, model, search, command: str) -> dict:
    """The run from its float network on; without a search network, that has to be trained first."""
    if workdir.path("metrics.json").exists():
        logging.info("%s is finished; nothing is done again.", workdir.root)
        with _result_errors(workdir.path("metrics.json")):
            metrics = json.loads(workdir.path("metrics.json").read_text())
            report.print_summary(_earlier_selection(workdir, search).to_json(), metrics)
        return metrics

    if search is None:
        model = _float_stage(workdir, recipe, data, model)
        search = _search_network(recipe, model)
    selection = _earlier_selection(workdir, search)
    if "float_top1" not in workdir.state:
        workdir.record(float_top1=training.top1(model, _evaluation(recipe, data)))
    logging.info("float network: top-1 %.2f%%", 100 * workdir.state["float_top1"])
    fixed = _finished(workdir.path("fixed_model.keras"))
    if fixed is None or selection is None:
        selection = _selection_stage(workdir, recipe, data, search, selection)
        fixed = _weight_stage(workdir, recipe, data, search, selection)
    try:
        metrics = export_and_verify(
            workdir, recipe, fixed, selection, data.class_names, _evaluation(recipe, data)
        )
    except FoldError as error:
        # Its structure was checked before; what is wrong now are the numbers.
        raise RecipeError(
            f"the trained network cannot be exported: {error} Train it anew with a lower --learning_rate."
        ) from error
    settings = {**_settings(recipe), "command": command}
    report.write_report(
        workdir.path("report.html"),
        selection=selection.to_json(),
        metrics=metrics,
        history=training.histories(workdir),
        settings=settings,
        parity=json.loads(workdir.path("parity.json").read_text()),
    )
    # Written last: a workdir with metrics is a finished one.
    write_atomically(workdir.path("metrics.json"), json.dumps(metrics, indent=1) + "\n")
    report.print_summary(selection.to_json(), metrics)
    return metrics


def open_workdir(root: pathlib.Path):
    """(folded network, bytes of the .tflite, evaluation batches) of a finished workdir.

    Raises:
      RecipeError: if the folder is not a finished workdir.
    """
    root = pathlib.Path(root)
    missing = [n for n in ("run.flags", "fixed_model.keras", "model.tflite") if not (root / n).exists()]
    if missing:
        raise RecipeError(f"{root} is not a finished workdir: {', '.join(missing)} missing.")
    check_format(root)
    recipe = Recipe.from_flagfile((root / "run.flags").read_text())
    data = datasets.load(recipe.dataset, data_dir=recipe.data_dir, image_size=recipe.image_size)
    folded = fold(load_model(root / "fixed_model.keras"), weight_storage=recipe.weight_storage)
    return folded, (root / "model.tflite").read_bytes(), _evaluation(recipe, data)


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


def _seed(recipe: Recipe, stage: str) -> None:
    """Sets the seeds for initial weights and Dropout, those that a stage resumed alone would have."""
    keras.utils.set_random_seed(epoch_seed(recipe.seed, stage, 0))


def _search_network(recipe: Recipe, model):
    _seed(recipe, "select")
    with _input_errors():
        search = augment(
            model,
            regularizer_weight=recipe.regularizer_weight,
            meta_epochs=1,
            # A float32 input takes the image as the network sees it, on a learnt grid.
            pixel_scaling=None if recipe.input_type == "float32" else datasets.PIXEL_SCALING,
            **_search_options(recipe),
        )
        if recipe.float_model:
            check_foldable(rebuild(search, search.selection_of([0] * len(search.quantizers))))
    return search


def _search_options(recipe: Recipe) -> dict:
    return {
        "bit_widths": recipe.candidate_bits,
        "weight_bits": recipe.weight_bits,
        "first_last_bits": recipe.first_last_bits,
        "target_bops": recipe.target_bops or None,
        "target_average_bits": None if recipe.target_bops else recipe.target_average_bits,
    }


@contextlib.contextmanager
def _input_errors():
    """What a network or a budget is refused for is an error of the input."""
    try:
        yield
    except (UnreachableBudgetError, UnsupportedLayerError, FoldError, ValueError) as error:
        raise RecipeError(str(error)) from error


def _float_stage(workdir, recipe, data, model):
    path = workdir.path("checkpoints", "float.keras")
    finished = _finished(path)
    if finished is not None:
        return finished
    with workdir.timed("float"):
        training.train_float(workdir, recipe, data, model)
    _save_atomically(model, path)
    return load_model(path)


def _earlier_selection(workdir, search) -> BitSelection | None:
    """The bit selection that the run has made before, checked against the network; None if there is none."""
    path = workdir.path("bit_selection.json")
    if not path.exists():
        return None
    try:
        selection = BitSelection.load(path)
        if search is not None:
            selection.check_fits(search.selection_of([0] * len(search.quantizers)))
    except SelectionMismatchError as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise RecipeError(
            f"{path} cannot be used: {reason.rstrip('.')}. Put back what the run wrote, or remove it: "
            "it is then made anew from the checkpoints of bit selection."
        ) from error
    return selection


@contextlib.contextmanager
def _result_errors(path: pathlib.Path):
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, RecipeError):
            raise
        raise RecipeError(
            f"{path} is damaged: {error!r}. Remove it: the same command then exports and verifies again."
        ) from error


def _selection_stage(workdir, recipe, data, search, selection):
    with workdir.timed("select"):
        training.train_search(workdir, recipe, data, search)
    if selection is None:
        selection = search.bit_selection(repair=recipe.repair)
        selection.save(workdir.path("bit_selection.json"))
    logging.info("bit selection: %d BOPs, target %d", selection.bops, selection.target_bops)
    return selection


def _weight_stage(workdir, recipe, data, search, selection):
    _seed(recipe, "train")
    fixed = rebuild(search, selection)
    with workdir.timed("train"):
        training.train_fixed(workdir, recipe, data, fixed)
    path = workdir.path("fixed_model.keras")
    _save_atomically(fixed, path)
    return load_model(path)


def _evaluation(recipe: Recipe, data):
    return data.evaluation(batch_size=min(recipe.batch_size, 128), limit=recipe.eval_images)


def _settings(recipe: Recipe) -> dict[str, str]:
    lines = [line for line in recipe.to_flagfile().splitlines() if line.startswith("--")]
    return dict(line[2:].split("=", 1) for line in lines)


def _finished(path: pathlib.Path) -> keras.Model | None:
    """The network that a finished stage left; None, so that it is made anew from the checkpoints, if not."""
    if not path.exists():
        return None
    try:
        return load_model(path)
    except ValueError as error:
        logging.warning("%s is damaged and is written anew from the last checkpoint: %s", path, error)
        return None


def _save_atomically(model, path: pathlib.Path) -> None:
    temporary = path.with_name(f".{path.name}.partial.keras")
    model.save(temporary)
    with open(temporary, "rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)
