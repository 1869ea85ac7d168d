"""What a dataset is before any choice of image size: its classes, its splits, and its stored images.

A `Source` says what there is and hands out *stored* images (encoded bytes, or uint8 pixels), which
`mmx_tf.data` turns into training batches. `mmx_tf.data.kinds` has a module for each kind of dataset.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from mmx_tf.data.labels import Labels

LARGE_IMAGE_SIZE = 224


@dataclass(frozen=True, kw_only=True)
class Split:
    """One half of a dataset: how many examples, and how to read them.

    `stream(shuffle_seed)` gives a `tf.data.Dataset` of (stored image, label): in a fixed order for
    None, otherwise shuffled under that seed, in a new order for each iteration. `files_of(stored)` names the
    files that hold a stored image; nothing where it has none of its own. `files()` lists all files of the
    split as (name, bytes), names without the folder of the dataset; nothing where there are none.
    """

    count: int
    stream: Callable[[int | None], tf.data.Dataset]
    files_of: Callable[[bytes], list[str]] = lambda stored: []
    files: Callable[[], list[tuple[str, int]]] = list


@dataclass(frozen=True, kw_only=True)
class Source:
    """A dataset before any choice of image size: its classes, its splits and what its images are.

    `class_names` is empty where labels are vectors of numbers, of the length `label_size`.
    `natural_size` is the height and width to use when nobody asks for another, `channels` 1 or 3, `mirrored`
    whether an image keeps its class when it is flipped left to right, `version` which edition of the dataset
    it is, where it has editions.
    """

    name: str
    version: str = ""
    class_names: tuple[str, ...]
    natural_size: int
    channels: int
    mirrored: bool
    train: Split
    evaluation: Split
    label_size: int = 0
    task: str = ""

    @property
    def labels(self) -> Labels:
        """What the labels are like."""
        return Labels(class_names=self.class_names, size=self.label_size, task=self.task)


def in_memory(images: np.ndarray, labels: np.ndarray) -> Split:
    """The split of images (n, height, width, channels) and their labels (n, ...)."""

    def stream(shuffle_seed: int | None) -> tf.data.Dataset:
        dataset = tf.data.Dataset.from_tensor_slices((images, labels))
        return dataset if shuffle_seed is None else dataset.shuffle(len(labels), seed=shuffle_seed)

    return Split(count=len(labels), stream=stream)
