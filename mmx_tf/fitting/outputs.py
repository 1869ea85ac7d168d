"""The outputs of a compiled network: what each is trained with, and checks of what `fit` is given for them.

    outputs = TrainedOutputs(model)                 # compiled, with one output or several
    outputs.check_labels({"class": classes, "box": boxes})      # before anything is traced
    labels = outputs.checked_labels(labels)         # in a step, in the form of the network's outputs

Which part is for which output is said by Keras's own code (`mmx_tf.export.comparing.outputs`): a dict by
their names, a list or tuple in their order, anything else for each of them.
"""

import dataclasses

import numpy as np
import tensorflow as tf
import tf_keras as keras
from absl import logging

from mmx_tf.export.comparing.outputs import Outputs
from mmx_tf.fitting import labels as fit_labels
from mmx_tf.fitting.given import given_weights, no_numbers
from mmx_tf.network import graph
from mmx_tf.network.heads import last_activation
from mmx_tf.notation import some


@dataclasses.dataclass(frozen=True)
class TrainedOutput:
    """One output.

    Attributes:
      name: the key of what is given in a dict.
      tensor: symbolic tensor of the trained network.
      loss: object or function; None where it has none, or it is not told.
      measured: whether `compile` was given metrics for it.
      of: names it in messages where there are several, such as " of output 'box'".
    """

    name: str
    tensor: object
    loss: object
    measured: bool
    of: str

    @property
    def shape(self) -> tuple:
        """Shape with the batch, None."""
        return tuple(self.tensor.shape)

    @property
    def allowed(self) -> fit_labels.Allowed | None:
        """The labels that its loss takes."""
        return fit_labels.allowed(self.loss, self.shape)


class TrainedOutputs:
    """All outputs of a compiled model with `FitContract`, in the network's order."""

    def __init__(self, model: keras.Model):
        network, self._network = model.trained_network, model.trained_network
        self.named = Outputs.of(network, model.output_names)
        losses = self.named.each(model.compiled_loss._user_losses, "loss has")
        metrics = model.compiled_metrics
        measured = [False] * len(losses)
        for given in (metrics._user_metrics, metrics._user_weighted_metrics) if metrics else ():
            given = (
                [given] * len(losses)
                if metrics._should_broadcast(given)
                else self.named.each(given, "metrics have")
            )
            measured = [known or bool(one) for known, one in zip(measured, given, strict=True)]
        self._all = [
            TrainedOutput(
                name, tensor, _loss(loss), of_metrics, f" of output {name!r}" if self.named.several else ""
            )
            for name, tensor, loss, of_metrics in zip(
                self.named.names, network.outputs, losses, measured, strict=True
            )
        ]

    def __iter__(self):
        return iter(self._all)

    @property
    def classes(self) -> int | None:
        """The number of classes of which each image has one; None for several outputs and other losses."""
        return None if self.named.several else fit_labels.classes(self._all[0].loss, self._all[0].shape)

    def warn(self) -> None:
        """Warns of losses that take logits for probabilities, and of layers that no loss trains."""
        for output in self:
            fit_labels.warn_of_logits(output.loss, last_activation(output.tensor), of=output.of)
        without = [output for output in self if output.loss is None]
        if not self.named.several or not without:
            return
        trained = graph.upstream(self._network, [output.tensor for output in self if output.loss is not None])
        idle = [
            layer.name
            for layer in graph.upstream(self._network, [output.tensor for output in without])
            if layer.trainable_weights and layer not in trained
        ]
        if idle:
            logging.warning(
                "%s has no loss, so nothing trains the layers that only it uses: %s.",
                f"output {' and '.join(repr(output.name) for output in without)}", some(idle),
            )  # fmt: skip

    def check_labels(self, labels, weights=None) -> None:
        """Checks labels and sample weights of a first batch, or what is known of them.

        Those without a shape pass.

        Raises:
          ValueError: for another name, labels that are missing, no numbers, or of a shape that the loss does
            not take.
        """
        if isinstance(labels, dict) and not self.named.several and set(labels) != set(self.named.names):
            raise ValueError(
                f"labels have the names {sorted(labels)}; the network has one output, "
                f"{self.named.names[0]!r}: give the labels alone, or under its name."
            )
        self.check_weights(weights)
        counts = {}
        for output, part in zip(self, self.named.each(labels, "labels have"), strict=True):
            if self.named.several:
                self._check_given(output, part, counts)
            fit_labels.check_shape(output.loss, output.shape, part, of=output.of)

    def _check_given(self, output: TrainedOutput, part, counts: dict) -> None:
        if part is None and (output.loss is not None or output.measured):
            what = "a loss" if output.loss is not None else "metrics"
            raise ValueError(
                f"labels have no {output.name!r}, an output that compile was given {what} for: give labels "
                f"for it, or compile with {what.split()[-1]} in a dict without it."
            )
        if kind := no_numbers(part):
            raise ValueError(f"labels{output.of} are {kind}: give numbers; classes are numbered from 0.")
        count = np.shape(part)[0] if isinstance(part, np.ndarray) and part.ndim else None
        if count is not None and any(count != other for other in counts.values()):
            other = next(iter(counts))
            raise ValueError(
                f"labels{output.of} are for {count} images, those of output {other!r} for {counts[other]}: "
                "give one for each image."
            )
        if count is not None:
            counts[output.name] = count

    def check_weights(self, weights) -> None:
        """Refuses (ValueError) sample weights under names that no output has."""
        if self.named.several and weights is not None:
            self.named.each(weights, "sample_weight has")

    def checked_labels(self, labels):
        """The labels of a step in the form of the outputs; the step fails where a loss does not take them."""
        if not self.named.several:
            allowed = self._all[0].allowed
            return fit_labels.checked(labels, allowed) if allowed else labels
        parts = self.named.each(labels, "labels have")
        for index, (output, part) in enumerate(zip(self, parts, strict=True)):
            if part is not None and output.allowed:
                parts[index] = fit_labels.checked(part, output.allowed, kind=f"labels_{index}")
        return self.named.packed(parts)

    def weights(self, weights):
        """Sample weights in the form of the network's outputs; of one output as they are, alone."""
        if not self.named.several or weights is None:
            return given_weights(weights, list(self.named.names))
        return self.named.packed(self.named.each(weights, "sample_weight has"))

    def expected(self) -> dict[str, str]:
        """Kind of a check of labels -> what the loss takes (`guards.told`)."""
        kinds = [f"labels_{index}" for index in range(len(self._all))] if self.named.several else ["labels"]
        return {
            kind: f"the loss{output.of} does not take them: {fit_labels.told(output.allowed)}"
            for kind, output in zip(kinds, self, strict=True)
        }


def check_compiled(model: keras.Model, options: dict) -> None:
    """Checks that what `compile` is given for several outputs is for those that there are.

    Args:
      model: with `FitContract`.
      options: arguments of `keras.Model.compile`.

    Raises:
      ValueError: for a name that no output has, a list of another length, or no loss at all.
    """
    named = Outputs.of(model.trained_network, model.output_names)
    if not named.several:
        return
    where = f"{model.name}.compile: "
    losses = named.each(options["loss"], f"{where}loss has")
    if all(loss is None for loss in losses):
        raise ValueError(f"{where}there is no loss for any of the outputs {named.quoted}.")
    named.each(options.get("loss_weights"), f"{where}loss_weights has")
    for name in ("metrics", "weighted_metrics"):
        given = options.get(name)
        # Keras takes a list without lists inside for the metrics of each output.
        if isinstance(given, dict) or any(isinstance(one, list | tuple | dict) for one in given or ()):
            named.each(given, f"{where}{name} have")


def _loss(given):
    """The loss that Keras makes of what is given for an output; None without one."""
    return None if given is None or isinstance(given, dict | list | tuple) else keras.losses.get(given)


def of_ranks(labels, ranks):
    """Labels with the ranks that `Given.untold_label_ranks` gave; as they are without."""
    if ranks is None:
        return labels
    return tf.nest.map_structure(
        lambda part, rank: tf.ensure_shape(part, [None] * rank) if tf.is_tensor(part) else part, labels, ranks
    )
