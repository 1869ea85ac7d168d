"""MetaMix's bit selection phase (paper Algorithm 1) as a Keras model.

>>> search = mmx_tf.augment(float_model, bit_widths=(8, 4, 3), target_bops=5.3e9)
>>> search.compile(optimizer="sgd", loss=..., metrics=["accuracy"])
>>> search.fit(train_ds, epochs=2)          # epoch 1: bit-meta steps; from epoch 2 also bit-search steps
>>> selection = search.bit_selection()

Several targets can be searched on one meta-state: `augment(..., target_bops=[4.5e9, 5e9])`. The bit-meta
step, which costs the most, is then paid once for all of them; `bit_selections()` has a selection for each.

Weight bits can be searched too (the paper's footnote 5): `augment(..., weight_bits=(8, 4, 2))`. A searched
layer then computes with its kernel on the grid of one weight branch in a bit-meta pass, and with the mix of
all in a bit-search pass.
"""

import dataclasses
import numbers
from collections.abc import Iterable, Sequence

import numpy as np
import tensorflow as tf
import tf_keras as keras
from absl import logging

from mmx_tf.budget.budget import Budget
from mmx_tf.choices import BATCH_NORM_UPDATES
from mmx_tf.fitting import guards
from mmx_tf.fitting.given import single_image
from mmx_tf.layers import (
    classes,  # noqa: F401 (a file of this network names them)
    keras_defaults,
    replicas,
    strided_pointwise,
)
from mmx_tf.layers.quantizers.activation import ActivationQuantizer
from mmx_tf.layers.quantizers.multi_branch import MultiBranchQuantizer
from mmx_tf.layers.quantizers.multi_branch_weights import (
    MultiBranchWeightQuantizer,
    computing_with,
    kernel_of,
)
from mmx_tf.metamix import ablations, algorithm
from mmx_tf.metamix import target as target_search
from mmx_tf.metamix.contract import SearchContract
from mmx_tf.metamix.selection import BitSelection
from mmx_tf.metamix.target import TargetSearch
from mmx_tf.network import graph
from mmx_tf.notation import target_folder


@keras.saving.register_keras_serializable(package="mmx_tf")
class SearchModel(SearchContract, keras.Model):
    """A network with B activation quantizer branches in front of every searched layer.

    With several weight candidates every searched layer also has W weight quantizer branches on its kernel.
    Calling it, `evaluate` and `predict` use the branch with the largest alpha in every layer, those of the
    first target where there are several.

    Attributes:
      network: functional network with the activation quantizers in place; weights are full precision.
      budget: costs, candidates and (first) target.
      targets: a `TargetSearch` per target. The alphas of the first are the quantizers' own; those of
        further ones stand beside the network.
      quantizers: searched layer name -> MultiBranchQuantizer, in graph order.
      weight_quantizers: searched layer name -> MultiBranchWeightQuantizer; empty where weight bits are given.
      end_quantizers: first and last layer name -> ActivationQuantizer, or the image's PixelQuantizer.
      meta_epochs: epochs of bit-meta steps alone, before bit-search steps join in.
      finished_epochs: epochs that have been trained, over all calls of `fit`.
      regularizer_weight: lambda_r, applied to the BOPs gap relative to the target.
      meta_training: False leaves bit-meta steps out: weights, step sizes and alpha are trained together on
        the mix of all branches, as in DNAS and EdMIPS.
      train_weights_in_search: bit-search steps train weights and step sizes too (paper Figure 7a).
      batch_norm_update: what bit-meta steps do to running statistics, one of `BATCH_NORM_UPDATES`.
      output_names: name of the one output, that of the float network's: the key of losses, metrics and
        labels that are given in a dict.
      batch_norm_statistics: running statistics of all batch norms.
    """

    @keras_defaults.float32()
    def __init__(
        self,
        *,
        network: keras.Model,
        budget: Budget | Sequence[Budget],
        regularizer_weight: float = 1.0,
        meta_epochs: int = 1,
        meta_training: bool = True,
        train_weights_in_search: bool = False,
        batch_norm_update: str = "mean",
        output_name: str | None = None,
        finished_epochs: int = 0,
        **kwargs,
    ):
        """Takes one budget, or several that differ in their targets alone."""
        super().__init__(**kwargs)
        if batch_norm_update not in BATCH_NORM_UPDATES:
            raise ValueError(f"batch_norm_update={batch_norm_update!r}: one of {BATCH_NORM_UPDATES}.")
        self.meta_training = bool(meta_training)
        self.train_weights_in_search = bool(train_weights_in_search) or not self.meta_training
        self.batch_norm_update = batch_norm_update
        self.network = network
        # By it Keras finds a loss, a metric or labels in a dict.
        self.output_names = [output_name or network.output_names[0]]
        strided_pointwise.avoid_damage(network)
        budgets = (budget,) if isinstance(budget, Budget) else tuple(budget)
        self.budget = budget = budgets[0]
        if self.train_weights_in_search and len(budgets) > 1:
            raise ValueError(
                f"{len(budgets)} targets: a search that trains weights has one, as each would train its own."
            )
        self.regularizer_weight = float(regularizer_weight)
        self.meta_epochs = int(meta_epochs) if meta_training else 0
        by_name = {layer.name: layer for layer in network.layers}
        quantizer_of = {cost.name: by_name[quantizer_name(cost.name)] for cost in budget.costs}
        self.quantizers = {c.name: quantizer_of[c.name] for c in budget.costs if not c.end}
        self.end_quantizers = {c.name: quantizer_of[c.name] for c in budget.costs if c.end}
        self.weight_quantizers = {}
        if budget.searches_weights:
            self.weight_quantizers = {
                name: MultiBranchWeightQuantizer.of_layer(
                    by_name[name], bit_widths=budget.weight_bits, name=f"{name}_weight_quantizer"
                )
                for name in self.quantizers
            }
        self.finished_epochs = int(finished_epochs)
        self.searching = tf.Variable(False, trainable=False, name="searching")
        further = range(1, len(budgets))
        self.further_alphas = [_alphas(f"alpha_{index}", self.quantizers) for index in further]
        self.further_weight_alphas = [
            _alphas(f"weight_alpha_{index}", self.weight_quantizers) for index in further
        ]
        alphas = [[quantizer.alpha for quantizer in self.quantizers.values()], *self.further_alphas]
        prefixes = [f"{target_folder(b.target_bops)}/" for b in budgets] if len(budgets) > 1 else [""]
        of_weights = [[q.alpha for q in self.weight_quantizers.values()], *self.further_weight_alphas]
        self.targets = tuple(map(TargetSearch, budgets, alphas, prefixes, of_weights))
        # Under this name checkpoints have them.
        self._search_loss_trackers = [
            keras.metrics.Mean(name=f"{target.prefix}search_loss") for target in self.targets
        ]
        self.batch_norm_statistics = graph.running_statistics(network)

    # Variable groups: each has its own optimizer, since optimizers with momentum move variables even at
    # zero gradient.

    @property
    def alphas(self) -> list[tf.Variable]:
        """Architectural parameters: target by target, one (B,) variable per searched layer in graph order.

        Where weight bits are searched, those of each target are followed by a (W,) variable per layer.
        """
        return [alpha for target in self.targets for alpha in target.variables]

    @property
    def named_alphas(self) -> list[tuple[str, tf.Variable]]:
        """`alphas`, each with the name of its quantizer, behind the target's where there are several."""
        return [
            (target.prefix + quantizer.name, alpha)
            for target in self.targets
            for quantizer, alpha in zip(self._searched_quantizers, target.variables, strict=True)
        ]

    @property
    def alpha_bit_widths(self) -> list[tuple[int, ...]]:
        """The candidates that the entries of each of the `alphas` stand for."""
        return [quantizer.bit_widths for _ in self.targets for quantizer in self._searched_quantizers]

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
        others = {id(variable) for variable in self.alphas + self.step_sizes}
        return [variable for variable in self.network.trainable_variables if id(variable) not in others]

    @property
    def trained_network(self) -> keras.Model:
        """The network whose weights bit-meta steps train."""
        return self.network

    @property
    def output_shape(self):
        """Shape of the network's output."""
        return self.network.output_shape

    def call(self, inputs, training=None, branch=None, alphas=None, weight_branch=None):
        """Runs the network.

        Args:
          inputs: images (batch, height, width, channels).
          training: whether batch norm uses batch statistics and dropout is active.
          branch: branch index for all searched layers (B-META-FWD), `MIXED` or `JOINT` (B-SEARCH-FWD), or
            None for the branch with the largest alpha in each.
          alphas: what to use as the alphas of the searched layers, a tensor as `TargetSearch.stacked` gives;
            by default those of the first target.
          weight_branch: branch index of all weight quantizers, or None for the one with the largest alpha in
            each. `MIXED` and `JOINT` (`layers.branches`) of `branch` are theirs too.
        """
        images = guards.shaped(single_image(inputs, self.network), self.network)
        return graph.replay(self.network, images, self.layer_call(branch, alphas, weight_branch))

    def layer_call(self, branch=None, alphas=None, weight_branch=None):
        """The `call` of a `graph.replay` over the network in a pass; arguments as `call`'s."""
        if alphas is None:
            own = self.targets[0].variables
        else:
            own = target_search.by_variable(alphas, self.budget)
        quantizers = self._searched_quantizers
        alpha_of = {q.name: alpha for q, alpha in zip(quantizers, own, strict=True)}
        weight_branch = branch if isinstance(branch, str) else weight_branch

        def call(layer, args, kwargs):
            if isinstance(layer, MultiBranchQuantizer):
                kwargs = {**kwargs, "branch": branch, "alpha": alpha_of[layer.name]}
            of_weights = self.weight_quantizers.get(layer.name)
            if of_weights is None:
                return layer(*args, **kwargs)
            alpha = alpha_of[of_weights.name]
            kernel = of_weights(kernel_of(layer), branch=weight_branch, alpha=alpha)
            with computing_with(kernel, layer):
                return layer(*args, **kwargs)

        return call

    def train_step(self, data):
        """One iteration of Algorithm 1 on a minibatch: bit-meta step, then bit-search step once searching."""
        images, labels, sample_weight = self.guarded_batch(data)
        if self.meta_training:
            self.bit_meta_step(images, labels, sample_weight)
            if replicas.count() == 1:
                tf.cond(
                    self.searching,
                    lambda: self.bit_search_step(images, labels, sample_weight),
                    lambda: tf.constant(0.0),
                )
            elif self.is_searching():
                self.bit_search_step(images, labels, sample_weight)
        else:
            self.bit_search_step(images, labels, sample_weight)
        logs = {metric.name: metric.result() for metric in self.metrics}
        for target in self.targets:
            logs |= replicas.of_first(target.logs())
        return logs

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

    def selected_bops(self) -> tf.Tensor:
        """BOPs of the (first target's) branches with the largest alpha: scalar float64, differentiable."""
        return target_search.selected_cost(self.targets[0].stacked(), self.budget.bops_costs, self.budget)

    def regularizer(self) -> tf.Tensor:
        """r(alpha) / (first) target; see `target_search.regularizer`."""
        return target_search.regularizer(self.budget, self.targets[0].stacked())

    def bit_selection(self, *, repair: bool = True) -> BitSelection:
        """The branch with the largest alpha in every layer, or the best choice that meets the budget.

        Args:
          repair: take the largest sum of alphas that the budget allows (`mmx_tf.budget.repair`), flips
            logged.

        Raises:
          ValueError: if the search has several targets.
        """
        if len(self.targets) > 1:
            raise ValueError(
                f"this search has {len(self.targets)} targets "
                f"({', '.join(str(target.budget.target_bops) for target in self.targets)} BOPs): "
                "bit_selections() gives a list of one selection for each, in this order."
            )
        return self.bit_selections(repair=repair)[0]

    def bit_selections(self, *, repair: bool = True) -> list[BitSelection]:
        """`bit_selection` of every target, in the order of the targets."""
        if not any(np.any(alpha.numpy()) for alpha in self.alphas):
            logging.warning(
                "no bit-search step has run (they join in after %d epochs): the selection is the first "
                "candidate in every layer, and what the repair makes of it.",
                self.meta_epochs,
            )
        return [
            self.selection_of(target.choose(repair=repair), target=index)
            for index, target in enumerate(self.targets)
        ]

    def selection_of(self, choice, *, target: int = 0) -> BitSelection:
        """The BitSelection of a choice: the candidate's index for every searched layer, in graph order.

        Args:
          choice: L indices: of the activation branch, or, with several weight candidates, of the pair
            `weight branch * B + activation branch` (`Budget.pairs`).
          target: index of the target that the selection records.

        Raises:
          ValueError: for another number of indices, or one that is no candidate's.
        """
        self._check_choice(choice, target)
        signed = {name: q.signed for name, q in {**self.quantizers, **self.end_quantizers}.items()}
        return self.targets[target].selection_of(choice, signed)

    def _check_choice(self, choice, target) -> None:
        layers, candidates = len(self.budget.searched), len(self.budget.pairs)
        indices = list(choice) if isinstance(choice, Iterable) else []
        whole = all(isinstance(i, numbers.Integral) and 0 <= i < candidates for i in indices)
        if len(indices) != layers or not whole:
            raise ValueError(
                f"selection_of: choice={choice!r}: {layers} integers in 0..{candidates - 1}, the candidate's "
                "index for every searched layer."
            )
        if not isinstance(target, numbers.Integral) or not 0 <= target < len(self.targets):
            raise ValueError(f"selection_of: target={target!r}: an integer in 0..{len(self.targets) - 1}.")

    def get_config(self):
        """Config of the network and the search's settings; optimizers are compiled anew."""
        budgets = [dataclasses.asdict(target.budget) for target in self.targets]
        return {
            "name": self.name,
            "network": keras.saving.serialize_keras_object(self.network),
            "budget": budgets[0] if len(budgets) == 1 else budgets,
            "regularizer_weight": self.regularizer_weight,
            "meta_epochs": self.meta_epochs,
            "meta_training": self.meta_training,
            "train_weights_in_search": self.train_weights_in_search,
            "batch_norm_update": self.batch_norm_update,
            "output_name": self.output_names[0],
            "finished_epochs": self.finished_epochs,
        }

    @classmethod
    @keras_defaults.float32()
    def from_config(cls, config, custom_objects=None):
        """The search model of a config that `get_config` made."""
        network = keras.saving.deserialize_keras_object(config["network"], custom_objects=custom_objects)
        found = config["budget"]
        budgets = [Budget.from_config(one) for one in (found if isinstance(found, list) else [found])]
        return cls(**{**config, "network": network, "budget": budgets})


def quantizer_name(layer_name: str) -> str:
    """Name of the activation quantizer in front of a layer."""
    return f"{layer_name}_input_quantizer"


def _alphas(prefix: str, quantizers: dict) -> list[tf.Variable]:
    """Alphas beside those of the quantizers, zeros like theirs."""
    return [
        tf.Variable(
            tf.zeros(len(quantizer.bit_widths)),
            name=f"{prefix}_{name}",
            aggregation=tf.VariableAggregation.MEAN,
        )
        for name, quantizer in quantizers.items()
    ]
