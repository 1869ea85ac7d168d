"""What a network's outputs stand for, its *task*: told from its last activation, its loss and the labels.

    head = Head("logits", (1,), activation="sigmoid")
    told(head, labels)                       # "binary"
    labels_of("binary", head, labels)        # int [N], whatever form the labels have

| task | one output is | labels |
|---|---|---|
| classification | scores of classes (C,), one of which is true | class [N] or [N, 1], or one-hot [N, C] |
| binary | one score (1,): is it the second of two classes? | 0 or 1, [N] or [N, 1], or one-hot [N, 2] |
| multi_label | a score for each of several labels (K,) | 0 or 1, [N, K] |
| regression | numbers in the unit of the labels | numbers of the outputs' shape |
| segmentation | scores of the class of each pixel (H, W, C), or (H, W, 1) for two; of each step of a signal (L, C) | class [N, H, W] or [N, H, W, 1], or one-hot [N, H, W, C] |
"""  # noqa: E501

import dataclasses

import numpy as np
import tf_keras as keras

from mmx_tf.choices import TASKS

SIGMOIDS = ("sigmoid", "hard_sigmoid")
# Losses of tf_keras by what their labels are: names in lower case, without underscores.
_ONE_OF_MANY = (
    "categoricalcrossentropy", "sparsecategoricalcrossentropy", "smoothedcrossentropy",
    "categoricalfocalcrossentropy", "categoricalhinge", "kldivergence",
)  # fmt: skip
_MARGINS = ("hinge", "squaredhinge")
"""Their labels are -1 and 1, or 0 and 1."""
_YES_OR_NO = ("binarycrossentropy", "binaryfocalcrossentropy", *_MARGINS)
_NUMBERS = (
    "meansquarederror", "meanabsoluteerror", "meanabsolutepercentageerror", "meansquaredlogarithmicerror",
    "huber", "logcosh", "poisson", "cosinesimilarity",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Head:
    """The end of a network.

    Attributes:
      name: of the network or its last layer, for messages; of one of several outputs the output's.
      shape: of one image's outputs.
      activation: the last one, "softmax", "sigmoid" or "hard_sigmoid"; None for any other, or none.
      loss: name of the loss that the network was trained with, if that is known.
      several: whether the network has other outputs.
    """

    name: str
    shape: tuple[int, ...]
    activation: str | None = None
    loss: str | None = None
    several: bool = False


def loss_name(loss) -> str | None:
    """The name of what a Keras model was compiled with: a loss object, a function, a name, or one in a list.

    None without a loss, or with several.
    """
    if isinstance(loss, dict):
        loss = list(loss.values())
    if isinstance(loss, (list, tuple)):
        loss = loss[0] if len(loss) == 1 else None
    if not loss:
        return None
    if isinstance(loss, str):
        try:
            loss = keras.losses.get(loss)  # "mse" is mean_squared_error.
        except ValueError:
            return loss
    return getattr(loss, "__name__", None) or type(loss).__name__


def check_task(task: str | None) -> None:
    """Raises a ValueError for a task that is neither None nor one of `TASKS`."""
    if task is not None and task not in TASKS:
        raise ValueError(f"task is {task!r}; use one of {', '.join(map(repr, TASKS))}.")


def candidates(head: Head) -> tuple[str, ...]:
    """The tasks that a head may have, the likeliest first."""
    images, several = len(head.shape) in (2, 3), head.shape[-1:] > (1,)
    if head.activation == "softmax":
        return ("segmentation",) if images else ("classification",)
    if images:
        possible = ("segmentation", *(("multi_label",) if several else ()), "regression")
    elif len(head.shape) != 1:
        possible = ("regression", "multi_label")
    elif not several:
        possible = ("binary", "regression")
    elif head.activation in SIGMOIDS:
        possible = ("multi_label", "classification", "regression")
    else:
        possible = ("classification", "multi_label", "regression")
    loss = _plain(head.loss)
    allowed = TASKS
    if loss in _ONE_OF_MANY:
        allowed = ("classification", "segmentation")
    elif loss in _YES_OR_NO:
        allowed = ("binary", "multi_label") if several or not images else ("segmentation",)
    elif loss in _NUMBERS and head.activation not in SIGMOIDS:
        # A sigmoid may be trained with a squared error on classes too: there the labels decide.
        allowed = ("regression",)
    return tuple(task for task in possible if task in allowed) or possible


def told(head: Head, labels=None, task: str | None = None) -> str:
    """The task of a head.

    Args:
      head: the network's.
      labels: some of them, as they are evaluated with; None without labels at hand.
      task: overrides what is told.

    Raises:
      ValueError: for an unknown task, or if it cannot be told; names the candidates and what to do.
    """
    check_task(task)
    if task is not None:
        return task
    possible = candidates(head)
    if labels is None:
        # (None, classes) without an activation has always been taken for logits of classes.
        certain = head.activation is not None or len(possible) == 1 or possible[0] == "classification"
        if not certain:
            raise ValueError(
                f"{_described(head)}: without labels it cannot be told what that stands for. "
                f"{_give_one_of(possible, head)}"
            )
        return possible[0]
    fitting, reasons = [], []
    for candidate in possible:
        try:
            labels_of(candidate, head, labels)
        except ValueError as error:
            reasons.append(str(error))
        else:
            fitting.append(candidate)
    if not fitting:
        others = " or ".join(map(repr, possible[1:]))
        raise ValueError(f"{reasons[0]} {f'Nor do they fit task {others}.' if others else ''}".rstrip())
    if "regression" in fitting and len(fitting) > 1:
        # Labels of 0 and 1, or whole numbers of classes, are numbers too, but hardly meant as such.
        values = np.asarray(labels)
        if not (values.dtype.kind in "iub" or np.isin(values, (0, 1)).all()):
            raise ValueError(
                f"{_described(head)}, and its labels have shape {values.shape} and numbers from "
                f"{values.min():.4g} to {values.max():.4g}: it cannot be told what it stands for. "
                f"{_give_one_of(fitting, head)}"
            )
        fitting.remove("regression")
    return fitting[0]


def labels_of(task: str, head: Head, labels) -> np.ndarray:
    """Labels in the one form in which outputs are judged by them.

    Args:
      task: one of `TASKS`.
      head: the network's.
      labels: of a batch, in any form of the module's table; integers may be floats.

    Returns:
      classification and binary: int [N]; segmentation: int [N, H, W] or [N, L]; multi_label: int [N, ...] and
      regression: float64 [N, ...], of the outputs' shape.

    Raises:
      ValueError: if they are something else.
    """
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iufb":
        raise _misfit(task, head, labels, "numbers are needed")
    if task in ("binary", "multi_label") and _plain(head.loss) in _MARGINS and np.isin(labels, (-1, 1)).all():
        labels = (labels + 1) // 2
    if task == "regression":
        return _of_shape(task, head, labels, head.shape).astype(np.float64)
    if task == "multi_label":
        return _whole(task, head, labels, head.shape, below=2)
    pixels, classes = (head.shape[:-1] if task == "segmentation" else ()), head.shape[-1]
    if task == "binary":
        if np.prod(head.shape) != 1:
            raise ValueError(f"{_described(head)}; task 'binary' needs one output, of shape (None, 1).")
        classes = 1
    elif (len(head.shape) not in (2, 3)) if task == "segmentation" else (len(head.shape) != 1 or classes < 2):
        needed = "(None, classes)"
        if task == "segmentation":
            needed = "(None, height, width, classes) or (None, length, classes)"
        raise ValueError(f"{_described(head)}; task {task!r} needs outputs of shape {needed}.")
    classes = max(2, classes)
    if labels.shape[1:] == (*pixels, classes):
        if np.any(labels < 0) or not np.allclose(labels.sum(-1, dtype=np.float64), 1, atol=1e-3):
            raise _misfit(task, head, labels, "each vector must add up to 1, as one-hot ones do")
        return labels.argmax(-1)
    return _whole(task, head, labels, pixels, below=classes)


def _plain(loss: str | None) -> str:
    """The name of a loss in one spelling."""
    return (loss or "").replace("_", "").lower()


def _of_shape(task, head, labels, shape) -> np.ndarray:
    """Labels with an axis of length 1 at the end, or without, as `shape` has it."""
    allowed = [shape, (*shape, 1), *([shape[:-1]] if shape[-1:] == (1,) else [])]
    if not labels.ndim or labels.shape[1:] not in allowed:
        expected = "(" + ", ".join(["N", *map(str, shape)]) + ("," if not shape else "") + ")"
        raise _misfit(task, head, labels, f"shape {expected} is needed")
    return labels.reshape(len(labels), *shape)


def _whole(task, head, labels, shape, *, below) -> np.ndarray:
    shaped = _of_shape(task, head, labels, shape)
    whole = shaped.astype(np.int64)
    wrong = (whole != shaped) | (whole < 0) | (whole >= below)
    if np.any(wrong):
        reason = f"{shaped[wrong][0]} is not one of 0 to {below - 1}"
        if task == "segmentation":
            reason += "; pixels without a class (ignore_class) cannot be judged, so leave such images out"
        raise _misfit(task, head, labels, reason)
    return whole


def _misfit(task, head, labels, reason) -> ValueError:
    return ValueError(
        f"eval_ds gives {labels.dtype} labels of shape {labels.shape}, which do not fit {head.name!r} with "
        f"outputs (None, {', '.join(map(str, head.shape))}) as task {task!r}: {reason}."
    )


def _described(head: Head) -> str:
    shape = "(None, " + ", ".join(map(str, head.shape)) + ")"
    end = f"ends with a {head.activation}" if head.activation else "ends without softmax or sigmoid"
    loss = f" and was trained with {head.loss}" if head.loss else ""
    return f"{head.name!r} has outputs of shape {shape}, {end}{loss}"


def _give_one_of(tasks, head: Head) -> str:
    tasks = [{head.name: task} for task in tasks] if head.several else tasks
    return f"Give task={' or task='.join(map(repr, tasks))}."
