"""The stages of a run, each of which leaves its result in the workdir and is skipped where that is whole.

What a stage starts from is the same when it follows the stage before and when it is resumed: the seeds are
set anew, and networks are read from their files.
"""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Protocol

import tf_keras as keras
from absl import logging

from mmx_tf import report
from mmx_tf.errors import DivergenceError, RecipeError
from mmx_tf.export.atomic import flush, write_atomically
from mmx_tf.files.loading import load_model
from mmx_tf.folding.fold import FoldError
from mmx_tf.metamix.rebuild import rebuild
from mmx_tf.metamix.search import SearchModel
from mmx_tf.metamix.selection import BitSelection, SelectionMismatchError
from mmx_tf.metamix.settled import SearchState
from mmx_tf.metamix.target import split
from mmx_tf.notation import si
from mmx_tf.recipe.recipe import Recipe
from mmx_tf.recipe.rules import IMAGENET_WEIGHTS
from mmx_tf.report.comparison import with_comparison
from mmx_tf.report.facts import own_cost
from mmx_tf.run import device_budget, phases, reasons
from mmx_tf.run.expected import search_length
from mmx_tf.run.export_stage import export_and_verify
from mmx_tf.run.run import Run
from mmx_tf.training.phase import epoch_seed
from mmx_tf.waiting import busy
from mmx_tf.workdir import results
from mmx_tf.workdir.workdir import Workdir

OF_FLOAT_TRAINING = ("float_epochs", "float_learning_rate", "float_global_clipnorm")
OF_BUILT_IN = ("model", "network_variant", "width", *OF_FLOAT_TRAINING)
"""Flags of a network that is built here: a file as --float_model leaves them without effect."""


class Baselines(Protocol):
    """What a run's file is compared with (`mmx_tf.run.baselines`)."""

    def missing(self, metrics: Mapping) -> bool:
        """Whether the recipe asks for a baseline that metrics do not have."""

    def measured(self, selection: BitSelection) -> dict:
        """Entries of the metrics; all processes of the job call it."""


def seed(recipe: Recipe, stage: str) -> None:
    """Sets the seeds for initial weights and Dropout, those that a stage resumed alone would have."""
    keras.utils.set_random_seed(epoch_seed(recipe.seed, stage, 0))


def float_stage(run: Run, model: keras.Model) -> keras.Model:
    """The trained float network of a run that has to train one."""
    path = run.workdir.path("checkpoints", "float.keras")
    finished = finished_network(path)
    if not run.job.chief_says(finished is not None):
        with run.workdir.timed("float"):
            phases.train_float(run.workdir, run.recipe, run.data, model)
        run.job.on_chief(lambda: save_atomically(model, path))
        finished = None
    return finished or load_model(path)


def search_stage(run: Run, search: SearchModel) -> None:
    """Trains the search network, or takes up the checkpoint of its end."""
    with run.workdir.timed("select"):
        phases.train_search(run.workdir, run.recipe, run.data, search, teacher=run.teacher)


def record_search(run: Run, search: SearchModel) -> list[dict]:
    """Whether a trained search is finished, told and recorded: `SearchState.to_json` of each target."""
    steps = phases.histories(run.workdir).get("select", {})
    states = []
    for target in search.targets:
        parts = [part for part in split(target.alpha.numpy(), target.budget) if part is not None]
        if not search.quantizers or all(part.shape[-1] < 2 for part in parts):
            continue
        # Epochs of bit-meta steps alone come first, in which nothing can flip.
        flips = steps.get(f"{target.prefix}alpha_flips", [])
        flips = flips[len(flips) * search.meta_epochs // run.recipe.select_epochs :]
        state = SearchState.of(*parts, flips=flips, length=search_length(run.recipe, run.data))
        tell = logging.info if state.finished else logging.warning
        tell("%s%s", f"{target.prefix.rstrip('/')}: " if target.prefix else "", state.sentence)
        states.append(state.to_json())
    run.workdir.record(searches=states)
    return states


def earlier_selection(workdir: Workdir, search: SearchModel | None) -> BitSelection | None:
    """The bit selection that the run has made before, checked against the network; None without one.

    Raises:
      RecipeError: if it is damaged, or of another network.
    """
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


def kept_selection(workdir: Workdir, search: SearchModel, choose: Callable[[], BitSelection]) -> BitSelection:
    """The bit selection in the workdir, or, without one, the one that `choose` gives.

    Raises:
      RecipeError: as `earlier_selection`.
    """
    selection = earlier_selection(workdir, search)
    if selection is None:
        selection = choose()
        if workdir.job.is_chief:
            selection.save(workdir.path("bit_selection.json"))
    target = "" if selection.target_bops is None else f" (budget {si(selection.target_bops)}BOPs)"
    costs = "".join(f"; {own_cost(dataclasses.asdict(cost))}" for cost in selection.costs)
    logging.info("bit selection: %sBOPs%s%s", si(selection.bops), target, costs)
    return selection


def finish(
    run: Run,
    *,
    select: Callable[[], tuple[BitSelection, SearchModel]],
    curves: Callable[[], dict],
    baselines: Baselines,
) -> dict:
    """From the search to the end of one target: weight training, file, baselines, report, metrics.

    Args:
      run: of the target, with `float_top1` in the workdir's state.
      select: gives the bit selection and the search network that fine-tuning starts from; not called where
        the network is fine-tuned already.
      curves: gives the curves of the finished phases, for the report.
      baselines: what the file is compared with.

    Returns:
      The metrics; {} in a process that is no chief, which waits for it.

    Raises:
      DivergenceError: as `pipeline.run`, or if the numbers of the trained network cannot be folded.
      DisagreementError: as `pipeline.run`.
    """
    path = run.workdir.path(results.NETWORK)
    fixed = finished_network(path)
    selection = earlier_selection(run.workdir, None)
    if not run.job.chief_says(fixed is not None and selection is not None):
        selection, search = select()
        fixed = weight_stage(run, search, selection)
        run.job.on_chief(lambda: save_atomically(fixed, path))
        fixed = load_model(path)
    metrics = run.job.on_chief(lambda: exported(run, fixed, selection))
    found = baselines.measured(selection)
    return run.job.on_chief(lambda: told(run, selection, metrics | found, curves=curves)) or {}


def exported(run: Run, fixed: keras.Model, selection: BitSelection) -> dict:
    """Makes a run's file and compares it with the network; returns the metrics, which are not written yet.

    Args:
      run: of the target.
      fixed, selection: the trained network and its bits.

    Raises:
      DivergenceError, DisagreementError: as `finish`.
    """
    try:
        metrics = export_and_verify(run, fixed, selection)
    except FoldError as error:
        # Its structure was checked before; what is wrong now are the numbers.
        raise DivergenceError(
            f"the trained network cannot be exported: {error} Train it anew with a lower --learning_rate."
        ) from error
    return metrics | device_budget.judged(run, run.workdir.path(results.FILE).read_bytes())


def told(run: Run, selection: BitSelection, metrics: dict, *, curves: Callable[[], dict]) -> dict:
    """Writes report and metrics, prints the summary; returns the metrics with the comparison in figures.

    Args:
      run: of the target.
      selection: its bits.
      metrics: all of metrics.json but the comparison.
      curves: as for `finish`.
    """
    workdir = run.workdir
    metrics = with_comparison(metrics | {"seconds": workdir.state["seconds"]})
    finished = workdir.state.get("results")
    if finished is not None:
        # Until the end they are not known: a process that is killed before leaves nothing that seems edited.
        changing = (results.REPORT, results.METRICS)
        workdir.record(results={name: sha for name, sha in finished.items() if name not in changing})
    with busy("writing the report"):
        write_report(run, selection, metrics, history=curves())
    content = json.dumps(metrics, indent=1) + "\n"
    digest = hashlib.sha256(content.encode()).hexdigest()
    written = results.digests(workdir.root) | {results.METRICS: digest}
    if finished is None:
        # In this order: a workdir with metrics is a finished one, and what it wrote is then known.
        workdir.record(results=written)
    write_atomically(workdir.path(results.METRICS), content)
    workdir.record(results=written)
    report.print_summary(selection.to_json(), metrics, folder=workdir.root)
    return metrics


def write_report(run: Run, selection: BitSelection, metrics: dict, *, history: dict) -> None:
    """Writes report.html of a run, whose parity.json is there, with the curves that `curves` gave."""
    report.write_report(
        run.workdir.path(results.REPORT),
        selection=selection.to_json(),
        metrics=metrics,
        history=history,
        settings=settings(run),
        parity=json.loads(run.workdir.path(results.PARITY).read_text()),
        reasons=reasons.kept(run),
    )


def settings(run: Run) -> dict[str, str]:
    """Flags by name, and the command line, for a report; not those that the run had no use for."""
    flags = run.recipe.flag_texts
    if run.recipe.float_model:
        unused = OF_FLOAT_TRAINING if run.recipe.float_model == IMAGENET_WEIGHTS else OF_BUILT_IN
        flags = {name: value for name, value in flags.items() if name not in unused}
    return {**flags, "command": run.command}


def weight_stage(run: Run, search: SearchModel, selection: BitSelection) -> keras.Model:
    """The network at the selected bits, fine-tuned or taken up from its last checkpoint; not saved yet."""
    start, shared = None, run.recipe.share_step_sizes
    if run.recipe.activation_epochs and not run.workdir.finished:
        seed(run.recipe, "activation")
        start = rebuild(search, selection, quantized_weights=False, share_step_sizes=shared)
        with run.workdir.timed("activation"):
            phases.train_activations(run.workdir, run.recipe, run.data, start, teacher=run.teacher)
    seed(run.recipe, "train")
    fixed = rebuild(search, selection, start=start, share_step_sizes=shared)
    with run.workdir.timed("train"):
        phases.train_fixed(run.workdir, run.recipe, run.data, fixed, teacher=run.teacher)
    return fixed


def finished_network(path: pathlib.Path) -> keras.Model | None:
    """The network that a finished stage left; None, so that it is made anew from the checkpoints, if not."""
    if not path.exists():
        return None
    try:
        return load_model(path)
    except ValueError as error:
        logging.warning("%s is damaged and is written anew from the last checkpoint: %s", path, error)
        return None


def save_atomically(model: keras.Model, path: pathlib.Path) -> None:
    """Saves a network so that `path` has the old one or the whole new one."""
    temporary = path.with_name(f".{path.name}.partial.keras")
    model.save(temporary)
    flush(temporary)
    temporary.replace(path)
