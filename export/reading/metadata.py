"""What the metadata buffer "mmx_tf" of a .tflite says of its layers, and whether the file bears it out.

    recorded = read(tflite_file.read("model.tflite"))
    recorded.bits["logits"]                     # (8, 8): activation bits, weight bits
    recorded.faults                             # () unless the buffer cannot be read

The buffer is JSON: {"schema": 1, "layers": [{"name", "kind", "activation_bits", "weight_bits"}, ...]}, and
may record more ("bops", "labels", a budget), which is kept as it is.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mmx_tf.export.reading.contents import TfliteFile, tensor_bits
from mmx_tf.export.reading.layers import LayerInfo, weights_and_bias

NAME = "mmx_tf"
SCHEMA = 1


@dataclass(frozen=True)
class BitsMetadata:
    """The buffer's content.

    Attributes:
      document: all but the layers; None: there is no buffer, or it cannot be read.
      bits: (activation bits, weight bits) by layer name; None likewise.
      faults: why it cannot be read.
    """

    document: dict | None
    bits: dict[str, tuple[int, int]] | None
    faults: tuple[str, ...]


def read(file: TfliteFile) -> BitsMetadata:
    """The `BitsMetadata` of a file. Never an error: a foreign buffer of that name is a fault to report."""
    if NAME not in file.metadata:
        return BitsMetadata(None, None, ())
    try:
        document = json.loads(file.metadata[NAME])
        if not isinstance(document, dict) or document.get("schema") != SCHEMA:
            raise ValueError(f"it is not a JSON object of schema {SCHEMA}")
        entries = document.pop("layers")
        bits = {entry["name"]: (entry["activation_bits"], entry["weight_bits"]) for entry in entries}
        for name, pair in bits.items():
            if not isinstance(name, str) or not all(type(bit) is int and 1 <= bit <= 32 for bit in pair):
                raise ValueError(f"layer {name!r} has bits {pair}, not two integers of 1 to 32")
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        return BitsMetadata(None, None, (f"the metadata {NAME!r} cannot be read: {reason}",))
    twice = [name for name, count in Counter(entry["name"] for entry in entries).items() if count > 1]
    return BitsMetadata(document, bits, tuple(f"the metadata names layer {name!r} twice" for name in twice))


def contradictions(file: TfliteFile, recorded: BitsMetadata, table: Sequence[LayerInfo]) -> tuple[str, ...]:
    """Where the metadata and the rest of the file do not agree, one sentence each.

    Layers that are named but absent, bits that the stored type cannot hold, more different weights than the
    bits allow, and recorded BOPs or labels that are not as many as counted.
    """
    if recorded.document is None:
        return ()
    named = {layer.name for layer in table if layer.activation_bits is not None}
    result = [
        f"the metadata names layer {name!r}, the file has none" for name in recorded.bits.keys() - named
    ]
    for layer in table:
        if layer.activation_bits is not None:
            result += _of_layer(file, layer)
    bops, labels = recorded.document.get("bops"), recorded.document.get("labels")
    counted = sum(layer.bops for layer in table)
    if bops is not None and bops != counted:
        result.append(f"the metadata records {bops} BOPs, counted from the file are {counted}")
    # Scores have an entry for each class; an output of indices has one for each image alone.
    scores = [tensor.shape for tensor in file.at(file.outputs) if len(tensor.shape) > 1]
    if isinstance(labels, list) and scores:
        classes = scores[0][-1]
        if not _fit(labels, classes):
            result.append(f"the metadata has {len(labels)} labels, the output has {classes} classes")
    elif isinstance(labels, dict):
        result += _of_outputs(file, labels)
    return tuple(sorted(result))


def _of_outputs(file: TfliteFile, labels: dict) -> Iterator[str]:
    """Labels of each of several outputs, which have their names in the signature."""
    named = {name: index for _, _, outputs in file.signatures for name, index in outputs.items()}
    for name, own in labels.items():
        index = named.get(f"{name}_probabilities", named.get(name))
        if index is None:
            yield f"the metadata has labels of output {name!r}, the file has none"
            continue
        shape = file.tensors[index].shape
        if isinstance(own, list) and shape and not _fit(own, shape[-1]):
            yield f"the metadata has {len(own)} labels of output {name!r}, which has {shape[-1]} classes"


def _fit(labels: list, outputs: int) -> bool:
    """Whether labels are as many as outputs, of which a single one may tell two classes apart."""
    return len(labels) == outputs or (outputs == 1 and len(labels) == 2)


def _of_layer(file: TfliteFile, layer: LayerInfo) -> Iterator[str]:
    stored = {
        "activation": (layer.activation_bits, layer.activation_type),
        "weight": (layer.weight_bits, layer.weight_type),
    }
    for what, (bits, kind) in stored.items():
        if (tensor_bits(kind) or bits) < bits:
            yield f"layer {layer.name!r} is said to have {bits} {what} bits, but they are {kind}"
    weights, _ = weights_and_bias(file, layer.index)
    if layer.weight_type == "INT8" and weights.data is not None:
        levels = int(np.count_nonzero(np.bincount(weights.data, minlength=256)))
        if levels > 2**layer.weight_bits:
            yield (
                f"layer {layer.name!r} is said to have {layer.weight_bits} weight bits, but its weights take "
                f"{levels} values"
            )
