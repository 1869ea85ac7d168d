"""Where a notebook's `fit` is, and whether it still has weights that are numbers."""

import tf_keras as keras

from mmx_tf.errors import DivergenceError
from mmx_tf.network import graph


class Position(keras.callbacks.Callback):
    """Knows which step of which epoch runs; ends a training after an epoch that has lost the weights."""

    def __init__(self):
        super().__init__()
        self.epoch = self.step = self.seen = 0
        self.judging = False
        # Logs are only looked at between epochs.
        self._supports_tf_logs = True

    def on_epoch_begin(self, epoch, logs=None):
        """Notes the epoch."""
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        """Notes the step."""
        self.step = batch

    def on_train_batch_end(self, batch, logs=None):
        """Counts a step."""
        self.seen += 1

    def on_test_begin(self, logs=None):
        """Notes that what comes is validation."""
        self.judging = True

    def on_test_end(self, logs=None):
        """Notes that training goes on."""
        self.judging = False

    def on_epoch_end(self, epoch, logs=None):
        """Ends the training (DivergenceError) where weights are no numbers any more."""
        lost = lost_weights(self.model.trained_network)
        if lost:
            raise DivergenceError(f"{self.model.name}.fit, at the end of epoch {epoch + 1}: {lost}")


def lost_weights(network: keras.Model) -> str | None:
    """What to do where weights are no numbers any more; None where all are."""
    for layer, variable, count in graph.non_finite(network):
        return (
            f"{count} weights of layer {layer.name!r} ({variable.name}) are NaN or infinite. Build the "
            "network again and train it with a lower learning rate."
        )
    return None
