"""A run with several targets: one search, then each target's network and file, then the front of all.

W/checkpoints/select      the search: one meta-state, and the alpha of every target
W/target_4.5G/            what a run with this target alone leaves: bit_selection.json, model.tflite, ...
W/front.json, front.png   accuracy over BOPs of the targets that are finished
W/report.html             the same to read, with links to the targets' reports
"""

import functools
import json
from collections.abc import Callable

import tf_keras as keras
from absl import logging

from mmx_tf import report
from mmx_tf.errors import RecipeError
from mmx_tf.export.atomic import write_atomically
from mmx_tf.metamix.search import SearchModel
from mmx_tf.metamix.selection import BitSelection
from mmx_tf.notation import target_folder
from mmx_tf.report import front
from mmx_tf.report.scores import FLOAT_STATE
from mmx_tf.run import finished, phases, reasons, stages
from mmx_tf.run.baselines import Baselines
from mmx_tf.run.run import Run
from mmx_tf.workdir import results
from mmx_tf.workdir.workdir import Workdir

RESULTS = ("front.json", "front.png", results.REPORT)
"""What is made of the results of all targets."""


def run_targets(run: Run, search: SearchModel, model: keras.Model) -> dict:
    """Runs what is left of a recipe with several targets, from its float network, `model`, on.

    Returns:
      The contents of front.json.
    """
    selections = functools.cache(functools.partial(_selections, run, search))
    for bops in run.recipe.exported_targets:
        of_target = run.recipe.for_target(bops)
        with Workdir.opened(of_target, run.job, run.workdir.inputs) as workdir:
            _run_target(run, run.of_target(workdir, bops), search, model, bops, selections)
        # After each: a run that is killed has a front of what was finished.
        document = run.job.on_chief(lambda: _write_front(run))
    if document is None:
        return {}
    report.print_front(document, folder=run.workdir.root)
    return document


def _selections(run: Run, search: SearchModel) -> dict[int, BitSelection]:
    """The selection of each target, after the search that they share."""
    stages.search_stage(run, search)
    stages.record_search(run, search)
    return dict(zip(run.recipe.target_bops, search.bit_selections(repair=run.recipe.repair), strict=True))


def _run_target(
    run: Run, target: Run, search: SearchModel, model: keras.Model, bops: int, selections: Callable
) -> None:
    job, workdir = target.job, target.workdir

    def select():
        if job.chief_says(workdir.finished and workdir.path(results.SELECTION).exists()):
            return stages.earlier_selection(workdir, search), search
        chosen = selections()[bops]
        # The phases before were for all targets; each target's metrics and report tell of them.
        shared = run.workdir.state["seconds"]
        of_target = {p: seconds for p, seconds in workdir.state["seconds"].items() if p not in shared}
        workdir.record(seconds=shared | of_target)
        index = run.recipe.target_bops.index(bops)
        states = run.workdir.state.get("searches", ())
        if states:
            workdir.record(searches=[states[index]])
        selection = stages.kept_selection(workdir, search, lambda: chosen)
        job.on_chief(lambda: reasons.keep(target, search, selection, target=index))
        return selection, search

    def start():
        stages.search_stage(run, search)
        return search

    baselines = Baselines(target, lambda: model, start)
    curves = functools.partial(_curves, run.workdir, workdir, f"{target_folder(bops)}/")
    if job.chief_says(workdir.finished):
        finished.completed(
            target,
            search=search,
            network=lambda: search,
            select=select,
            curves=curves,
            baselines=baselines,
        )
        return
    judged = {name: run.workdir.state[name] for name in FLOAT_STATE if name in run.workdir.state}
    job.on_chief(lambda: workdir.record(**judged))
    stages.finish(target, select=select, curves=curves, baselines=baselines)


def _curves(workdir: Workdir, target: Workdir, prefix: str) -> dict:
    """The curves of the phases before, those of other targets left out, and of the target's own."""
    shared = {
        phase: {
            name.removeprefix(prefix): values
            for name, values in curves.items()
            if "/" not in name or name.startswith(prefix)
        }
        for phase, curves in phases.histories(workdir).items()
    }
    return shared | phases.histories(target)


def _write_front(run: Run) -> dict:
    workdir, recipe = run.workdir, run.recipe
    paths = {target_folder(b): workdir.path(target_folder(b), results.METRICS) for b in recipe.target_bops}
    try:
        found = {folder: json.loads(path.read_text()) for folder, path in paths.items() if path.exists()}
        document = front.document(found, seconds=workdir.state["seconds"], searched=len(recipe.target_bops))
    except (ValueError, KeyError, TypeError) as error:
        raise RecipeError(
            f"the metrics of a target of {workdir.root} are damaged: {error!r}. Remove the damaged "
            "metrics.json: the same command then exports and verifies that target again."
        ) from error
    text = json.dumps(document, indent=1) + "\n"
    there = results.digests(workdir.root, RESULTS)
    written = workdir.state.get("front", there)
    lost = [name for name in RESULTS if there.get(name) != written.get(name, "unwritten")]
    if lost or workdir.path("front.json").read_bytes() != text.encode():
        if there and lost:
            logging.warning("%s: %s missing or edited, and made again.", workdir.root, ", ".join(lost))
        front.save_front_plot(workdir.path("front.png"), document)
        settings = stages.settings(run)
        report.write_front_report(workdir.path(results.REPORT), document, settings=settings)
        write_atomically(workdir.path("front.json"), text)
        workdir.record(front=results.digests(workdir.root, RESULTS))
    return document
