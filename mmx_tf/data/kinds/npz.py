"""`npz:FILE.npz`: arrays of one's own in a file of `np.savez`, as Keras's mnist.npz is one.

x and y, of which one in ten is held out for evaluation, the same ones in every run; or x_train, y_train,
x_test and y_test; class_names if there are some. What y may be is in `mmx_tf.data.label_forms`.
"""

import dataclasses
import os

from absl import logging

from mmx_tf.data.asked import Asked
from mmx_tf.errors import DataError

WORDS = "'npz:FILE.npz' (arrays x and y)"
EVALUATION_SHARE = 0.1


def check(name: str, *, data_dir: str) -> None:
    """Refuses (DataError) a file whose arrays do not do; its numbers are not read."""
    # Here, since every wrong name is told with what this module calls its own, and needs no NumPy.
    from mmx_tf.data import npz_file

    npz_file.check(path_of(name))


def opened(name: str, asked: Asked):
    """The `ArraySource` of the file."""
    import numpy as np

    from mmx_tf.data import array_source, npz_file
    from mmx_tf.data.label_forms import form_of

    path = path_of(name)
    where = f"--dataset={name}"
    headers = npz_file.check(path)
    arrays = npz_file.read(path)
    x, y = arrays[headers.train.name], headers.labels and arrays[headers.labels.name]
    for header in (headers.train, headers.evaluation):
        if header is not None:
            npz_file.check_finite(where, header.name, arrays[header.name])
    reconstructs = y is None or (y.shape == x.shape and np.array_equal(x, y))
    if y is None and asked.task not in ("", "regression"):
        raise DataError(
            f"{where} has no labels, which --task={asked.task} needs: add {npz_file.TRAIN[1]} or y."
        )
    halves = [(x, y)]
    if headers.evaluation is not None:
        test_y = headers.evaluation_labels and arrays[headers.evaluation_labels.name]
        halves.append((arrays["x_test"], test_y))
    form, names = None, tuple(map(str, arrays.get(npz_file.CLASS_NAMES, ())))
    if reconstructs and names:
        raise DataError(f"{where} has class_names, but no labels that have them: add y.")
    if not reconstructs:
        form = form_of([labels for _, labels in halves], asked=asked, class_names=names, where=where)
        halves = [(examples, form.read(labels)) for examples, labels in halves]
    told = ""
    if len(halves) == 1:
        classes = halves[0][1] if form and form.class_names else None
        train, evaluation = held_out(len(x), classes)
        halves = [
            tuple(None if one is None else one[rows] for one in halves[0]) for rows in (train, evaluation)
        ]
        how = "of every class" if classes is not None else "of all"
        told = f", held out: {EVALUATION_SHARE:.0%} {how}, the same in every run"
    file = (os.path.basename(path), os.path.getsize(os.path.expanduser(path)))
    source = array_source.of_arrays(
        name,
        *halves,
        form=form,
        asked=asked,
        version=array_source.sha256_of(os.path.expanduser(path)),
        file=file,
    )
    logging.info("%s%s", array_source.told(source, asked), told)
    return dataclasses.replace(source, held_out=bool(told))


def held_out(count: int, classes=None):
    """Rows for training and for evaluation, one in ten, in their order.

    Args:
      count: of all rows.
      classes: int [N]; of every class that has two examples one at least is held out. None for no classes.
    """
    import numpy as np

    random = np.random.default_rng(0)
    groups = (
        [np.arange(count)]
        if classes is None
        else [np.flatnonzero(classes == one) for one in np.unique(classes)]
    )
    kept = [
        random.permutation(rows)[: max(1, round(EVALUATION_SHARE * len(rows)))]
        for rows in groups
        if len(rows) > 1
    ]
    evaluation = np.sort(np.concatenate([*kept, np.empty(0, np.int64)]).astype(np.int64))
    if not len(evaluation):
        evaluation = np.array([count - 1])
    return np.setdiff1d(np.arange(count), evaluation), evaluation


def path_of(name: str) -> str:
    """The path in the name of a dataset."""
    return name.partition(":")[2]
