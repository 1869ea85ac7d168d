"""What the training loop, its checkpoints and its watch know of a model that is trained.

>>> trained = Trained(float_model)      # or a fixed or folded network; `TrainedSearch` of a search
"""

from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf
import tf_keras as keras


class Trained:
    """A compiled model of one functional network, one optimizer and one kind of step.

    Attributes:
      model: whose `train_step`, metrics and evaluation are Keras's.
    """

    def __init__(self, model: keras.Model):
        self.model = model

    @property
    def network(self) -> keras.Model:
        """The functional network that holds the layers."""
        return self.model

    @property
    def optimizers(self) -> Mapping[str, keras.optimizers.Optimizer]:
        """Name -> optimizer, as checkpoints call them."""
        return {"optimizer": self.model.optimizer}

    @property
    def variables_beside(self) -> Sequence[tf.Variable]:
        """Trained variables that are not the network's."""
        return ()

    @property
    def branches(self) -> Sequence:
        """What a step runs the network with, a pass each; see `layer_call`."""
        return (None,)

    def layer_call(self, branch) -> Callable:
        """The `call` of a `graph.replay` over the network for one of `branches`."""
        return _plain_call

    def begin_epoch(self, finished: int) -> None:
        """Called before an epoch, and after the last, with the number of epochs that are finished."""

    @property
    def kind_of_step(self) -> object:
        """What the epoch's training step depends on beside the model: a traced one holds while it stays."""
        return None

    def largest_probability(self) -> tf.Tensor:
        """The largest probability of a branch, a scalar; 0 where nothing is searched."""
        return tf.constant(0.0)

    def alpha_rows(self, values=None) -> Sequence:
        """Rows of architectural parameters, or of an array of their shape (`SearchModel.alpha_rows`)."""
        return ()

    @property
    def architecture(self) -> Sequence[tf.Variable]:
        """The variables of which `alpha_rows` are the rows: alpha, or none."""
        return ()


def _plain_call(layer, args, kwargs):
    return layer(*args, **kwargs)
