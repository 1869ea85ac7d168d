"""Search networks whose weights are quantized while they are trained.

MetaMix keeps weights at full precision in bit selection. The paper's Figures 1, 2 and 6 ask what quantized
weights would do there; this makes the network for it.

    search = quantized_search(
        recipe, float_network, weight_bits=4, momentum=0.9, pixel_scaling=data.pixel_scaling
    )
"""

import tf_keras as keras

from mmx_tf import data as datasets
from mmx_tf.layers import keras_defaults
from mmx_tf.metamix.augment import augment
from mmx_tf.metamix.rebuild import with_quantized_weights
from mmx_tf.metamix.search import SearchModel
from mmx_tf.network import graph
from mmx_tf.network.heads import is_quantizer
from mmx_tf.recipe.recipe import Recipe


@keras_defaults.float32()
def quantized_search(
    recipe: Recipe,
    float_network: keras.Model,
    *,
    weight_bits: int | None,
    momentum: float,
    pixel_scaling: tuple[float, float] | None = datasets.PIXEL_SCALING,
    update="mean",
) -> SearchModel:
    """A search network without a budget, whose weights may be on LSQ grids in training already.

    Args:
      recipe: candidate bits and bits of the ends.
      float_network: left untouched.
      weight_bits: bits of the weights (first and last layer have the recipe's own); None is full precision.
      momentum: of all batch norms' running statistics.
      pixel_scaling: of the data, as `augment`'s.
      update: `SearchModel`'s batch_norm_update.

    Raises:
      ValueError: as `augment`.
    """
    search = augment(
        float_network,
        bit_widths=recipe.candidate_bits,
        first_last_bits=recipe.first_last_bits,
        pixel_scaling=pixel_scaling,
        batch_norm_update=update,
    )
    if weight_bits is not None:
        network = _on_weight_grids(search, weight_bits)
        search = SearchModel(network=network, budget=search.budget, settings=search.settings)
    for layer in search.network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = momentum
    return search


def _on_weight_grids(search: SearchModel, weight_bits: int) -> keras.Model:
    costs = {cost.name: cost for cost in search.budget.costs}

    def call(layer, args, kwargs):
        cost = costs.get(layer.name)
        if cost is not None:
            bits = search.budget.first_last_bits if cost.end else weight_bits
            return with_quantized_weights(layer, args[0], bits=bits, per_channel=cost.kind != "dense")
        clone = type(layer).from_config(layer.get_config())
        value = clone(*args, **kwargs)
        if not is_quantizer(layer):  # Their step sizes come from the first batch.
            clone.set_weights(layer.get_weights())
        return value

    inputs = graph.single(graph.inputs_like(search.network))
    return keras.Model(inputs, graph.replay(search.network, inputs, call), name=search.network.name)


def batch_norm_behind(network: keras.Model, name: str) -> keras.layers.BatchNormalization | None:
    """The batch norm that takes the output of weighted layer `name`; None without one."""
    consumers = graph.consumers(network)
    for node in graph.nodes(network):
        # A quantized layer is wrapped.
        if name in (node.layer.name, getattr(getattr(node.layer, "layer", None), "name", None)):
            behind = [layer for layer in consumers[id(node.outputs)] if layer is not None]
            return next((b for b in behind if isinstance(b, keras.layers.BatchNormalization)), None)
    return None
