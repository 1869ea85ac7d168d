"""How each output of a folded model ends the file: its type, what it stands for, its names in the signature.

file_ends(folded, {"class": "class", "box": "float32"}, names=["class", "box"])
"""

import dataclasses
from collections.abc import Mapping, Sequence

from mmx_tf.choices import OUTPUT_TYPES
from mmx_tf.export.comparing.ends import check_tasks, head_of, logistic_of
from mmx_tf.export.comparing.heads import told
from mmx_tf.export.comparing.outputs import Outputs
from mmx_tf.layers.integer.layers import Dequantize

CLASS, PROBABILITIES = "class", "probabilities"


@dataclasses.dataclass(frozen=True)
class FileEnd:
    """How an output of a folded model ends the file.

    Attributes:
      signature: its name in the signature, of a network of several outputs; None for the codes' name.
      layer: name of the layer that ends the model there.
      codes: name of the layer of the output's codes.
      output_type: one of `OUTPUT_TYPES`.
      task: for "class", what the output stands for, one of `export.comparing.heads.TASKS`; else None.
      logits: for "class", name of the layer of the logits where the codes are what a sigmoid made of them.
    """

    signature: str | None
    layer: str
    codes: str
    output_type: str
    task: str | None
    logits: str | None


def file_ends(
    folded,
    output_type: str | Mapping[str, str],
    task: str | Mapping[str, str] | None = None,
    names: Sequence[str] | None = None,
) -> list[FileEnd]:
    """The ends of the file of a folded model.

    Args:
      folded: model of integer layers.
      output_type: one of `OUTPUT_TYPES` for all outputs, or in a dict by their names; one that it leaves out
        is "int8".
      task: what outputs stand for, for those of type "class"; None, or missing in the dict, to tell it.
      names: of several outputs; by default those of the layers of their codes.

    Raises:
      ValueError: for an unknown type or name, outputs that are codes, where the type is not "int8", or one
        tensor; for "class", if an output names no class: it is that of a regression, a hard-sigmoid's, or it
        cannot be told; for names in the signature that two outputs have.
    """
    layers = [tensor._keras_history.layer for tensor in folded.outputs]
    codes = [_codes_of(layer) for layer in layers]
    if len(set(codes)) < len(codes):
        raise ValueError(f"model {folded.name!r} has the outputs {codes}: give each tensor once.")
    outputs = Outputs(tuple(names or codes))
    in_dict = isinstance(output_type, Mapping)
    types = outputs.each(output_type, "output_type has")
    types = ["int8" if one is None and in_dict else one for one in types]
    for one in types:
        if one not in OUTPUT_TYPES:
            raise ValueError(f"output_type is {one!r}; use one of {', '.join(map(repr, OUTPUT_TYPES))}.")
    check_tasks(task)
    tasks = outputs.each(task, "task has")
    ends = []
    for index, (layer, kind) in enumerate(zip(layers, types, strict=True)):
        name = outputs.names[index] if outputs.several else None
        own = _class_task(folded, index, kind, tasks[index])
        logistic = logistic_of(layer) if own else None
        logits = logistic and logistic.input.node.layer.name
        ends.append(FileEnd(name, layer.name, codes[index], kind, own, logits))
    found = [key for end in ends for key in signature_names(end)]
    if twice := sorted({key for key in found if found.count(key) > 1}):
        raise ValueError(
            f"several outputs of the file are called {twice[0]!r}: rename an output of the network."
        )
    return ends


def signature_names(end: FileEnd) -> list[str]:
    """What an output of the network is called in the file's signature."""
    if end.output_type != "class":
        return [end.signature or end.codes]
    front = f"{end.signature}_" if end.signature else ""
    return [f"{front}{CLASS}", f"{front}{PROBABILITIES}"]


def _codes_of(layer) -> str:
    """Name of the layer of the codes that an output is, or that a Dequantize makes it of."""
    return layer.input.node.layer.name if isinstance(layer, Dequantize) else layer.name


def _class_task(folded, index, output_type, task) -> str | None:
    """What an output of type "class" stands for, one of `export.comparing.heads.TASKS`; None for others."""
    layer = folded.outputs[index]._keras_history.layer
    if not isinstance(layer, Dequantize) and output_type != "int8":
        raise ValueError(
            f"output_type is {output_type!r}, but the model ends with the codes of {layer.name!r}. Use "
            "'int8', or end it with a Dequantize layer, as mmx_tf.fold does."
        )
    if output_type != "class":
        return None
    head, shape = head_of(folded, index), tuple(folded.outputs[index].shape)
    task = told(head, task=task)
    if task == "regression":
        raise ValueError(
            f"output_type is 'class', but {head.name!r} with outputs of shape {shape} is a regression, "
            "which names no class. Use 'int8' or 'float32'."
        )
    if head.activation == "hard_sigmoid":
        raise ValueError(
            f"output_type is 'class', but {head.name!r} ends with a hard-sigmoid, whose probabilities are "
            "its outputs. Use 'int8' or 'float32' and compare with 0.5, or end the network with a sigmoid."
        )
    fits = {
        "classification": len(head.shape) == 1 and head.shape[0] > 1,
        "binary": head.shape == (1,),
        "segmentation": len(head.shape) == 3,
        "multi_label": 1 <= len(head.shape) <= 3,
    }
    if not fits[task]:
        raise ValueError(
            f"output_type is 'class' and the task {task!r}, which the model's outputs of shape {shape} "
            "do not fit. Use 'int8' or 'float32', or give another task."
        )
    return task
