"""Weight averaging: evaluation and export see exponential moving averages of what training moves.

    average <- decay * average + (1 - decay) * value        after every step

Of weights, biases, batch norm's gamma and beta and step sizes the optimizer keeps the averages
(`use_ema=True`). Step sizes belong to them: a weight's code is round(w / s), so that averages of w with the
last step's s would lie on a grid that they were never trained with. Batch norm's running statistics are
averaged here with the same decay, since those of the last step belong to the weights of the last step.

>>> fixed.compile(keras.optimizers.SGD(0.01, use_ema=True), loss)
>>> _ = fixed.fit(train_ds.take(1), verbose=0)
>>> averages = WeightAverages(fixed)
>>> with averages.in_place():
...     _ = fixed.evaluate(eval_ds.take(1), verbose=0)
"""

from collections.abc import Iterator
from contextlib import contextmanager

import tensorflow as tf
import tf_keras as keras

from mmx_tf.network import graph


class WeightAverages(keras.callbacks.Callback):
    """The averages of a network that is trained; a callback of its training.

    Args:
      network: compiled with an optimizer that has `use_ema=True` and has been built. The averages begin at
        its variables of this moment, so its step sizes must have been initialised.

    Attributes:
      statistics: averages of the batch norms' running statistics; a checkpoint must hold them beside the
        optimizer.

    Raises:
      ValueError: if the optimizer keeps no averages.
    """

    def __init__(self, network: keras.Model):
        super().__init__()
        if not network.optimizer.use_ema:
            raise ValueError(f"{network.name}'s optimizer keeps no averages; make it with use_ema=True.")
        self._network = network
        self._running = graph.running_statistics(network)
        self.statistics = [tf.Variable(variable, trainable=False) for variable in self._running]

    def on_train_batch_end(self, batch, logs=None):
        """Averages the running statistics; the optimizer has averaged the rest."""
        self._update()

    def put_in_place(self) -> None:
        """Sets the network's variables to their averages."""
        trained = self._network.trainable_variables
        self._network.optimizer.finalize_variable_values(trained)
        for variable in trained:
            # Keras averages what the optimizer made, before a constraint holds.
            if variable.constraint is not None:
                variable.assign(variable.constraint(variable))
        for variable, average in zip(self._running, self.statistics, strict=True):
            variable.assign(average)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """While the block lasts, the network's variables are their averages."""
        variables = [*self._network.trainable_variables, *self._running]
        values = [tf.identity(variable) for variable in variables]
        try:
            self.put_in_place()
            yield
        finally:
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)

    @tf.function(autograph=False)
    def _update(self):
        decay = self._network.optimizer.ema_momentum
        for variable, average in zip(self._running, self.statistics, strict=True):
            average.assign(decay * average + (1.0 - decay) * variable)
