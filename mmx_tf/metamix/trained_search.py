"""A search as the training loop, its checkpoints and its watch see it."""

from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf
import tf_keras as keras

from mmx_tf.fitting.trained import Trained
from mmx_tf.layers.branches import MIXED
from mmx_tf.metamix.target import split


class TrainedSearch(Trained):
    """A compiled `SearchModel`: three optimizers, and bit-search steps that join in after some epochs."""

    @property
    def network(self) -> keras.Model:
        """The network with the quantizers."""
        return self.model.network

    @property
    def optimizers(self) -> Mapping[str, keras.optimizers.Optimizer]:
        """Those of weights, step sizes and alpha."""
        names = ("optimizer", "step_optimizer", "alpha_optimizer")
        return {name: getattr(self.model, name) for name in names}

    @property
    def variables_beside(self) -> Sequence[tf.Variable]:
        """Alpha, and the step sizes of weight branches."""
        return [self.model.alpha, *(q.step_sizes for q in self.model.weight_quantizers.values())]

    @property
    def branches(self) -> Sequence:
        """Every branch alone, then the mix."""
        return (*range(len(self.model.budget.bit_widths)), MIXED)

    def layer_call(self, branch) -> Callable:
        """That of the search, for the first target."""
        return self.model.layer_call(branch)

    def begin_epoch(self, finished: int) -> None:
        """Decides whether the coming epoch has bit-search steps."""
        self.model.begin_epoch(finished)

    @property
    def kind_of_step(self) -> bool:
        """Whether steps are bit-search steps too: on several replicas the traced step depends on it."""
        return self.model.is_searching()

    def largest_probability(self) -> tf.Tensor:
        """Over all targets and layers, of activation and weight branches, where there are several."""
        parts = [p for p in split(self.model.alpha, self.model.budget) if p is not None and p.shape[-1] > 1]
        if not self.model.quantizers or not parts:
            return tf.constant(0.0)
        return tf.reduce_max([tf.reduce_max(tf.nn.softmax(part)) for part in parts])

    def alpha_rows(self, values=None) -> Sequence:
        """`SearchModel.alpha_rows`."""
        return self.model.alpha_rows(values)

    @property
    def architecture(self) -> Sequence[tf.Variable]:
        """Alpha."""
        return [self.model.alpha]
