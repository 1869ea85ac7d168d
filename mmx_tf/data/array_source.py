"""From arrays, or streams of them, to an `ArraySource`, and a line that tells what was made of them."""

import hashlib

import numpy as np
import tensorflow as tf

from mmx_tf.data.asked import Asked
from mmx_tf.data.images import PIXEL_SCALING
from mmx_tf.data.label_forms import Form
from mmx_tf.data.source import ArraySource, Split, in_memory
from mmx_tf.errors import DataError
from mmx_tf.layers.quantizers.pixels import told_outside

SMALLEST_IMAGE = 8
"""Pixels with fewer rows or columns are no image that could be shifted."""


def of_arrays(
    name: str, train, evaluation, *, form: Form | None, asked: Asked, version: str, file
) -> ArraySource:
    """The source of arrays in memory.

    Args:
      name: of the dataset.
      train, evaluation: (examples [N, ...], labels as `Form.read` gives them).
      form: of the labels; None where the examples are their own labels.
      asked: what is asked of the dataset.
      version: tells the file from another one.
      file: its name and bytes.
    """
    splits = []
    for examples, labels in (train, evaluation):
        if asked.pixel_scaling and examples.dtype != np.uint8:
            check_scaled(name, examples, asked.pixel_scaling)
        with tf.device("CPU"):
            values = examples if examples.dtype == np.uint8 else examples.astype(np.float32, copy=False)
            tensor = tf.convert_to_tensor(values)
            labels = tensor if form is None else tf.convert_to_tensor(labels)
            splits.append(in_memory(tensor, labels, files=lambda: [file]))
    return of_splits(
        name, *splits, shape=train[0].shape[1:], pixels=train[0].dtype == np.uint8, form=form, asked=asked,
        version=version, own_images=True,
    )  # fmt: skip


def of_splits(
    name: str,
    train: Split,
    evaluation: Split,
    *,
    shape: tuple[int, ...],
    pixels: bool,
    form: Form | None,
    asked: Asked,
    version: str,
    own_images: bool,
) -> ArraySource:
    """The source of two splits.

    Args:
      name, form, asked, version: as for `of_arrays`.
      train, evaluation: the splits, which give what `Form.read` gives.
      shape, pixels: of the examples.
      own_images: whether training shifts those that are images, unless something else is asked for.
    """
    if asked.image_size:
        raise DataError(
            f"--image_size={asked.image_size}: {name} has arrays of the shape {shape}, which are not resized."
            " Leave it out, or give --image_size=0 behind a recipe that has one."
        )
    if form is not None and asked.task == "binary" and form.class_names and len(form.class_names) != 2:
        raise DataError(f"{name} has {len(form.class_names)} classes, and a binary task has two.")
    image = (
        pixels and len(shape) in (2, 3) and min(shape[:2]) >= SMALLEST_IMAGE and shape[2:] in ((), (1,), (3,))
    )
    # Maps that belong to an image would have to be moved with it.
    movable = image and (form is None or len(form.shape) < 2)
    if asked.augmentation not in ("", "none") and not movable:
        raise DataError(
            f"--augmentation={asked.augmentation}: {name} has {'labels' if image else 'arrays'} of the shape "
            f"{form.shape if image else shape}, which are not moved; uint8 images (height, width), with 1 or "
            "3 channels, are. Leave it out."
        )
    return ArraySource(
        name=name,
        version=version,
        class_names=form.class_names if form else (),
        label_shape=form.shape if form else shape,
        shape=shape,
        pixels=pixels,
        reconstructs=form is None,
        train=train,
        evaluation=evaluation,
        **asked.augmented(moved=movable and own_images, mirrored=False),
    )


def told(source: ArraySource, asked: Asked) -> str:
    """A line about what a source was taken for."""
    labels = source.labels
    if source.reconstructs:
        what = "which are their own labels"
    elif labels.shape:
        what = f"labels of {labels.size} number(s)"
    else:
        what = f"{len(source.class_names)} classes"
    scaling = asked.pixel_scaling or (PIXEL_SCALING if source.pixels else None)
    given = "given as they are"
    if source.pixels:
        given = f"pixels given as pixel * {scaling[0]:.6g} + {scaling[1]:.6g} (--pixel_scaling)"
        given += f", {'shifted' if source.moved else 'not shifted'} in training (--augmentation)"
    return (
        f"{source.name}: {source.train.count} training and {source.evaluation.count} evaluation examples of "
        f"the shape {source.shape}, {what}; {given}"
    )


def check_scaled(name: str, examples: np.ndarray, scaling: tuple[float, float]) -> None:
    """Refuses (DataError) numbers of which much lies outside of pixel * scale + offset."""
    outside = told_outside(examples, scale=scaling[0], offset=scaling[1])
    if outside:
        raise DataError(f"--pixel_scaling={scaling[0]:.6g},{scaling[1]:.6g} does not fit {name}: {outside}.")


def sha256_of(path: str) -> str:
    """The SHA-256 of a file, as the version of a dataset."""
    with open(path, "rb") as file:
        return f"SHA-256 {hashlib.file_digest(file, 'sha256').hexdigest()}"
