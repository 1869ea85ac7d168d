"""MetaMix's bit selection phase (paper Algorithm 1) as a Keras model.

>>> search = mmx_tf.augment(float_model, bit_widths=(8, 4, 3), target_bops=400e3)
>>> search.compile(optimizer="sgd", loss=loss, metrics=["accuracy"])
>>> _ = search.fit(train_ds.take(1), epochs=2, verbose=0)   # epoch 2 also has bit-search steps
>>> search.bit_selection().bops <= 400e3
True

Several targets can be searched on one meta-state: `augment(..., target_bops=[4.5e9, 5e9])`. The bit-meta
step, which costs the most, is then paid once for all of them; `bit_selections()` has a selection for each.

Weight bits can be searched too (the paper's footnote 5): `augment(..., weight_bits=(8, 4, 2))`. A searched
layer then computes with its kernel on the grid of one weight branch in a bit-meta pass, and with the mix of
all in a bit-search pass.
"""

import dataclasses
import functools
import operator
from collections.abc import Sequence

import tensorflow as tf
import tf_keras as keras

from mmx_tf.budget.budget import Budget
from mmx_tf.export.comparing.outputs import in_config, names_of
from mmx_tf.fitting import guards
from mmx_tf.layers import (
    classes,  # noqa: F401 (a file of this network names them)
    keras_defaults,
    replicas,
    strided_pointwise,
)
from mmx_tf.layers.quantizers.multi_branch import MultiBranchQuantizer
from mmx_tf.layers.quantizers.multi_branch_weights import (
    MultiBranchWeightQuantizer,
    computing_with,
    kernel_of,
)
from mmx_tf.metamix import ablations, algorithm
from mmx_tf.metamix import target as target_search
from mmx_tf.metamix.contract import SearchContract
from mmx_tf.metamix.selecting import Selecting
from mmx_tf.metamix.target import TargetSearch
from mmx_tf.network import graph
from mmx_tf.recipe.search_settings import SearchSettings


@keras.saving.register_keras_serializable(package="mmx_tf")
class SearchModel(Selecting, SearchContract, keras.Model):
    """A network with B activation quantizer branches in front of every searched layer.

    With several weight candidates every searched layer also has W weight quantizer branches on its kernel.
    Calling it, `evaluate` and `predict` use the branch with the largest alpha in every layer, those of the
    first target where there are several.

    Attributes:
      network: functional network with the activation quantizers in place; weights are full precision.
      budget: costs, candidates and (first) target.
      targets: a `TargetSearch` per target.
      alpha: architectural parameters of T targets, a variable (T, L, B), or (T, L, B + W) where weight bits
        are searched (`mmx_tf.metamix.target`).
      quantizers: searched layer name -> MultiBranchQuantizer, in graph order.
      weight_quantizers: searched layer name -> MultiBranchWeightQuantizer; empty where weight bits are given.
      end_quantizers: first and last layer name -> ActivationQuantizer, or the image's PixelQuantizer.
      meta_epochs: epochs of bit-meta steps alone, before bit-search steps join in.
      finished_epochs: epochs that all calls of `fit` have trained.
      settings: lambda_r (eq. 3), and the ablations. Each of its fields, such as `regularizer_weight`, is an
        attribute of the search network too.
      output_names: names of the outputs, as in the float network. Losses, metrics and labels may be dicts by
        these names.
      batch_norm_statistics: running statistics of all batch norms.
    """

    @keras_defaults.float32()
    def __init__(
        self,
        *,
        network: keras.Model,
        budget: Budget | Sequence[Budget],
        settings: SearchSettings | None = None,
        meta_epochs: int = 1,
        output_name: str | Sequence[str] | None = None,
        finished_epochs: int = 0,
        **kwargs,
    ):
        """Takes one budget, or several that differ in their targets alone; `output_name` has several too."""
        super().__init__(**kwargs)
        self.settings = settings or SearchSettings()
        self.network = network
        # By it Keras finds a loss, a metric or labels in a dict.
        self.output_names = names_of(output_name or network.output_names)
        strided_pointwise.avoid_damage(network)
        budgets = (budget,) if isinstance(budget, Budget) else tuple(budget)
        self.budget = budget = budgets[0]
        self.meta_epochs = int(meta_epochs) if self.meta_training else 0
        quantizer_of = {c.name: network.get_layer(quantizer_name(c.name)) for c in budget.costs}
        self.quantizers = {c.name: quantizer_of[c.name] for c in budget.searched}
        self.end_quantizers = {c.name: quantizer_of[c.name] for c in budget.costs if c.end}
        self.weight_quantizers = {
            name: MultiBranchWeightQuantizer.of_layer(
                network.get_layer(name), bit_widths=budget.weight_bits, name=f"{name}_weight_quantizer"
            )
            for name in (self.quantizers if budget.searches_weights else ())
        }
        self.finished_epochs = int(finished_epochs)
        self.searching = tf.Variable(False, trainable=False, name="searching")
        self.alpha = self.add_weight(
            "alpha",
            shape=target_search.alpha_shape(budgets),
            initializer=target_search.initializer(self.alpha_initial_stddev),
            aggregation=tf.VariableAggregation.MEAN,
        )
        self.targets = TargetSearch.of_each(budgets, self.alpha)
        # Under this name checkpoints have them.
        self._search_loss_trackers = [keras.metrics.Mean(f"{t.prefix}search_loss") for t in self.targets]
        self.batch_norm_statistics = graph.running_statistics(network)
        # All its layers are: `summary` and `count_params` need no batch of images.
        self.built = True

    @property
    def input_shape(self):
        """Shape of the network's image."""
        return self.network.input_shape

    @property
    def output_shape(self):
        """Shape of the network's output; of several outputs a list or a dict of shapes."""
        return self.network.output_shape

    def call(self, inputs, training=None, branch=None, alpha=None, weight_branch=None):
        """Runs the network.

        Args:
          inputs: images (batch, height, width, channels), signals or vectors, as the float network takes
            them. Several inputs are a dict by their names, or a list or tuple in the network's order.
          training: whether batch norm uses batch statistics and dropout is active.
          branch: branch index for all searched layers (B-META-FWD), `MIXED` or `JOINT` (B-SEARCH-FWD), or
            None for the branch with the largest alpha in each.
          alpha: a target's architectural parameters, (L, B) or (L, B + W); by default the first target's.
          weight_branch: branch index of all weight quantizers, or None for the one with the largest alpha in
            each. With `MIXED` or `JOINT` (`layers.branches`) as `branch` they mix too.
        """
        images = guards.shaped(inputs, self.network)
        return graph.replay(self.network, images, self.layer_call(branch, alpha, weight_branch))

    def layer_call(self, branch=None, alpha=None, weight_branch=None):
        """The `call` of a `graph.replay` over the network in a pass; arguments as `call`'s."""
        alpha = self.targets[0].alpha if alpha is None else alpha
        own, of_weights = target_search.split(alpha, self.budget)
        rows = {q.name: own[index] for index, q in enumerate(self.quantizers.values())}
        rows |= {q.name: of_weights[index] for index, q in enumerate(self.weight_quantizers.values())}
        weight_branch = branch if isinstance(branch, str) else weight_branch

        def call(layer, args, kwargs):
            if isinstance(layer, MultiBranchQuantizer):
                kwargs = {**kwargs, "branch": branch, "alpha": rows[layer.name]}
            searched = self.weight_quantizers.get(layer.name)
            if searched is None:
                return layer(*args, **kwargs)
            kernel = searched(kernel_of(layer), branch=weight_branch, alpha=rows[searched.name])
            with computing_with(kernel, layer):
                return layer(*args, **kwargs)

        return call

    def train_step(self, data):
        """One iteration of Algorithm 1 on a minibatch: bit-meta step, then bit-search step once searching."""
        batch = self.guarded_batch(data)
        before = self.alpha.read_value()
        search_step = functools.partial(self.bit_search_step, *batch)
        if self.meta_training:
            self.bit_meta_step(*batch)
            if replicas.count() == 1:
                tf.cond(self.searching, search_step, lambda: tf.constant(0.0))
            elif self.is_searching():
                search_step()
        else:
            search_step()
        logs = {metric.name: metric.result() for metric in self.metrics}
        for target in self.targets:
            logs |= replicas.of_first(target.logs(before))
        return logs

    def begin_epoch(self, finished: int) -> None:
        """Decides whether the coming epoch has bit-search steps, when `finished` epochs have been trained."""
        self.finished_epochs = finished
        before = self.is_searching()
        self.searching.assign(finished >= self.meta_epochs)
        if self.distribute_strategy.num_replicas_in_sync > 1 and self.is_searching() != before:
            # On several replicas a traced step has bit-search steps or not.
            self.make_train_function(force=True)

    @tf.autograph.experimental.do_not_convert
    def is_searching(self) -> bool:
        """Whether bit-search steps have joined in; while a graph is traced, at that moment."""
        with tf.init_scope():
            return bool(self.searching.numpy())

    @tf.autograph.experimental.do_not_convert
    def bit_meta_step(self, images, labels, sample_weight=None) -> None:
        """Updates weights, batch norm and step sizes; see `algorithm.bit_meta_step`."""
        algorithm.bit_meta_step(self, (images, labels, sample_weight))

    @tf.autograph.experimental.do_not_convert
    def bit_search_step(self, images, labels, sample_weight=None) -> tf.Tensor:
        """Updates alpha on the fixed meta-state; returns the task loss. See `algorithm.bit_search_step`.

        With `train_weights_in_search` weights, step sizes and running statistics move too
        (`ablations.joint_step`).
        """
        step = ablations.joint_step if self.train_weights_in_search else algorithm.bit_search_step
        return step(self, (images, labels, sample_weight))

    def get_config(self):
        """Config of the network and the search's settings; optimizers are compiled anew."""
        budgets = [dataclasses.asdict(target.budget) for target in self.targets]
        return {
            "name": self.name,
            "network": keras.saving.serialize_keras_object(self.network),
            "budget": budgets[0] if len(budgets) == 1 else budgets,
            **self.settings.search_settings,
            "meta_epochs": self.meta_epochs,
            "output_name": in_config(self.output_names),
            "finished_epochs": self.finished_epochs,
        }

    def load_own_variables(self, store):
        """Loads what `save` wrote.

        Raises:
          ValueError: for a search whose quantizers had an alpha each, as mmx_tf 0.1.0 saved it.
        """
        try:
            super().load_own_variables(store)
        except ValueError as error:
            raise ValueError(
                f"{self.name} was saved by an earlier version of mmx_tf, whose searches had an alpha per "
                "layer. Take its selection and rebuild it with that version, or search anew."
            ) from error

    @classmethod
    @keras_defaults.float32()
    def from_config(cls, config, custom_objects=None):
        """The search model of a config that `get_config` made."""
        settings, config = SearchSettings.parted(config)
        network = keras.saving.deserialize_keras_object(config.pop("network"), custom_objects=custom_objects)
        found = config.pop("budget")
        budgets = [Budget.from_config(one) for one in (found if isinstance(found, list) else [found])]
        return cls(network=network, budget=budgets, settings=settings, **config)


for _field in dataclasses.fields(SearchSettings):
    _read = property(operator.attrgetter(f"settings.{_field.name}"), doc=_field.metadata["help"])
    setattr(SearchModel, _field.name, _read)


def quantizer_name(layer_name: str) -> str:
    """Name of the activation quantizer in front of a layer."""
    return f"{layer_name}_input_quantizer"
