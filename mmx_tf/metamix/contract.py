"""Keras's `compile` and `fit` for a search: three optimizers, a loss for both steps, the meta epochs."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tf_keras as keras
from absl import logging
from tf_keras.src.engine.compile_utils import LossesContainer

from mmx_tf.fitting import labels as fit_labels
from mmx_tf.fitting.contract import FitContract
from mmx_tf.fitting.outputs import TrainedOutputs
from mmx_tf.layers import keras_defaults
from mmx_tf.layers.quantizers.activation import ActivationQuantizer
from mmx_tf.metamix.target import split
from mmx_tf.metamix.teaching import teacher_of
from mmx_tf.metamix.trained_search import TrainedSearch
from mmx_tf.network import keras3_twins
from mmx_tf.network.tracing import build_optimizer

SHARING_STRATEGIES = (
    tf.distribute.MirroredStrategy,
    tf.distribute.MultiWorkerMirroredStrategy,
    tf.distribute.TPUStrategy,
)
"""Strategies that share a batch out among devices."""
LARGE_LABEL = 20.0
"""Number to predict from which step sizes are in danger."""


class SearchContract(FitContract):
    """What a search adds to `FitContract`: groups of variables, an optimizer for each, two kinds of steps."""

    _teacher = None

    # Variable groups: each has its own optimizer, since optimizers with momentum move variables even at
    # zero gradient.

    def alpha_rows(self, values=None) -> list["AlphaRow"]:
        """The rows of alpha, target by target: those of activations, then those of weights if searched.

        Args:
          values: array of alpha's shape that is taken apart in its place, such as its gradient.
        """
        values = self.alpha.numpy() if values is None else np.asarray(values)
        rows = []
        for target, of_target in zip(self.targets, values, strict=True):
            parts = [part for part in split(of_target, self.budget) if part is not None]
            every = [row for part in parts for row in part]
            for quantizer, row in zip(self._searched_quantizers, every, strict=True):
                name, bit_widths = quantizer.name, quantizer.bit_widths
                rows.append(AlphaRow(target.prefix + name, name, bit_widths, row))
        return rows

    @property
    def _searched_quantizers(self) -> list:
        return [*self.quantizers.values(), *self.weight_quantizers.values()]

    @property
    def step_sizes(self) -> list[tf.Variable]:
        """Step sizes of all activation quantizers, and of the weight branches."""
        ends = [q.step_size for q in self.end_quantizers.values() if isinstance(q, ActivationQuantizer)]
        return ends + [quantizer.step_sizes for quantizer in self._searched_quantizers]

    @property
    def meta_weights(self) -> list[tf.Variable]:
        """Full-precision weights, biases and batch-norm parameters."""
        others = {id(variable) for variable in self.step_sizes}
        return [variable for variable in self.network.trainable_variables if id(variable) not in others]

    @property
    def trained_network(self) -> keras.Model:
        """The network whose weights bit-meta steps train."""
        return self.network

    @keras_defaults.float32()
    def compile(
        self,
        *args,
        step_optimizer=None,
        alpha_optimizer=None,
        teacher=None,
        distillation_weight=0.5,
        distillation_temperature=1.0,
        **kwargs,
    ):
        """Configures training; see keras.Model.compile for the other arguments, positional ones included.

        Args:
          *args: optimizer (of the weights and batch-norm parameters; default "sgd"), loss, metrics and so on.
          step_optimizer: optimizer of the step sizes; default SGD(0.004, momentum=0.9).
          alpha_optimizer: optimizer of the architectural parameters; default Adam(0.02). With several targets
            it takes one step on the alpha of all of them; since optimizers have a state for each element,
            this is the step of an optimizer for each target (but for a `clipnorm` or `global_clipnorm`).
          teacher: tf_keras network of the same images and classes from whose outputs bit-meta and bit-search
            steps learn (`mmx_tf.fitting.teacher`), once more for each of the two. Logged losses and
            evaluation are those of the labels alone.
          distillation_weight: of the teacher's share, from 0 to 1; the labels have the rest.
          distillation_temperature: of the teacher's share, above 0.
          **kwargs: as for keras.Model.compile. While the search is fitted, metrics are updated by each of the
            B passes of a bit-meta step: means such as the accuracy are those over the candidates, and counts
            such as FalseNegatives are B times those of one pass. `evaluate` has one pass.

        Raises:
          ValueError: without a loss; for a teacher that does not fit the network, or numbers out of range.
          TypeError: for an optimizer in the loss's place, or something of Keras 3 without a twin in tf_keras.
        """
        if not args:
            kwargs.setdefault("optimizer", "sgd")
        optimizer = args[0] if args else kwargs["optimizer"]
        given = [one for one in (optimizer, step_optimizer, alpha_optimizer) if one is not None]
        objects = [id(one) for one in given if not isinstance(one, str)]
        if len(set(objects)) < len(objects):
            raise ValueError(
                f"{self.name}.compile: one optimizer is given twice. Each of optimizer, step_optimizer and "
                "alpha_optimizer keeps the state of its own variables: give an object for each."
            )
        self._own_step_optimizer = step_optimizer is not None
        steps, alpha = keras.optimizers.SGD(0.004, momentum=0.9), keras.optimizers.Adam(0.02)
        steps = self._own_optimizer("step_optimizer", step_optimizer or steps)
        alpha = self._own_optimizer("alpha_optimizer", alpha_optimizer or alpha)
        super().compile(*args, **kwargs)
        self.step_optimizer, self.alpha_optimizer = steps, alpha
        with self.distribute_strategy.scope():
            # Keras's own reading of the loss, without the trackers that belong to the bit-meta step.
            self._search_loss = LossesContainer(
                self.compiled_loss._user_losses,
                self.compiled_loss._user_loss_weights,
                output_names=self.output_names,
            )
            outputs = TrainedOutputs(self)
            if teacher is not None:
                losses = [output.loss for output in outputs]
                teacher = teacher_of(self, teacher, distillation_weight, distillation_temperature, losses)
            if outputs.named.several:
                # Its means of each output's loss are variables too.
                self._search_loss.build(outputs.named.packed([output.tensor for output in outputs]))
        self._teacher = teacher
        # Slot variables must exist before train_step is traced: tf.cond may not create any.
        self._check_optimizers()
        build_optimizer(self.optimizer, self.meta_weights)
        build_optimizer(self.step_optimizer, self.step_sizes)
        build_optimizer(self.alpha_optimizer, [self.alpha])

    def _check_optimizers(self) -> None:
        for optimizer in (self.optimizer, self.step_optimizer, self.alpha_optimizer):
            kind = type(optimizer).__name__
            if not (hasattr(optimizer, "build") or hasattr(optimizer, "_create_all_weights")):
                raise TypeError(
                    f"{self.name}.compile: {kind} is no optimizer of Keras: give one of tf_keras.optimizers."
                )
            if getattr(optimizer, "use_ema", False):
                raise ValueError(
                    f"{self.name}.compile: {kind} has use_ema=True, whose averages Keras takes of all "
                    "variables at once, and a search trains them in groups. Give it to the fixed network."
                )

    def _own_optimizer(self, argument: str, optimizer):
        try:
            return self._get_optimizer(keras3_twins.twin(optimizer, "optimizers"))
        except ValueError as error:
            raise ValueError(
                f"{self.name}.compile: {argument}={optimizer!r}: give an optimizer of tf_keras.optimizers, "
                "or its name."
            ) from error

    def before_fit(self, steps: int | None) -> None:
        """Refuses (ValueError) what a search's `fit` cannot do: several devices, a frozen network."""
        strategy = self.distribute_strategy
        if isinstance(strategy, SHARING_STRATEGIES):
            raise ValueError(
                f"{self.name}.fit: under {type(strategy).__name__} a search is trained by the command line "
                "alone (python -m mmx_tf.train --strategy); here it takes one device."
            )
        if not self.trainable:
            raise ValueError(
                f"{self.name}.fit: trainable is False, but a search trains weights, step sizes and alpha: "
                "set it to True."
            )

    def look_at(self, labels) -> None:
        """Warns of labels whose size makes gradients of step sizes large; labels are of a first batch."""
        if self._own_step_optimizer:
            return
        outputs = TrainedOutputs(self)
        for output, part in zip(outputs, outputs.named.each(labels, "labels have"), strict=True):
            if not isinstance(part, np.ndarray | tf.Tensor) or not fit_labels.are_numbers(output.loss):
                continue
            values = np.abs(np.asarray(part, np.float64))
            if values.size and values.max() > LARGE_LABEL:
                logging.warning(
                    "labels%s go up to %.4g, and with them the gradients of the step sizes, for which "
                    "SGD(0.004) is the default: scale the labels to about 1, or give compile a "
                    "step_optimizer such as Adam(1e-4).",
                    output.of, values.max(),
                )  # fmt: skip

    def task_loss(self, labels, outputs, sample_weight=None) -> tf.Tensor:
        """What `compute_loss` gives, regularization losses included; no log is changed.

        On several replicas the value is this one's share, as Keras has it.
        """
        loss = self._search_loss(labels, outputs, sample_weight, regularization_losses=self.losses)
        return self.guarded_loss(loss)

    def teaching(self, images) -> tf.Tensor | None:
        """The teacher's logits for a batch, (batch, classes); None without a teacher."""
        return None if self._teacher is None else self._teacher.logits(images)

    def taught(self, task_loss, outputs, teaching) -> tf.Tensor:
        """The loss of a pass: that of the labels, and the teacher's share where there is one."""
        if teaching is None:
            return task_loss
        return self.guarded_loss(self._teacher.mixed(tf.reduce_sum(task_loss), outputs, teaching)[0])

    @property
    def first_call(self) -> dict:
        """One branch is enough: all branches of a layer are set from the same tensor."""
        return {"branch": 0}

    def as_trained(self) -> TrainedSearch:
        """This search as watches see it."""
        return TrainedSearch(self)

    def fit_callbacks(self) -> list[keras.callbacks.Callback]:
        """What lets bit-search steps join in after `meta_epochs` epochs, earlier calls included."""
        return [StartSearch()]

    def test_step(self, data):
        """Keras's evaluation; losses of search steps are not among its results."""
        logs = super().test_step(data)
        own = {tracker.name for tracker in self._search_loss_trackers}
        return {name: value for name, value in logs.items() if name not in own}

    @property
    def search_loss_trackers(self) -> list[keras.metrics.Mean]:
        """A running mean of the task loss for each target."""
        return self._search_loss_trackers

    @property
    def metrics(self):
        """Keras metrics plus the running mean of each target's search loss."""
        own = self._search_loss_trackers
        return [*(metric for metric in super().metrics if not any(metric is one for one in own)), *own]


class AlphaRow(NamedTuple):
    """The architectural parameters of one quantizer for one target.

    Attributes:
      name: of the quantizer, behind the target's prefix where there are several.
      quantizer: its name.
      bit_widths: the candidates that the values stand for.
      values: one per candidate.
    """

    name: str
    quantizer: str
    bit_widths: tuple[int, ...]
    values: np.ndarray


class StartSearch(keras.callbacks.Callback):
    """Switches bit-search steps on once the meta epochs are over, those of earlier fits included."""

    def on_epoch_begin(self, epoch, logs=None):
        """Decides whether the epoch has bit-search steps."""
        # A resumed fit starts at a later epoch than this object has seen.
        self.model.begin_epoch(max(epoch, self.model.finished_epochs))

    def on_epoch_end(self, epoch, logs=None):
        """Counts the epoch."""
        self.model.finished_epochs += 1
