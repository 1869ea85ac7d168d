"""Images and labels for training and evaluation, as `tf.data` pipelines of float32 images.

    >>> digits = mmx_tf.data.load("digits")
    >>> digits.num_classes, digits.image_shape, digits.train_images, digits.eval_images
    (10, (32, 32, 1), 1437, 360)
    >>> digits.train(batch_size=128, seed=0).element_spec[0].shape
    TensorShape([128, 32, 32, 1])

Every pixel value is one of the 256 numbers `pixel * scale + offset`, by default `pixel / 127.5 - 1`. Images
below 96 pixels are resized once, kept in memory as uint8 when they fit into an eighth of it, shifted (black
comes in at the edges, as in the usual CIFAR pipelines) and flipped. Larger images are decoded anew in each
epoch: random resized crop and flip for training, the centre for evaluation.
"""

import functools
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf

from mmx_tf.choices import EVAL_MARGIN, SMALL_IMAGE_BELOW
from mmx_tf.data import images
from mmx_tf.data.damaged import DamagedImages, check_evaluation
from mmx_tf.data.examples import Examples, check_batch, rows_in_batches, with_random_pairs
from mmx_tf.data.images import MAX_SHIFT, PIXEL_SCALING
from mmx_tf.data.reading import in_order, read_all, rows_of_batches
from mmx_tf.data.source import ImageSource, Split
from mmx_tf.startup import MEMORY_BYTES

# Making a tensor of the pixels takes three times their memory for a moment.
MEMORY_LIMIT_BYTES = MEMORY_BYTES // 8


@dataclass(frozen=True, kw_only=True)
class ImageData(Examples):
    """Images of one size. Make it with `mmx_tf.data.load`."""

    source: ImageSource = field(repr=False)
    image_size: int
    pixel_scaling: tuple[float, float] = PIXEL_SCALING

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of every image."""
        return self.image_size, self.image_size, self.source.channels

    def train(
        self,
        *,
        batch_size: int,
        seed: int,
        augment: bool = True,
        skip_batches: int = 0,
        part: tuple[int, int] = images.WHOLE,
    ) -> tf.data.Dataset:
        """As `Examples.train`.

        Batches that are skipped are not decoded, nor are other parts than one's own. An image that cannot be
        decoded is replaced by another of its batch, or of its part (see `mmx_tf.data.damaged`); `damaged`
        counts them.
        """
        split = self.source.train
        batch = check_batch(batch_size, split.count, part)
        augment = augment and self.source.moved
        if self._in_memory:
            dataset = rows_in_batches(
                self._train_pixels, batch=batch, seed=seed, skip_batches=skip_batches, part=part
            )
        else:
            own = batch // part[1]
            begin = part[0] * own

            def examples():
                numbers = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True)
                found = tf.data.Dataset.zip(split.stream(seed), numbers)
                return rows_of_batches(found, batch, begin, own) if own < batch else found

            fit = self._fit_for_training(augment)
            count = split.count // batch - skip_batches
            dataset = self.damaged.batches(examples, fit, batch=own, first=skip_batches, count=count)
        dataset = with_random_pairs(dataset, seed=seed, skip_batches=skip_batches).map(
            lambda batch, pair: (self._given(batch[0], pair, part, augment), self.labels.given(batch[1])),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        return dataset.prefetch(tf.data.AUTOTUNE).with_options(in_order())

    def evaluation(self, *, batch_size: int, limit: int = 0) -> tf.data.Dataset:
        """As `Examples.evaluation`."""
        check_batch(batch_size, 1)
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
            lambda pixels, labels: (images.normalise(pixels, self.pixel_scaling), self.labels.given(labels)),
            num_parallel_calls=tf.data.AUTOTUNE,
        ).prefetch(tf.data.AUTOTUNE)

    @functools.cached_property
    def damaged(self) -> DamagedImages:
        """The training images that could not be decoded, as far as they have been met."""
        train = self.source.train
        return DamagedImages(self.name, count=train.count, labels=self.labels, files_of=train.files_of)

    def report_damage(self) -> None:
        """As `Examples.report_damage`."""
        self.damaged.report()

    def _find_damage(self, error: tf.errors.OpError) -> None:
        if self.damaged.error:
            raise self.damaged.error from error
        if isinstance(error, tf.errors.InvalidArgumentError):
            for split in filter(None, (self.source.evaluation, self.source.validation)):
                check_evaluation(split, self._fit, name=self.name, labels=self.labels)

    @property
    def _small(self) -> bool:
        return self.image_size < SMALL_IMAGE_BELOW or self.source.uncropped

    @property
    def _in_memory(self) -> bool:
        count = self.train_images + self.eval_images + self.validation_images
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
        return images.centre_square(image, size=self.image_size, margin=1.0 if self._small else EVAL_MARGIN)

    def _fit_for_training(self, augment: bool):
        """(stored image, number) -> the image at the size of training, uint8 [H, W, C]."""
        if self._small or not augment:
            return lambda stored, number: self._fit(stored)
        return lambda stored, number: images.random_resized_crop(
            stored, tf.stack([number, 0]), size=self.image_size, channels=self.source.channels
        )

    @tf.autograph.experimental.do_not_convert
    def _given(self, pixels: tf.Tensor, pair: tf.Tensor, part: tuple[int, int], augment: bool) -> tf.Tensor:
        """A batch of training images, the small ones shifted, flipped: uint8 to float32 [B, H, W, C]."""
        return images.augmented(
            pixels,
            pair,
            by=max(1, int(MAX_SHIFT * self.image_size)) if augment and self._small else 0,
            mirrored=augment and self.source.mirrored,
            scaling=self.pixel_scaling,
            part=part,
        )
