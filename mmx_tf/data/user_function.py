"""A dataset that a function of the user's makes.

    def waves():
        return train, evaluation                 # or train, evaluation, class_names

`train` and `evaluation` are `tf.data.Dataset`s of single examples (x, y), not batched, each iteration of
which is one epoch: no repeat(). x has one known shape: (features,), (length, channels), (height, width) or
(height, width, channels), what the network takes. Numbers are given to it as they are; uint8 are pixels,
given as pixel * scale + offset (--pixel_scaling). Nothing is augmented: a function does that itself. y is
what `mmx_tf.data.label_forms` says, or x.

Evaluation examples are the same, in the same order, in every iteration and every run. Training examples are
shuffled in a buffer here; where each iteration gives other ones, a run that is resumed sees others than one
that was never killed, which a warning tells. --seed is set before the function is called.
"""

import dataclasses
import hashlib
import importlib
import itertools
import os
import re
import traceback

import numpy as np
import tensorflow as tf
import tf_keras as keras
from absl import logging

from mmx_tf.data import array_source
from mmx_tf.data.asked import Asked
from mmx_tf.data.label_forms import Form, form_of
from mmx_tf.data.source import ArraySource, Split
from mmx_tf.errors import DataError

LOOKED_AT = 64
"""Examples of each half that are checked and fingerprinted before a run; the others when they are read."""
RETURNS = (
    "return (train, evaluation) or (train, evaluation, class_names), two tf.data.Datasets of single (x, y)"
)


def opened(name: str, module: str, function: str, asked: Asked) -> ArraySource:
    """Calls the function and checks what it returns.

    Args:
      name: of the dataset.
      module, function: in it.
      asked: what is asked of the dataset.

    Raises:
      DataError: if it cannot be called, or does not return what it should.
    """
    where = f"--dataset={name}"
    keras.utils.set_random_seed(asked.seed)
    train, evaluation, names = _returned(where, _called(where, module, function))
    looks = {
        "training": _looked_at(where, "training", train),
        "evaluation": _looked_at(where, "evaluation", evaluation),
    }
    (x, y), (test_x, test_y) = looks.values()
    if x.shape[1:] != test_x.shape[1:] or x.dtype != test_x.dtype or y.shape[1:] != test_y.shape[1:]:
        raise DataError(
            f"{where}: training examples are x {x.dtype} {x.shape[1:]}, y {y.shape[1:]}, evaluation examples "
            f"x {test_x.dtype} {test_x.shape[1:]}, y {test_y.shape[1:]}: both halves must have the same "
            "shapes."
        )
    if asked.pixel_scaling and x.dtype != np.uint8:
        array_source.check_scaled(name, x, asked.pixel_scaling)
    reconstructs = all(a.shape == b.shape and np.array_equal(a, b) for a, b in looks.values())
    counts, highest = _counts(
        where, train, evaluation, y, known=reconstructs or bool(names) or asked.num_classes
    )
    labels = [y, test_y] if highest is None else [y, test_y, highest]
    form = None if reconstructs else form_of(labels, asked=asked, class_names=names, where=where)
    splits = [
        _split(one, count, x.dtype, x.shape[1:], form)
        for one, count in zip((train, evaluation), counts, strict=True)
    ]
    version, splits[0] = _version(where, looks, train, evaluation, splits[0])
    source = array_source.of_splits(
        name, *splits, shape=x.shape[1:], pixels=x.dtype == np.uint8, form=form, asked=asked,
        version=version, own_images=False,
    )  # fmt: skip
    logging.info("%s", array_source.told(source, asked))
    return source


def _called(where: str, module: str, function: str):
    try:
        found = getattr(importlib.import_module(module), function, None)
        if not callable(found):
            raise DataError(f"{where}: the module {module!r} has no function {function!r}.")
        return found()
    except DataError:
        raise
    except (Exception, SystemExit) as error:  # sys.exit(3) would end the run as a result of its own
        at = traceback.extract_tb(error.__traceback__)[-1]
        said = " ".join(str(error).split())[:300]
        raise DataError(
            f"{where} has failed with {type(error).__name__}: {said} ({os.path.basename(at.filename)}, line "
            f"{at.lineno}). It is called without arguments and must {RETURNS}."
        ) from error


def _returned(where: str, found) -> tuple[tf.data.Dataset, tf.data.Dataset, tuple[str, ...]]:
    parts = tuple(found) if isinstance(found, tuple | list) else (found,)
    if len(parts) not in (2, 3) or not all(isinstance(one, tf.data.Dataset) for one in parts[:2]):
        kinds = ", ".join(type(one).__name__ for one in parts)
        raise DataError(f"{where} returns {kinds}; it must {RETURNS}.")
    names = parts[2] if len(parts) == 3 else ()
    if isinstance(names, str) or not all(isinstance(one, str) for one in names or ()):
        raise DataError(f"{where} returns the class_names {names!r}; they must be a list of texts.")
    for what, one in zip(("training", "evaluation"), parts, strict=False):
        spec = one.element_spec
        if not (isinstance(spec, tuple) and len(spec) == 2):
            raise DataError(
                f"{where}: its {what} dataset has elements of {_form(spec)}; each must be a pair (x, y)."
            )
        for part, tensor in zip("xy", spec, strict=True):
            if not isinstance(tensor, tf.TensorSpec):
                raise DataError(
                    f"{where}: {part} of its {what} dataset is {_form(tensor)}; one tensor is needed. "
                    "Networks of several inputs or outputs are not trained here."
                )
        shape = spec[0].shape
        if shape.rank is not None and shape.rank > 1 and shape[0] is None:
            raise DataError(
                f"{where}: x of its {what} dataset has the shape {tuple(shape)}: if it is batched, return "
                "dataset.unbatch(); else give all examples one shape."
            )
        if int(one.cardinality()) == tf.data.INFINITE_CARDINALITY:
            raise DataError(f"{where}: its {what} dataset never ends: return one epoch, without repeat().")
    return parts[0], parts[1], tuple(names or ())


def _form(spec) -> str:
    return " ".join(str(spec).split())[:200]


def _looked_at(where: str, what: str, dataset: tf.data.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """The first examples of a half and their labels, checked."""
    found = list(itertools.islice(_read(where, what, dataset), LOOKED_AT))
    if not found:
        raise DataError(f"{where}: its {what} dataset is empty.")
    for part, values in zip("xy", zip(*found, strict=True), strict=True):
        shapes = sorted({np.shape(value) for value in values}, key=str)
        if len(shapes) > 1:
            raise DataError(
                f"{where}: {part} of its {what} examples has the shapes {shapes[0]} and {shapes[1]}; one is "
                "needed."
            )
    x, y = (np.stack(values) for values in zip(*found, strict=True))
    if x.dtype.kind not in "biuf":
        raise DataError(f"{where}: x of its {what} dataset is of type {x.dtype}; numbers are needed.")
    if not 2 <= x.ndim <= 4 or not x.size:
        raise DataError(
            f"{where}: x of its {what} dataset has the shape {x.shape[1:]}; (features,), (length, channels), "
            "(height, width) or (height, width, channels) is needed, of single examples."
        )
    with np.errstate(over="ignore"):
        fine = np.isfinite(x.astype(np.float32)).reshape(len(x), -1).all(1)
    if not fine.all():
        raise DataError(
            f"{where}: its {what} example {int(np.argmin(fine))} holds NaN, infinite or too large numbers; "
            "all must be finite in float32."
        )
    return x, y


def _read(where: str, what: str, dataset: tf.data.Dataset):
    try:
        yield from dataset.as_numpy_iterator()
    except tf.errors.OpError as error:
        # Of a Python generator's error: what it says, without TensorFlow's place and the traceback behind it.
        said = re.sub(r"^\{\{.*?\}\}\s*", "", str(error.message)).partition("Traceback (most recent call")[0]
        said = " ".join(said.split())[:300]
        raise DataError(f"{where}: its {what} dataset cannot be read: {said}") from error


def _counts(where, train, evaluation, labels, *, known) -> tuple[list[int], np.ndarray | None]:
    """How many examples each half has, and the highest class where nothing else tells how many there are."""
    whole = labels.dtype.kind in "biu" and labels.shape[1:] in ((), (1,))
    counted, highest = whole and not known, 0
    counts = [int(one.cardinality()) for one in (train, evaluation)]
    if not counted and min(counts) >= 0:
        return counts, None
    logging.info("%s: reading it once to count its examples%s", where, " and classes" if counted else "")
    for index, (what, one) in enumerate((("training", train), ("evaluation", evaluation))):
        if counted or counts[index] < 0:
            counts[index] = 0
            for _, label in _read(where, what, one):
                counts[index] += 1
                highest = max(highest, int(label.max())) if counted else 0
    return counts, np.full((1, *labels.shape[1:]), highest, labels.dtype) if counted else None


def _split(dataset: tf.data.Dataset, count: int, dtype, shape: tuple[int, ...], form: Form | None) -> Split:
    """The split of a half, whose examples are checked when they are read."""
    stored = tf.as_dtype(dtype)
    labels = None if form is None else (tf.float32 if form.shape else tf.int32)

    @tf.autograph.experimental.do_not_convert
    def checked(x, y):
        x = tf.ensure_shape(x, shape)
        if stored != tf.uint8:
            x = tf.debugging.assert_all_finite(
                tf.cast(x, tf.float32), "an example holds NaN or infinite numbers"
            )
        if form is None:
            return x, x
        if form.one_hot:
            y = tf.argmax(y, -1)
        y = tf.reshape(tf.cast(y, labels), form.shape)
        if form.shape:
            return x, tf.debugging.assert_all_finite(y, "a label is NaN or infinite")
        classes = len(form.class_names)
        message = f"a label is not one of 0 to {classes - 1}"
        with tf.control_dependencies([tf.debugging.Assert((y >= 0) & (y < classes), [message, y])]):
            return x, tf.identity(y)

    def stream(shuffle_seed: int | None) -> tf.data.Dataset:
        return dataset.take(count).map(checked, num_parallel_calls=tf.data.AUTOTUNE)

    return Split(count=count, stream=stream)


def _version(where: str, looks, train, evaluation, split: Split) -> tuple[str, Split]:
    """A fingerprint of the first examples, as far as they are the same in a second iteration.

    Beside it the split of training, which knows whether its examples are.
    """
    found = hashlib.sha256()
    for (what, first), dataset in zip(looks.items(), (train, evaluation), strict=True):
        again = _looked_at(where, what, dataset)
        same = all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
        if not same and what == "evaluation":
            raise DataError(
                f"{where}: its evaluation examples change when they are read again. The float network "
                "and the file must be judged on the same ones: return a dataset without shuffling and "
                "augmentation."
            )
        if not same:
            split = dataclasses.replace(split, in_order=False)
            logging.warning(
                "%s: its training examples change each time they are read. A run that is killed and resumed "
                "sees other examples than a run that was not.", where,
            )  # fmt: skip
        for values in first if same else ():
            found.update(f"{what} {values.dtype} {values.shape}".encode())
            found.update(np.ascontiguousarray(values).tobytes())
    return f"examples with SHA-256 {found.hexdigest()}", split
