"""What every dataset can do, whatever its examples are: counts, labels, tasks, and errors in words.

`mmx_tf.data.dataset.ImageData` has images of a size that is chosen, `mmx_tf.data.arrays.ArrayData` arrays of
a shape that is given.
"""

import abc
import functools
import numbers
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
import tensorflow as tf

from mmx_tf.choices import TASKS
from mmx_tf.data.damaged import UNREADABLE, unreadable_error
from mmx_tf.data.images import WHOLE
from mmx_tf.data.labels import Labels
from mmx_tf.data.source import Source, Split
from mmx_tf.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Examples(abc.ABC):
    """An opened dataset.

    Attributes:
      source: what it is made from.
      pixel_scaling: (scale, offset) of the pixels 0..255 that examples are made of: pixel * scale + offset;
        None where they are no pixels.
    """

    source: Source = field(repr=False)
    pixel_scaling: tuple[float, float] | None = None

    @property
    def name(self) -> str:
        """The name that `mmx_tf.data.load` was given."""
        return self.source.name

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes; label i is class_names[i]. () where labels are arrays of numbers."""
        return self.source.class_names

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.source.class_names)

    @property
    @abc.abstractmethod
    def image_shape(self) -> tuple[int, ...]:
        """Shape of one example, as the network is given it."""

    @property
    def train_images(self) -> int:
        """Number of training examples."""
        return self.source.train.count

    @property
    def eval_images(self) -> int:
        """Number of evaluation examples."""
        return self.source.evaluation.count

    @property
    def labels(self) -> Labels:
        """What the labels are like."""
        return self.source.labels

    @property
    def reconstructs(self) -> bool:
        """Whether the label of an example is the example itself, as an autoencoder learns it."""
        return False

    @abc.abstractmethod
    def train(
        self,
        *,
        batch_size: int,
        seed: int,
        augment: bool = True,
        skip_batches: int = 0,
        part: tuple[int, int] = WHOLE,
    ) -> tf.data.Dataset:
        """One epoch of (examples float32 [B, ...], labels), shuffled.

        Labels are int32 [B], float32 [B, 1] for a binary task, or float32 [B, ...] where they are numbers.

        Each iteration over the dataset shuffles and augments anew; the whole sequence is decided by `seed`. A
        last incomplete batch is dropped, except when it is the only one. The first `skip_batches` batches of
        an iteration are left out; the others are what they are without that. With part = (index, count) only
        the index-th of `count` equal parts of every batch is given, as it is in the whole batch.
        """

    @abc.abstractmethod
    def evaluation(self, *, batch_size: int, limit: int = 0) -> tf.data.Dataset:
        """The evaluation examples in their fixed order, none dropped: (float32 [B, ...], labels).

        With `limit` above 0, only the first `limit` of them.
        """

    @property
    def validation_images(self) -> int:
        """Number of examples that are held out of training; 0 where none are."""
        return self.source.validation.count if self.source.validation else 0

    def validation(self, *, batch_size: int, limit: int = 0) -> tf.data.Dataset:
        """The examples that training is judged on, as `evaluation` gives them.

        They are those that are held out, all of them; where none are, the evaluation examples.
        """
        if self.source.validation is None:
            return self.evaluation(batch_size=batch_size, limit=limit)
        return self._judged.evaluation(batch_size=batch_size)

    @functools.cached_property
    def _judged(self) -> Self:
        """The data whose evaluation examples are those that are held out."""
        return replace(self, source=replace(self.source, evaluation=self.source.validation, validation=None))

    def check_labels(self) -> None:
        """Look at the first examples; a `DataError` when they cannot be read or have no class here."""
        for split, what in ((self.source.evaluation, "evaluation"), (self.source.train, "training")):
            try:
                labels = self.first_labels(split)
            except tf.errors.OpError as error:
                raise DataError(str(unreadable_error(self.name, error))) from error
            if not len(labels) or np.any(self.labels.wrong(labels)):
                raise DataError(
                    f"The {what} images of {self.name} have no usable labels: the first ones are "
                    f"{labels.tolist()}, but labels must be {self.labels.allowed}. The split may be an "
                    "unlabelled one; choose another --dataset."
                )

    def first_labels(self, split: Split | None = None, *, count: int = 8) -> np.ndarray:
        """The first labels of a split, by default that of evaluation: [n, ...]."""
        stream = (split or self.source.evaluation).stream(None)
        found = [label for _, label in stream.take(count).as_numpy_iterator()]
        return np.array(found, self.labels.dtype.as_numpy_dtype).reshape(-1, *self.labels.shape)

    def for_task(self, task: str) -> Self:
        """The same data for a task, one of `choices.TASKS`, whose labels are then given in its form.

        Images of a regression are not mirrored: their numbers may say where something is.

        Raises:
            DataError: another task, or a binary one where there are not two classes.
        """
        if task not in ("", *TASKS):
            raise DataError(f"task={task!r}: one of {', '.join(TASKS)}.")
        if task == "binary" and self.num_classes not in (0, 2):
            raise DataError(f"{self.name} has {self.num_classes} classes, and a binary task has two.")
        mirrored = self.source.mirrored and (task != "regression" or self.reconstructs)
        return replace(self, source=replace(self.source, task=task, mirrored=mirrored))

    def fits(self, shape: tuple[int | None, ...]) -> bool:
        """Whether a network whose input has this shape can take the examples."""
        return len(shape) == len(self.image_shape) and all(
            ours in (None, theirs) for ours, theirs in zip(shape, self.image_shape, strict=True)
        )

    def shaped(self, shape: tuple[int | None, ...]) -> Self:
        """The data for a network that it fits, which may take an axis of length 1 more or less."""
        return self

    def report_damage(self) -> None:
        """Logs what was found damaged since the last report."""
        return

    @contextmanager
    def reading_errors(self) -> Iterator[None]:
        """Says in words what is wrong with the data when reading them fails in the block.

        Raises:
            DamagedDataError: names the example, or what cannot be read.
        """
        try:
            yield
        except tf.errors.OpError as error:
            self._find_damage(error)
            if isinstance(error, UNREADABLE):
                raise unreadable_error(self.name, error) from error
            raise

    @abc.abstractmethod
    def _find_damage(self, error: tf.errors.OpError) -> None:
        """Raises a DamagedDataError if an error in reading is one of the dataset's own."""


def check_batch(batch_size: int, count: int, part: tuple[int, int] = WHOLE) -> int:
    """The size of a training batch of a split of `count` examples.

    Raises:
        DataError: no size, or no part of such a batch.
    """
    if not isinstance(batch_size, numbers.Integral) or batch_size < 1:
        raise DataError(f"batch_size={batch_size!r}: an integer of 1 or more.")
    batch = min(batch_size, count)
    if not 0 <= part[0] < part[1] <= batch:
        raise DataError(f"part={part!r}: (index, count) with an index in 0..count-1, at most {batch} parts.")
    return batch


def rows_in_batches(
    arrays: tuple, *, batch: int, seed: int, skip_batches: int, part: tuple[int, int]
) -> tf.data.Dataset:
    """Batches of (examples, labels) of arrays in memory, shuffled anew in each iteration.

    Args:
      arrays: examples and labels.
      batch, seed, skip_batches, part: as for `Examples.train`.
    """
    examples, labels = arrays
    own = batch // part[1]
    begin = part[0] * own
    rows = tf.data.Dataset.range(len(labels)).shuffle(len(labels), seed=seed)
    dataset = rows.batch(batch, drop_remainder=True).skip(skip_batches)
    dataset = dataset.map(lambda rows: rows[begin : begin + own]) if own < batch else dataset
    return dataset.map(
        lambda rows: (tf.gather(examples, rows), tf.gather(labels, rows)), num_parallel_calls=tf.data.AUTOTUNE
    )


def with_random_pairs(dataset: tf.data.Dataset, *, seed: int, skip_batches: int) -> tf.data.Dataset:
    """(batch, two random integers), new ones in each iteration."""
    pairs = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True).batch(2)
    return tf.data.Dataset.zip(dataset, pairs.skip(skip_batches))
