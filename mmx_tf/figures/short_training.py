"""Short training runs of one search network from one start, for comparisons between bit-widths.

The network has a branch per candidate bit-width in front of every layer, so one graph and one start serve
all: single-precision training takes the same branch everywhere, bit-meta training all branches in turn, and
one layer can be switched alone. All have the optimizers and rates of bit selection, so that a difference
between two of them is one of bits. Steps compute in float32, whatever --compute_dtype says.

    training = ShortTraining(search, recipe, data)
    training.single_precision(steps=150, branch=1)
    training.observe(images, branch=1, layers=["block_1_depthwise"])
    training.reset()
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf
import tf_keras as keras
from absl import logging

from mmx_tf.errors import DivergenceError
from mmx_tf.figures.quantized_search import batch_norm_behind
from mmx_tf.fitting.losses import classification_loss
from mmx_tf.layers.fusion import initialize_before_tracing
from mmx_tf.layers.quantizers.multi_branch import MultiBranchQuantizer
from mmx_tf.metamix.search import SearchModel, quantizer_name
from mmx_tf.network import graph
from mmx_tf.network.tracing import build_before_tracing
from mmx_tf.recipe.recipe import Recipe
from mmx_tf.run.float_network import gives_probabilities
from mmx_tf.training.optimizers import optimizer_of

LOGGED_PARTS = 4


class BranchedNetwork(keras.Model):
    """A search network called with a branch in every layer, and another one in one of them."""

    def __init__(self, search: SearchModel):
        super().__init__()
        self.search = search

    @tf.autograph.experimental.do_not_convert
    def call(self, images, training=None, branch=0, switched=("", 0), taken=()):
        """Runs the network.

        Args:
          images: (batch, height, width, channels).
          training: whether batch norm uses batch statistics.
          branch: index of the branch of all searched layers, integer or scalar tensor.
          switched: (layer name, its branch) of the one that differs.
          taken: names of layers of the network whose inputs are wanted.

        Returns:
          (outputs, {name: input of that layer}).
        """
        name, other = switched
        branches, inputs = {quantizer_name(name): other}, {}

        def call(layer, args, kwargs):
            if layer.name in taken:
                inputs[layer.name] = args[0]
            if isinstance(layer, MultiBranchQuantizer):
                kwargs = {**kwargs, "branch": branches.get(layer.name, branch)}
            return layer(*args, **kwargs)

        return graph.replay(self.search.network, images, call), inputs


class ShortTraining:
    """Training runs of a search network that all begin at its weights and at the first batch's step sizes.

    Args:
      search: search network of `quantized_search`.
      recipe: rates of bit selection, batch size, seed.
      data: dataset; every run sees the same batches.
      label: what the network is, for the log.
      switched: name of the layer that `switched_bits` switches.
    """

    def __init__(self, search: SearchModel, recipe: Recipe, data, *, label: str, switched: str = ""):
        self.search, self._recipe, self._data, self._label = search, recipe, data, label
        self._network, self._switched = BranchedNetwork(search), switched
        search.compile(
            optimizer=optimizer_of(recipe, "select", search.meta_weights, recipe.select_learning_rate),
            step_optimizer=keras.optimizers.SGD(recipe.step_learning_rate, momentum=recipe.momentum),
            loss=classification_loss(from_logits=not gives_probabilities(search.network)),
            metrics=["accuracy"],
        )
        batches = data.train(batch_size=recipe.batch_size, seed=recipe.seed)
        build_before_tracing(search, batches)
        initialize_before_tracing(search, search.network, batches, branch=0)
        optimizers = (search.optimizer, search.step_optimizer)
        self._variables = [*search.network.variables, *(v for o in optimizers for v in o.variables)]
        self._start = [variable.numpy() for variable in self._variables]
        compiled = {"jit_compile": True} if recipe.jit_compile else {}
        self._step = tf.function(self._take_step, **compiled)
        self._meta_step = tf.function(search.bit_meta_step, **compiled)
        self._seen = tf.function(self._look, reduce_retracing=True)

    def reset(self) -> None:
        """Goes back to the start."""
        for variable, value in zip(self._variables, self._start, strict=True):
            variable.assign(value)

    def single_precision(self, *, steps: int, branch: int) -> None:
        """Trains with one bit-width in all searched layers.

        Raises:
          DivergenceError: if a loss is no finite number.
        """
        bits = self.search.budget.bit_widths[branch]
        branch = tf.constant(branch)
        for step, images, labels in self._steps(steps, f"{bits}-bit activations"):
            self._check(self._step(images, labels, branch, branch)[0], step)

    def meta(self, *, steps: int, after_step: Callable | None = None) -> None:
        """Takes bit-meta steps, which train all bit-widths together.

        Args:
          steps: number of steps.
          after_step: called with (index of the step, its images, its labels).

        Raises:
          DivergenceError: as `single_precision`.
        """
        for step, images, labels in self._steps(steps, "bit-meta training"):
            self.search.reset_metrics()
            self._meta_step(images, labels)
            self._check(self.search.metrics[0].result(), step)
            if after_step:
                after_step(step, images, labels)

    def switched_bits(self, branches: Sequence[int], *, meta: bool) -> dict[str, list[float]]:
        """The batch norm behind the switched layer, step by step, while that layer changes its bits.

        All other searched layers keep the largest bit-width. Weights are trained on what is switched, or,
        with `meta`, by bit-meta steps, after each of which the batch is run once with the switched bits to
        update the running statistics (for which `search` needs the batch_norm_update "none").

        Args:
          branches: the branch of the switched layer in every step.
          meta: whether training is bit-meta training.

        Returns:
          `running_variance` and `batch_variance`, each the mean over the channels.
        """
        norm = batch_norm_behind(self.search.network, self._switched)
        widest = tf.constant(int(np.argmax(self.search.budget.bit_widths)))
        found = {"running_variance": [], "batch_variance": []}

        def note(variance):
            found["running_variance"].append(float(tf.reduce_mean(norm.moving_variance)))
            found["batch_variance"].append(float(tf.reduce_mean(variance)))

        if meta:
            look = tf.function(self._switched_variance)
            self.meta(
                steps=len(branches),
                after_step=lambda step, images, _: note(look(images, widest, tf.constant(branches[step]))),
            )
            return found
        for step, images, labels in self._steps(len(branches), f"{self._switched} switched"):
            loss, variance = self._step(images, labels, widest, tf.constant(branches[step]))
            self._check(loss, step)
            note(variance)
        return found

    def observe(self, images, *, branch: int, layers: Sequence[str], batch_statistics: bool = False):
        """(outputs, input of each layer's quantizer by layer name) of a batch; nothing changes.

        Args:
          images: a batch.
          branch: branch of all searched layers.
          layers: names of searched layers.
          batch_statistics: whether batch norm normalizes by the batch itself, as in training.
        """
        statistics = graph.running_statistics(self.search.network)
        kept = [tf.identity(variable) for variable in statistics]
        names = tuple(quantizer_name(name) for name in layers)
        outputs, taken = self._seen(images, tf.constant(branch), names, batch_statistics)
        for variable, value in zip(statistics, kept, strict=True):
            variable.assign(value)
        return outputs, {name: taken[quantizer_name(name)] for name in layers}

    def _look(self, images, branch, names, batch_statistics):
        return self._network(images, training=batch_statistics, branch=branch, taken=names)

    def _take_step(self, images, labels, branch, other):
        search = self.search
        groups = (search.meta_weights, search.step_sizes)
        with tf.GradientTape() as tape:
            outputs, variance = self._switched_call(images, branch, other)
            loss = search.compute_loss(images, labels, outputs, None)
        gradients = tape.gradient(loss, groups)
        search.optimizer.apply_gradients(zip(gradients[0], groups[0], strict=True))
        search.step_optimizer.apply_gradients(zip(gradients[1], groups[1], strict=True))
        return loss, variance

    def _switched_variance(self, images, branch, other):
        return self._switched_call(images, branch, other)[1]

    def _switched_call(self, images, branch, other):
        """(outputs, variance of each channel in front of the batch norm behind the switched layer)."""
        if not self._switched:
            return self._network(images, training=True, branch=branch)[0], tf.constant(0.0)
        norm = batch_norm_behind(self.search.network, self._switched).name
        outputs, taken = self._network(
            images, training=True, branch=branch, switched=(self._switched, other), taken=(norm,)
        )
        return outputs, tf.math.reduce_variance(taken[norm], list(range(taken[norm].shape.rank - 1)))

    def _steps(self, steps: int, what: str) -> Iterator[tuple]:
        batches = self._data.train(batch_size=self._recipe.batch_size, seed=self._recipe.seed)
        self._what = f"{self._label}, {what}"
        for step, (images, labels) in enumerate(batches.repeat().take(steps)):
            yield step, images, labels
            if (step + 1) % max(1, steps // LOGGED_PARTS) == 0:
                logging.info("%s: step %d of %d, loss %.3f", self._what, step + 1, steps, self._loss)

    def _check(self, loss, step: int) -> None:
        self._loss = float(loss)
        if not np.isfinite(self._loss):
            raise DivergenceError(
                f"{self._what}: the loss of step {step + 1} is {self._loss}. Give a lower "
                "--select_learning_rate."
            )
