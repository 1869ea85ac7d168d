"""A folder of one's own images as a dataset: `folder:PATH`, one subfolder per class.

PATH holds the class folders themselves, or `train`, `val` and `test` with the same class folders in each
(`mmx_tf.data.folder_layout`).

    >>> source = from_folder("photos")   # photos/cat/1.png, photos/dog/1.png, ...
    >>> source.class_names
    ('cat', 'dog')
"""

import collections
import functools
import math
import os
from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import logging

from mmx_tf.data import image_files
from mmx_tf.data.chosen import chosen_rows, rows_told
from mmx_tf.data.damaged import DAMAGED_SHARE
from mmx_tf.data.folder_layout import Files, layout_of
from mmx_tf.data.images import decode
from mmx_tf.data.source import LARGE_IMAGE_SIZE, ImageSource, Split
from mmx_tf.errors import DataError

# Up to this many bytes of images are all decoded when the folder is opened; of more, a few of each class.
FULL_CHECK_BYTES = 64 * 2**20
SAMPLE_PER_CLASS = 4


def from_folder(path: str) -> ImageSource:
    """Open a folder of class folders with images of any format in `folder_layout.SUFFIXES`.

    The images that are looked at decide what the rest is taken for: grey if all of them are grey, and of a
    natural size that is the median of their shorter sides, at most 224.

    Raises:
        DataError: no such folder, fewer than two classes, a class without enough images, classes that
            differ between training and evaluation; a file that is no image, if it is one for evaluation or
            more than `DAMAGED_SHARE` of the training files are such.
    """
    root, name = Path(path).expanduser(), f"folder:{path}"
    layout = layout_of(root)
    train = layout.train
    if len(train) < 2:
        raise DataError(
            f"The folder {root} has {len(train)} class folder(s) ({', '.join(train) or 'none'}); a "
            "classifier needs at least 2, each a subfolder with the images of one class."
        )
    logging.info("%s", layout.told(name))
    if layout.skipped:
        logging.warning("%s: %s.", name, layout.skipped_told)
    parts = layout.parts
    size, channels, broken = _look_at([members for files in parts.values() for members in files.values()])
    _check_damage(parts, broken)
    return ImageSource(
        name=name,
        class_names=tuple(train),
        natural_size=size,
        channels=channels,
        mirrored=True,
        held_out="evaluation" not in layout.folders,
        **{part: _split(root, files) for part, files in parts.items()},
    )


def _split(root: Path, files: Files) -> Split:
    """The split of some files by class."""
    paths = np.array([str(path) for members in files.values() for path in members])
    labels = np.repeat(np.arange(len(files), dtype=np.int32), [len(members) for members in files.values()])
    # One fixed mixture of the classes, so that the first images of a split are a fair sample of it.
    order = np.random.default_rng(0).permutation(len(paths))
    return _split_of(root, paths[order], labels[order])


def _split_of(root: Path, paths: np.ndarray, labels: np.ndarray, rows: str = "") -> Split:
    """The split of files (N,) and their labels (N,), in this order."""
    webp = _some_webp(paths)

    def stream(shuffle_seed: int | None) -> tf.data.Dataset:
        dataset = tf.data.Dataset.from_tensor_slices((paths, labels))
        if shuffle_seed is not None:
            dataset = dataset.shuffle(len(paths), seed=shuffle_seed)
        return dataset.map(
            lambda path, label: (image_files.read(path, webp=webp), label),
            num_parallel_calls=tf.data.AUTOTUNE,
        )

    @functools.cache
    def by_size() -> dict[int, list[str]]:
        sizes = collections.defaultdict(list)
        for path in sorted(map(str, paths)):
            sizes[os.path.getsize(path)].append(path)
        return sizes

    def files_of(stored: bytes) -> list[str]:
        return [path for path in by_size()[len(stored)] if Path(path).read_bytes() == stored]

    def listed() -> list[tuple[str, int]]:
        # Plain strings: a folder may have millions of files.
        return [(path[len(str(root)) :], os.stat(path).st_size) for path in paths.tolist()]

    def parted(count: int, seed: int) -> tuple[Split, Split]:
        return tuple(
            _split_of(root, paths[rows], labels[rows], rows_told(rows))
            for rows in chosen_rows(len(paths), count, seed)
        )

    return Split(count=len(paths), stream=stream, files_of=files_of, files=listed, parted=parted, rows=rows)


def _some_webp(paths) -> bool:
    return any(str(path).lower().endswith(image_files.WEBP) for path in paths)


def _check_damage(parts: dict[str, Files], broken: set[Path]) -> None:
    """Refuses a folder for undecodable evaluation images, or more training ones than others stand in for."""
    found = {
        part: [path for members in files.values() for path in members if path in broken]
        for part, files in parts.items()
    }
    listed = [*(path for part, paths in found.items() if part != "train" for path in paths), *found["train"]]
    in_evaluation = len(listed) - len(found["train"])
    allowed = DAMAGED_SHARE * sum(map(len, parts["train"].values()))
    if not in_evaluation and len(listed) <= allowed:
        return
    of_them = f", {in_evaluation} of them for evaluation" if in_evaluation else ""
    raise DataError(
        f"{len(listed)} file(s) cannot be decoded as an image{of_them}, the first is {listed[0]}. Repair or "
        f"remove: {', '.join(map(str, listed[:5]))}{', ...' if len(listed) > 5 else ''}."
    )


def _look_at(classes: list[list[Path]]) -> tuple[int, int, set[Path]]:
    """Decode all images, or some of each class when there are many.

    Returns:
        Natural size and channels of these, and those that cannot be decoded.
    """
    paths = [path for members in classes for path in members]
    step = math.ceil(len(paths) / 1000)
    estimated_bytes = step * sum(path.stat().st_size for path in paths[::step])
    if estimated_bytes > FULL_CHECK_BYTES:
        paths = [path for files in classes for path in files[:: math.ceil(len(files) / SAMPLE_PER_CLASS)]]

    webp = _some_webp(paths)

    def shape_of(index, path):
        stored = image_files.read(path, webp=webp)
        native = tf.io.decode_image(stored, expand_animations=False)
        # The network's own decoding is tried as well: not every format gives every number of channels.
        colour = decode(stored, channels=3)
        return index, tf.shape(native), tf.shape(colour)

    shapes = (
        tf.data.Dataset.from_tensor_slices((range(len(paths)), [str(path) for path in paths]))
        .map(shape_of, num_parallel_calls=tf.data.AUTOTUNE)
        .ignore_errors(log_warning=False)
    )
    seen = {int(index): shape for index, shape, _ in shapes.as_numpy_iterator()}
    broken = {path for index, path in enumerate(paths) if index not in seen}
    if not seen:
        raise DataError(f"None of {len(paths)} files can be decoded as an image, {paths[0]} among them.")
    channels = 1 if all(shape[2] == 1 for shape in seen.values()) else 3
    shorter_sides = [min(shape[:2]) for shape in seen.values()]
    return min(LARGE_IMAGE_SIZE, int(np.median(shorter_sides))), channels, broken
