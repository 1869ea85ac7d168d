"""What the three training phases have in common: data of any position, checkpoints, recovery.

In outline:

    phase = Phase(workdir, recipe, data, "train")
    phase.fit(Trained(fixed), epochs=recipe.train_epochs)        # from the last checkpoint, if there is one
"""

import contextlib
import math
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf
import tf_keras as keras
from absl import logging

from mmx_tf.data.examples import Examples
from mmx_tf.errors import DivergenceError, RecipeError
from mmx_tf.fitting.divergence import Watch
from mmx_tf.fitting.trained import Trained
from mmx_tf.layers import strided_pointwise
from mmx_tf.network.tracing import build_before_tracing
from mmx_tf.recipe.recipe import Recipe
from mmx_tf.training import loop
from mmx_tf.training.averaging import WeightAverages
from mmx_tf.training.board import Board
from mmx_tf.training.compute_dtype import convolutions_in
from mmx_tf.training.console import Console
from mmx_tf.training.forecast import Stage, current
from mmx_tf.training.optimizers import ScaledRate
from mmx_tf.training.progress import Progress
from mmx_tf.training.told import Told, goals
from mmx_tf.workdir import results
from mmx_tf.workdir.workdir import Workdir

# Phase -> the flags that divergence is blamed on. Their places are part of the seeds: new ones come last.
PHASES = {
    "float": "--float_learning_rate",
    "select": "--select_learning_rate, --step_learning_rate or --alpha_learning_rate",
    "train": "--learning_rate",
    "activation": "--learning_rate",
}
_RESULTS = {
    "float": "checkpoints/float.keras", "select": results.SELECTION, "train": results.NETWORK,
    "activation": results.NETWORK,
}  # fmt: skip
STATISTICS_EPOCH = 2**31 - 1
"""Number of the epoch, never trained, in whose order images for batch norm's statistics come."""
MAX_RECOVERIES = 3
RECOVERY_FACTOR = 0.5


class Phase:
    """What a phase's loop needs: data of any position, checkpoints, and the scale of its learning rates.

    Args:
      workdir, recipe, data: of the run.
      name: one of `PHASES`.
    """

    def __init__(self, workdir: Workdir, recipe: Recipe, data: Examples, name: str):
        self.workdir, self.recipe, self.name, self._data = workdir, recipe, name, data
        self.steps = steps_per_epoch(recipe, data)
        self.job = workdir.job
        with self.job.scope():
            self.rate_scale = tf.Variable(1.0, trainable=False, name="rate_scale")
        self._progress: Progress | None = None

    def rate(self, learning_rate) -> ScaledRate:
        """A learning rate or schedule that a recovery can lower."""
        return ScaledRate(learning_rate, self.rate_scale)

    def batches(self, epoch: int, first_step: int = 0) -> tf.data.Dataset:
        """An epoch's batches from a step on: a function of seed, phase, epoch and step alone."""
        seed = epoch_seed(self.recipe.seed, self.name, epoch)
        dataset = self._data.train(batch_size=self.recipe.batch_size, seed=seed, skip_batches=first_step)
        return dataset.take(self.steps - first_step)

    def statistics_batches(self, count: int) -> tf.data.Dataset:
        """Batches of about `count` training images in an order of their own, at most an epoch's."""
        seed, size = epoch_seed(self.recipe.seed, self.name, STATISTICS_EPOCH), self.recipe.batch_size
        return self._data.train(batch_size=size, seed=seed).take(max(1, count // size))

    def judged_on(self) -> tf.data.Dataset:
        """The images that epochs are judged on: those that are held out, else those of evaluation."""
        return self._data.validation(batch_size=self.recipe.batch_size, limit=self.recipe.eval_images)

    def held_out(self) -> tf.data.Dataset | None:
        """The images that are held out; None where none are."""
        return self.judged_on() if self._data.validation_images else None

    def own_batches(self, epoch: int, first_step: int = 0):
        """`batches`, of each only what this process's replicas train on."""
        if self.job.strategy is None:
            return self.batches(epoch, first_step)
        seed, size = epoch_seed(self.recipe.seed, self.name, epoch), self.recipe.batch_size
        dataset = self._data.train(batch_size=size, seed=seed, skip_batches=first_step, part=self.job.part)
        size = min(size, self._data.train_images)
        return self.job.distribute(dataset.take(self.steps - first_step), batch_size=size)

    def fit(
        self,
        kept: Trained,
        *,
        epochs: int,
        step_logs: tuple[str, ...] = (),
        trained_as: Trained | None = None,
        averages: WeightAverages | None = None,
        prepare: Callable[[], None] | None = None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        early: tuple[int, int] = (0, 0),
        validation_data: tf.data.Dataset | None = None,
        told: str = "",
        costs: Sequence[Told] = (),
    ) -> None:
        """Trains a compiled model to the end of epoch `epochs`, from the last checkpoint on.

        A further call goes on from where the one before ended, also where that could not be saved. In a
        finished workdir nothing is trained: the checkpoint of the end is taken up.

        Args:
          kept: the compiled model that checkpoints are of; it and its optimizers are the same in all calls.
          epochs: epochs of the phase, those before included.
          step_logs: names of the logs that are kept for every step.
          trained_as: a compiled model that shares the variables of `kept` and is trained in its place: its
            folded graph, or one with a teacher.
          averages: of the weights of `kept`; evaluations are of them.
          prepare: called before the first step is traced.
          callbacks: Keras callbacks.
          early: as for `Watch`.
          validation_data: evaluated after each epoch.
          told: what is special about these epochs, for the log.
          costs: among the logs, that are shown while it trains.
          costs: among the logs, that are shown while it trains.

        Raises:
          DivergenceError: if training has diverged and cannot, or shall not, be recovered.
          RecipeError: if the checkpoints are of another network, or, in a finished workdir, not those of the
            end.
        """
        trained = trained_as or kept
        fitted = trained.model
        strided_pointwise.avoid_damage(fitted)
        progress = self._progress = self._progress or Progress(
            self.workdir.path("checkpoints", self.name),
            kept,
            steps_per_epoch=self.steps,
            step_logs=step_logs,
            keep=self.recipe.keep_checkpoints,
            minutes=self.recipe.checkpoint_minutes,
            rate_scale=self.rate_scale,
            averages=averages.statistics if averages else (),
            job=self.job,
        )
        resumed = progress.total_steps > 0 or progress.restore()
        if progress.epoch >= epochs:
            return
        if self.workdir.finished:
            root, result = self.workdir.root, _RESULTS[self.name]
            raise RecipeError(
                f"--workdir={root} is finished, but {result} is missing, and so is the last checkpoint in "
                f"{root / 'checkpoints' / self.name} from which it could be made again without training. Put "
                "one of them back, or give a new --workdir."
            )
        with Console(self._stage(epochs), costs, silent=not self.job.is_chief) as console:
            with self.job.scope():
                build_before_tracing(fitted, self.batches(progress.epoch))
            if prepare:
                prepare()
            # Equal already, but for what different processors make of the first batch.
            self.job.take_the_chiefs([v for v in kept.model.variables if v.dtype.is_floating])
            if not resumed:
                # What a recovery goes back to before there is another one.
                progress.save(fitted)
            board = [Board(self.workdir.path("logs", self.name))] if self.job.is_chief else []
            damage = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: self._data.report_damage())
            with convolutions_in(self.recipe.compute_dtype, fitted):
                for recoveries in range(self._recoveries, MAX_RECOVERIES + 1):
                    logging.info(
                        "%s: epochs %d to %d%s%s%s", self.name, progress.epoch + 1, epochs,
                        f", from step {progress.step + 1} of {self.steps}" if progress.step else "", told,
                        f", budget {goals(costs)}" if goals(costs) else "",
                    )  # fmt: skip
                    try:
                        loop.train(
                            trained,
                            progress,
                            epochs=epochs,
                            batches=self.own_batches,
                            console=console,
                            watch=Watch(
                                self.name,
                                trained,
                                batches=self.batches,
                                steps_per_epoch=self.steps,
                                early=early,
                            ),
                            callbacks=[*callbacks, *([averages] if averages else []), *board, damage],
                            validation_data=validation_data,
                            evaluating=averages.in_place if averages else contextlib.nullcontext,
                        )
                        return
                    except DivergenceError as error:
                        self._recover(progress, fitted, error, recoveries)

    def _stage(self, epochs: int) -> Stage:
        """The phase as the run's forecast has it; without one all steps are alike."""
        key = (str(self.workdir.root), self.name)
        return current().stage(key) or Stage(key, (self.name,) * epochs, self.steps)

    @property
    def _recoveries(self) -> int:
        """How often the phase has recovered, earlier processes included."""
        return round(math.log(float(self.rate_scale.numpy()), RECOVERY_FACTOR))

    def _recover(self, progress: Progress, fitted, error: DivergenceError, recoveries: int) -> None:
        """Goes back to the last checkpoint at a lower learning rate, or raises the error with what to do."""
        rates = PHASES[self.name]
        if self.recipe.on_divergence == "stop":
            raise DivergenceError(
                f"{error} Training has stopped; the last checkpoint before is kept. Train in a new --workdir "
                f"with a lower {rates}, or let the same command go on from that checkpoint at half the "
                "learning rates with --on_divergence=recover."
            ) from error
        if recoveries == MAX_RECOVERIES or not progress.restore():
            raise DivergenceError(
                f"{error} The same has happened after {recoveries} recoveries. Train in a new --workdir "
                f"with a lower {rates}."
            ) from error
        self.rate_scale.assign(self.rate_scale * RECOVERY_FACTOR)
        # With the new scale: the next recovery lowers it further.
        progress.begin_epoch(fitted)
        progress.save(fitted)
        logging.warning(
            "%s Going back to epoch %d, step %d, with %g times the learning rates.",
            error, progress.epoch + 1, progress.step + 1, float(self.rate_scale.numpy()),
        )  # fmt: skip


def steps_per_epoch(recipe: Recipe, data: Examples) -> int:
    """Training steps of every epoch of a recipe."""
    steps = max(1, data.train_images // recipe.batch_size)
    return min(steps, recipe.steps_per_epoch or steps)


def epoch_seed(seed: int, phase: str, epoch: int) -> int:
    """The seed of an epoch's data, in 0..2**31 - 1."""
    sequence = np.random.SeedSequence([seed, list(PHASES).index(phase), epoch])
    return int(sequence.generate_state(1)[0]) >> 1
