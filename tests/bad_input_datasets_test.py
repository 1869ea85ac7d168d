"""Datasets that cannot be used: told in one paragraph, with exit code 2 and every file as before."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from refusals import refused
from stored_datasets import digit_examples, store, write_digits, write_png

IMAGE = tfds.features.Image(shape=(8, 8, 1))


LABEL = tfds.features.ClassLabel(num_classes=10)


def folder_of_digits(root, *, damaged=(), **options):
    """`folder:` of real digits in train and test; the files at the places in `damaged` hold no image."""
    write_digits(root / "train", per_class=4, **options)
    write_digits(root / "test", per_class=1, start=10)
    for half, index in damaged:
        sorted((root / half).rglob("*.png"))[index].write_bytes(b"\xff\xd8\xff no image")
    return f"--dataset=folder:{root}"


def one_class(root):
    for index in range(3):
        write_png(root / "cat" / f"{index}.png", np.full((20, 20, 3), 7, np.uint8))
    return f"--dataset=folder:{root}"


def class_without_images(root):
    argument = folder_of_digits(root)
    (root / "train" / "ten").mkdir()
    return argument


def dangling_link(root):
    argument = folder_of_digits(root)
    (root / "train" / "0" / "a.png").symlink_to(root / "nowhere.png")
    return argument


def tfds_data(root, features=None, examples=None, **more):
    features = features or {"image": IMAGE, "label": LABEL}
    examples = examples or {"train": digit_examples(20), "test": digit_examples(4)}
    store("scans", root, features, examples, **more)
    return ["--dataset=scans", f"--data_dir={root}"]


def with_image(shape, dtype=tf.uint8):
    def make(root):
        image = tfds.features.Image(shape=shape, dtype=dtype, encoding_format="png")
        pixels = np.zeros(shape, dtype.as_numpy_dtype)
        return tfds_data(
            root, {"image": image, "label": LABEL}, {"train": [{"image": pixels, "label": 1}] * 4}
        )

    return make


def labels_below_zero(root):
    return tfds_data(root, examples={"train": digit_examples(20, label=-1), "test": digit_examples(4)})


def lost_file(root):
    arguments = tfds_data(root, shards=2)
    for path in root.rglob("scans-test.tfrecord-*"):
        path.unlink()
    return arguments


def cut_file(root):
    arguments = tfds_data(root)
    (path,) = root.rglob("scans-test.tfrecord-*")
    path.write_bytes(path.read_bytes()[:60])
    return arguments


def broken_description(root):
    arguments = tfds_data(root)
    (path,) = root.rglob("dataset_info.json")
    path.write_text("{")
    return arguments


def file_as_data_dir(root):
    root.write_text("precious")
    return ["--dataset=cifar10", f"--data_dir={root}"]


def empty(root):
    root.mkdir()
    return f"--dataset=folder:{root}"


DATASETS = {
    "empty folder": (empty, ["0 class folder(s) (none)", "at least 2"]),
    "one class": (one_class, ["1 class folder(s) (cat)", "at least 2"]),
    "class without images": (class_without_images, ["ten has no image", ".jpg"]),
    "damaged evaluation image": (
        lambda root: folder_of_digits(root, damaged=[("test", 5)]),
        ["1 file(s) cannot be decoded", "1 of them for evaluation", "/test/5/"],
    ),
    "damaged training images": (
        lambda root: folder_of_digits(root, damaged=[("train", 17), ("train", 18)]),
        ["2 file(s) cannot be decoded", "/train/4/"],
    ),
    "nothing but damage": (
        lambda root: folder_of_digits(
            root, damaged=[("train", i) for i in range(40)] + [("test", i) for i in range(10)]
        ),
        ["None of 50 files can be decoded"],
    ),
    "link to nothing": (dangling_link, ["a.png"]),
    "endless name": (lambda root: f"--dataset=folder:/{'x' * 300}", ["names no folder"]),
    "four channels": (with_image((8, 8, 4)), ["(8, 8, 4)", "1 channel", "3 channels"]),
    "sixteen bits": (with_image((8, 8, 1), tf.uint16), ["uint16", "uint8"]),
    "labels below zero": (labels_below_zero, ["training images of scans", "[-1, -1", "0 to 9"]),
    "lost file": (lost_file, ["scans", "cannot be read"]),
    "cut file": (cut_file, ["scans", "cannot be read"]),
    "broken description": (broken_description, ["scans"]),
    "unknown version": (
        lambda root: ["--dataset=cifar10:9.9.9", f"--data_dir={root}"],
        ["cifar10:9.9.9"],
    ),
    "file as data_dir": (file_as_data_dir, ["cifar10", "{root}"]),
}


@pytest.mark.parametrize("case", DATASETS)
def test_datasets(capsys, tmp_path, case):
    make, parts = DATASETS[case]
    root = tmp_path / "data"
    arguments = make(root)
    arguments = [arguments] if isinstance(arguments, str) else arguments
    message = refused(capsys, tmp_path, "--float_epochs=1", *arguments)
    for part in parts:
        assert part.format(root=root) in message
