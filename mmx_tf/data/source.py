"""What a dataset is before it is made into batches: its classes, its splits, and its stored examples.

A `Source` says what there is and hands out *stored* examples (encoded images, pixels, or other numbers),
which `mmx_tf.data` turns into training batches. `mmx_tf.data.kinds` has a module for each kind of dataset.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import tensorflow as tf

from mmx_tf.data.chosen import chosen_rows, rows_told
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
    split as (name, bytes), names without the folder of the dataset; empty without files. `arrays`
    are all examples and labels, where they are in memory. `parted(count, seed)` gives two splits, `count`
    examples in the second and the others in the first (`mmx_tf.data.held_out`); None where examples can only
    be read one after the other. `in_order` says whether that is the same order in every iteration. `rows`
    tells a part of a split from other parts.
    """

    count: int
    stream: Callable[[int | None], tf.data.Dataset]
    files_of: Callable[[bytes], list[str]] = lambda stored: []
    files: Callable[[], list[tuple[str, int]]] = list
    arrays: tuple | None = None
    parted: Callable[[int, int], tuple["Split", "Split"]] | None = None
    in_order: bool = True
    rows: str = ""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A dataset: its classes, its splits, and what training does to its examples.

    `class_names` is empty where labels are arrays of numbers, of the shape `label_shape`. `version` says
    which edition of the dataset it is, where it has editions. `validation` are examples that were held out
    of training, None without such images. `held_out` says whether the evaluation examples were taken out of
    the training ones here, so that a network that was trained on the whole has seen them. `moved` says
    whether training shifts or crops images, `mirrored` whether it flips them left to right too.
    """

    name: str
    version: str = ""
    class_names: tuple[str, ...] = ()
    train: Split
    evaluation: Split
    validation: Split | None = None
    held_out: bool = False
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

    def parted(count: int, seed: int) -> tuple[Split, Split]:
        return tuple(
            replace(
                in_memory(_rows(examples, rows), _rows(labels, rows), files=files),
                parted=None,
                rows=rows_told(rows),
            )
            for rows in chosen_rows(len(labels), count, seed)
        )

    return Split(count=len(labels), stream=stream, files=files, arrays=(examples, labels), parted=parted)


def _rows(values, rows):
    """Some rows of an array or a tensor, on the CPU, where the whole is."""
    if not tf.is_tensor(values):
        return values[rows]
    with tf.device("CPU"):
        return tf.gather(values, rows)
