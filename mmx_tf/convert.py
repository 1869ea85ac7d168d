"""From a fixed or folded network to the bytes of a .tflite.

>>> data = convert(folded, weight_storage="int8", input_type="uint8")
"""

import json
import math
from collections.abc import Sequence

import tf_keras as keras

from export import tflite
from layers.integer_weighted_layers import IntegerAffine, IntegerConv2D, IntegerDense, WeightedLayer
from layers.quantize_configs import QuantizeWrapper
from layers.weight_storage import STORAGES, check_storage, container_of, packed_as_matrix_product
from mmx_tf.fold import fold
from mmx_tf.next_step import next_step
from mmx_tf.saving import loaded
from mmx_tf.version import VERSION

METADATA_NAME = "mmx_tf"


def convert(
    model: keras.Model,
    *,
    weight_storage: str = "int8",
    input_type: str = "uint8",
    output_type: str = "int8",
    labels: Sequence[str] | None = None,
    target_bops: int | None = None,
) -> bytes:
    """Writes the file that computes what the folded network computes.

    The file carries each layer's bits, the BOPs of one image, budget, labels and version in the metadata
    buffer `METADATA_NAME`, as JSON: `python -m export.inspect` shows it, hardware that has the widths can use
    it.

    Args:
      model: a network made by `fold`, or one made by `rebuild`, which is folded first; or a path of such.
      weight_storage: "int8", "int4_xnnpack", "int4" or "int4_micro" (see `fold`). A folded model must have
        been folded for the same storage.
      input_type: "uint8", "int8" or "float32". The integer inputs hold the image's codes; scale and zero
        point are in the file's input tensor.
      output_type: "int8" logits codes, "float32" logits, or "class": two outputs, the index `class` (int32
        [N]; the first of equal logits) and the softmax `probabilities` (int8 [N, classes]; a probability is
        (code + 128) / 256). A final softmax of the network is in the file with "class" only.
      labels: names of the classes, for the metadata.
      target_bops: budget in BOPs, for the metadata.

    Raises:
      ValueError: for an option outside its set, a model folded for other storage, labels that are not as
        many as the classes, output_type "class" for a model without one output of shape (N, classes), or a
        model that neither `fold` nor `rebuild` made.
      FoldError: for a layer that has no integer form.
    """
    model = loaded(model)
    if any(isinstance(layer, QuantizeWrapper) for layer in getattr(model, "layers", ())):
        model = fold(model, weight_storage=weight_storage)
    check_storage(weight_storage)
    if not any(isinstance(layer, WeightedLayer) for layer in getattr(model, "layers", ())):
        raise ValueError(
            f"convert got {type(model).__name__} {getattr(model, 'name', '')!r}; it takes a network made by "
            f"mmx_tf.fold or mmx_tf.rebuild. {next_step(model)}"
        )
    _check_folded_for(model, weight_storage)
    if labels is not None and len(labels) != model.output_shape[-1]:
        raise ValueError(f"{len(labels)} labels are given for {model.output_shape[-1]} classes.")
    described = describe(model) | {"target_bops": target_bops, "labels": labels and list(labels)}
    document = {key: value for key, value in described.items() if value is not None}
    return tflite.convert(
        model,
        input_type=input_type,
        output_type=output_type,
        metadata={METADATA_NAME: json.dumps(document).encode()},
        packed_as_matrix_product=packed_as_matrix_product(weight_storage),
    )


def _check_folded_for(folded, weight_storage) -> None:
    # Weights of affine maps, and of first and last layers, are int8 in every storage.
    fitting = [
        storage
        for storage in STORAGES
        if all(
            layer.container
            == container_of(
                storage,
                bits=layer.weight_bits,
                row=layer.row_length,
                dense=isinstance(layer, IntegerDense),
            )
            for layer in _weighted(folded)
        )
    ]
    if weight_storage not in fitting:
        raise ValueError(
            f"weight_storage is {weight_storage!r}, but the model was folded for {fitting[0]!r}. "
            f"Fold it again with weight_storage={weight_storage!r}."
        )


def _weighted(folded) -> list[WeightedLayer]:
    return [
        layer
        for layer in folded.layers
        if isinstance(layer, WeightedLayer) and not isinstance(layer, IntegerAffine)
    ]


def describe(folded: keras.Model) -> dict:
    """What the metadata buffer says of a folded network: the bits of every weighted layer, and the BOPs."""
    weighted = _weighted(folded)
    return {
        "schema": 1,
        "version": VERSION,
        "bops": sum(_macs(layer) * layer.activation_bits * layer.weight_bits for layer in weighted),
        "layers": [
            {
                "name": layer.name,
                "kind": _kind(layer),
                "activation_bits": layer.activation_bits,
                "weight_bits": layer.weight_bits,
            }
            for layer in weighted
        ],
    }


def _macs(layer) -> int:
    positions = math.prod(layer.output_shape[1:-1])
    return positions * math.prod(layer.weight_shape)


def _kind(layer) -> str:
    return {IntegerConv2D: "conv", IntegerDense: "dense"}.get(type(layer), "depthwise")
