"""From a fixed or folded network to the bytes of a .tflite.

>>> data = convert(folded, input_type="float32")
>>> data[4:8]
b'TFL3'
"""

import json
import math
import numbers
from collections.abc import Iterable, Mapping, Sequence

import tf_keras as keras

from mmx_tf.choices import STORAGES
from mmx_tf.export.comparing.ends import check_tasks
from mmx_tf.export.comparing.outputs import Outputs
from mmx_tf.export.writing import tflite
from mmx_tf.files.loading import loaded
from mmx_tf.folding.fold import fold
from mmx_tf.layers.integer.convolutions import IntegerConv2DTranspose
from mmx_tf.layers.integer.storage import check_storage, container_of, packed_as_matrix_product
from mmx_tf.layers.integer.weighted import IntegerAffine, IntegerConv2D, IntegerDense, WeightedLayer
from mmx_tf.layers.quantizers.pixels import QuantizePixels
from mmx_tf.layers.quantizers.weights import QuantizeWrapper
from mmx_tf.network import graph
from mmx_tf.network.ours import next_step
from mmx_tf.version import VERSION

METADATA_NAME = "mmx_tf"


def convert(
    model: keras.Model,
    *,
    weight_storage: str | None = None,
    input_type: str | Mapping[str, str] | None = None,
    output_type: str | Mapping[str, str] = "int8",
    labels: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    task: str | Mapping[str, str] | None = None,
    target_bops: int | None = None,
) -> bytes:
    """Writes the file that computes what the folded network computes.

    The metadata buffer `METADATA_NAME` of the file has, as JSON, the bits of each layer, the BOPs of one
    image, the budget, the labels and the version. `python -m export.inspect` shows it. Hardware that
    computes with these bit-widths can read them there.

    Args:
      model: a network made by `fold`, or one made by `rebuild`, which is folded first; or the path of its
        file.
      weight_storage: "int8", "int4_xnnpack", "int4" or "int4_micro" (see `fold`). A folded model has one
        already and takes no other; for one of `rebuild` the default is "int8".
      input_type: "uint8", "int8" or "float32". Integer inputs are codes of the image; their scale and zero
        point are in the file's input tensor. The default is "uint8" for images (height, width, channels) and
        for pixels (`pixel_scaling` of `augment`), and "int8" for signals and vectors. For several inputs give
        one type for all, or a dict by their names; an input that the dict leaves out has its default.
      output_type: "int8", "float32" or "class". "int8" and "float32" give the folded network's outputs, which
        are logits, or probabilities if the network ends with a sigmoid. "class" gives two outputs, `class`
        and `probabilities`:

        * one of several classes: the index of the largest logit, of equal ones the first (int32 [N]), and the
          softmax (int8 [N, classes]; a probability is (code + 128) / 256);
        * a class for each pixel: the same, [N, H, W] and [N, H, W, classes];
        * a binary task: 1 if the logit is above 0, else 0 (int32 [N]), and the sigmoid (int8 [N, 1]);
        * several labels: the same for each of them, both [N, labels].

        Only "class" puts a final softmax into the file. For several outputs give one type for all, or a dict
        by their names; an output that the dict leaves out is "int8". The file's signature has their names;
        with "class" the name stands in front (`box_class`).
      labels: names of the classes, for the metadata: two for a binary task, else one for each output unit.
        For several outputs give a dict by their names; outputs without classes are left out.
      task: what the outputs stand for, one of `export.comparing.heads.TASKS`; for several outputs a dict by
        their names. By default it follows from the network's last activation, the shape of the outputs and
        the loss that the network was compiled with before `fold`.
      target_bops: budget in BOPs, for the metadata.

    Raises:
      ValueError: if an option is not one of those above, a dict names an output that the network lacks, the
        model was folded for another storage, labels are not as many as classes, output_type is "class" for a
        regression or where the task cannot be told, or neither `fold` nor `rebuild` made the model.
      FoldError: if a layer has no integer form.
    """
    model = loaded(model)
    if any(isinstance(layer, QuantizeWrapper) for layer in getattr(model, "layers", ())):
        model = fold(model, weight_storage="int8" if weight_storage is None else weight_storage)
    if weight_storage is not None:
        check_storage(weight_storage)
    if not any(isinstance(layer, WeightedLayer) for layer in getattr(model, "layers", ())):
        raise ValueError(
            f"convert got {type(model).__name__} {getattr(model, 'name', '')!r}; it takes a network made by "
            f"mmx_tf.fold or mmx_tf.rebuild. {next_step(model)}"
        )
    weight_storage = _storage(model, weight_storage)
    input_type = _input_types(model, input_type)
    outputs, target_bops = Outputs.of(model, model.output_names), _whole(target_bops)
    labels = _labels(model, outputs, labels, task)
    described = describe(model) | {"target_bops": target_bops, "labels": labels}
    described["task"] = None if task == "classification" else task
    document = {key: value for key, value in described.items() if value is not None}
    return tflite.convert(
        model,
        input_type=input_type,
        output_type=output_type,
        task=task,
        output_names=outputs.names if outputs.several else None,
        metadata={METADATA_NAME: json.dumps(document).encode()},
        packed_as_matrix_product=packed_as_matrix_product(weight_storage),
    )


def _input_types(folded, given) -> dict[str, str]:
    """What the file takes: a signal has no type of its own, and its codes are int8 as they are."""
    names = folded.input_names
    if isinstance(given, Mapping) and not set(given) <= set(names):
        raise ValueError(f"input_type has the names {sorted(given)}; the inputs are {names}.")
    pixels = {
        source.name
        for layer in folded.layers
        if isinstance(layer, QuantizePixels)
        for source in graph.upstream_inputs(folded, layer.input)
    }
    types = {
        name: "uint8" if name in pixels or len(tensor.shape) == 4 else "int8"
        for name, tensor in zip(names, folded.inputs, strict=True)
    }
    own = given if isinstance(given, Mapping) else dict.fromkeys(names, given)
    return {name: one if own.get(name) is None else own[name] for name, one in types.items()}


def _names(labels) -> list[str] | None:
    if labels is None:
        return None
    if isinstance(labels, str | bytes | Mapping) or not isinstance(labels, Iterable):
        raise ValueError(f"labels={labels!r}: a list of the classes' names.")
    names = list(labels)
    for name in names:
        if not isinstance(name, str | numbers.Integral):
            raise ValueError(f"labels hold {name!r}: a name is a text or a whole number.")
    return [str(name) for name in names]


def _whole(target_bops) -> int | None:
    if target_bops is None:
        return None
    if not (isinstance(target_bops, numbers.Real) and math.isfinite(target_bops) and target_bops >= 0):
        raise ValueError(f"target_bops={target_bops!r}: a number of bit operations, or None.")
    return int(target_bops)


def _labels(model, outputs: Outputs, labels, task) -> list[str] | dict[str, list[str]] | None:
    """The labels for the metadata: a list, or of several outputs a dict of those that have some."""
    check_tasks(task)
    tasks = outputs.each(task, "task has")
    if not outputs.several:
        labels = _names(labels)
        _check_labels(model.outputs[0].shape[-1], labels, tasks[0])
        return labels
    if labels is None:
        return None
    if not isinstance(labels, Mapping):
        raise ValueError(
            f"labels={labels!r}: the network has the outputs {outputs.quoted}, so give a dict, "
            f"{{{outputs.names[0]!r}: [names of the classes]}}."
        )
    found = dict(zip(outputs.names, map(_names, outputs.each(labels, "labels have")), strict=True))
    for (name, one), tensor, task in zip(found.items(), model.outputs, tasks, strict=True):
        _check_labels(tensor.shape[-1], one, task, f" of output {name!r}")
    return {name: one for name, one in found.items() if one is not None}


def _check_labels(outputs: int, labels, task, of: str = "") -> None:
    if labels is None:
        return
    # A single output may be one of two classes, or a number that has a name.
    one_or_two = {"binary": (2,), "segmentation": (2,), "regression": (1,)}.get(task, (1, 2))
    if len(labels) not in (one_or_two if outputs == 1 else (outputs,)):
        needed = " or ".join(map(str, one_or_two)) if outputs == 1 else outputs
        raise ValueError(f"{len(labels)} labels{of} are given for {needed} classes.")


def _storage(folded, given: str | None) -> str:
    """The storage that a folded model is written with; ValueError where another one is given."""
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
                packable=layer.packable,
            )
            for layer in _weighted(folded)
        )
    ]
    # Which of those that fit is known of networks that keep it; pointwise convolutions are written by it.
    own = getattr(folded, "weight_storage", None) or fitting[0]
    if given is not None and given not in fitting:
        raise ValueError(
            f"weight_storage is {given!r}, but the model was folded for {own!r}. Leave weight_storage "
            f"out, or fold it again with weight_storage={given!r}."
        )
    return given or own


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
    transposed = isinstance(layer, IntegerConv2DTranspose)
    positions = math.prod((layer.input_shape if transposed else layer.output_shape)[1:-1])
    return positions * math.prod(layer.weight_shape)


_KINDS = {IntegerConv2D: "conv", IntegerDense: "dense", IntegerConv2DTranspose: "transposed"}


def _kind(layer) -> str:
    return next((name for kind, name in _KINDS.items() if isinstance(layer, kind)), "depthwise")
