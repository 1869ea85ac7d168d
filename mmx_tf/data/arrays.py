"""Arrays of any one shape for training and evaluation: vectors, signals, spectrograms, images of any size.

    >>> data = mmx_tf.data.load("npz:keywords.npz")
    >>> data.image_shape, data.num_classes, data.pixel_scaling
    ((49, 10, 1), 12, None)

Numbers are given to the network as they are, in float32; what scaling they need is that of the float network,
so it has been done before they were stored. Pixels (uint8) are given as `pixel * scale + offset`, by default
`pixel / 127.5 - 1`, and in training shifted by up to an eighth where they are images.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import tensorflow as tf

from mmx_tf.data import images
from mmx_tf.data.damaged import unreadable_error
from mmx_tf.data.examples import Examples, check_batch, rows_in_batches, with_random_pairs
from mmx_tf.data.images import MAX_SHIFT
from mmx_tf.data.reading import in_order
from mmx_tf.data.source import SHUFFLE_BUFFER, ArraySource, Split
from mmx_tf.errors import DamagedDataError


@dataclass(frozen=True, kw_only=True)
class ArrayData(Examples):
    """Arrays of one shape. Make it with `mmx_tf.data.load`."""

    source: ArraySource = field(repr=False)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of every example, (features,), (length, channels), (height, width) or with channels."""
        return self.source.shape

    @property
    def reconstructs(self) -> bool:
        """As `Examples.reconstructs`."""
        return self.source.reconstructs

    def train(
        self,
        *,
        batch_size: int,
        seed: int,
        augment: bool = True,
        skip_batches: int = 0,
        part: tuple[int, int] = images.WHOLE,
    ) -> tf.data.Dataset:
        """As `Examples.train`. A function's examples are shuffled in a buffer of `SHUFFLE_BUFFER`."""
        split = self.source.train
        batch = check_batch(batch_size, split.count, part)
        if split.arrays:
            dataset = rows_in_batches(
                split.arrays, batch=batch, seed=seed, skip_batches=skip_batches, part=part
            )
        else:
            stream = split.stream(None).shuffle(min(split.count, SHUFFLE_BUFFER), seed=seed)
            dataset = stream.batch(batch, drop_remainder=True).skip(skip_batches)
            own = batch // part[1]
            begin = part[0] * own
            if own < batch:
                dataset = dataset.map(lambda *both: tuple(one[begin : begin + own] for one in both))
        augment = augment and self.source.pixels
        dataset = with_random_pairs(dataset, seed=seed, skip_batches=skip_batches).map(
            lambda batch, pair: self._given(
                *batch,
                lambda pixels: self._augmented(pixels, pair, part) if augment else self._scaled(pixels),
            ),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        return dataset.prefetch(tf.data.AUTOTUNE).with_options(in_order())

    def evaluation(self, *, batch_size: int, limit: int = 0) -> tf.data.Dataset:
        """As `Examples.evaluation`."""
        check_batch(batch_size, 1)
        dataset = self.source.evaluation.stream(None)
        dataset = (dataset.take(limit) if limit else dataset).batch(batch_size)
        return dataset.map(
            lambda examples, labels: self._given(examples, labels, self._scaled),
            num_parallel_calls=tf.data.AUTOTUNE,
        ).prefetch(tf.data.AUTOTUNE)

    def shaped(self, shape: tuple[int | None, ...]) -> "ArrayData":
        """As `Examples.shaped`."""
        own = self.source.shape
        if len(shape) == len(own) + 1 and shape[-1] == 1:
            other = (*own, 1)
        elif len(own) == len(shape) + 1 and own[-1] == 1:
            other = own[:-1]
        else:
            return self
        labels = other if self.reconstructs else self.source.label_shape
        return replace(self, source=replace(self.source, shape=other, label_shape=labels))

    def fits(self, shape: tuple[int | None, ...]) -> bool:
        """As `Examples.fits`; an axis of length 1 at the end may be missing or be one too many."""
        return Examples.fits(self.shaped(shape), shape)

    def check_labels(self) -> None:
        """Labels are checked when arrays are opened."""

    def _find_damage(self, error: tf.errors.OpError) -> None:
        for split in filter(None, (self.source.train, self.source.validation, self.source.evaluation)):
            if not split.arrays:
                _read_through(self.name, split)

    @tf.autograph.experimental.do_not_convert
    def _given(self, examples: tf.Tensor, labels: tf.Tensor, seen: Callable) -> tuple[tf.Tensor, tf.Tensor]:
        """A batch as the network gets it; `seen` makes float32 numbers of stored ones."""
        found = tf.reshape(seen(examples), [-1, *self.image_shape])
        return found, found if self.reconstructs else self.labels.given(labels)

    def _scaled(self, examples: tf.Tensor) -> tf.Tensor:
        if self.source.pixels:
            return images.normalise(examples, self.pixel_scaling)
        return tf.cast(examples, tf.float32)

    def _augmented(self, pixels: tf.Tensor, pair: tf.Tensor, part: tuple[int, int]) -> tf.Tensor:
        grey = pixels[..., tf.newaxis] if pixels.shape.rank == 3 else pixels
        if grey.shape.rank != 4:
            return self._scaled(pixels)
        return images.augmented(
            grey,
            pair,
            by=max(1, int(MAX_SHIFT * min(grey.shape[1:3]))) if self.source.moved else 0,
            mirrored=self.source.mirrored,
            scaling=self.pixel_scaling,
            part=part,
        )


def _read_through(name: str, split: Split) -> None:
    """Reads all examples; raises a DamagedDataError if that fails."""
    try:
        for _ in split.stream(None):
            pass
    except tf.errors.OpError as error:
        failed = re.search(r"assertion failed: \[(.*?)\] \[(.*?)\]", str(error.message))
        if failed:
            raise DamagedDataError(f"{name}: {failed[1]}: {failed[2]}. Repair the dataset.") from error
        raise unreadable_error(name, error) from error
