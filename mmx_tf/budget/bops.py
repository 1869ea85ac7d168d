"""Bit operations (BOPs): multiply-accumulates times weight bits times activation bits, summed over layers.

Convolutions of all kinds and dense layers count; bias and batch norm do not. First and last
layers have 8-bit weights and activations unless said otherwise. With this convention the totals of the
paper's figures are reproduced to the digit (MobileNet-v2 at 4/4 bits: 5.394 GBOPs).

    >>> count_bops(mmx_tf.models.build("mobilenet_v2", input_shape=(224, 224, 3), num_classes=1000))
    5394053120
"""

import dataclasses
import math
import numbers

import tensorflow as tf
import tf_keras as keras

from mmx_tf.files.loading import loaded
from mmx_tf.layers import keras_defaults
from mmx_tf.layers.fusion import SetByFirstBatch
from mmx_tf.layers.lsq.straight_through import straight_through_one_hot
from mmx_tf.network import canonical, graph, keras3, subclassed
from mmx_tf.network.kinds import KINDS, WEIGHTED

PEAK_WIDTH = 0.02
"""How far below the largest of some costs a gradient still reaches others; see `peak`."""


@dataclasses.dataclass(frozen=True)
class LayerCost:
    """What one weighted layer costs on one image.

    Attributes:
      name: the layer's name.
      kind: "conv", "transposed", "depthwise" or "dense".
      macs: multiply-accumulates.
      weights: elements of the kernel.
      input_elements: elements of the input tensor, without the zeros of a padding layer.
      end: whether it is a first or last layer: no weighted layer before it, or none after it.
    """

    name: str
    kind: str
    macs: int
    weights: int
    input_elements: int
    end: bool


def layer_costs(network: keras.Model) -> list[LayerCost]:
    """Costs of the weighted layers of a canonical network, in graph order."""
    before, after = set(), set()
    reached: dict[int, set] = {}
    calls = graph.nodes(network)
    for node in calls:
        tensors = tf.nest.flatten((node.call_args, node.call_kwargs))
        upstream = set().union(*(reached.get(id(tensor), set()) for tensor in tensors))
        if type(node.layer).__name__ in WEIGHTED:
            if upstream:
                before.add(node.layer.name)
            after |= upstream
            upstream = upstream | {node.layer.name}
        reached[id(node.outputs)] = upstream
    return [
        _cost(node, end=node.layer.name not in before or node.layer.name not in after)
        for node in calls
        if type(node.layer).__name__ in WEIGHTED
    ]


@keras_defaults.float32()
def count_bops(
    network: keras.Model, *, weight_bits: int = 4, activation_bits: int = 4, first_last_bits: int = 8
) -> int:
    """BOPs of a float network if every layer had the given bits, on one image.

    Args:
      network: functional or built Sequential network of tf_keras or Keras 3.
      weight_bits, activation_bits: bits of all layers but the ends.
      first_last_bits: bits of weights and activations of the first and last layer.

    Raises:
      ValueError: if the network cannot be handled (see `canonicalize`).
    """
    names = ("weight_bits", "activation_bits", "first_last_bits")
    for name, value in zip(names, (weight_bits, activation_bits, first_last_bits), strict=True):
        if not isinstance(value, numbers.Integral) or not 1 <= value <= 32:
            raise ValueError(f"count_bops: {name}={value!r}: a bit-width is an integer in 1..32.")
    network = subclassed.as_functional(loaded(network))
    if not hasattr(network, "layers"):
        raise ValueError(f"count_bops got a {type(network).__name__}: give a network of tf_keras or Keras 3.")
    if any(isinstance(layer, SetByFirstBatch) or hasattr(layer, "output_grid") for layer in network.layers):
        raise ValueError(
            f"{network.name!r} has quantizers, and count_bops takes a float network. What a selection costs "
            "is selection.bops."
        )
    costs = layer_costs(canonical.canonicalize(keras3.as_tf_keras(network)))
    return uniform_bops(costs, weight_bits, activation_bits, first_last_bits)


def uniform_bops(costs, weight_bits: int, activation_bits: int, first_last_bits: int = 8) -> int:
    """BOPs of layers, as `layer_costs` gives them, at equal bits; arguments as `count_bops`'s."""
    return sum(
        cost.macs * (first_last_bits**2 if cost.end else weight_bits * activation_bits) for cost in costs
    )


def selected_costs(alphas, *, table, fixed, weight_alphas=None) -> tf.Tensor:
    """Differentiable costs of the branches with the largest alpha, for any cost of a layer and candidate.

    Where weight bits are searched too, a layer's cost is sum_w sum_a hs(weight alpha)_w hs(alpha)_a cost_wa:
    for BOPs, operations times the expected weight bits times the expected activation bits, each expectation
    hard forward and of the softmax backward (paper eq. 4 and 5).

    Args:
      alphas: L tensors of shape (B,), or one of shape (L, B).
      table: M tables, one for each moment, of L rows of B costs; with W weight candidates, of W * B costs,
        activations varying fastest.
      fixed: M costs of everything else.
      weight_alphas: L tensors of shape (W,), or one of shape (L, W); None where weight bits are given.

    Returns:
      (M,) in float64: BOPs exceed what float32 can count.
    """
    choices = straight_through_one_hot(tf.stack(alphas))
    if weight_alphas is not None:
        of_weights = straight_through_one_hot(tf.stack(weight_alphas))
        pairs = of_weights[:, :, tf.newaxis] * choices[:, tf.newaxis, :]
        choices = tf.reshape(pairs, [of_weights.shape[0], of_weights.shape[1] * choices.shape[1]])
    # Without a searched layer the table has no rows to tell its columns by.
    costs = tf.reshape(tf.constant(table, tf.float64), [len(fixed), *choices.shape])
    return tf.reduce_sum(tf.cast(choices, tf.float64) * costs, axis=[1, 2]) + tf.constant(fixed, tf.float64)


def peak(costs: tf.Tensor) -> tf.Tensor:
    """The largest of some costs, whose gradient reaches all that are close to it.

    Forward it is the maximum itself, so that a budget is met or not by what is counted. Backward it is
    t * log(sum(exp(costs / t))), with t a fiftieth of the maximum: a moment that is 2% below the peak has a
    weight of 1/e of the peak's. With the maximum's own gradient alpha would lower one moment, then the
    next one, in turns.

    Args:
      costs: (M,), above 0.
    """
    highest = tf.stop_gradient(tf.reduce_max(costs))
    temperature = PEAK_WIDTH * highest
    smooth = temperature * tf.reduce_logsumexp(costs / temperature)
    return smooth + tf.stop_gradient(highest - smooth)


def _cost(node, *, end) -> LayerCost:
    layer = node.layer
    kind = KINDS[type(layer).__name__].weighted
    kernel = layer.depthwise_kernel if kind == "depthwise" else layer.kernel
    weights = kernel.shape.num_elements()
    # A transposed convolution multiplies each pixel of its input by the whole kernel.
    positions = math.prod((node.call_args[0] if kind == "transposed" else node.outputs).shape[1:-1])
    return LayerCost(
        name=layer.name,
        kind=kind,
        macs=positions * weights,
        weights=weights,
        input_elements=math.prod(_before_padding(node.call_args[0]).shape[1:]),
        end=end,
    )


def _before_padding(tensor):
    while type(tensor.node.layer).__name__ == "ZeroPadding2D":
        tensor = tensor.node.call_args[0]
    return tensor
