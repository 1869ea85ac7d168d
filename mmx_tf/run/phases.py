"""The training phases of a run: float network, bit selection, activations, weight training."""

import dataclasses

import tf_keras as keras
from absl import logging

from mmx_tf.data.examples import Examples
from mmx_tf.distribution.copies import copy_in, replicated
from mmx_tf.fitting.divergence import collapsed_quantizers
from mmx_tf.fitting.fixed_network import warn_of_slow_statistics
from mmx_tf.fitting.statistics import reestimate_batch_norm
from mmx_tf.fitting.trained import Trained
from mmx_tf.folding.training_graph import fold_for_training
from mmx_tf.layers.fusion import initialize_before_tracing
from mmx_tf.metamix.search import SearchModel
from mmx_tf.metamix.target import cost_logs
from mmx_tf.metamix.trained_search import TrainedSearch
from mmx_tf.recipe.recipe import Recipe
from mmx_tf.run.expected import costs_of
from mmx_tf.training import task
from mmx_tf.training.averaging import WeightAverages
from mmx_tf.training.distillation import DistilledModel
from mmx_tf.training.optimizers import (
    alpha_optimizer_of,
    cosine_schedule,
    optimizer_of,
    step_optimizer_of,
)
from mmx_tf.training.phase import PHASES, Phase
from mmx_tf.workdir import checkpoints
from mmx_tf.workdir.workdir import Workdir

SEARCH_STEP_LOGS = (
    "bops",
    "loss",
    "search_loss",
    "regularizer",
    "alpha_entropy",
    "alpha_margin",
    "alpha_flips",
)
EARLY_SHARE = 0.1
"""Share of the bit-search steps in which an alpha that saturates is an error."""
LARGEST_START_SHARE = 0.01
"""Share of where training started that may be left in averaged weights without a warning."""


def train_float(workdir: Workdir, recipe: Recipe, data: Examples, model: keras.Model) -> None:
    """Trains the built-in network from scratch for --float_epochs."""
    phase = Phase(workdir, recipe, data, "float")
    total = phase.steps * recipe.float_epochs
    schedule = cosine_schedule(
        recipe.float_learning_rate, steps=total, warmup_steps=min(5 * phase.steps, total // 5)
    )
    with replicated(phase.job, model) as model:
        with phase.job.scope():
            _compile(
                recipe, model, optimizer_of(recipe, "float", model.trainable_variables, phase.rate(schedule))
            )
        phase.fit(Trained(model), epochs=recipe.float_epochs, validation_data=phase.held_out())


def train_search(
    workdir: Workdir,
    recipe: Recipe,
    data: Examples,
    search: SearchModel,
    *,
    teacher: keras.Model | None = None,
) -> None:
    """Runs the bit selection phase: --select_epochs epochs, the first ones of bit-meta steps alone.

    Args:
      workdir, recipe, data: of the run.
      search: the search network.
      teacher: network that the recipe's --teacher names; with --distill_selection both steps learn from it.
    """
    phase = Phase(workdir, recipe, data, "select")
    teacher = _placed(phase, teacher) if recipe.distill_selection else None
    with replicated(phase.job, search) as search:
        _train_search(phase, search, teacher)


def _placed(phase: Phase, teacher: keras.Model | None) -> keras.Model | None:
    """The teacher where the phase trains."""
    if teacher is None or phase.job.strategy is None:
        return teacher
    return copy_in(phase.job, teacher)


def _distillation(recipe: Recipe) -> dict:
    return {
        "distillation_weight": recipe.distillation_weight,
        "distillation_temperature": recipe.distillation_temperature,
    }


def _train_search(phase: Phase, search: SearchModel, teacher: keras.Model | None) -> None:
    recipe = phase.recipe
    # A run with given bits has no search steps; the schedule needs one all the same.
    search_steps = max(1, phase.steps * (recipe.select_epochs - search.meta_epochs))
    # Hard BOPs oscillate round the target; a decaying rate lets the selection settle.
    alpha_rate = recipe.alpha_learning_rate
    if recipe.alpha_schedule == "cosine":
        alpha_rate = cosine_schedule(alpha_rate, steps=search_steps)
    taught_by = {} if teacher is None else {"teacher": teacher, **_distillation(recipe)}
    with phase.job.scope():
        search.compile(
            optimizer=optimizer_of(
                recipe, "select", search.meta_weights, phase.rate(recipe.select_learning_rate)
            ),
            step_optimizer=step_optimizer_of(recipe, phase.rate(recipe.step_learning_rate)),
            alpha_optimizer=alpha_optimizer_of(recipe, phase.rate(alpha_rate)),
            **taught_by,
            loss=task.loss(recipe.told_task, search.network),
            metrics=task.metrics(recipe.told_task, search.network),
            jit_compile=recipe.jit_compile,
        )

    def prepare():
        initialize_before_tracing(search, search.network, phase.batches(0), branch=0)

    first = phase.steps * search.meta_epochs
    phase.fit(
        TrainedSearch(search),
        epochs=recipe.select_epochs,
        step_logs=_step_logs(search),
        validation_data=phase.held_out(),
        prepare=prepare,
        early=(first, first + max(1, round(EARLY_SHARE * search_steps))),
        costs=costs_of(search.targets),
    )


def train_fixed(
    workdir: Workdir,
    recipe: Recipe,
    data: Examples,
    fixed: keras.Model,
    *,
    teacher: keras.Model | None = None,
) -> None:
    """Fine-tunes weights and step sizes at the selected bits for --train_epochs.

    The last --folded_epochs of them are on the folded graph, with the same variables, optimizer and schedule.
    With --ema_decay the network has the averages in the end; checkpoints hold both.

    Args:
      workdir, recipe, data: of the run.
      fixed: network that `rebuild` made.
      teacher: network that the recipe's --teacher names.
    """
    phase = Phase(workdir, recipe, data, "train")
    _train_in(phase, fixed, teacher)
    if recipe.batch_norm_images:
        reestimate_batch_norm(fixed, phase.statistics_batches(recipe.batch_norm_images))


def train_activations(
    workdir: Workdir,
    recipe: Recipe,
    data: Examples,
    network: keras.Model,
    *,
    teacher: keras.Model | None = None,
) -> None:
    """Trains a network with weights in full precision for --activation_epochs, as `train_fixed` does.

    Args:
      workdir, recipe, data, teacher: as for `train_fixed`. There are no averages and no folded graph.
      network: that `rebuild` made with `quantized_weights=False`.
    """
    stage = dataclasses.replace(
        recipe,
        train_epochs=recipe.activation_epochs,
        folded_epochs=0,
        ema_decay=0.0,
        oscillation_dampening=0.0,
    )
    _train_in(Phase(workdir, stage, data, "activation"), network, teacher)


def _train_in(phase: Phase, fixed: keras.Model, teacher: keras.Model | None) -> None:
    teacher = _placed(phase, teacher)
    with replicated(phase.job, fixed) as network:
        _train_fixed(phase, network, teacher)
    for name in collapsed_quantizers(fixed):
        logging.warning(
            "the step size of %s has collapsed to its floor, so that layer sees next to nothing; train again "
            "with a lower --learning_rate.",
            name,
        )


def _train_fixed(phase: Phase, fixed: keras.Model, teacher: keras.Model | None) -> None:
    recipe, job = phase.recipe, phase.job
    schedule = cosine_schedule(
        recipe.learning_rate,
        steps=phase.steps * recipe.train_epochs,
        warmup_steps=round(phase.steps * recipe.warmup_epochs),
    )

    def prepare():
        initialize_before_tracing(fixed, fixed, phase.batches(0))

    if recipe.ema_decay or recipe.folded_epochs == recipe.train_epochs:
        prepare()  # The averages begin at the first step sizes, and the folded graph has to have them.
    with job.scope():
        optimizer = optimizer_of(
            recipe, "train", fixed.trainable_variables, phase.rate(schedule),
            steps=phase.steps * recipe.train_epochs,
        )  # fmt: skip
        if recipe.oscillation_dampening:
            optimizer.dampen(fixed)
        _compile(recipe, fixed, optimizer, label_smoothing=recipe.label_smoothing)
    averages = WeightAverages(fixed) if recipe.ema_decay else None
    left = recipe.ema_decay ** (phase.steps * recipe.train_epochs)
    if left > LARGEST_START_SHARE:
        logging.warning(
            "--ema_decay=%g is slow for %d steps: %.0f%% of the averages will be the network from before "
            "weight training.", recipe.ema_decay, phase.steps * recipe.train_epochs, 100 * left,
        )  # fmt: skip

    # On the folded graph they do not move.
    warn_of_slow_statistics(fixed, phase.steps * (recipe.train_epochs - recipe.folded_epochs))

    def fit(graph, epochs, **options):
        """Trains the variables of `fixed` in a graph of them, with the teacher if there is one."""
        trained = graph
        with job.scope():
            if teacher is not None:
                weight, temperature = recipe.distillation_weight, recipe.distillation_temperature
                trained = DistilledModel(
                    graph,
                    teacher=teacher,
                    weight=weight,
                    temperature=temperature,
                    task=recipe.told_task,
                )
            if trained is not fixed:
                _compile(recipe, trained, optimizer, label_smoothing=recipe.label_smoothing)
                options["trained_as"] = Trained(trained)
        phase.fit(
            Trained(fixed), epochs=epochs, averages=averages, validation_data=phase.judged_on(), **options
        )

    fit(fixed, recipe.train_epochs - recipe.folded_epochs, prepare=prepare)
    if recipe.folded_epochs:
        on_folded_graph = fold_for_training(fixed, weight_storage=recipe.weight_storage, scope=job.scope())
        fit(on_folded_graph, recipe.train_epochs, told=" on the folded graph")
    if averages:
        averages.put_in_place()


def histories(workdir: Workdir) -> dict[str, dict[str, list[float]]]:
    """Curves of the finished phases, for the report: phase -> log name -> values."""
    curves = {}
    for phase in PHASES:
        facts = checkpoints.newest_facts(workdir.path("checkpoints", phase))
        if facts:
            curves[phase] = {name: values for name, values in facts["steps"].items() if values}
            curves[phase] = curves[phase] or facts["history"]
    return curves


def _step_logs(search: SearchModel) -> tuple[str, ...]:
    """The logs that are kept of every search step; the loss is that of the meta step, so of all targets."""
    return tuple(
        dict.fromkeys(
            name if name == "loss" else target.prefix + name
            for target in search.targets
            for name in (
                *SEARCH_STEP_LOGS,
                *(["weight_alpha_entropy"] if target.budget.searches_weights else []),
                *cost_logs(target.budget),
            )
        )
    )


def _compile(recipe: Recipe, model, optimizer, *, label_smoothing: float = 0.0):
    model.compile(
        optimizer=optimizer,
        loss=task.loss(recipe.told_task, model, label_smoothing=label_smoothing),
        metrics=task.metrics(recipe.told_task, model),
        jit_compile=recipe.jit_compile,
    )
    model.optimizer.build(model.trainable_variables)
