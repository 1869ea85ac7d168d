"""Keras's `compile` and `fit` for our networks: what Keras takes, with the checks that a notebook needs.

The training itself is Keras's own. What is added: objects of Keras 3 are taken for their twins of tf_keras,
the data is looked at before a step is traced, step sizes are set by then, and a step on images, labels or a
loss that are no numbers fails with a sentence that says where, before it changes a weight.

    class FixedNetwork(FitContract, keras.Model): ...
"""

import contextlib
import inspect
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
import tf_keras as keras

from mmx_tf.errors import DivergenceError
from mmx_tf.fitting import guards
from mmx_tf.fitting import options as fit_options
from mmx_tf.fitting.divergence import first_broken
from mmx_tf.fitting.given import Given, images_of
from mmx_tf.fitting.images import check_first_images, check_judged, check_pixels
from mmx_tf.fitting.outputs import TrainedOutputs, check_compiled, of_ranks
from mmx_tf.fitting.position import Position, lost_weights
from mmx_tf.fitting.trained import Trained
from mmx_tf.layers import keras_defaults
from mmx_tf.layers.fusion import all_initialized, initialize_before_tracing
from mmx_tf.network import graph, keras3_twins
from mmx_tf.network.ours import check_saved_as
from mmx_tf.network.tracing import build_before_tracing

LOSS_EXAMPLE = "loss=tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)"


class FitContract:
    """Mixed in before keras.Model; the class says what is trained and how step sizes are first set."""

    _guarding = False
    _judging = False
    _label_ranks = None
    _guarded_function = None

    @property
    def trained_network(self) -> keras.Model:
        """The functional network whose layers are trained."""
        return self

    def as_trained(self) -> Trained:
        """This model as watches see it."""
        return Trained(self)

    @property
    def first_call(self) -> dict:
        """Arguments of the call that sets the first step sizes."""
        return {}

    def fit_callbacks(self) -> list[keras.callbacks.Callback]:
        """Callbacks of every `fit`, which run before the user's."""
        return []

    def look_at(self, labels) -> None:
        """Called with the labels of a first batch, if they are at hand."""

    def before_fit(self, steps: int | None) -> None:
        """Called with the number of steps that a `fit` will take, None where it is not known."""

    @keras_defaults.float32()
    def compile(self, *args, **kwargs):
        """keras.Model.compile. A loss is needed; optimizers, losses and metrics of Keras 3 are taken too.

        Raises:
          ValueError: without a loss.
          TypeError: for an optimizer in the loss's place, or something of Keras 3 without a twin in tf_keras.
        """
        options = inspect.signature(keras.Model.compile).bind(self, *args, **kwargs).arguments
        del options["self"]
        more = options.pop("kwargs", {})
        if options.get("loss") is None:
            raise ValueError(
                f"{self.name}.compile: loss is missing. Give the loss of the float network, for example "
                f"{LOSS_EXAMPLE}."
            )
        if keras3_twins.is_optimizer(options["loss"]):
            raise TypeError(
                f"{self.name}.compile: loss is the optimizer {type(options['loss']).__name__}. The second "
                f"argument is the loss, as in Keras, for example {LOSS_EXAMPLE}; a search takes "
                "step_optimizer= and alpha_optimizer= by name."
            )
        namespaces = {"optimizer": "optimizers", "loss": "losses"}
        namespaces |= {"metrics": "metrics", "weighted_metrics": "metrics"}
        for name in namespaces.keys() & options.keys():
            fit_options.check_objects(f"{self.name}.compile", name, options[name])
            options[name] = keras3_twins.twin(options[name], namespaces[name])
        check_compiled(self, options)
        super().compile(**options, **more)
        TrainedOutputs(self).warn()

    @keras_defaults.float32()
    def fit(self, *args, **kwargs):
        """keras.Model.fit, with checks.

        Raises:
          RuntimeError: before `compile`.
          ValueError: for data that does not fit, before anything is traced; for a batch whose images are no
            finite numbers, or whose labels the loss does not take, when its turn comes.
          DivergenceError: when the loss is NaN or infinite. No step on it has changed a weight.
        """
        self._require_compiled("fit")
        options = inspect.signature(keras.Model.fit).bind(self, *args, **kwargs).arguments
        del options["self"]
        given = Given(options.pop("x", None), options.pop("y", None), options.get("batch_size"))
        outputs = TrainedOutputs(self)
        fit_options.check(f"{self.name}.fit", options, outputs.classes, several=outputs.named.several)
        outputs.check_weights(options.get("sample_weight"))
        if options.get("validation_data") is not None:
            options["validation_data"] = self._checked_validation(options["validation_data"])
        self._prepare(given)
        given.warn_of_large_batch()
        self.before_fit(given.steps(options))
        position = Position()
        users = fit_options.callbacks(options.get("callbacks"))
        options["callbacks"] = [position, *self.fit_callbacks(), *users]
        if not hasattr(self, "_training_state"):
            # Keras's BackupAndRestore takes it away, and its own second `fit` then fails.
            self._training_state = None
        with self._told(position, given), self._guarded():
            return super().fit(given.x, given.y, **options)

    @keras_defaults.float32()
    def evaluate(self, x=None, y=None, *args, **kwargs):
        """keras.Model.evaluate; takes a PyDataset of Keras 3 too."""
        self._require_compiled("evaluate")
        given = Given(x, y)
        if not self._guarding:
            check_judged(self.name, self.trained_network, given)
            self._check_label_shape(given)
            self._label_ranks = given.untold_label_ranks()
            TrainedOutputs(self).check_weights(kwargs.get("sample_weight"))
        with guards.told(self._expected()):
            return super().evaluate(given.x, given.y, *args, **kwargs)

    @keras_defaults.float32()
    def predict(self, x, *args, **kwargs):
        """keras.Model.predict; takes a PyDataset of Keras 3 too."""
        given = Given(x)
        check_judged(self.name, self.trained_network, given)
        return super().predict(given.x, *args, **kwargs)

    def train_on_batch(self, *args, **kwargs):
        """keras.Model.train_on_batch, with the checks of a step of `fit`."""
        self._require_compiled("train_on_batch")
        with guards.told(self._expected() | {"loss": "the step changed no weight."}), self._guarded():
            return super().train_on_batch(*args, **kwargs)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
        """keras.Model.compute_loss; while `fit` runs, a step whose loss is not finite fails."""
        loss = super().compute_loss(x, y, y_pred, sample_weight)
        return self.guarded_loss(loss)

    def guarded_loss(self, loss: tf.Tensor) -> tf.Tensor:
        """The loss, checked while `fit` runs."""
        return guards.finite(loss) if self._guarding and not self._judging else loss

    def guarded_batch(self, data):
        """The data of a step, checked in evaluation and while `fit` runs."""
        images, labels, weights = self._ranked(data)
        network = self.trained_network
        if self._guarding or self._judging:
            images = guards.checked_images(images, network)
            labels = TrainedOutputs(self).checked_labels(labels)
            weights = tf.nest.map_structure(guards.checked_weights, weights)
        return images, labels, weights

    def test_step(self, data):
        """keras.Model.test_step, also for labels of unknown rank; images and labels are checked in `fit`."""
        self._judging = True
        try:
            return super().test_step(self.guarded_batch(data))
        finally:
            self._judging = False

    def save(self, filepath, *args, **kwargs):
        """keras.Model.save of a .keras file.

        Raises:
          ValueError: for another format, in which networks with quantizers cannot be written.
        """
        check_saved_as(self.name, filepath, kwargs.get("save_format", "keras"))
        super().save(filepath, *args, **kwargs)

    def _ranked(self, data):
        """Images, labels and weights of a batch; the labels with the rank of the first batch's."""
        images, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
        return images, of_ranks(labels, self._label_ranks), TrainedOutputs(self).weights(weights)

    def _require_compiled(self, method: str) -> None:
        if not getattr(self, "_is_compiled", False):
            raise RuntimeError(
                f"{self.name}.{method}: the network is not compiled. Call {self.name}.compile(optimizer=..., "
                "loss=...) first."
            )

    def _check_label_shape(self, given: Given) -> None:
        parts = given.described(consume=False)
        if parts and len(parts) > 1:
            TrainedOutputs(self).check_labels(*parts[1:])

    def _prepare(self, given: Given) -> None:
        """Checks the data, and makes what a step needs before it is traced."""
        network = self.trained_network
        untouched = not all_initialized(network)
        given.check(network, consume=untouched)
        parts = given.first() if untouched else given.described(consume=False)
        if parts is not None:
            TrainedOutputs(self).check_labels(*parts[1:])
        # Keras's metrics look at the rank of labels, which a generator's dataset may not tell.
        self._label_ranks = given.untold_label_ranks()
        if parts is None:
            return
        self.look_at(parts[1])
        known = given.is_arrays or (isinstance(given.x, tf.data.Dataset) and self._label_ranks is None)
        build_before_tracing(self, *((given.x, given.y) if known else parts[:2]))
        if untouched:
            images = list(map(np.asarray, images_of(parts[0], network)))
            if all(np.isfinite(one).all() for one in images):
                check_first_images(network, images)
                initialize_before_tracing(self, network, graph.single(images), **self.first_call)
        elif given.is_arrays:
            check_pixels(network, list(map(np.asarray, images_of(parts[0], network))))

    def _checked_validation(self, data):
        """Validation data as Keras takes it."""
        arrays = isinstance(data, list | tuple)
        given = Given(*data[:2]) if arrays and data else Given(data)
        given.check(self.trained_network)
        self._check_label_shape(given)
        return data if arrays else given.x

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        if self.train_function is not self._guarded_function:
            # `train_on_batch` has traced it, without checks.
            self.train_function = None
        self._guarding = True
        try:
            yield
        finally:
            self._guarding = False
            self._guarded_function = self.train_function
            # Left behind by a validation that failed, Keras would take its data for those of the next `fit`.
            self.__dict__.pop("_eval_data_handler", None)

    def _expected(self) -> dict[str, str]:
        """What a check of a step expects, and what to do."""
        shapes = ", ".join(str(tuple(one.shape)) for one in self.trained_network.inputs)
        return {
            "images": "they must be finite numbers: clean them, or look at how they are scaled.",
            "shape": f"the network takes {shapes}: resize them.",
            **TrainedOutputs(self).expected(),
            "weights": "sample_weight and class_weight must be finite numbers.",
            "loss": "",
        }

    @contextlib.contextmanager
    def _told(self, position: Position, given: Given) -> Iterator[None]:
        """What a check of a step has found, told with its place."""
        try:
            with guards.told(self._expected()):
                yield
        except ValueError as error:
            if not isinstance(error, guards.GuardedError):
                if not position.seen:
                    given.first()  # Keras has no plain word for a dataset without a batch; this has.
                raise
            place = "validation" if position.judging else f"step {position.step + 1}"
            where = f"{self.name}.fit, epoch {position.epoch + 1}, {place}"
            if error.kind != "loss":
                raise ValueError(f"{where}: {error}") from None
            raise DivergenceError(f"{where}: {error}{self._origin(given)}") from None

    def _origin(self, given: Given) -> str:
        """Where the numbers went bad, and what to do."""
        network = self.trained_network
        lost = lost_weights(network)
        if lost:
            return lost
        batch = given.first()
        where = batch and first_broken(
            self.as_trained(), graph.single(images_of(batch[0], network)), batch[1]
        )
        where = where or "no layer is at fault on the first batch, so look at the labels"
        return f"{where}. The step changed no weight: compile with a lower learning rate and go on."
