"""Epoch checkpoints of a training phase: a killed run continues after the last finished epoch."""

import json
import pathlib

import tensorflow as tf
import tf_keras as keras

from export.atomic import write_atomically
from mmx_tf.recipe_checks import RecipeError


class EpochCheckpoint(keras.callbacks.Callback):
    """Saves model, optimizers and history after every epoch, and restores them.

        >>> checkpoint = EpochCheckpoint(folder, model)
        >>> model.fit(data, epochs=n, initial_epoch=checkpoint.restore(), callbacks=[checkpoint])

    Attributes:
      history: log name -> one value per epoch, restarts included.
      steps: log name -> one value per training step, for the logs named in `step_logs`.
    """

    def __init__(self, folder: pathlib.Path, model: keras.Model, *, step_logs: tuple[str, ...] = ()):
        super().__init__()
        self.folder = pathlib.Path(folder)
        self.step_logs = step_logs
        self.history: dict[str, list[float]] = {}
        self.steps: dict[str, list[float]] = {name: [] for name in step_logs}
        self._epoch = tf.Variable(0, dtype=tf.int64, trainable=False)
        parts = {"model": model, "optimizer": model.optimizer, "epoch": self._epoch}
        for name in ("step_optimizer", "alpha_optimizer"):
            if hasattr(model, name):
                parts[name] = getattr(model, name)
        self._manager = tf.train.CheckpointManager(
            tf.train.Checkpoint(**parts), directory=str(self.folder), max_to_keep=2
        )

    def restore(self) -> int:
        """Restores the last checkpoint, if there is one; returns the number of finished epochs."""
        if self._manager.latest_checkpoint is None:
            return 0
        try:
            self._manager.checkpoint.restore(self._manager.latest_checkpoint).expect_partial()
        except ValueError as error:
            raise RecipeError(
                f"checkpoint {self._manager.latest_checkpoint} is of another network, as one that another "
                f"version of mmx_tf built would be: {error} Start the run in a new --workdir."
            ) from error
        epochs = int(self._epoch)
        # The curves file of that very epoch: a kill between the two writes must not shift the curves.
        curves = json.loads(self._curves(epochs).read_text())
        self.history, self.steps = curves["epochs"], curves["steps"]
        return epochs

    def on_train_batch_end(self, batch, logs=None):
        """Keeps the step logs."""
        for name in self.step_logs:
            self.steps[name].append(float(logs[name]))

    def on_epoch_end(self, epoch, logs=None):
        """Saves curves, then the checkpoint that refers to them."""
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(float(value))
        self._epoch.assign(epoch + 1)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self._curves(epoch + 1), json.dumps({"epochs": self.history, "steps": self.steps}))
        self._manager.save(checkpoint_number=epoch + 1)
        self._curves(epoch - 1).unlink(missing_ok=True)

    def _curves(self, epochs: int) -> pathlib.Path:
        return self.folder / f"curves-{epochs}.json"
