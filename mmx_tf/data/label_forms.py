"""What the labels of arrays are: classes, numbers, or the examples themselves.

    >>> form = form_of([np.array([0, 1, 2]), np.array([2, 2])], asked=Asked(), where="npz:digits.npz")
    >>> form.class_names, form.shape
    (('0', '1', '2'), ())

| labels | what they are |
|---|---|
| whole numbers [N] or [N, 1], floats of 0 and 1 alone | classes; with task="regression" numbers |
| one-hot vectors [N, K], whole numbers or floats | classes; with task="multi_label" or "regression" vectors |
| floats [N] or [N, 1] | numbers; with task="classification" or "binary" classes |
| any other [N, ...] | numbers |
| none, or the examples again | the examples: what an autoencoder learns |
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from mmx_tf.data.asked import Asked
from mmx_tf.errors import DataError

OF_CLASSES = ("classification", "binary")
MOST_CLASSES = 1_000_000


@dataclasses.dataclass(frozen=True)
class Form:
    """The form of all labels of a dataset.

    Attributes:
      class_names: () where they are numbers.
      shape: of one label's numbers; () for classes.
      one_hot: whether classes are stored as one-hot vectors.
    """

    class_names: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()
    one_hot: bool = False

    def read(self, labels: np.ndarray) -> np.ndarray:
        """Stored labels [N, ...] -> int32 classes [N], or float32 numbers [N, ...]."""
        if self.shape:
            return labels.astype(np.float32).reshape(len(labels), *self.shape)
        return (labels.argmax(-1) if self.one_hot else labels.reshape(len(labels))).astype(np.int32)


def form_of(
    labels: Sequence[np.ndarray], *, asked: Asked, class_names: tuple[str, ...] = (), where: str
) -> Form:
    """What labels [N, ...] are, those of training and of evaluation.

    Args:
      labels: of each split; not empty.
      asked: its task and num_classes decide where the numbers do not.
      class_names: those of the dataset, if it has some.
      where: the dataset's name, for messages.

    Raises:
      DataError: for labels that cannot be used.
    """
    first = labels[0]
    if first.dtype.kind not in "biuf":
        raise DataError(f"the labels of {where} are of type {first.dtype}: numbers are needed.")
    shape = first.shape[1:]
    if any(one.dtype.kind == "f" and not np.isfinite(one).all() for one in labels):
        raise DataError(f"labels of {where} are NaN or infinite: all must be finite numbers.")
    if asked.task in ("regression", "multi_label"):
        found = Form(shape=shape or (1,))
    elif len(shape) == 1 and shape[0] > 1 and all(map(_is_one_hot, labels)):
        found = Form(one_hot=True)
    elif shape in ((), (1,)) and (
        asked.task in OF_CLASSES
        or first.dtype.kind in "biu"
        or all(np.isin(one, (0, 1)).all() for one in labels)
    ):
        found = Form()
    elif asked.task in OF_CLASSES:
        raise DataError(
            f"the labels of {where} have the shape (N, {', '.join(map(str, shape))}), which does not fit "
            f"--task={asked.task}: give class numbers (N,) or one-hot vectors (N, classes)."
        )
    else:
        found = Form(shape=shape or (1,))
    if found.shape:
        if class_names:
            raise DataError(f"{where} has class_names, but its labels are numbers, not classes.")
        return found
    names = _names_of(labels, found, asked, class_names, where)
    return dataclasses.replace(found, class_names=names)


def _is_one_hot(labels: np.ndarray) -> bool:
    return bool(((labels == 0) | (labels == 1)).all() and (labels.sum(-1) == 1).all())


def _names_of(labels, form: Form, asked: Asked, class_names, where) -> tuple[str, ...]:
    for name, count in (("--num_classes", asked.num_classes), ("class_names", len(class_names))):
        if form.one_hot and count not in (0, labels[0].shape[-1]):
            raise DataError(
                f"the labels of {where} are one-hot vectors of {labels[0].shape[-1]} classes, and {name} "
                f"says {count}."
            )
    if class_names and asked.num_classes not in (0, len(class_names)):
        raise DataError(
            f"--num_classes={asked.num_classes}, but {where} has {len(class_names)} class_names. Leave it "
            "out."
        )
    if form.one_hot:
        return class_names or tuple(map(str, range(labels[0].shape[-1])))
    flat = [one.reshape(-1) for one in labels]
    for one in flat:
        wrong = (one < 0) | (one != np.floor(one)) if one.dtype.kind == "f" else one < 0
        if one.dtype.kind != "b" and wrong.any():
            raise DataError(
                f"{where} has the label {one[wrong][0]}: classes are whole numbers from 0 on. Labels that "
                "are not classes need --task=regression."
            )
    highest = max(int(one.max()) for one in flat)
    count = len(class_names) or asked.num_classes or highest + 1
    if highest >= count or highest > MOST_CLASSES:
        by = "its class_names" if class_names else "--num_classes" if asked.num_classes else "at most"
        raise DataError(
            f"{where} has the label {highest}, and classes are 0 to {min(count, MOST_CLASSES) - 1} ({by}). "
            "Labels that are not classes need --task=regression."
        )
    if count < 2:
        raise DataError(f"all labels of {where} are 0; a classifier needs at least 2 classes.")
    return class_names or tuple(map(str, range(count)))
