"""The loop of a training phase, which can begin and end after any step.

Keras's `fit` starts an epoch at its first batch. Here the position is that of a `Progress`, and the rest of
an epoch is asked for; Keras's compiled step, metrics and callbacks are used as `fit` uses them.
"""

import contextlib
from collections.abc import Callable, Sequence

import tensorflow as tf
import tf_keras as keras

from mmx_tf.distribution.job import Job
from mmx_tf.errors import PeerError
from mmx_tf.fitting.divergence import Watch
from mmx_tf.fitting.trained import Trained
from mmx_tf.training.console import Console
from mmx_tf.training.progress import Progress
from mmx_tf.training.signals import Received, held_back


def train(
    trained: Trained,
    progress: Progress,
    *,
    epochs: int,
    batches: Callable[[int, int], tf.data.Dataset],
    watch: Watch,
    console: Console,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    validation_data: tf.data.Dataset | None = None,
    evaluating: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext,
) -> None:
    """Trains from the position of `progress` to the end of epoch `epochs`, saving checkpoints on the way.

    A SIGTERM or SIGINT takes effect when the current step or validation batch is over and a checkpoint has
    been written; during the first step, when there is nothing to save yet, at once.

    Args:
      trained: compiled model that is trained.
      progress: position and checkpoints, and the job that goes through them together.
      epochs: epochs of the phase, those before included.
      batches: (epoch, first step) -> the epoch's batches from that step on, as the job distributes them; at
        least as many as are left.
      watch: looks at every step.
      console: is told how far training has come.
      callbacks: Keras callbacks.
      validation_data: evaluated after each epoch.
      evaluating: makes the context in which that happens.

    Raises:
      DivergenceError: by `watch`. The step is not counted, and no checkpoint has it.
      PeerError: when another process of the job was told to end; the checkpoint has been written.
    """
    job, fitted = progress.job, trained.model
    shown = keras.callbacks.CallbackList(
        list(callbacks),
        model=fitted,
        verbose=0,
        epochs=epochs,
        steps=progress.steps_per_epoch,
    )
    signals = None
    with contextlib.ExitStack() as stack:
        shown.on_train_begin()
        stack.callback(shown.on_train_end)
        while progress.epoch < epochs:
            epoch = progress.epoch
            progress.begin_epoch(fitted)
            trained.begin_epoch(epoch)
            shown.on_epoch_begin(epoch)
            console.begin(epoch, progress.step)
            step_function = job.step_function(fitted, trained.kind_of_step)
            iterator = None
            while progress.step < progress.steps_per_epoch:
                iterator = iterator or iter(batches(epoch, progress.step))
                shown.on_train_batch_begin(progress.step)
                watch.before_step()
                logs = {name: float(value) for name, value in step_function(iterator).items()}
                watch.after_step(logs, epoch=epoch, step=progress.step)
                shown.on_train_batch_end(progress.step, logs)
                progress.end_step(logs)
                console.step(logs)
                signals = signals or stack.enter_context(held_back())
                ended, due = job.any_of(signals.received, progress.is_due())
                if ended or due:
                    progress.save(fitted)
                if ended:
                    return _end(signals)
            with console.evaluating(), evaluating():
                validation = _validated(fitted, validation_data, signals, job)
            if validation is None:
                progress.save(fitted)
                return
            logs = progress.logs | validation
            progress.end_epoch(logs)
            shown.on_epoch_end(epoch, logs)
            console.end(logs)
            progress.save(fitted)
            if job.any_of(signals and signals.received)[0]:
                return _end(signals)
        trained.begin_epoch(progress.epoch)


def _end(signals: Received | None) -> None:
    if not (signals and signals.received):
        raise PeerError("another process of the job was told to end; a checkpoint was written before.")


def _validated(fitted: keras.Model, data, signals: Received | None, job: Job) -> dict[str, float] | None:
    """The logs of an evaluation; None if a signal ended it."""
    if data is None:
        return {}
    if job.strategy is not None:
        # Of several processes none can leave before the others, and Keras adds up what each has of the logs.
        options = tf.data.Options()
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
        names = fitted.evaluate(data.with_options(options), verbose=0, return_dict=True)
        results = {metric.name: metric.result() for metric in fitted.metrics if metric.name in names}
        return {f"val_{name}": float(value) for name, value in results.items()}
    try:
        logs = fitted.evaluate(data, verbose=0, return_dict=True, callbacks=[_EndAtSignal(signals)])
    except _EndedError:
        return None
    return {f"val_{name}": float(value) for name, value in logs.items()}


class _EndedError(Exception):
    """An evaluation was ended by a signal."""


class _EndAtSignal(keras.callbacks.Callback):
    def __init__(self, signals: Received | None):
        super().__init__()
        self._signals = signals

    def on_test_batch_end(self, batch, logs=None):
        if self._signals and self._signals.received:
            raise _EndedError
