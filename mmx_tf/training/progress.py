"""Where a training phase stands: its position, its curves, and the checkpoints that keep both.

A phase has epochs of equally many steps. `Progress` counts the steps that are done; a checkpoint holds,
beside weights and optimizers, everything that the next step depends on: the position, from which the data
follow (see `phase.epoch_seed`), Keras's running metrics, and the state of every random generator in the
network.
"""

import pathlib
import time
from collections.abc import Sequence

import tensorflow as tf
import tf_keras as keras

from mmx_tf.distribution.job import ALONE, Job
from mmx_tf.errors import RecipeError
from mmx_tf.fitting.trained import Trained
from mmx_tf.workdir.checkpoints import Checkpoints


class Progress:
    """Position, curves and checkpoints of one phase.

    Args:
      folder: of the phase's checkpoints.
      trained: compiled model whose variables and optimizers are kept.
      steps_per_epoch: steps of every epoch.
      step_logs: names of the logs that are kept for every step.
      keep: checkpoints that are left, beside that of the best epoch.
      minutes: time after which a step's end is followed by a checkpoint; 0 for ends of epochs alone.
      rate_scale: variable that multiplies the learning rates, kept with the optimizers.
      averages: variables that are kept beside the model's, such as `WeightAverages.statistics`.
      job: whose processes go through the phase together; its chief alone writes.

    Attributes:
      epoch, step: finished epochs, and steps that are done of the next.
      logs: the last step's logs.
      history: log name -> one value per finished epoch.
      steps: log name -> one value per step, for the logs named in `step_logs`.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        trained: Trained,
        *,
        steps_per_epoch: int,
        step_logs: tuple[str, ...] = (),
        keep: int = 2,
        minutes: float = 0.0,
        rate_scale: tf.Variable | None = None,
        averages: Sequence[tf.Variable] = (),
        job: Job = ALONE,
    ):
        self.job = job
        self.steps_per_epoch = steps_per_epoch
        self.epoch = self.step = 0
        self.logs: dict[str, float] = {}
        self.history: dict[str, list[float]] = {}
        self.steps: dict[str, list[float]] = {name: [] for name in step_logs}
        self._metrics: list[list] = []
        self._minutes = minutes
        self._saved_at = time.monotonic()
        random = tf.train.Checkpoint(**_random_generators(trained.network))
        objects = {"model": trained.model, "random": random, **trained.optimizers}
        if rate_scale is not None:
            objects["rate_scale"] = rate_scale
        if averages:
            objects["averages"] = tf.train.Checkpoint(statistics=list(averages))
        self._checkpoints = Checkpoints(folder, objects, keep=keep, writes=job.is_chief)

    @property
    def total_steps(self) -> int:
        """Steps that are done in all epochs."""
        return self.epoch * self.steps_per_epoch + self.step

    def restore(self) -> bool:
        """Takes up the newest whole checkpoint; whether there is one.

        Raises:
          RecipeError: if it is of another network, or not the same in all processes.
        """
        found = self._checkpoints.restore()
        if not self.job.all_equal(-1 if found is None else found[0]):
            raise RecipeError(
                f"{self._checkpoints.folder}: the processes of this job find different checkpoints there. "
                "All need the same --workdir, on a file system that they share."
            )
        if found is None:
            return False
        facts = found[1]
        self.epoch, self.step, self.logs = facts["epoch"], facts["step"], facts["logs"]
        self.history, self.steps = facts["history"], facts["steps"]
        self._metrics = facts["metrics"]
        self._saved_at = time.monotonic()
        return True

    def save(self, fitted: keras.Model) -> bool:
        """Writes a checkpoint; whether it could be written. `fitted` has the running metrics."""
        facts = {
            "epoch": self.epoch,
            "step": self.step,
            "logs": self.logs,
            "history": self.history,
            "steps": self.steps,
            "metrics": [[v.numpy().tolist() for v in metric.variables] for metric in fitted.metrics],
        }
        self._saved_at = time.monotonic()
        return self._checkpoints.save(self.total_steps, facts, best=self.best)

    @property
    def best(self) -> int | None:
        """Steps after the epoch of the best accuracy on evaluation images; None where there is no such.

        Of a regression that of the least error.
        """
        found = self.history.get("val_accuracy")
        if not found:
            found = [-error for error in self.history.get("val_mean_absolute_error", ())]
        return (found.index(max(found)) + 1) * self.steps_per_epoch if found else None

    def is_due(self) -> bool:
        """Whether the last checkpoint is older than the minutes between two."""
        return self._minutes > 0 and time.monotonic() - self._saved_at >= 60 * self._minutes

    def begin_epoch(self, fitted: keras.Model) -> None:
        """Sets the running metrics to those of the position; in an epoch's beginning, to nothing."""
        fitted.reset_metrics()
        if self.step:
            for metric, values in zip(fitted.metrics, self._metrics, strict=True):
                for variable, value in zip(metric.variables, values, strict=True):
                    variable.assign(value)

    def end_step(self, logs: dict[str, float]) -> None:
        """Counts a step, and keeps its logs."""
        self.step += 1
        self.logs = logs
        for name, values in self.steps.items():
            values.append(logs[name])

    def end_epoch(self, logs: dict[str, float]) -> None:
        """Counts an epoch, and keeps its logs."""
        self.epoch, self.step = self.epoch + 1, 0
        for name, value in logs.items():
            self.history.setdefault(name, []).append(value)


def _random_generators(network: keras.Model) -> dict:
    """The generators of Dropout and its like, which Keras leaves out of checkpoints."""
    generators = [
        getattr(layer._random_generator, "_generator", None)
        for layer in network.layers
        if isinstance(layer, keras.__internal__.layers.BaseRandomLayer)
    ]
    return {str(index): generator for index, generator in enumerate(generators) if generator is not None}
