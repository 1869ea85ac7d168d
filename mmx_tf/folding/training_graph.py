"""Training on the folded graph: the last epochs of weight training see what the file will compute.

The fixed network normalizes a batch by the batch's own statistics and adds a float bias; the file has running
statistics in its weight scales and every bias on an int32 grid. The network made here is the fixed network
with just these two differences: batch norm uses its running statistics, which stay as they are
(Krishnamoorthi 2018, arXiv 1806.08342, section 3.2), and the bias of each channel,
beta + (layer bias - mean) * factor, is moved to the grid that `fold` gives it. All variables are shared with
the fixed network: training the one trains the other.

    >>> on_folded_graph = fold_for_training(fixed)
    >>> on_folded_graph.compile(optimizer="sgd", loss=loss, metrics=["accuracy"])
    >>> _ = on_folded_graph.fit(train_ds.take(1), epochs=1, verbose=0)
    >>> fixed.save("fixed.keras"); folded = mmx_tf.fold(fixed)
"""

import contextlib

import tensorflow as tf
import tf_keras as keras

from mmx_tf.fitting.fixed_network import FixedNetwork
from mmx_tf.folding.bias import affine_bias, batch_norm_affine, weighted_bias
from mmx_tf.folding.fold import check_foldable
from mmx_tf.layers import keras_defaults
from mmx_tf.layers.as_written import AsWritten
from mmx_tf.layers.quantizers.activation import ActivationQuantizer
from mmx_tf.layers.quantizers.weights import QuantizeWrapper
from mmx_tf.network import graph
from mmx_tf.network.heads import is_quantizer


@keras_defaults.float32()
def fold_for_training(fixed: keras.Model, *, weight_storage: str = "int8", scope=None) -> keras.Model:
    """The folded graph of a fixed network in float arithmetic, an ordinary model to compile and fit.

    Args:
      fixed: a network made by `rebuild`. Its batch-norm statistics are frozen in the new network only.
      weight_storage: the one that `fold` will be given (`layers.integer.storage.STORAGES`), since the grids
        of biases depend on it.
      scope: that of the `tf.distribute` strategy in which `fixed` was made; None without a strategy.

    Returns:
      A functional tf_keras model with the input, the outputs and the variables of `fixed`. In inference it
      gives what `fold(fixed)` gives, except in three cases: float32 sums may flip a code; the file rounds
      exact halves away from zero in an AveragePooling2D that pads; and it rounds them up in a bilinear
      resizing, which mixes with weights of 11 bits. Do not save this model; save `fixed`, whose variables it
      shares.

    Raises:
      FoldError: if a layer has no integer form.
      ValueError: if weight_storage is not one of them, or `rebuild` did not make the model.
    """
    check_foldable(fixed, weight_storage=weight_storage)
    normalized = {
        node.call_args[0].node.layer.name
        for node in graph.nodes(fixed)
        if isinstance(node.layer, keras.layers.BatchNormalization)
    }

    def call(layer, args, kwargs):
        if isinstance(layer, QuantizeWrapper):
            value = layer(*args, **kwargs)
            # A batch norm right behind takes the layer's bias into its own.
            return value if layer.name in normalized else rounded(value, layer, None, args[0])
        if isinstance(layer, keras.layers.BatchNormalization):
            value, source = layer(args[0], training=False), args[0].node
            if isinstance(source.layer, QuantizeWrapper):
                return rounded(value, source.layer, layer, source.call_args[0])
            quantizer = _quantizer_of(args[0])

            def folded_bias():
                return affine_bias(*batch_norm_affine(layer), _scale_of(quantizer))

            return BiasRounding(folded_bias, name=_name(layer))(value)
        return layer(*args, **kwargs)

    def rounded(value, wrapper, batch_norm, layer_input):
        if batch_norm is None and not wrapper.layer.use_bias:
            return value
        quantizer = _quantizer_of(layer_input)

        def folded_bias():
            return weighted_bias(wrapper, batch_norm, _scale_of(quantizer), weight_storage=weight_storage)

        return BiasRounding(folded_bias, name=_name(wrapper.layer))(value)

    with scope or contextlib.nullcontext():
        inputs = graph.inputs_like(fixed)
        return FixedNetwork.of(
            graph.single(inputs),
            graph.replay(fixed, inputs, call),
            name=f"{fixed.name}_on_folded_graph",
            output_names=fixed.output_names,
            moves_statistics=False,
        )


class BiasRounding(AsWritten, keras.layers.Layer):
    """Adds to every channel what rounding its bias to the int32 grid adds.

    No gradient sees the rounding: those of all variables are the unrounded map's, as straight-through
    estimation has it. In particular step sizes and gammas get none through the grid, though they span it. The
    derivative there is a sawtooth with a period of one bias code, and a bias is thousands of codes long, so
    that its sign has changed many times within one optimizer step.

    Args:
      folded_bias: function without arguments that gives the `FoldedBias` of the current variables.
    """

    def __init__(self, folded_bias, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.folded_bias = folded_bias

    def call(self, x):
        """Returns x with its bias on the grid; shape (batch, ..., C) unchanged."""
        return x + self._rounding_error(x.dtype)

    def _rounding_error(self, dtype):
        return tf.stop_gradient(tf.cast(self.folded_bias().rounding_error, dtype))

    def get_config(self):
        """Refuses: the layer belongs to the variables of another network."""
        raise NotImplementedError(
            "a network made by mmx_tf.fold_for_training is not saved itself: its variables are those of the "
            "fixed network. Save that one (or save weights only)."
        )


def _quantizer_of(tensor):
    """The quantizer on whose grid a tensor is, behind layers that keep the grid of their inputs."""
    while not is_quantizer(tensor.node.layer):
        tensor = tf.nest.flatten(tensor.node.call_args[0])[0]
    return tensor.node.layer


def _scale_of(quantizer):
    return quantizer.step_size if isinstance(quantizer, ActivationQuantizer) else quantizer.grid.scale


def _name(layer) -> str:
    return f"{layer.name}_bias_rounding"
