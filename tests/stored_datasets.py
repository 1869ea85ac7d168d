"""Datasets on disk as the tests make them: image files, and TFDS's own layout."""

from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from sklearn.datasets import load_digits


def write_png(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tf.io.write_file(str(path), tf.io.encode_png(pixels))


def store(
    name: str, folder: Path, features: dict, examples: dict[str, list[dict]], *, shards: int = 1, keys=None
) -> None:
    """Write a prepared TFDS dataset in its own file layout (TFDS: 'Load external tfrecord with TFDS')."""
    features = tfds.features.FeaturesDict(features)
    version = folder / name / "1.0.0"
    version.mkdir(parents=True)
    splits = []
    for split, members in examples.items():
        template = tfds.core.ShardedFileTemplate(
            data_dir=version, dataset_name=name, split=split, filetype_suffix="tfrecord"
        )
        parts = [members[shard::shards] for shard in range(shards)]
        for shard, part in enumerate(parts):
            path = version / f"{name}-{split}.tfrecord-{shard:05d}-of-{shards:05d}"
            with tf.io.TFRecordWriter(str(path)) as writer:
                for example in part:
                    writer.write(features.serialize_example(features.encode_example(example)))
        lengths = [len(part) for part in parts]
        splits.append(
            tfds.core.SplitInfo(name=split, shard_lengths=lengths, num_bytes=0, filename_template=template)
        )
    tfds.folder_dataset.write_metadata(
        data_dir=version, features=features, split_infos=splits, supervised_keys=keys
    )


def write_digits(folder: Path, *, per_class: int, start: int = 0) -> None:
    """Real digits as 8x8 grey PNG files, folder/<digit>/<number>.png."""
    data = load_digits()
    for digit in range(10):
        for index in np.flatnonzero(data.target == digit)[start : start + per_class]:
            pixels = np.rint(data.images[index] * (255 / 16)).astype(np.uint8)[..., np.newaxis]
            write_png(folder / str(digit) / f"{index:04d}.png", pixels)


def write_photos(folder: Path, photos: list[np.ndarray]) -> None:
    """Parts of two real photographs as two classes: six JPEG files and one PNG file each."""
    for name, photo in zip(("china", "flower"), photos, strict=True):
        for index in range(6):
            crop = photo[20 * index : 20 * index + 300, 30 * index : 30 * index + 400]
            (folder / name).mkdir(parents=True, exist_ok=True)
            tf.io.write_file(str(folder / name / f"{index}.JPG"), tf.io.encode_jpeg(crop))
        write_png(folder / name / "7.png", photo)


def digit_examples(count: int, *, label: int | None = None) -> list[dict]:
    data = load_digits()
    return [
        {
            "image": np.rint(data.images[i] * (255 / 16)).astype(np.uint8)[..., np.newaxis],
            "label": int(data.target[i]) if label is None else label,
        }
        for i in range(count)
    ]
