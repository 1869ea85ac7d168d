"""From a fixed or folded network to the bytes of a .tflite.

>>> data = convert(folded, weight_storage="int8", input_type="uint8")
"""

import json

import tf_keras as keras

from export import tflite
from layers.integer_weighted_layers import IntegerBatchNorm, IntegerConv2D, IntegerDense, WeightedLayer
from layers.quantize_configs import QuantizeWrapper
from mmx_tf.fold import fold

METADATA_NAME = "mmx_tf"


def convert(
    model: keras.Model, *, weight_storage: str = "int8", input_type: str = "uint8", output_type: str = "int8"
) -> bytes:
    """Writes the file that computes what the folded network computes.

    The file carries each layer's bits in the metadata buffer `METADATA_NAME`, as JSON, for hardware that has
    the widths.

    Args:
      model: a network made by `fold`, or one made by `rebuild`, which is folded first.
      weight_storage: "int8", or "int4" (two codes a byte; XNNPACK on x86 does not take such layers). A
        folded model must have been folded for the same storage.
      input_type: "uint8", "int8" or "float32". The integer inputs hold the image's codes; scale and zero
        point are in the file's input tensor.
      output_type: "int8" logits codes or "float32" logits.

    Raises:
      ValueError: for an option outside its set or a model folded for other storage.
      FoldError: for a layer that has no integer form.
    """
    if any(isinstance(layer, QuantizeWrapper) for layer in model.layers):
        model = fold(model, weight_storage=weight_storage)
    return tflite.convert(
        model,
        weight_storage=weight_storage,
        input_type=input_type,
        output_type=output_type,
        metadata={METADATA_NAME: json.dumps(layer_bits(model)).encode()},
    )


def layer_bits(folded: keras.Model) -> dict:
    """What the metadata buffer says: the bits of every weighted layer of a folded network."""
    return {
        "schema": 1,
        "layers": [
            {
                "name": layer.name,
                "kind": _kind(layer),
                "activation_bits": layer.activation_bits,
                "weight_bits": layer.weight_bits,
            }
            for layer in folded.layers
            if isinstance(layer, WeightedLayer) and not isinstance(layer, IntegerBatchNorm)
        ],
    }


def _kind(layer) -> str:
    return {IntegerConv2D: "conv", IntegerDense: "dense"}.get(type(layer), "depthwise")
