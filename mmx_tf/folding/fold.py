"""From the fixed network to its *folded* twin: the exported file's own arithmetic as a tf_keras model.

Batch norm goes into weight scales and bias, bias onto the int32 grid s_in * s_w, every tensor holds int8
codes, and each layer is one TFLite operator. What the folded model computes, the file computes.

    >>> folded = fold(fixed)
    >>> folded.predict(images, verbose=0).shape      # dequantized logits; the file's codes are the same
    (32, 10)
"""

import tensorflow as tf
import tf_keras as keras

from mmx_tf.export.comparing.heads import loss_name
from mmx_tf.export.comparing.outputs import Outputs
from mmx_tf.files.loading import loaded
from mmx_tf.folding import clips
from mmx_tf.folding.integer_graph import IntegerGraph
from mmx_tf.folding.network import FoldedNetwork
from mmx_tf.folding.values import Codes, FoldError, image, name_of
from mmx_tf.layers import keras_defaults
from mmx_tf.layers.integer.layers import Dequantize
from mmx_tf.layers.integer.storage import check_storage
from mmx_tf.layers.quantizers.weights import QuantizeWrapper
from mmx_tf.network import graph
from mmx_tf.network.heads import last_activation
from mmx_tf.network.ours import next_step

__all__ = ["FoldError", "check_foldable", "fold"]


def fold(fixed: keras.Model, *, weight_storage: str = "int8") -> keras.Model:
    """Builds the integer-exact twin of a fixed network.

    Args:
      fixed: a network made by `rebuild`, with carriers and quantized weights, or the path of its .keras file.
      weight_storage: how the file stores weight codes. "int8": one byte per code; a b-bit code is stored k
        times finer (see `finer_codes`). The others pack codes of at most 4 bits, two or four per byte, in
        some layers. "int4_xnnpack": in dense layers and pointwise convolutions, where XNNPACK takes them.
        "int4": in every layer, also where slower kernels then compute. "int4_micro": in all convolutions, two
        per byte, as TensorFlow Lite Micro takes them. The grids of biases depend on it, so it is chosen here
        and not in `convert`.

    Returns:
      A functional tf_keras model from float images to dequantized float32 outputs. The outputs are logits;
      if the network ends with a sigmoid, they are its probabilities on a grid of 1/256. A final softmax is
      left out: its largest entry is that of the logits. The model remembers what the network ended with and
      the loss that `fixed` was compiled with (`Dequantize`), so that `verify` and `convert` know what the
      outputs stand for. All of this holds for each of several outputs, which keep their names
      (`output_names`).

    Raises:
      FoldError: if a layer has no integer form, a quantizer has seen no image, or weights are not finite.
      ValueError: if weight_storage is not one of them, or `rebuild` did not make the model.
    """
    return _folded(loaded(fixed), weight_storage, calibrated=True)


def check_foldable(fixed: keras.Model, *, weight_storage: str = "int8") -> None:
    """Checks that a network can be folded, before it has been trained or has seen an image.

    Raises:
      FoldError: for a layer that has no integer form.
      ValueError: as for `fold`.
    """
    _folded(fixed, weight_storage, calibrated=False)


@keras_defaults.float32()
def _folded(fixed, weight_storage, *, calibrated):
    if not any(isinstance(layer, QuantizeWrapper) for layer in getattr(fixed, "layers", ())):
        raise ValueError(
            f"fold got {type(fixed).__name__} {getattr(fixed, 'name', '')!r}; it takes a network made by "
            f"mmx_tf.rebuild with quantized weights. {next_step(fixed)}"
        )
    for layer, variable, count in graph.non_finite(fixed):
        raise FoldError(
            layer,
            f"{count} of its numbers ({variable.name}) are NaN or infinite: its training has diverged.",
            advice=" Train it again with a lower learning rate, or load the weights of before.",
        )
    if any(type(layer).__name__ == "BiasRounding" for layer in fixed.layers):
        raise ValueError(
            f"{fixed.name!r} is the folded graph of a fixed network, made to train it. Fold that network, "
            "which shares its weights: mmx_tf.fold(fixed)."
        )
    check_storage(weight_storage)
    folder = IntegerGraph(
        weight_storage,
        last_layers=graph.ends(fixed),
        with_units=clips.into_weights_alone(fixed),
        chains=clips.chains(fixed),
        calibrated=calibrated,
    )
    inputs = graph.inputs_like(fixed)
    results = graph.replay(fixed, list(map(image, inputs)), folder.call)
    named = Outputs.of(fixed, fixed.output_names)
    losses = named.each(getattr(fixed, "loss", None) or None, "loss has")
    outputs = []
    for result, output, loss in zip(tf.nest.flatten(results), fixed.outputs, losses, strict=True):
        if not isinstance(result, Codes):
            raise FoldError(fixed.layers[-1], "the network's output has no carrier.")
        dequantize = Dequantize(
            input_grid=result.grid,
            activation=last_activation(output),
            loss=loss_name(loss),
            name=f"{name_of(result.tensor)}_dequantize",
        )
        outputs.append(dequantize(result.tensor))
    return FoldedNetwork.of(
        graph.single(inputs),
        named.packed(outputs),
        name=f"{fixed.name}_folded",
        output_names=fixed.output_names,
        weight_storage=weight_storage,
    )
