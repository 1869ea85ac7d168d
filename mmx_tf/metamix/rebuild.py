"""From the search network and a bit selection to the *fixed* network, which is then fine-tuned.

The fixed network is the original architecture at the chosen bits: a fixed activation quantizer in front of
every weighted layer, LSQ weights through tfmot QuantizeConfigs, and 8-bit carriers where the exported file
has them. It starts from the meta-state's weights and the chosen branches' step sizes; those of weights whose
bits were given come from the meta-state's weights by LSQ's rule.

    >>> fixed = rebuild(search, selection)
    >>> fixed.compile("sgd", loss=loss)
    >>> _ = fixed.fit(train_ds.take(1), epochs=1, verbose=0)
"""

import os
from collections.abc import Mapping

import tensorflow as tf
import tf_keras as keras

from mmx_tf.fitting.fixed_network import FixedNetwork
from mmx_tf.folding import carriers as carrier_plan
from mmx_tf.layers import keras_defaults
from mmx_tf.layers.quantizers.activation import ActivationQuantizer
from mmx_tf.layers.quantizers.multi_branch import MultiBranchQuantizer
from mmx_tf.layers.quantizers.multi_branch_weights import MultiBranchWeightQuantizer
from mmx_tf.layers.quantizers.pixels import PixelQuantizer
from mmx_tf.layers.quantizers.slopes import fixed_twin
from mmx_tf.layers.quantizers.weights import LsqWeightConfig, quantize_weights
from mmx_tf.metamix import augment_checks
from mmx_tf.metamix.search import SearchModel, quantizer_name
from mmx_tf.metamix.selection import BitSelection, as_selection
from mmx_tf.metamix.shared_steps import shared_quantizers
from mmx_tf.network import graph
from mmx_tf.network.heads import is_quantizer
from mmx_tf.network.ours import next_step


@keras_defaults.float32()
def rebuild(
    search: SearchModel,
    selection: BitSelection | Mapping | str | os.PathLike,
    *,
    quantized_weights: bool = True,
    per_channel: bool = True,
    carriers: bool = True,
    share_step_sizes: bool = False,
    start: keras.Model | None = None,
) -> keras.Model:
    """Builds the fixed network of a selection, an ordinary tf_keras model.

    Args:
      search: the search network; it is left untouched.
      selection: bits of every layer: a BitSelection, the path of its JSON file, or what that holds.
      quantized_weights: quantize the weights to the selection's bits; False keeps full precision.
      per_channel: one weight step size per output channel of a convolution; False has one per tensor, as
        dense layers always have. Step sizes that were searched per channel then start from LSQ's rule.
      start: a network of the same search and selection that was made with `quantized_weights=False` and has
        been trained. Its weights, its batch-norm statistics and its activations' step sizes are taken instead
        of the search's. Step sizes of weights are computed from its kernels by LSQ's rule.
      carriers: insert the 8-bit carriers; without them the network cannot be exported exactly.
      share_step_sizes: layers that read the same tensor at equal bits share one step size, which begins as
        the first layer's. The file then has one QUANTIZE for all of them, or none.

    Raises:
      SelectionMismatchError: if the selection belongs to another network, or its file or dict is damaged.
      TypeError: if `search` is not a search network, or `selection` nothing that was named above.
      ValueError: if weights of the search are not finite, or `start` is of another network.
    """
    if not isinstance(search, SearchModel):
        raise TypeError(
            f"rebuild got {type(search).__name__} {getattr(search, 'name', '')!r}; it takes a search network "
            f"made by mmx_tf.augment, and a selection. {next_step(search)}"
        )
    selection = as_selection(selection)
    augment_checks.check_finite(search.network)
    selection.check_fits(search.selection_of([0] * len(search.quantizers)))
    chosen = {layer.name: layer for layer in selection.layers}
    bits_of_quantizer = {quantizer_name(name): layer.activation_bits for name, layer in chosen.items()}
    shared = shared_quantizers(search.network, bits_of_quantizer) if share_step_sizes else {}
    tensor_carriers = carrier_plan.plan(search.network, shared) if carriers else {}
    left_out = carrier_plan.final_softmaxes(search.network)

    outputs_of = {node.layer.name: node.outputs for node in graph.nodes(search.network)}

    sources = _sources(search.network, start)
    quantized = {}

    def call(layer, args, kwargs):
        if layer.name in shared:
            return quantized[shared[layer.name]]
        if isinstance(layer, PixelQuantizer):
            value = PixelQuantizer.from_config(layer.get_config())(args[0])
        elif is_quantizer(layer):
            value = _fixed_quantizer(layer, bits_of_quantizer[layer.name])(args[0])
            quantized[layer.name] = value
        elif layer.name in chosen:
            searched = None if start else search.weight_quantizers.get(layer.name)
            source, of_layer = sources[layer.name], chosen[layer.name]
            value = _fixed_layer(source, of_layer, args[0], quantized_weights, per_channel, searched)
        else:
            clone = fixed_twin(layer) if quantized_weights else type(layer).from_config(layer.get_config())
            value = clone(*args, **kwargs)
            clone.set_weights(sources[layer.name].get_weights())
        gate = carrier_plan.gate_quantizer(layer) if carriers and layer.name not in left_out else None
        value = value if gate is None else gate(value)
        carrier = tensor_carriers.get(id(outputs_of[layer.name]))
        return value if carrier is None else carrier(value)

    inputs = graph.inputs_like(search.network)
    own = [tensor_carriers.get(id(tensor)) for tensor in search.network.inputs]
    images = [
        image if carrier is None else carrier(image) for carrier, image in zip(own, inputs, strict=True)
    ]
    outputs = graph.replay(search.network, images, call)
    fixed = FixedNetwork.of(
        graph.single(inputs), outputs, name=f"{search.network.name}_fixed", output_names=search.output_names
    )
    known = {layer.name: layer for layer in start.layers} if start else {}
    for layer in fixed.layers:
        # Carriers too, which a search does not have.
        if is_quantizer(layer) and layer.name in known:
            layer.set_weights(known[layer.name].get_weights())
    return fixed


def _sources(network: keras.Model, start: keras.Model | None) -> dict[str, keras.layers.Layer]:
    """The layers, by name, that weights are taken from: those of `start`, or the search's own."""
    own = {layer.name: layer for layer in network.layers}
    if start is None:
        return own
    found = {layer.name: layer for layer in start.layers}
    shapes = [
        {
            name: [weight.shape for weight in layers[name].weights]
            for name in own
            if not is_quantizer(own[name])
        }
        for layers in (own, {**dict.fromkeys(own, keras.layers.Layer()), **found})
    ]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"start={start.name!r} is not this search's network with weights in full precision: "
            "make it with mmx_tf.rebuild(search, selection, quantized_weights=False)."
        )
    return own | found


def _fixed_quantizer(quantizer, bits: int) -> ActivationQuantizer:
    fixed = ActivationQuantizer(
        bits=bits,
        signed=quantizer.signed,
        floor=quantizer.floor,
        covering=isinstance(quantizer, ActivationQuantizer) and quantizer.covering,
        name=quantizer.name,
    )
    fixed.build(None)
    if isinstance(quantizer, MultiBranchQuantizer):
        branch = quantizer.bit_widths.index(bits)
        step_size, initialized = quantizer.step_sizes[branch], quantizer.initialized[branch]
    else:
        step_size, initialized = quantizer.step_size, quantizer.initialized
    if bool(initialized):
        fixed.set_step_size(step_size)
    return fixed


def _fixed_layer(layer, chosen, value, quantized_weights, per_channel, searched) -> tf.Tensor:
    if quantized_weights:
        return with_quantized_weights(
            layer,
            value,
            bits=chosen.weight_bits,
            per_channel=per_channel and chosen.kind != "dense",
            searched=searched,
        )
    clone = type(layer).from_config(layer.get_config())
    value = clone(value)
    clone.set_weights(layer.get_weights())
    return value


def with_quantized_weights(
    layer: keras.layers.Layer,
    value,
    *,
    bits: int,
    per_channel: bool,
    searched: MultiBranchWeightQuantizer | None = None,
) -> tf.Tensor:
    """What a clone of a weighted layer makes of `value` with its kernel, the layer's own, on an LSQ grid.

    Args:
      layer: Conv2D, DepthwiseConv2D or Dense; it is left untouched.
      value: symbolic input.
      bits: bits of the kernel.
      per_channel: one step size per output channel, else one for the kernel.
      searched: the quantizer of the kernel in a search, whose step sizes at these bits are the first ones if
        they are as many; otherwise they come from LSQ's rule.
    """
    clone = type(layer).from_config(layer.get_config())
    config = LsqWeightConfig(bits=bits, per_channel=per_channel)
    wrapper = quantize_weights(clone, config)
    value = wrapper(value)
    kernel, *bias = layer.get_weights()
    config.kernel.assign(kernel)
    config.quantizer.initialize(kernel)
    if searched is not None and searched.step_shape == tuple(config.quantizer.step_shape):
        branch = searched.bit_widths.index(bits)
        config.quantizer.step_size.assign(searched.step_sizes[branch])
    if bias:
        clone.bias.assign(bias[0])
    return value
