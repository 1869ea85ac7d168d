"""A run with several targets: one search, then each target's network and file, then the front of all.

W/checkpoints/select      the search: one meta-state, and the alphas of every target
W/target_4.5G/            what a run with this target alone leaves: bit_selection.json, model.tflite, ...
W/front.json, front.png   accuracy over BOPs of the targets that are finished
W/report.html             the same to read, with links to the targets' reports
"""

import functools
import json

from export.atomic import write_atomically
from mmx_tf import front, report, stages, training
from mmx_tf.bops_text import target_folder
from mmx_tf.recipe import Recipe
from mmx_tf.report_scores import FLOAT_STATE
from mmx_tf.search import SearchModel
from mmx_tf.workdir import Workdir


def run_targets(
    workdir: Workdir, recipe: Recipe, data, search: SearchModel, *, teacher, command: str
) -> dict:
    """Runs what is left of a recipe with several targets, from its float network on.

    Returns:
      The contents of front.json.
    """

    @functools.cache
    def selections():
        stages.search_stage(workdir, recipe, data, search)
        return dict(zip(recipe.target_bops, search.bit_selections(repair=recipe.repair), strict=True))

    for bops in recipe.exported_targets:
        with Workdir.opened(recipe.for_target(bops), workdir.job) as target:
            if stages.finished_metrics(target, search) is None:
                _finish_target(workdir, target, recipe, data, search, bops, selections, teacher, command)
        # After each: a run that is killed has a front of what was finished.
        document = workdir.job.on_chief(lambda: _write_front(workdir, recipe, command))
    if document is None:
        return {}
    report.print_front(document)
    return document


def _finish_target(workdir, target, recipe, data, search, bops, selections, teacher, command) -> None:
    def select():
        chosen = selections()[bops]
        # The phases before were for all targets; each target's metrics and report tell of them.
        shared = workdir.state["seconds"]
        own = {phase: seconds for phase, seconds in target.state["seconds"].items() if phase not in shared}
        target.record(seconds=shared | own)
        return stages.kept_selection(target, search, lambda: chosen), search

    judged = {name: workdir.state[name] for name in FLOAT_STATE if name in workdir.state}
    target.job.on_chief(lambda: target.record(**judged))
    stages.finish(
        target,
        recipe.for_target(bops),
        data,
        select=select,
        teacher=teacher,
        curves=lambda: _curves(workdir, target, f"{target_folder(bops)}/"),
        command=command,
    )


def _curves(workdir: Workdir, target: Workdir, prefix: str) -> dict:
    """The curves of the phases before, those of other targets left out, and of the target's own."""
    shared = {
        phase: {
            name.removeprefix(prefix): values
            for name, values in curves.items()
            if "/" not in name or name.startswith(prefix)
        }
        for phase, curves in training.histories(workdir).items()
    }
    return shared | training.histories(target)


def _write_front(workdir: Workdir, recipe: Recipe, command: str) -> dict:
    results = {}
    for bops in recipe.target_bops:
        path = workdir.path(target_folder(bops), "metrics.json")
        if path.exists():
            results[target_folder(bops)] = json.loads(path.read_text())
    document = front.document(results, seconds=workdir.state["seconds"])
    path = workdir.path("front.json")
    if not path.exists() or json.loads(path.read_text()) != document:
        front.save_front_plot(workdir.path("front.png"), document)
        settings = stages.settings(recipe, command)
        report.write_front_report(workdir.path("report.html"), document, settings=settings)
        write_atomically(path, json.dumps(document, indent=1) + "\n")
    return document
