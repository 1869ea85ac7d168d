"""Training images that cannot be decoded: replaced within their batch, counted, told of, and limited.

A batch is decoded image by image inside a small dataset of its own, which leaves out those that fail. Each
is replaced by the next image of the batch that could be decoded, with that one's label; behind the last comes
the first. So a batch has as many images as any other, and what it holds follows from its own images alone: an
epoch is the same from whichever batch it is begun.

    >>> found = DamagedImages("folder:photos", count=5000, class_names=("cat", "dog"))
    >>> found.report()       # what was found since the last time, as a warning
"""

import hashlib
import os
import re
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from absl import logging

from mmx_tf.data.images import batches_at_once
from mmx_tf.data.labels import Labels
from mmx_tf.data.source import Split
from mmx_tf.errors import DamagedDataError

DAMAGED_SHARE = 0.01
"""Largest share of the training images that may be undecodable."""
NAMED = 3
PARALLEL = max(2, len(os.sched_getaffinity(0)))


@tf.autograph.experimental.do_not_convert
def decoded(
    stored: tf.Tensor, labels: tf.Tensor, numbers: tf.Tensor, *, fit: Callable
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Decodes a batch of stored images, for use in `tf.data.Dataset.map`.

    Args:
      stored: [B, ...], encoded files or pixels.
      labels: [B].
      numbers: [B], one random number for each image.
      fit: (stored image, number) -> uint8 [H, W, C]; an image for which it fails is replaced.

    Returns:
      Pixels [B, H, W, C], labels [B], and the stored images [n, ...] and labels [n] of the n that failed.
      Where all have failed, the pixels are zeros.
    """
    count = tf.shape(labels)[0]
    rows = tf.data.Dataset.from_tensor_slices((tf.range(count), stored, numbers)).map(
        lambda row, image, number: (row, fit(image, number)), num_parallel_calls=PARALLEL
    )
    whole = rows.ignore_errors(log_warning=False).batch(tf.cast(count, tf.int64))
    shape = rows.element_spec[1].shape
    nothing = tf.data.Dataset.from_tensors((tf.zeros([0], tf.int32), tf.zeros([0, *shape], tf.uint8)))
    options = tf.data.Options()
    # Many images are worked on at once; sharing out the pixels of each as well only costs.
    options.threading.max_intra_op_parallelism = 1
    found, pixels = whole.concatenate(nothing).take(1).with_options(options).get_single_element()

    def all_found():
        return pixels, labels, stored[:0], labels[:0]

    def some_found():
        failed = tf.reduce_all(tf.range(count)[:, tf.newaxis] != found, axis=1)
        missing = tf.boolean_mask(stored, failed), tf.boolean_mask(labels, failed)
        return tf.cond(tf.size(found) == 0, none_found, replaced) + missing

    def replaced():
        # The first that was found at or behind each row; behind the last comes the first.
        nearest = tf.searchsorted(found, tf.range(count)) % tf.size(found)
        return tf.gather(pixels, nearest), tf.gather(labels, tf.gather(found, nearest))

    def none_found():
        return tf.zeros([count, *shape], tf.uint8), labels

    pixels, labels, *missing = tf.cond(tf.size(found) == count, all_found, some_found)
    return tf.ensure_shape(pixels, [None, *shape]), labels, *missing


class DamagedImages:
    """What is known of a dataset's undecodable training images; every one counts once.

    Args:
      dataset: its name, for messages.
      count: number of training images.
      class_names: of its labels, where they are classes.
      labels: what they are like, where they are not.
      files_of: paths of the files that hold a stored image; [] where that is not known.
    """

    def __init__(
        self,
        dataset: str,
        *,
        count: int,
        class_names: tuple[str, ...] = (),
        labels: Labels | None = None,
        files_of: Callable[[bytes], list[str]] = lambda stored: [],
    ):
        self._dataset, self._count, self._files_of = dataset, count, files_of
        self._labels = labels or Labels(class_names=class_names)
        self._found = 0
        self._seen: set[bytes] = set()
        self._named: list[str] = []
        self._reported = 0
        self.error: DamagedDataError | None = None

    def __len__(self) -> int:
        return self._found

    def noting(self, pixels, labels, stored, stored_labels):
        """Takes what `decoded` returns, notes the images that failed, and gives (pixels, labels).

        For `tf.data.Dataset.map`, which fails when there are too many, and when a label is not one of the
        dataset's; `error` says why.
        """
        read = tf.concat([labels, stored_labels], 0)
        wrong = tf.boolean_mask(read, self._labels.wrong(read))

        def note():
            return tf.numpy_function(
                self._note, [stored, stored_labels, wrong, tf.shape(labels)[0]], tf.bool, stateful=True
            )

        count = tf.shape(stored_labels)[0] + tf.shape(wrong)[0]
        fine = tf.cond(count > 0, note, lambda: tf.constant(True))
        with tf.control_dependencies([fine]):
            return tf.identity(pixels), tf.identity(labels)

    def batches(
        self, examples: Callable, fit: Callable, *, batch: int, first: int, count: int
    ) -> tf.data.Dataset:
        """Batches of decoded images: quickly up to the first damaged one, from there on by `decoded`.

        Trying whether an image can be decoded costs a fifth of decoding it. As long as all can be, they are
        decoded one by one, and that one is missing shows in the number of the next.

        Args:
          examples: gives a new dataset of ((stored, label), number), each with the same order in its first
            iteration.
          fit: as for `decoded`.
          batch: images of a batch.
          first: batches of `examples` to skip.
          count: batches that are left then.

        Returns:
          (uint8 [batch, H, W, C], int32 [batch]).
        """
        with tf.device("CPU"):
            done = tf.Variable(0, dtype=tf.int64, trainable=False)
        quick = (
            examples()
            .skip(first * batch)
            .enumerate()
            .map(
                lambda row, example: (fit(example[0][0], example[1]), example[0][1], row),
                num_parallel_calls=tf.data.AUTOTUNE,
            )
            .ignore_errors(log_warning=False)
            .batch(batch, drop_remainder=True)
            .enumerate()
            .take_while(lambda index, images: self._is_whole(index, *images[1:], batch))
            .map(lambda index, images: _counted(done, index, *images[:2]))
        )
        again = examples()

        def from_the_first(_):
            done.assign(0)
            return quick

        def carefully(_):
            tried = again.skip((first + done) * batch).batch(batch, drop_remainder=True)
            tried = tried.map(
                lambda example, number: decoded(*example, number, fit=fit),
                num_parallel_calls=batches_at_once(),
            )
            # Where nothing is left, nothing is read.
            return tried.map(self.noting).take(count - done)

        begun = tf.data.Dataset.from_tensors(0)
        return begun.flat_map(from_the_first).concatenate(begun.flat_map(carefully))

    def _is_whole(self, index, labels, rows, batch):
        known = ~tf.reduce_any(self._labels.wrong(labels))
        return known & (rows[-1] + 1 == (index + 1) * batch)

    def note(self, stored: list[bytes], labels: list[int], *, of: int) -> None:
        """Counts images that could not be decoded, of a batch of `of` images.

        Raises:
          DamagedDataError: if no image of the batch is left, or more than `DAMAGED_SHARE` of all are damaged.
        """
        for image, label in zip(stored, labels, strict=True):
            digest = hashlib.sha256(image).digest()
            if digest in self._seen:
                continue
            self._seen.add(digest)
            unnamed = f"one of {len(image)} bytes, {self._labels.name_of(label)}"
            files = self._files_of(image) or [unnamed]
            self._found += len(files)
            self._named = [*self._named, *files][:NAMED]
        too_many = len(self) > DAMAGED_SHARE * self._count
        if too_many or len(stored) == of:
            what = "at least " if too_many else f"all {of} of a batch, and at least "
            self.error = DamagedDataError(
                f"{what}{len(self)} of the {self._count} training images of {self._dataset} cannot be "
                f"decoded ({self._examples()}); up to {DAMAGED_SHARE:.0%} are replaced by others. Repair "
                "or remove them."
            )
            raise self.error

    def check_labels(self, labels: np.ndarray) -> None:
        """Raises a DamagedDataError for labels [N, ...] that cannot be used."""
        wrong = labels[np.asarray(self._labels.wrong(labels))]
        if len(wrong):
            self.error = DamagedDataError(
                f"an image of {self._dataset} has the label {wrong[0]}, but labels must be "
                f"{self._labels.allowed}. Repair the dataset, or choose another --dataset."
            )
            raise self.error

    def report(self) -> None:
        """Logs a warning if images were found since the last report."""
        if len(self) > self._reported:
            self._reported = len(self)
            logging.warning(
                "%d of the %d training images of %s could not be decoded, and others stood in for them: %s.",
                len(self), self._count, self._dataset, self._examples(),
            )  # fmt: skip

    def _note(self, stored, labels, wrong, of):
        self.check_labels(wrong)
        self.note(list(stored), list(labels), of=int(of))
        return np.True_

    def _examples(self) -> str:
        more = ", ..." if len(self) > len(self._named) else ""
        return ", ".join(self._named) + more


def _counted(done, index, pixels, labels):
    with tf.control_dependencies([done.assign(index + 1)]):
        return tf.identity(pixels), tf.identity(labels)


UNREADABLE = (tf.errors.DataLossError, tf.errors.NotFoundError, tf.errors.PermissionDeniedError)
"""What TensorFlow raises for files that are gone, or are not what was written."""


def unreadable_error(dataset: str, error: tf.errors.OpError) -> DamagedDataError:
    """The error for files of a dataset that cannot be read."""
    # What is left of the message without TensorFlow's notes of where in its graph it was raised.
    reason = re.sub(r"^.*Iterator::\S+ |\{\{.*?\}\}|\[\[?.*?\]", "", " ".join(str(error.message).split()))
    reason = reason.strip()[:300]
    return DamagedDataError(
        f"the images of {dataset} cannot be read: {reason}. Repair the dataset or prepare it anew."
    )


def evaluation_error(dataset: str, stored: bytes, files_of: Callable[[bytes], list[str]]) -> DamagedDataError:
    """The error for an evaluation image that cannot be decoded: a share of others would be no accuracy."""
    named = (files_of(stored) or [f"one of {len(stored)} bytes"])[0]
    return DamagedDataError(
        f"an evaluation image of {dataset} cannot be decoded: {named}. Every one of them counts, so none is "
        "left out. Repair or remove it."
    )


def check_evaluation(split: Split, fit: Callable, *, name: str, labels: Labels) -> None:
    """Looks through evaluation images for one that cannot be used.

    Args:
      split: of the evaluation images.
      fit: decodes one stored image.
      name: of the dataset.
      labels: what its labels are like.

    Raises:
      DamagedDataError: names the first such image, or its label.
    """
    for stored, label in split.stream(None):
        try:
            fit(stored)
        except tf.errors.OpError as error:
            raise evaluation_error(name, stored.numpy(), split.files_of) from error
        if labels.wrong(label[tf.newaxis])[0]:
            raise DamagedDataError(
                f"an evaluation image of {name} has the label {label.numpy()}, but labels must be "
                f"{labels.allowed}. Repair the dataset, or choose another --dataset."
            )
