"""What a dataset is before it is made into batches: its classes, its splits, and its stored examples.

A `Source` says what there is and hands out *stored* examples (encoded images, pixels, or other numbers),
which `mmx_tf.data` turns into training batches. `mmx_tf.data.kinds` has a module for each kind of dataset.
"""

from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

from mmx_tf.data.labels import Labels

LARGE_IMAGE_SIZE = 224
SHUFFLE_BUFFER = 10_000
"""Examples among which the next one is drawn, where not all are in memory."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """One half of a dataset: how many examples, and how to read them.

    `stream(shuffle_seed)` gives a `tf.data.Dataset` of (stored example, label): in a fixed order for
    None, otherwise shuffled under that seed, in a new order for each iteration. `files_of(stored)` names the
    files that hold a stored image; nothing where it has none of its own. `files()` lists all files of the
    split as (name, bytes), names without the folder of the dataset; nothing where there are none. `arrays`
    are all examples and labels, where they are in
    memory.
    """

    count: int
    stream: Callable[[int | None], tf.data.Dataset]
    files_of: Callable[[bytes], list[str]] = lambda stored: []
    files: Callable[[], list[tuple[str, int]]] = list
    arrays: tuple | None = None


@dataclass(frozen=True, kw_only=True)
class Source:
    """A dataset: its classes, its splits, and what training does to its examples.

    `class_names` is empty where labels are arrays of numbers, of the shape `label_shape`. `version` says
    which
    edition of the dataset it is, where it has editions. `moved` says whether training shifts or crops images,
    `mirrored` whether it flips them left to right too.
    """

    name: str
    version: str = ""
    class_names: tuple[str, ...] = ()
    train: Split
    evaluation: Split
    label_shape: tuple[int, ...] = ()
    task: str = ""
    moved: bool = True
    mirrored: bool = False

    @property
    def labels(self) -> Labels:
        """What the labels are like."""
        return Labels(class_names=self.class_names, shape=self.label_shape, task=self.task)


@dataclass(frozen=True, kw_only=True)
class ImageSource(Source):
    """Images of any size, before one is chosen.

    `natural_size` is the height and width to use when nobody asks for another, `channels` 1 or 3. `uncropped`
    says whether images stay whole at every size, where others of 96 pixels and more are cropped: training
    shifts them then, and evaluation has no margin.
    """

    natural_size: int
    channels: int
    uncropped: bool = False


@dataclass(frozen=True, kw_only=True)
class ArraySource(Source):
    """Arrays of one shape, which are handed on as they are.

    `shape` is that of one example, `pixels` says whether they are uint8 pixels, `reconstructs` whether the
    label of an example is the example itself, as an autoencoder learns it.
    """

    shape: tuple[int, ...]
    pixels: bool
    reconstructs: bool = False


def in_memory(examples, labels, *, files: Callable = list) -> Split:
    """The split of examples (n, ...) and their labels (n, ...), arrays or tensors."""

    def stream(shuffle_seed: int | None) -> tf.data.Dataset:
        dataset = tf.data.Dataset.from_tensor_slices((examples, labels))
        return dataset if shuffle_seed is None else dataset.shuffle(len(labels), seed=shuffle_seed)

    return Split(count=len(labels), stream=stream, files=files, arrays=(examples, labels))
