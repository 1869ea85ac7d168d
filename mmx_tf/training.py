"""The three training phases of a run: float network, bit selection, weight training."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tf_keras as keras
from absl import logging

from mmx_tf import checkpoints, training_loop
from mmx_tf.data import ImageData
from mmx_tf.divergence import DivergenceError, Watch, collapsed_quantizers
from mmx_tf.float_model import gives_probabilities
from mmx_tf.folded_training import fold_for_training
from mmx_tf.progress import Progress
from mmx_tf.recipe import Recipe
from mmx_tf.search import SearchModel, StartSearch
from mmx_tf.tracing import build_before_tracing, initialize_before_tracing
from mmx_tf.weight_training import ScaledRate, cosine_schedule, sgd
from mmx_tf.workdir import Workdir

PHASES = ("float", "select", "train")
SEARCH_STEP_LOGS = ("bops", "loss", "search_loss", "regularizer", "alpha_entropy")
MAX_RECOVERIES = 3
RECOVERY_FACTOR = 0.5
EARLY_SHARE = 0.1
"""Share of the bit-search steps in which an alpha that saturates is an error."""


class Phase:
    """What a phase's loop needs: data of any position, checkpoints, and the scale of its learning rates.

    Args:
      workdir, recipe, data: of the run.
      name: one of `PHASES`.
    """

    def __init__(self, workdir: Workdir, recipe: Recipe, data: ImageData, name: str):
        self.workdir, self.recipe, self.name, self._data = workdir, recipe, name, data
        self.steps = max(1, data.train_images // recipe.batch_size)
        if recipe.steps_per_epoch:
            self.steps = min(self.steps, recipe.steps_per_epoch)
        self.rate_scale = tf.Variable(1.0, trainable=False, name="rate_scale")

    def rate(self, learning_rate) -> ScaledRate:
        """A learning rate or schedule that a recovery can lower."""
        return ScaledRate(learning_rate, self.rate_scale)

    def batches(self, epoch: int, first_step: int = 0) -> tf.data.Dataset:
        """An epoch's batches from a step on: a function of seed, phase, epoch and step alone."""
        seed = epoch_seed(self.recipe.seed, self.name, epoch)
        dataset = self._data.train(batch_size=self.recipe.batch_size, seed=seed, skip_batches=first_step)
        return dataset.take(self.steps - first_step)


def epoch_seed(seed: int, phase: str, epoch: int) -> int:
    """The seed of an epoch's data, in 0..2**31 - 1."""
    sequence = np.random.SeedSequence([seed, PHASES.index(phase), epoch])
    return int(sequence.generate_state(1)[0]) >> 1


def train_float(workdir: Workdir, recipe: Recipe, data: ImageData, model: keras.Model) -> None:
    """Trains the built-in network from scratch for --float_epochs."""
    phase = Phase(workdir, recipe, data, "float")
    total = phase.steps * recipe.float_epochs
    schedule = cosine_schedule(
        recipe.float_learning_rate, steps=total, warmup_steps=min(5 * phase.steps, total // 5)
    )
    _compile(model, _sgd(recipe, model, phase.rate(schedule)))
    _fit(phase, model, epochs=recipe.float_epochs)


def train_search(workdir: Workdir, recipe: Recipe, data: ImageData, search: SearchModel) -> None:
    """Runs the bit selection phase: --select_epochs epochs, the first of bit-meta steps alone."""
    phase = Phase(workdir, recipe, data, "select")
    search_steps = phase.steps * (recipe.select_epochs - search.meta_epochs)
    search.compile(
        optimizer=sgd(
            search.meta_weights,
            phase.rate(recipe.select_learning_rate),
            momentum=recipe.momentum,
            nesterov=recipe.nesterov,
            weight_decay=recipe.weight_decay,
        ),
        step_optimizer=keras.optimizers.SGD(phase.rate(recipe.step_learning_rate), momentum=recipe.momentum),
        # Hard BOPs oscillate round the target; a decaying rate lets the selection settle.
        alpha_optimizer=keras.optimizers.Adam(
            phase.rate(cosine_schedule(recipe.alpha_learning_rate, steps=search_steps))
        ),
        loss=_loss(search.network),
        metrics=["accuracy"],
    )

    def prepare():
        initialize_before_tracing(search, search.network, phase.batches(0), branch=0)

    first = phase.steps * search.meta_epochs
    _fit(
        phase,
        search,
        epochs=recipe.select_epochs,
        step_logs=SEARCH_STEP_LOGS,
        prepare=prepare,
        callbacks=[StartSearch()],
        early=(first, first + max(1, round(EARLY_SHARE * search_steps))),
    )


def train_fixed(workdir: Workdir, recipe: Recipe, data: ImageData, fixed: keras.Model) -> None:
    """Fine-tunes weights and step sizes at the selected bits for --train_epochs.

    The last --folded_epochs of them are on the folded graph, with the same variables, optimizer and schedule.
    """
    phase = Phase(workdir, recipe, data, "train")
    schedule = cosine_schedule(
        recipe.learning_rate,
        steps=phase.steps * recipe.train_epochs,
        warmup_steps=round(phase.steps * recipe.warmup_epochs),
    )
    _compile(fixed, _sgd(recipe, fixed, phase.rate(schedule)))
    evaluation = data.evaluation(batch_size=recipe.batch_size, limit=recipe.eval_images)
    epochs = recipe.train_epochs - recipe.folded_epochs

    def prepare():
        initialize_before_tracing(fixed, fixed, phase.batches(0))

    _fit(phase, fixed, epochs=epochs, prepare=prepare, validation_data=evaluation)
    if recipe.folded_epochs:
        folded_graph = fold_for_training(fixed, weight_storage=recipe.weight_storage)
        _compile(folded_graph, fixed.optimizer)
        options = {"epochs": recipe.train_epochs, "folded_graph": folded_graph}
        _fit(phase, fixed, validation_data=evaluation, **options)
    for name in collapsed_quantizers(fixed):
        logging.warning(
            "the step size of %s has collapsed to its floor, so that layer sees next to nothing; train again "
            "with a lower --learning_rate.",
            name,
        )


def top1(model: keras.Model, evaluation) -> float:
    """Share of evaluation images whose largest output is the label's."""
    accuracy = keras.metrics.SparseCategoricalAccuracy()
    for images, labels in evaluation:
        accuracy.update_state(labels, model.predict_on_batch(images))
    return float(accuracy.result())


def histories(workdir: Workdir) -> dict[str, dict[str, list[float]]]:
    """Curves of the finished phases, for the report: phase -> log name -> values."""
    curves = {}
    for phase in PHASES:
        facts = checkpoints.newest_facts(workdir.path("checkpoints", phase))
        if facts:
            curves[phase] = {name: values for name, values in facts["steps"].items() if values}
            curves[phase] = curves[phase] or facts["history"]
    return curves


def _sgd(recipe: Recipe, model, learning_rate):
    return sgd(
        model.trainable_variables,
        learning_rate,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
    )


def _loss(model):
    return keras.losses.SparseCategoricalCrossentropy(from_logits=not gives_probabilities(model))


def _compile(model, optimizer):
    model.compile(optimizer=optimizer, loss=_loss(model), metrics=["accuracy"])
    model.optimizer.build(model.trainable_variables)


def _fit(
    phase: Phase,
    model: keras.Model,
    *,
    epochs: int,
    step_logs: tuple[str, ...] = (),
    folded_graph: keras.Model | None = None,
    prepare: Callable[[], None] | None = None,
    callbacks=(),
    early: tuple[int, int] = (0, 0),
    validation_data=None,
) -> None:
    # A folded graph shares the model's variables and is fitted in its place; checkpoints are the model's.
    fitted = folded_graph or model
    progress = Progress(
        phase.workdir.path("checkpoints", phase.name),
        model,
        steps_per_epoch=phase.steps,
        step_logs=step_logs,
        keep=phase.recipe.keep_checkpoints,
        minutes=phase.recipe.checkpoint_minutes,
        rate_scale=phase.rate_scale,
    )
    resumed = progress.restore()
    if progress.epoch >= epochs:
        return
    build_before_tracing(fitted, phase.batches(progress.epoch))
    if prepare:
        prepare()
    if not resumed:
        # What a recovery goes back to before there is another one.
        progress.save(fitted)
    board = keras.callbacks.TensorBoard(phase.workdir.path("logs", phase.name), write_graph=False)
    for recoveries in range(MAX_RECOVERIES + 1):
        logging.info(
            "%s: epochs %d to %d%s%s", phase.name, progress.epoch + 1, epochs,
            f", from step {progress.step + 1} of {phase.steps}" if progress.step else "",
            " on the folded graph" if folded_graph else "",
        )  # fmt: skip
        try:
            training_loop.train(
                fitted,
                progress,
                epochs=epochs,
                batches=phase.batches,
                watch=Watch(
                    phase.name,
                    fitted,
                    getattr(model, "network", fitted),
                    batches=phase.batches,
                    steps_per_epoch=phase.steps,
                    early=early,
                ),
                callbacks=[*callbacks, board],
                validation_data=validation_data,
            )
            return
        except DivergenceError as error:
            _recover(phase, progress, fitted, error, recoveries)


def _recover(phase: Phase, progress: Progress, fitted, error: DivergenceError, recoveries: int) -> None:
    """Goes back to the last checkpoint at a lower learning rate, or raises what happened with what to do."""
    rates = _RATES[phase.name]
    if phase.recipe.on_divergence == "stop":
        raise DivergenceError(
            f"{error} Training has stopped; the last checkpoint before is kept. Train in a new --workdir "
            f"with a lower {rates}, or let the same command go on from that checkpoint at half the learning "
            "rates with --on_divergence=recover."
        ) from error
    if recoveries == MAX_RECOVERIES or not progress.restore():
        raise DivergenceError(
            f"{error} So it did after {recoveries} recoveries. Train in a new --workdir with a lower {rates}."
        ) from error
    phase.rate_scale.assign(phase.rate_scale * RECOVERY_FACTOR)
    # With the new scale: the next recovery lowers it further.
    progress.save(fitted)
    logging.warning(
        "%s Going back to epoch %d, step %d, with %g times the learning rates.",
        error, progress.epoch + 1, progress.step + 1, float(phase.rate_scale),
    )  # fmt: skip


_RATES = {
    "float": "--float_learning_rate",
    "select": "--select_learning_rate, --step_learning_rate or --alpha_learning_rate",
    "train": "--learning_rate",
}
