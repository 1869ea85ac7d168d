"""TensorBoard's logs of a phase, which a full disk must not end."""

import tensorflow as tf
import tf_keras as keras
from absl import logging


class Board(keras.callbacks.TensorBoard):
    """keras.callbacks.TensorBoard, but an event that cannot be written is a warning, and the last one.

    TensorFlow's writer raises when it flushes: in any of the calls below, and not where the disk was full.

    Args:
      folder: of the events.
    """

    def __init__(self, folder):
        super().__init__(folder, write_graph=False)
        self._folder, self._ended = folder, False

    def _unless_full(self, call, *arguments) -> None:
        if self._ended:
            return
        try:
            call(*arguments)
        except (tf.errors.OpError, OSError) as error:
            self._ended = True
            logging.warning(
                "%s: events cannot be written any more: %s The run goes on without.",
                self._folder, " ".join(str(error).split()),
            )  # fmt: skip

    def on_train_begin(self, logs=None):
        """Keras's, or nothing."""
        self._unless_full(super().on_train_begin, logs)

    def on_epoch_begin(self, epoch, logs=None):
        """Keras's, or nothing."""
        self._unless_full(super().on_epoch_begin, epoch, logs)

    def on_train_batch_begin(self, batch, logs=None):
        """Keras's, or nothing."""
        self._unless_full(super().on_train_batch_begin, batch, logs)

    def on_train_batch_end(self, batch, logs=None):
        """Keras's, or nothing."""
        self._unless_full(super().on_train_batch_end, batch, logs)

    def on_epoch_end(self, epoch, logs=None):
        """Keras's, or nothing."""
        self._unless_full(super().on_epoch_end, epoch, logs)

    def on_train_end(self, logs=None):
        """Keras's, or nothing."""
        self._unless_full(super().on_train_end, logs)
