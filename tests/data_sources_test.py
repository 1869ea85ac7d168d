"""Folders and TFDS datasets: how they are split, and what is said of those that cannot be used."""

import numpy as np
import pytest
import tensorflow_datasets as tfds
from loaded_data import SHARED_TFDS, all_of, message_of
from sklearn.datasets import load_digits
from stored_datasets import digit_examples, store, write_digits, write_png

from mmx_tf.data import dataset as data_module
from mmx_tf.data.loading import load


@pytest.fixture
def shared_tfds() -> str:
    if not SHARED_TFDS.is_dir():
        pytest.skip(f"NOT TESTED: the TFDS folder {SHARED_TFDS} with cifar10 and imagenet2012 is not there")
    return str(SHARED_TFDS)


def test_a_folder_of_grey_images_is_split_nine_to_one(tmp_path):
    write_digits(tmp_path, per_class=20)
    data = load(f"folder:{tmp_path}")
    assert (data.image_shape, data.class_names) == ((8, 8, 1), tuple("0123456789"))
    assert (data.train_images, data.eval_images) == (180, 20)
    _, labels = all_of(data.evaluation(batch_size=20))
    assert list(np.bincount(labels)) == [2] * 10
    assert len(set(labels[:10])) > 4, "the first images are a mixture of classes"
    train, _ = all_of(data.train(batch_size=180, seed=0, augment=False))
    evaluation, _ = all_of(data.evaluation(batch_size=20))
    assert not {image.tobytes() for image in train} & {image.tobytes() for image in evaluation}


def test_a_folder_with_train_and_validation_keeps_them(tmp_path):
    write_digits(tmp_path / "train", per_class=4)
    write_digits(tmp_path / "val", per_class=2, start=4)
    data = load(f"folder:{tmp_path}", image_size=16)
    assert (data.train_images, data.eval_images, data.image_shape) == (40, 20, (16, 16, 1))


def test_bad_folders_are_explained(tmp_path):
    assert "names no folder" in message_of(f"folder:{tmp_path / 'none'}")
    assert "0 class folder(s)" in message_of(f"folder:{tmp_path}")
    pixels = np.full((20, 20, 3), 7, np.uint8)
    write_png(tmp_path / "cat" / "0.png", pixels)
    assert "only 1 image" in message_of(f"folder:{tmp_path}")
    write_png(tmp_path / "cat" / "1.png", pixels)
    assert "1 class folder(s) (cat)" in message_of(f"folder:{tmp_path}")
    (tmp_path / "dog").mkdir()
    assert f"{tmp_path / 'dog'} has no image" in message_of(f"folder:{tmp_path}")
    write_png(tmp_path / "dog" / "0.png", pixels)
    broken = tmp_path / "dog" / "1.png"
    broken.write_bytes((tmp_path / "dog" / "0.png").read_bytes()[:40])
    message = message_of(f"folder:{tmp_path}")
    assert "1 file(s) cannot be decoded" in message and str(broken) in message


def test_classes_must_be_the_same_in_both_halves(tmp_path):
    pixels = np.full((20, 20, 3), 7, np.uint8)
    for path in ("train/cat", "train/dog", "validation/cat", "validation/cow"):
        write_png(tmp_path / path / "0.png", pixels)
    assert "cow, dog" in message_of(f"folder:{tmp_path}")


def test_an_unknown_dataset_is_named_with_the_allowed_forms():
    message = message_of("cifar11")
    assert "'cifar11'" in message and "folder:PATH" in message and "cifar10" in message
    assert "folder:PATH" in message_of("huggingface:mnist")
    assert "folder:PATH" in message_of("")
    assert "--image_size=-3" in message_of("digits", image_size=-3)


def test_a_dataset_that_is_not_prepared_comes_with_the_command(tmp_path):
    message = message_of("cifar10", data_dir=str(tmp_path))
    assert f"tfds.load('cifar10', data_dir='{tmp_path}', download=True)" in message
    assert "ILSVRC2012_img_train.tar" not in message
    message = message_of("imagenet2012", data_dir=str(tmp_path / "none"))
    assert "tfds.load('imagenet2012'" in message and "ILSVRC2012_img_train.tar" in message


def test_a_tfds_dataset_without_an_evaluation_split_keeps_a_tenth(tmp_path):
    features = {
        "image": tfds.features.Image(shape=(8, 8, 1)),
        "label": tfds.features.ClassLabel(num_classes=10),
    }
    store("scans", tmp_path, features, {"train": digit_examples(50)})
    data = load("scans", data_dir=str(tmp_path))
    assert (data.train_images, data.eval_images, data.image_shape) == (45, 5, (8, 8, 1))
    images, labels = all_of(data.evaluation(batch_size=5))
    np.testing.assert_array_equal(labels, load_digits().target[45:50])
    np.testing.assert_array_equal(
        np.rint((images[..., 0] + 1) * 127.5), np.rint(load_digits().images[45:50] * (255 / 16))
    )


@pytest.mark.parametrize("size", [16, 96])
def test_shards_are_read_side_by_side_and_every_image_once_an_epoch(tmp_path, size, monkeypatch):
    monkeypatch.setattr(data_module, "MEMORY_LIMIT_BYTES", 1000)
    features = {
        "image": tfds.features.Image(shape=(None, None, 1)),
        "label": tfds.features.ClassLabel(num_classes=10),
    }
    examples = digit_examples(60)
    store("scans", tmp_path, features, {"train": examples, "test": examples[:2]}, shards=5)
    data = load("scans", data_dir=str(tmp_path), image_size=size)
    dataset = data.train(batch_size=20, seed=1, augment=False)
    epochs = [all_of(dataset)[1] for _ in range(2)]
    digits = np.bincount([example["label"] for example in examples], minlength=10)
    for labels in epochs:
        np.testing.assert_array_equal(np.bincount(labels, minlength=10), digits)
    images, _ = all_of(dataset)
    assert len({image.tobytes() for image in images}) == 60
    assert (epochs[0] != epochs[1]).any()
    again = load("scans", data_dir=str(tmp_path), image_size=size)
    np.testing.assert_array_equal(epochs[0], all_of(again.train(batch_size=20, seed=1, augment=False))[1])
    # Unshuffled, the shards' blocks alternate: a block of 16 holds all 12 images of a shard here.
    in_order = [int(label) for _, label in data.source.train.stream(None)]
    assert in_order == [example["label"] for shard in range(5) for example in examples[shard::5]]


def test_a_tfds_dataset_that_cannot_be_used_is_explained(tmp_path):
    image = tfds.features.Image(shape=(8, 8, 1))
    label = tfds.features.ClassLabel(num_classes=10)
    examples = digit_examples(4)
    store("unlabelled", tmp_path, {"image": image}, {"train": [{"image": e["image"]} for e in examples]})
    assert "features 'image' and 'label'" in message_of("unlabelled", data_dir=str(tmp_path))
    held_out = digit_examples(4, label=-1)
    store("hidden", tmp_path, {"image": image, "label": label}, {"train": examples, "test": held_out})
    assert "no usable labels" in message_of("hidden", data_dir=str(tmp_path))
    store("untrained", tmp_path, {"image": image, "label": label}, {"test": examples})
    assert "no split 'train', only test" in message_of("untrained", data_dir=str(tmp_path))


def test_cifar10(shared_tfds):
    data = load("cifar10", data_dir=shared_tfds)
    assert (data.num_classes, data.image_shape) == (10, (32, 32, 3))
    assert (data.train_images, data.eval_images) == (50_000, 10_000)
    images, labels = all_of(data.evaluation(batch_size=1000))
    assert images.shape == (10_000, 32, 32, 3)
    assert list(np.bincount(labels)) == [1000] * 10


def test_imagenet_images(shared_tfds):
    data = load("imagenet2012", data_dir=shared_tfds)
    assert (data.num_classes, data.image_shape) == (1000, (224, 224, 3))
    images, labels = next(data.train(batch_size=8, seed=0).as_numpy_iterator())
    assert images.shape == (8, 224, 224, 3) and -1 <= images.min() < images.max() <= 1
    images, labels = all_of(data.evaluation(batch_size=8, limit=10))
    assert images.shape == (10, 224, 224, 3) and labels.shape == (10,)
