"""The ends of a folded model: for each output where its codes are, and what they stand for.

for end in ends_of(folded):
    end.name, end.final, end.head.shape      # "box", "box_carrier", (4,)
"""

import dataclasses
from collections.abc import Mapping, Sequence

import tf_keras as keras

from mmx_tf.export.comparing.heads import Head, check_task, told
from mmx_tf.export.comparing.outputs import Outputs
from mmx_tf.layers.grid import Grid
from mmx_tf.layers.integer.layers import Dequantize
from mmx_tf.layers.integer.shapes import IntegerReshape
from mmx_tf.layers.quantizers.gates import IntegerLogistic


@dataclasses.dataclass(frozen=True)
class End:
    """One output of a folded model.

    Attributes:
      name: of the output, that of the float network where the model has several.
      final, final_grid: name and grid of the output's codes.
      logits, logits_grid: those of the logits' codes. They are the output's but where it is what a sigmoid
        gives: there outputs are probabilities, and logits what the sigmoid takes.
      head: what the output stands for, as far as the model knows.
    """

    name: str
    final: str
    final_grid: Grid
    logits: str
    logits_grid: Grid
    head: Head


def ends_of(folded: keras.Model) -> tuple[End, ...]:
    """The ends of a model that `mmx_tf.fold` made, in the order of its outputs.

    Raises:
      ValueError: if an output is not what a `Dequantize` gives, or two are one tensor of codes.
    """
    layers = [tensor.node.layer for tensor in folded.outputs]
    if not all(isinstance(layer, Dequantize) for layer in layers):
        raise ValueError(f"model {folded.name!r} was not made by mmx_tf.fold: give mmx_tf.fold(fixed).")
    ends = tuple(
        _end(name, layer, head_of(folded, i))
        for i, (name, layer) in enumerate(zip(folded.output_names, layers, strict=True))
    )
    twice = [end for i, end in enumerate(ends) if end.final in [other.final for other in ends[:i]]]
    if twice:
        raise ValueError(
            f"model {folded.name!r} has one tensor, {twice[0].final!r}, as several outputs: give it once."
        )
    return ends


def check_tasks(task: str | Mapping[str, str] | None) -> None:
    """Raises a ValueError for a task that does not exist, also in a dict by outputs."""
    for one in task.values() if isinstance(task, Mapping) else [task]:
        check_task(one)


def tasks_of(
    ends: Sequence[End], outputs: Outputs, labels: Sequence, task: str | Mapping[str, str] | None
) -> list[str | None]:
    """What each output stands for; None for one that has no labels.

    Args:
      ends: of the model.
      outputs: their names.
      labels: some of each output's, or None.
      task: overrides what is told, for all outputs or in a dict by their names.

    Raises:
      ValueError: for a name that no output has, an unknown task, or one that cannot be told.
    """
    given = outputs.each(task, "task has")
    return [
        None if part is None else told(end.head, part, one)
        for end, part, one in zip(ends, labels, given, strict=True)
    ]


def _end(name: str, dequantize: Dequantize, head: Head) -> End:
    final, grid = dequantize.input.node.layer.name, dequantize.input_grid
    logistic = logistic_of(dequantize)
    if logistic is None:
        return End(name, final, grid, final, grid, head)
    return End(name, final, grid, logistic.input.node.layer.name, logistic.input_grid, head)


def logistic_of(dequantize: Dequantize) -> IntegerLogistic | None:
    """The sigmoid that an output is that of, behind which there may be a reshaping; None without one."""
    layer = dequantize.input.node.layer
    while isinstance(layer, IntegerReshape):
        layer = layer.input.node.layer
    return layer if isinstance(layer, IntegerLogistic) else None


def head_of(folded: keras.Model, index: int = 0) -> Head:
    """The head of an output of a folded model that a `Dequantize` makes."""
    end, several = folded.outputs[index].node.layer, len(folded.outputs) > 1
    return Head(
        name=folded.output_names[index] if several else folded.name,
        shape=tuple(folded.outputs[index].shape[1:]),
        # A model that was saved before heads were remembered has its sigmoid at least.
        activation=end.activation or (logistic_of(end) and "sigmoid"),
        loss=end.loss,
        several=several,
    )
