"""Why a layer got its bits: what the loss would be at its neighbouring candidates, and how sure alpha was.

    found = sensitivities(search, choice, batches, loss)
    found.loss, found.layers[0].activation.lower.change
    losses_at(search, [choice, other], batches, loss)       # of any choices, a row for each batch

A network of the meta-state is run with the selected branch in every layer, then once for each layer and each
neighbour of its bit-width among the candidates, all other layers as selected. Batch norm takes the statistics
of the batch, as in the training steps of the search; Dropout is off, so that the same images give the same
loss. Nothing of the search is changed.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import tensorflow as tf
import tf_keras as keras

from mmx_tf.budget.budget import Budget
from mmx_tf.metamix import passes
from mmx_tf.metamix import target as target_search
from mmx_tf.metamix.search import SearchModel
from mmx_tf.network import graph

NEAR_TIE = 0.05
"""Two candidates whose probabilities differ by less than this are a near tie."""


@dataclasses.dataclass(frozen=True)
class Neighbour:
    """A candidate next to the selected one.

    Attributes:
      bits: its bit-width.
      change: loss with this candidate in the layer minus loss of the selection, mean over the batches.
      standard_error: of `change`, over the batches; None of one batch.
    """

    bits: int
    change: float
    standard_error: float | None


@dataclasses.dataclass(frozen=True)
class Reason:
    """Why a layer's activations, or weights, have their bits.

    Attributes:
      bits: the selected bit-width.
      lower, higher: the next candidates; None at the last candidate, or if no loss was measured.
      probabilities: candidate -> its softmax weight; None where nothing was searched.
    """

    bits: int
    lower: Neighbour | None
    higher: Neighbour | None
    probabilities: dict[int, float] | None

    @property
    def margin(self) -> float | None:
        """Difference of the two largest softmax weights, 0 to 1; None where nothing was searched."""
        if not self.probabilities or len(self.probabilities) < 2:
            return None
        *_, second, first = sorted(self.probabilities.values())
        return first - second


@dataclasses.dataclass(frozen=True)
class LayerReasons:
    """A searched layer's reasons; `weights` is None where weight bits are given."""

    name: str
    activation: Reason
    weights: Reason | None = None


@dataclasses.dataclass(frozen=True)
class Sensitivities:
    """What `sensitivities` found.

    Attributes:
      images: how many the losses are of; 0 where none was measured.
      loss: of the selection, mean over the batches; None where none was measured.
      layers: the searched layers in graph order.
    """

    images: int
    loss: float | None
    layers: tuple[LayerReasons, ...]

    @property
    def near_ties(self) -> list[str]:
        """The layers in which two candidates are nearly as probable."""
        return [
            layer.name
            for layer in self.layers
            for reason in (layer.activation, layer.weights)
            if reason is not None and reason.margin is not None and reason.margin < NEAR_TIE
        ]

    def to_json(self) -> dict:
        """Plain JSON values; margins are among them, and bit-widths are texts where they are keys."""

        def of(reason: Reason | None):
            if reason is None:
                return None
            found = dataclasses.asdict(reason) | {"margin": reason.margin}
            if reason.probabilities is not None:
                found["probabilities"] = {str(bits): p for bits, p in reason.probabilities.items()}
            return found

        layers = [
            {"name": layer.name, "activation": of(layer.activation), "weights": of(layer.weights)}
            for layer in self.layers
        ]
        return {"images": self.images, "loss": self.loss, "near_ties": self.near_ties, "layers": layers}


def sensitivities(
    search: SearchModel,
    choice: Sequence[int],
    batches: Iterable,
    loss: Callable,
    *,
    target: int = 0,
    searched: bool = True,
) -> Sensitivities:
    """Losses at the neighbours of a selection, and the margins of alpha.

    Args:
      search: at its meta-state.
      choice: the selected candidate's index for every searched layer (`Budget.pairs`).
      batches: of (images (batch, ...), labels), at least one; or none, for the margins of alpha alone.
      loss: (labels, outputs of the network) -> scalar.
      target: index of the target whose alphas count.
      searched: whether alpha has chosen; where it has not, there are no margins.

    Raises:
      ValueError: for a choice of another network.
    """
    budget = search.budget
    search.selection_of(choice, target=target)  # refuses what is no choice
    own = np.array([index % len(budget.bit_widths) for index in choice], int)
    of_weights = np.array([index // len(budget.bit_widths) for index in choice], int)
    runs: list[tuple] = [("", None, None)]
    parts = [("activation", budget.bit_widths, own)]
    if budget.searches_weights:
        parts.append(("weights", budget.weight_bits, of_weights))
    for part, widths, chosen in parts:
        for layer, index in enumerate(chosen):
            runs += [(part, layer, other) for other in _neighbours(widths, index) if other is not None]

    def changed(part, layer, other):
        columns = {"activation": own.copy(), "weights": of_weights.copy()}
        if part:
            columns[part][layer] = other
        return columns["weights"] * len(budget.bit_widths) + columns["activation"]

    losses, images = losses_at(search, [changed(*run) for run in runs], batches, loss)
    changes = dict(zip(runs, (losses - losses[:, :1]).T, strict=True)) if len(losses) else {}
    alphas = search.targets[target].alpha.numpy() if searched and runs[1:] else None

    def reason(part, widths, chosen, layer):
        def neighbour(other):
            found = changes.get((part, layer, other))
            if other is None or found is None:
                return None
            error = float(np.std(found, ddof=1) / math.sqrt(len(found))) if len(found) > 1 else None
            return Neighbour(widths[other], float(np.mean(found)), error)

        probabilities = None
        if alphas is not None:
            columns = target_search.split(alphas[layer], budget)[part == "weights"]
            probabilities = dict(zip(widths, tf.nn.softmax(columns).numpy().tolist(), strict=True))
        lower, higher = map(neighbour, _neighbours(widths, chosen[layer]))
        return Reason(widths[chosen[layer]], lower, higher, probabilities)

    layers = tuple(
        LayerReasons(cost.name, *(reason(*part, layer) for part in parts))
        for layer, cost in enumerate(budget.searched)
    )
    return Sensitivities(images, float(np.mean(losses[:, 0])) if len(losses) else None, layers)


def _neighbours(widths: Sequence[int], index: int) -> tuple[int | None, int | None]:
    """Indices of the next lower and the next higher candidate: ((8, 4, 3), 1) -> (2, 0)."""
    order = sorted(range(len(widths)), key=lambda i: widths[i])
    place = order.index(index)
    lower = order[place - 1] if place else None
    return lower, order[place + 1] if place + 1 < len(order) else None


def losses_at(search: SearchModel, choices: Sequence, batches: Iterable, loss: Callable):
    """Losses of whole choices, each on the same batches.

    Args:
      search, batches, loss: as for `sensitivities`.
      choices: M choices, each the candidate's index for every searched layer (`Budget.pairs`).

    Returns:
      Losses in float64, of shape (batches, M), and the number of images.

    Raises:
      ValueError: for a choice of another network.
    """
    for choice in choices:
        search.selection_of(list(choice))  # refuses what is no choice
    alphas = [_one_hot(choice, search.budget) for choice in choices]

    def call_with(alpha):
        own = search.layer_call(None, alpha)

        def call(layer, args, kwargs):
            if isinstance(layer, keras.layers.BatchNormalization):
                kwargs = {**kwargs, "training": True}
            return own(layer, args, kwargs)

        return call

    @tf.function(autograph=False, reduce_retracing=True)
    def loss_of(images, labels, alpha):
        with passes.fixed_statistics(search):
            outputs = graph.replay(search.network, images, call_with(alpha))
        return tf.reduce_mean(loss(labels, outputs))

    losses, count = [], 0
    for images, labels in batches:
        losses.append([float(loss_of(images, labels, alpha)) for alpha in alphas])
        count += len(labels)
    return np.array(losses, np.float64).reshape(len(losses), len(alphas)), count


def _one_hot(choice: Sequence[int], budget: Budget) -> tf.Tensor:
    """Alphas of 1 for the candidates of a choice: those of activations, then those of weights."""
    index, branches = np.asarray(choice, int), len(budget.bit_widths)
    parts = [np.eye(branches, dtype=np.float32)[index % branches]]
    if budget.searches_weights:
        parts.append(np.eye(len(budget.weight_bits), dtype=np.float32)[index // branches])
    return tf.constant(np.concatenate(parts, axis=1))
