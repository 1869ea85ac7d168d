"""Training that has gone wrong, found in the step in which it happens and told with the layer's name.

After every step are looked at: the loss and all weights (is each a finite number), the step sizes of the
activation quantizers (has one fallen to its floor, where a layer sees next to nothing), and, in the first
steps of a search, alpha (has one branch so much of the probability that no gradient can change it).
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tf_keras as keras

from mmx_tf.errors import DivergenceError
from mmx_tf.fitting.trained import Trained
from mmx_tf.layers.lsq.lsq import STEP_SIZE_FLOOR
from mmx_tf.layers.quantizers.activation import ActivationQuantizer
from mmx_tf.layers.quantizers.multi_branch import MultiBranchQuantizer
from mmx_tf.network import graph

COLLAPSED_BELOW = 10 * STEP_SIZE_FLOOR
SATURATED_FROM = 0.99
"""Probability of one branch whose alpha counts as saturated: its gradient is a hundredth of what it was."""


class Watch:
    """Looks at a network after every training step.

    Args:
      phase: name of the phase, for messages.
      trained: the model that is trained.
      batches: (epoch, first step) -> batches, as the training loop's.
      early: (first, last) step, counted over all epochs, between which an alpha that saturates is an error.
      steps_per_epoch: steps of every epoch.
    """

    def __init__(
        self,
        phase: str,
        trained: Trained,
        *,
        batches: Callable,
        steps_per_epoch: int,
        early: tuple[int, int] = (0, 0),
    ):
        self._phase, self._trained, self._network = phase, trained, trained.network
        self._batches, self._steps_per_epoch, self._early = batches, steps_per_epoch, early
        self._weights = [v for v in self._network.weights if v.dtype.is_floating]
        self._weights += trained.variables_beside
        # A layer that sees nothing from the beginning was not broken by training.
        self._collapsed = collapsed_quantizers(self._network)
        self._values: list[tf.Tensor] = []

    def before_step(self) -> None:
        """Remembers the weights that the first step starts from; `after_step` does those of the others."""
        if not self._values:
            *_, self._values = self._look()

    def after_step(self, logs: dict[str, float], *, epoch: int, step: int) -> None:
        """Judges a step.

        Args:
          logs: the step's logs; those whose names end in "loss" must be finite.
          epoch, step: of the step, both from 0.

        Raises:
          DivergenceError: if training has diverged.
        """
        where = f"{self._phase}, epoch {epoch + 1}, step {step + 1}"
        losses = {name: value for name, value in logs.items() if name.endswith("loss")}
        finite, collapsed, saturated, values = self._look()
        for name, value in losses.items():
            if not np.isfinite(value):
                raise DivergenceError(f"{where}: the {name} is {value}; {self._origin(epoch, step)}.")
        if not finite:
            raise DivergenceError(f"{where}: a weight is NaN or infinite; {self._origin(epoch, step)}.")
        if collapsed:
            fallen = [name for name in collapsed_quantizers(self._network) if name not in self._collapsed]
            if fallen:
                raise DivergenceError(
                    f"{where}: the step size of {', '.join(fallen)} has fallen to its floor, so the layer "
                    "behind it sees almost nothing."
                )
        first, last = self._early
        if saturated and first <= epoch * self._steps_per_epoch + step < last:
            raise DivergenceError(
                f"{where}: alpha is saturated after {epoch * self._steps_per_epoch + step + 1 - first} "
                f"bit-search step(s), before the search can have compared the branches: "
                f"{'; '.join(self._saturated())}."
            )
        self._values = values

    @tf.function(autograph=False)
    def _look(self):
        """(all weights are finite, a step size is at its floor, an alpha is saturated, the weights)."""
        finite = [tf.reduce_all(tf.math.is_finite(variable)) for variable in self._weights]
        steps = [tf.reduce_min(step) for _, step in _step_sizes(self._network)]
        return (
            tf.reduce_all(finite),
            tf.reduce_any(tf.stack(steps or [1.0]) <= COLLAPSED_BELOW),
            self._trained.largest_probability() > SATURATED_FROM,
            # No copies: TensorFlow writes a variable whose value somebody holds to a new place.
            [variable.read_value() for variable in self._weights],
        )

    def _saturated(self) -> list[str]:
        said = []
        for row in self._trained.alpha_rows():
            probabilities = tf.nn.softmax(row.values).numpy()
            if len(probabilities) > 1 and probabilities.max() > SATURATED_FROM:
                bits = row.bit_widths[probabilities.argmax()]
                said.append(f"{row.name} has {bits} bits with probability {probabilities.max():.4f}")
        return said

    def _origin(self, epoch: int, step: int) -> str:
        """Repeats the step from the weights before it, layer by layer; where the first bad number is."""
        updated = [
            node.layer.name
            for node in graph.nodes(self._network)
            if not all(np.isfinite(v.numpy()).all() for v in node.layer.weights if v.dtype.is_floating)
        ]
        updated += [row.name for row in self._trained.alpha_rows() if not np.isfinite(row.values).all()]
        for variable, value in zip(self._weights, self._values, strict=True):
            variable.assign(value)
        images, labels = next(iter(self._batches(epoch, step).take(1)))
        broken = first_broken(self._trained, images, labels)
        if broken:
            return broken
        return f"the update of layer {updated[0]!r} overflowed" if updated else "no layer is at fault"


def first_broken(trained: Trained, images, labels) -> str | None:
    """Where a training step on a batch first meets a number that is not finite; None if it meets none.

    Args:
      trained: the model that is trained.
      images, labels: the batch.
    """
    images, labels = tf.nest.map_structure(tf.convert_to_tensor, (images, labels))
    network = trained.network
    groups = (network.trainable_variables, trained.architecture)
    for branch in trained.branches:
        with tf.GradientTape() as tape:
            probe = _Probe(network, trained.layer_call(branch))
            outputs = probe(images, training=True)
            loss = trained.model.compute_loss(images, labels, outputs)
        if probe.broken:
            return f"the first output that is not finite is that of layer {probe.broken[0]!r}"
        gradients, of_alpha = tape.gradient(loss, groups)
        broken = {
            id(v) for v, g in zip(network.trainable_variables, gradients, strict=True)
            if g is not None and not np.isfinite(g.numpy()).all()
        }  # fmt: skip
        rows = [row for g in of_alpha if g is not None for row in trained.alpha_rows(g)]
        quantizers = {row.quantizer for row in rows if not np.isfinite(row.values).all()}
        # The gradient runs from the last layer to the first.
        for node in reversed(graph.nodes(network)):
            own = any(id(variable) in broken for variable in node.layer.trainable_variables)
            if own or node.layer.name in quantizers:
                return f"the first gradient that is not finite is that of layer {node.layer.name!r}"
    return None


class _Probe(keras.Model):
    """A network that remembers which layers gave numbers that are not finite, in the order of the calls."""

    def __init__(self, network: keras.Model, layer_call: Callable):
        super().__init__()
        self._network, self._layer_call = network, layer_call
        self.broken: list[str] = []

    def call(self, inputs, training=None):
        def call(layer, args, kwargs):
            output = self._layer_call(layer, args, kwargs)
            if not all(np.isfinite(part.numpy()).all() for part in tf.nest.flatten(output)):
                self.broken.append(layer.name)
            return output

        return graph.replay(self._network, inputs, call)


def collapsed_quantizers(network: keras.Model) -> list[str]:
    """Names of the activation quantizers of which a step size has fallen to the floor."""
    return [name for name, step in _step_sizes(network) if float(tf.reduce_min(step)) <= COLLAPSED_BELOW]


def _step_sizes(network: keras.Model) -> list[tuple[str, tf.Variable]]:
    single = [(q.name, q.step_size) for q in network.layers if isinstance(q, ActivationQuantizer)]
    return single + [(q.name, q.step_sizes) for q in _multi_branch(network)]


def _multi_branch(network: keras.Model) -> list[MultiBranchQuantizer]:
    return [layer for layer in network.layers if isinstance(layer, MultiBranchQuantizer)]
