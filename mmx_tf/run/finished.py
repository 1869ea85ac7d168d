"""A run that is finished: nothing is trained again, and what is missing of its results is made from the rest.

bit_selection.json    from fixed_model.keras, whose layers have these bits
fixed_model.keras     from the last checkpoint of weight training
model.tflite          from fixed_model.keras: the same bytes, or it is refused
parity.json           from fixed_model.keras and model.tflite
report.html           from the JSON files and the curves in the checkpoints
metrics.json          by exporting and verifying again
"""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Callable

import tf_keras as keras
from absl import logging

from mmx_tf import data as datasets
from mmx_tf import report
from mmx_tf.data.examples import Examples
from mmx_tf.errors import RecipeError
from mmx_tf.export.atomic import write_atomically
from mmx_tf.files.loading import load_model
from mmx_tf.folding.convert import describe
from mmx_tf.folding.fold import fold
from mmx_tf.metamix.search import SearchModel
from mmx_tf.metamix.selection import BitSelection
from mmx_tf.recipe.recipe import Recipe
from mmx_tf.report.facts import run_facts
from mmx_tf.run import export_stage, stages
from mmx_tf.run.given_selection import selection_of_bits
from mmx_tf.run.run import Run, evaluation
from mmx_tf.workdir import fingerprints, results
from mmx_tf.workdir.belonging import FLAG_FILE, check_finished
from mmx_tf.workdir.results import FILE, METRICS, NETWORK, PARITY, REPORT, SELECTION
from mmx_tf.workdir.workdir import Workdir


def completed(
    run: Run,
    *,
    search: SearchModel | None,
    network: Callable[[], SearchModel],
    select: Callable[[], tuple[BitSelection, SearchModel]],
    curves: Callable[[], dict],
    baselines: stages.Baselines,
) -> dict:
    """The metrics of a finished workdir, whose summary is printed when nothing is missing any more.

    Args:
      run: the whole one, or that of a target.
      search: the search network, if there is one already; a bit selection of another network is refused.
      network: gives that network otherwise.
      select, curves, baselines: as for `stages.finish`. `select` is called where the network is missing, and
        baselines that the run has not yet been compared with are added.

    Returns:
      The metrics; {} in a process that is no chief, which waits for it.

    Raises:
      RecipeError: if a result is damaged, or what it would be made from is missing too. What is there is not
        changed.
      DivergenceError, DisagreementError: as `stages.finish`.
    """
    workdir, job, metrics = run.workdir, run.job, None
    missing = results.missing(workdir.root) if job.is_chief else []
    selection = stages.earlier_selection(workdir, search)
    if job.is_chief and selection and METRICS not in missing:
        metrics = _metrics(workdir, selection)
    path, needed = workdir.path(NETWORK), bool({*missing} - {REPORT, NETWORK})
    fixed = stages.finished_network(path) if job.is_chief and needed else None
    remade = job.chief_says(NETWORK in missing or (needed and fixed is None))
    if remade:
        selection, start = select()
        fixed = stages.weight_stage(dataclasses.replace(run, teacher=None), start, selection)
    elif job.chief_says(SELECTION in missing):
        reference = network()
        selection = _selection_of(fixed, reference, run.recipe) if job.is_chief else None

    def made():
        if not missing:
            if not baselines.missing(metrics):
                logging.info("%s is finished; nothing is done again.", workdir.root)
            if "results" not in workdir.state:  # of an earlier version, whose inputs are new to us too
                workdir.record(results=results.digests(workdir.root))
            return metrics
        _check_known(workdir, SELECTION, selection.to_text().encode(), "the rest")
        if METRICS in missing:
            _begin(workdir, missing, fixed if remade else None, selection)
            return stages.exported(run, fixed, selection)
        return _made_again(run, fixed, selection, missing, remade, curves)

    metrics = job.on_chief(made) or {}
    if not job.chief_says(METRICS in missing or baselines.missing(metrics)):
        job.on_chief(lambda: report.print_summary(selection.to_json(), metrics, folder=workdir.root))
        return metrics
    # The chief may have made it again.
    selection = selection or stages.earlier_selection(workdir, None)
    found = baselines.measured(selection)
    return job.on_chief(lambda: stages.told(run, selection, metrics | found, curves=curves)) or {}


def _made_again(run: Run, fixed, selection, missing, remade: bool, curves) -> dict:
    """Makes what is missing but the metrics, which are returned."""
    workdir = run.workdir
    metrics = _metrics(workdir, selection)
    if remade or {FILE, PARITY} & {*missing}:
        folded, content = export_stage.folded_and_file(run, fixed, selection)
        _check_known(workdir, FILE, content, "the last checkpoint" if remade else NETWORK)
    _begin(workdir, missing, fixed if remade else None, selection)
    if FILE in missing:
        write_atomically(workdir.path(FILE), content)
    if PARITY in missing:
        certificate = export_stage.certificate_of(run, folded, content)
        write_atomically(workdir.path(PARITY), export_stage.parity_text(certificate, metrics))
        certificate.check(max_disagreement=run.recipe.max_disagreement)
    if REPORT in missing:
        history = curves()
        if not history:
            logging.warning("%s has no curves: the checkpoints that had them are gone.", workdir.path(REPORT))
        stages.write_report(run, selection, metrics, history=history)
    workdir.record(results=results.digests(workdir.root))
    return metrics


def _metrics(workdir: Workdir, selection: BitSelection) -> dict:
    path = workdir.path(METRICS)
    try:
        metrics = json.loads(path.read_text())
        run_facts(selection.to_json(), metrics)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecipeError(
            f"{path} is damaged: {error!r}. Remove it: the same command then exports and verifies again."
        ) from error
    return metrics


def _selection_of(fixed: keras.Model, search: SearchModel, recipe: Recipe) -> BitSelection:
    """The bit selection that a trained network was made with, as the search of its run records it."""
    layers = describe(fold(fixed, weight_storage=recipe.weight_storage))["layers"]
    bits = {layer["name"]: (layer["weight_bits"], layer["activation_bits"]) for layer in layers}
    budgets = [target.budget.target_bops for target in search.targets]
    target = budgets.index(recipe.target_bops[0]) if len(budgets) > 1 else 0
    try:
        return selection_of_bits(search, bits, target=target)
    except (KeyError, ValueError) as error:
        raise RecipeError(
            f"{SELECTION} is missing in {recipe.workdir}, and {NETWORK} there does not have its bits "
            f"({error!r}). Put one of them back, or give a new --workdir."
        ) from error


def _check_known(workdir: Workdir, name: str, content: bytes, made_from: str) -> None:
    """Refuses what was made again if it is not what the run wrote, of which metrics and report tell."""
    known = results.known(workdir.root, workdir.state).get(name)
    found = hashlib.sha256(content).hexdigest()
    if known not in (None, found):
        raise RecipeError(
            f"{workdir.path(name)} as {made_from} gives it now (SHA-256 {found[:12]}...) is not what the run "
            f"wrote ({known[:12]}...): mmx_tf or a package that it needs has another version now. Put back "
            f"what is missing, or remove {workdir.path(METRICS)}: the same command then exports and verifies "
            "again."
        )


def _begin(workdir: Workdir, missing: list[str], remade: keras.Model | None, selection: BitSelection) -> None:
    """Says what is made again, and writes what the rest is made from, where that is missing."""
    logging.warning(
        "%s is finished, but %s missing and made again from what is there; nothing is trained.",
        workdir.root, f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'}",
    )  # fmt: skip
    # Until the end they are not known: a process that is killed before leaves nothing that seems edited.
    written = workdir.state.get("results")
    if written is not None:
        workdir.record(results={name: sha for name, sha in written.items() if name not in missing})
    if SELECTION in missing:
        selection.save(workdir.path(SELECTION))
    if remade is not None:
        stages.save_atomically(remade, workdir.path(NETWORK))


def open_workdir(root: pathlib.Path):
    """(folded network, bytes of the .tflite, evaluation batches) of a finished workdir.

    Evaluation images that are not those of the run are a warning: the network and its file can be compared on
    any, but the accuracies are not those in its metrics.json. The float network is not asked for.

    Raises:
      RecipeError: if the folder is not a finished workdir, or one of the two is not what the run wrote.
    """
    root = pathlib.Path(root)
    recipe, data, fixed = open_network(root, needed=(results.NETWORK, results.FILE))
    folded = fold(fixed, weight_storage=recipe.weight_storage)
    return folded, (root / results.FILE).read_bytes(), evaluation(recipe, data)


def open_network(
    root: pathlib.Path, *, needed: tuple[str, ...] = (results.NETWORK,)
) -> tuple[Recipe, Examples, keras.Model]:
    """(recipe, its data, fixed network) of a finished workdir; warns and raises as `open_workdir`.

    Args:
      root: the workdir.
      needed: the results that have to be there, as the run wrote them.
    """
    state = check_finished(root, needed)
    recipe = Recipe.from_flagfile((root / FLAG_FILE).read_text())
    data = datasets.of_recipe(recipe)
    changes = fingerprints.changes(recipe, state.get("inputs", {}), {"dataset": fingerprints.of_data(data)})
    if changes:
        logging.warning("%s. Accuracies are not those in %s.", changes[0], root / results.METRICS)
    fixed = load_model(root / results.NETWORK)
    return recipe, data.for_task(recipe.told_task).shaped(fixed.input_shape[1:]), fixed


def task_of(root: pathlib.Path) -> str:
    """What the outputs of a finished workdir's network stand for, one of `export.comparing.heads.TASKS`."""
    return Recipe.from_flagfile((pathlib.Path(root) / FLAG_FILE).read_text()).told_task
