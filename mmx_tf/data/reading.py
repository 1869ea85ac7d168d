"""Reading the stored images of a split: all of them into memory, or some rows of every batch."""

import numpy as np
import tensorflow as tf
from absl import logging

from mmx_tf.data.damaged import DamagedImages, decoded, evaluation_error
from mmx_tf.data.images import batches_at_once
from mmx_tf.data.labels import Labels
from mmx_tf.data.source import Split

NOTICED_FROM_BYTES = 200 * 10**6
"""Decoding this many bytes of pixels takes long enough to say so."""


def read_all(
    split: Split,
    fit,
    shape: tuple[int, ...],
    labels: Labels,
    damaged: DamagedImages,
    *,
    name: str,
    whole: bool,
) -> tuple[tf.Tensor, tf.Tensor]:
    """All images of a split at their final size, uint8 [N, H, W, C], and their labels [N, ...].

    Args:
      split: what is read.
      fit: stored image -> uint8 [H, W, C].
      shape: (N, H, W, C).
      labels: what the labels are like.
      damaged: takes note of images that cannot be decoded.
      name: of the dataset.
      whole: no image may be missing, as in evaluation.

    Raises:
      DamagedDataError: for an image that is missing from what must be whole, too many that are missing
        elsewhere, and labels that cannot be used.
    """
    pixels = np.empty(shape, np.uint8)
    found = np.empty((split.count, *labels.shape), labels.dtype.as_numpy_dtype)
    if pixels.nbytes >= NOTICED_FROM_BYTES:
        logging.info(
            "decoding %d images of %s into memory once, %d MB", split.count, name, pixels.nbytes // 10**6
        )
    batches = split.stream(None).batch(1000).map(
        lambda stored, labels: decoded(stored, labels, labels, fit=lambda image, _: fit(image)),
        num_parallel_calls=batches_at_once(),
    )  # fmt: skip
    # Filled in place: parts that are joined at the end would take the memory twice.
    read = 0
    for some_pixels, some_labels, *missing in batches.as_numpy_iterator():
        end = read + len(some_labels)
        pixels[read:end], found[read:end] = some_pixels, some_labels
        if len(missing[1]) and whole:
            raise evaluation_error(name, missing[0][0], split.files_of)
        damaged.note(*missing, of=len(some_labels))
        read = end
    damaged.check_labels(found)
    damaged.report()
    with tf.device("CPU"):
        return tf.constant(pixels), tf.constant(found)


def rows_of_batches(examples: tf.data.Dataset, batch: int, begin: int, count: int) -> tf.data.Dataset:
    """Of every `batch` examples the `count` from the index `begin` on, none of them decoded yet."""
    rows = examples.enumerate().filter(lambda row, _: (row % batch >= begin) & (row % batch < begin + count))
    return rows.map(lambda _, example: example)


def in_order() -> tf.data.Options:
    """Options of a pipeline whose order is the same in every run."""
    options = tf.data.Options()
    options.deterministic = True
    # Many images are worked on at once; sharing out the pixels of each as well only costs.
    options.threading.max_intra_op_parallelism = 1
    return options
