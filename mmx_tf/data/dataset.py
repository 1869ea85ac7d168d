"""Images and labels for training and evaluation, as `tf.data` pipelines of float32 [-1, 1] images.

    >>> data = load("digits")
    >>> data.num_classes, data.image_shape, data.train_images, data.eval_images
    (10, (32, 32, 1), 1437, 360)
    >>> model.fit(data.train(batch_size=128, seed=0)); model.evaluate(data.evaluation(batch_size=128))

Every pixel value is one of the 256 numbers `pixel / 127.5 - 1`. Images below 96 pixels are resized once, kept
in memory as uint8 when they fit into an eighth of it, shifted (black comes in at the edges, as in the usual
CIFAR pipelines) and flipped. Larger images are decoded anew in each epoch: random resized crop and flip for
training, the centre for evaluation.
"""

import functools
import numbers
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import tensorflow as tf

from mmx_tf.choices import TASKS
from mmx_tf.data import images, kinds
from mmx_tf.data.damaged import (
    UNREADABLE,
    DamagedImages,
    check_evaluation,
    unreadable_error,
)
from mmx_tf.data.labels import Labels
from mmx_tf.data.reading import in_order, read_all, rows_of_batches
from mmx_tf.data.source import Source, Split
from mmx_tf.errors import DataError
from mmx_tf.startup import MEMORY_BYTES

PIXEL_SCALING = (1 / 127.5, -1.0)
"""Scale and offset: images are pixel * scale + offset."""
SMALL_IMAGE_BELOW = 96
# Making a tensor of the pixels takes three times their memory for a moment.
MEMORY_LIMIT_BYTES = MEMORY_BYTES // 8
MAX_SHIFT = 1 / 8


def load(name: str, *, data_dir: str = "", image_size: int = 0) -> "ImageData":
    """Open a dataset; nothing is downloaded and, apart from a folder's check, no image is decoded yet.

    Args:
        name: 'digits', the name of a TFDS image dataset, or 'folder:PATH' (see `mmx_tf.data.kinds`).
        data_dir: the folder of prepared TFDS datasets; empty takes TFDS's own default.
        image_size: height and width in pixels; 0 takes the dataset's natural size.

    Raises:
        DataError: unknown or missing dataset (with the command that prepares it), unusable images or labels.
    """
    if not isinstance(name, str):
        raise DataError(f"dataset={name!r} is no text; {kinds.allowed()}.")
    if not isinstance(image_size, numbers.Integral) or image_size < 0:
        raise DataError(f"--image_size={image_size} is not a size; give pixels, or 0 for the natural size.")
    try:
        source = kinds.of(name).opened(name, data_dir=data_dir)
    except OSError as error:
        where = f" in --data_dir={data_dir}" if data_dir else ""
        raise DataError(f"--dataset={name}{where} cannot be read: {error}.") from error
    data = ImageData(source=source, image_size=image_size or source.natural_size)
    data.check_labels()
    return data


@dataclass(frozen=True, kw_only=True)
class ImageData:
    """An opened dataset at one image size. Make it with `load`."""

    source: Source = field(repr=False)
    image_size: int

    @property
    def name(self) -> str:
        """The name that `load` was given."""
        return self.source.name

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes; label i is class_names[i]. () where labels are vectors of numbers."""
        return self.source.class_names

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.source.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of every image."""
        return self.image_size, self.image_size, self.source.channels

    @property
    def train_images(self) -> int:
        """Number of training images."""
        return self.source.train.count

    @property
    def eval_images(self) -> int:
        """Number of evaluation images."""
        return self.source.evaluation.count

    def train(
        self,
        *,
        batch_size: int,
        seed: int,
        augment: bool = True,
        skip_batches: int = 0,
        part: tuple[int, int] = images.WHOLE,
    ) -> tf.data.Dataset:
        """One epoch of (float32 [B, H, W, C] in [-1, 1], labels), shuffled.

        Labels are int32 [B], float32 [B, 1] for a binary task, or float32 [B, K] where they are vectors.

        Each iteration over the dataset shuffles and augments anew; the whole sequence is decided by `seed`. A
        last incomplete batch is dropped, except when it is the only one. The first `skip_batches` batches of
        an iteration are left out, undecoded; the others are what they are without that. An image that cannot
        be decoded is replaced by another of its batch (see `mmx_tf.data.damaged`); `damaged` counts them.

        With part = (index, count) only the index-th of `count` equal parts of every batch is decoded and
        given, as it is in the whole batch; a damaged image is replaced within its part.
        """
        _check_batch_size(batch_size)
        split, batch = self.source.train, min(batch_size, self.source.train.count)
        if not 0 <= part[0] < part[1] <= batch:
            raise DataError(
                f"part={part!r}: (index, count) with an index in 0..count-1, at most {batch} parts."
            )
        own = batch // part[1]
        begin = part[0] * own
        if self._in_memory:
            pixels, labels = self._train_pixels
            rows = tf.data.Dataset.range(split.count).shuffle(split.count, seed=seed)
            dataset = rows.batch(batch, drop_remainder=True).skip(skip_batches)
            dataset = dataset.map(lambda rows: rows[begin : begin + own]) if own < batch else dataset
            dataset = dataset.map(
                lambda rows: (tf.gather(pixels, rows), tf.gather(labels, rows)),
                num_parallel_calls=tf.data.AUTOTUNE,
            )
        else:

            def examples():
                numbers = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True)
                found = tf.data.Dataset.zip(split.stream(seed), numbers)
                return rows_of_batches(found, batch, begin, own) if own < batch else found

            fit = self._fit_for_training(augment)
            count = split.count // batch - skip_batches
            dataset = self.damaged.batches(examples, fit, batch=own, first=skip_batches, count=count)
        # Two random integers for each batch, new ones in each epoch.
        pairs = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True).batch(2)
        dataset = tf.data.Dataset.zip(dataset, pairs.skip(skip_batches)).map(
            lambda batch, pair: (
                self._augmented(batch[0], pair, part) if augment else images.normalise(batch[0]),
                self.labels.given(batch[1]),
            ),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        return dataset.prefetch(tf.data.AUTOTUNE).with_options(in_order())

    def evaluation(self, *, batch_size: int, limit: int = 0) -> tf.data.Dataset:
        """The evaluation images in their fixed order, none dropped: (float32 [B, H, W, C], labels).

        With `limit` above 0, only the first `limit` of them.
        """
        _check_batch_size(batch_size)
        if self._in_memory:
            dataset = tf.data.Dataset.from_tensor_slices(self._eval_pixels)
        else:
            dataset = self.source.evaluation.stream(None)
        dataset = dataset.take(limit) if limit else dataset
        if not self._in_memory:
            dataset = dataset.map(
                lambda stored, label: (self._fit(stored), label), num_parallel_calls=tf.data.AUTOTUNE
            )
        dataset = dataset.batch(batch_size)
        return dataset.map(
            lambda pixels, labels: (images.normalise(pixels), self.labels.given(labels)),
            num_parallel_calls=tf.data.AUTOTUNE,
        ).prefetch(tf.data.AUTOTUNE)

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

    def for_task(self, task: str) -> "ImageData":
        """The same data for a task, one of `choices.TASKS`, whose labels are then given in its form.

        Images of a regression are not mirrored: their numbers may say where something is.

        Raises:
            DataError: another task, or a binary one where there are not two classes.
        """
        if task not in ("", *TASKS):
            raise DataError(f"task={task!r}: one of {', '.join(TASKS)}.")
        if task == "binary" and self.num_classes not in (0, 2):
            raise DataError(f"{self.name} has {self.num_classes} classes, and a binary task has two.")
        mirrored = self.source.mirrored and task != "regression"
        return replace(self, source=replace(self.source, task=task, mirrored=mirrored))

    @property
    def labels(self) -> Labels:
        """What the labels are like."""
        return self.source.labels

    @functools.cached_property
    def damaged(self) -> DamagedImages:
        """The training images that could not be decoded, as far as they have been met."""
        train = self.source.train
        return DamagedImages(self.name, count=train.count, labels=self.labels, files_of=train.files_of)

    @contextmanager
    def reading_errors(self) -> Iterator[None]:
        """Says in words what is wrong with the data when reading them fails in the block.

        Raises:
            DamagedDataError: names the image, or what cannot be read.
        """
        try:
            yield
        except tf.errors.OpError as error:
            if self.damaged.error:
                raise self.damaged.error from error
            if isinstance(error, UNREADABLE):
                raise unreadable_error(self.name, error) from error
            if isinstance(error, tf.errors.InvalidArgumentError):
                check_evaluation(self.source.evaluation, self._fit, name=self.name, labels=self.labels)
            raise

    @property
    def _small(self) -> bool:
        return self.image_size < SMALL_IMAGE_BELOW or self.name == "digits"

    @property
    def _in_memory(self) -> bool:
        count = self.train_images + self.eval_images
        return self._small and count * int(np.prod(self.image_shape)) <= MEMORY_LIMIT_BYTES

    @functools.cached_property
    def _train_pixels(self) -> tuple[tf.Tensor, tf.Tensor]:
        return self._read(self.source.train)

    @functools.cached_property
    def _eval_pixels(self) -> tuple[tf.Tensor, tf.Tensor]:
        return self._read(self.source.evaluation)

    def _read(self, split: Split) -> tuple[tf.Tensor, tf.Tensor]:
        shape, whole = (split.count, *self.image_shape), split is self.source.evaluation
        return read_all(split, self._fit, shape, self.labels, self.damaged, name=self.name, whole=whole)

    @tf.autograph.experimental.do_not_convert
    def _fit(self, stored: tf.Tensor) -> tf.Tensor:
        """One stored image as evaluation sees it: uint8 [H, W, C]."""
        image = images.decode(stored, channels=self.source.channels)
        return images.centre_square(
            image, size=self.image_size, margin=1.0 if self._small else images.EVAL_MARGIN
        )

    def _fit_for_training(self, augment: bool):
        """(stored image, number) -> the image at the size of training, uint8 [H, W, C]."""
        if self._small or not augment:
            return lambda stored, number: self._fit(stored)
        return lambda stored, number: images.random_resized_crop(
            stored, tf.stack([number, 0]), size=self.image_size, channels=self.source.channels
        )

    @tf.autograph.experimental.do_not_convert
    def _augmented(self, pixels: tf.Tensor, pair: tf.Tensor, part: tuple[int, int]) -> tf.Tensor:
        """A batch of training images, the small ones shifted, flipped: uint8 to float32 [B, H, W, C]."""
        if self._small:
            pixels = images.shift(pixels, pair, by=max(1, int(MAX_SHIFT * self.image_size)), part=part)
        if self.source.mirrored:
            return images.flip_and_normalise(pixels, pair + 1, part=part)
        return images.normalise(pixels)


def _check_batch_size(batch_size) -> None:
    if not isinstance(batch_size, numbers.Integral) or batch_size < 1:
        raise DataError(f"batch_size={batch_size!r}: an integer of 1 or more.")
