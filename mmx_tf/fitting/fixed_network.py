"""The class of fixed networks: ordinary functional tf_keras models, with the checks of `FitContract`.

>>> network = FixedNetwork.of(fixed.inputs, fixed.outputs, name="fixed", output_names=["logits"])
>>> list(network.output_names)
['logits']
"""

import math

import tensorflow as tf
import tf_keras as keras
from absl import logging

from mmx_tf.export.comparing.outputs import in_config, names_of
from mmx_tf.fitting import guards
from mmx_tf.fitting.contract import FitContract
from mmx_tf.layers import classes  # noqa: F401 (a file of this network names them)
from mmx_tf.layers.quantizers.weights import QuantizeWrapper
from mmx_tf.network.tracing import build_optimizer

LARGEST_STATISTICS_SHARE = 0.05
"""Share of where training started that may be left in running statistics without a warning."""


@keras.saving.register_keras_serializable(package="mmx_tf")
class FixedNetwork(FitContract, keras.Model):
    """A functional network of one image at fixed bits.

    Attributes:
      output_names: names of the outputs, those of the float network's: the keys of losses, metrics and labels
        that are given in a dict.
      moves_statistics: whether training moves running batch-norm statistics; not on the folded graph.
    """

    moves_statistics = True

    @classmethod
    def of(
        cls, inputs, outputs, *, name: str, output_names: list[str], moves_statistics: bool = True
    ) -> "FixedNetwork":
        """A network from symbolic inputs and outputs; the other arguments are attributes."""
        # Keras saves the graph only of classes that keep keras.Model's own constructor.
        network = cls(inputs, outputs, name=name)
        network.output_names = list(output_names)
        network.moves_statistics = moves_statistics
        return _with_activity_regularizers(network)

    def call(self, inputs, training=None, mask=None):
        """Runs the network, also on batches whose static shape is not known."""
        if all(map(tf.is_tensor, tf.nest.flatten(inputs))):
            inputs = guards.shaped(inputs, self)
        return super().call(inputs, training=training, mask=mask)

    def train_step(self, data):
        """Keras's training step on checked data."""
        return super().train_step(self.guarded_batch(data))

    def before_fit(self, steps: int | None) -> None:
        """Warns of running statistics that will not follow the steps trained so far and these."""
        with self.distribute_strategy.scope():
            build_optimizer(self.optimizer, self.trainable_variables)
        if steps and self.moves_statistics:
            warn_of_slow_statistics(self, steps + int(self.optimizer.iterations.numpy()))

    @property
    def trainable_weights(self):
        """As Keras's, less those of frozen layers: tfmot's wrapper lists its kernel although it is frozen."""
        frozen = {
            id(variable)
            for layer in self.layers
            if isinstance(layer, QuantizeWrapper) and not layer.trainable
            for variable in layer.weights
        }
        return [variable for variable in super().trainable_weights if id(variable) not in frozen]

    def compile_from_config(self, config):
        """Compiles a loaded network as it was when it was saved; for `keras.models.load_model`."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def get_config(self):
        """The functional config, and the outputs' names."""
        return {**super().get_config(), "output_name": in_config(self.output_names)}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """The network of a config that `get_config` made."""
        config = dict(config)
        output_names = names_of(config.pop("output_name"))
        network = super().from_config(config, custom_objects)
        network.output_names = output_names
        return _with_activity_regularizers(network)


def _with_activity_regularizers(network: FixedNetwork) -> FixedNetwork:
    """Gives tfmot's wrappers the activity regularizers of their layers, whose calls Keras does not see."""
    for layer in network.layers:
        if isinstance(layer, QuantizeWrapper):
            layer._activity_regularizer = layer.layer._activity_regularizer
    return network


def warn_of_slow_statistics(fixed: keras.Model, steps: int) -> None:
    """Tells whoever tries a recipe for a few steps why a network that learns gives poor accuracies.

    Evaluation and the file normalize by running statistics. With Keras's momentum of 0.99 or 0.999 a training
    of few steps leaves them mostly what they were before.
    """
    norms = [layer for layer in fixed.layers if isinstance(layer, keras.layers.BatchNormalization)]
    momentum = max((norm.momentum for norm in norms), default=0.0)
    if momentum**steps > LARGEST_STATISTICS_SHARE:
        advice = "Give"
        if momentum < 1:
            enough = math.ceil(math.log(LARGEST_STATISTICS_SHARE) / math.log(momentum))
            advice = f"Train for {enough:,} steps or more, or give"
        logging.warning(
            "batch norm's momentum of %g is slow for the %d steps of weight training that move its running "
            "statistics: %.0f%% of these, which evaluation and the file normalize by, will still be from "
            "before weight training. %s a network whose batch norm has a smaller momentum.",
            momentum, steps, 100 * momentum**steps, advice,
        )  # fmt: skip
