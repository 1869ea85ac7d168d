from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from sklearn.datasets import load_digits, load_sample_images
from stored_datasets import store, write_png

from mmx_tf.data import dataset as data_module
from mmx_tf.data.images import _random_window, flip_and_normalise, random_resized_crop, resize, shift
from mmx_tf.data.loading import load
from mmx_tf.errors import DataError

SHARED_TFDS = Path(__file__).parents[1].parent / "shared" / "tfds"


@pytest.fixture
def shared_tfds() -> str:
    if not SHARED_TFDS.is_dir():
        pytest.skip(f"NOT TESTED: the TFDS folder {SHARED_TFDS} with cifar10 and imagenet2012 is not there")
    return str(SHARED_TFDS)


@pytest.fixture(scope="module")
def photos() -> list[np.ndarray]:
    """The two photographs that scikit-learn ships, uint8 [427, 640, 3]."""
    return load_sample_images().images


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


def all_of(dataset: tf.data.Dataset) -> tuple[np.ndarray, np.ndarray]:
    images, labels = zip(*dataset.as_numpy_iterator(), strict=True)
    return np.concatenate(images), np.concatenate(labels)


def message_of(name: str, **options) -> str:
    with pytest.raises(DataError) as caught:
        load(name, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_digits_are_the_real_ones_in_a_fixed_stratified_split():
    data = load("digits")
    assert (data.name, data.num_classes, data.image_shape) == ("digits", 10, (32, 32, 1))
    assert (data.train_images, data.eval_images) == (1437, 360)
    images, labels = all_of(data.evaluation(batch_size=100))
    assert images.shape == (360, 32, 32, 1) and images.dtype == np.float32 and labels.dtype == np.int32
    assert (images.min(), images.max()) == (-1.0, 1.0)
    assert set(np.bincount(labels)) <= {35, 36, 37}
    again, same_labels = all_of(load("digits").evaluation(batch_size=360))
    np.testing.assert_array_equal(images, again)
    np.testing.assert_array_equal(labels, same_labels)


def test_digits_at_their_own_size_are_the_scans_themselves():
    data = load("digits", image_size=8)
    images, labels = all_of(data.evaluation(batch_size=360))
    scans = np.rint(load_digits().images * (255 / 16))
    pixels = np.rint((images[..., 0] + 1) * 127.5)
    for image, label in zip(pixels[:20], labels[:20], strict=True):
        found = np.flatnonzero((scans == image).all(axis=(1, 2)))
        assert label in load_digits().target[found]


def test_pixels_are_multiples_of_one_in_255():
    images, _ = next(load("digits").train(batch_size=64, seed=0).as_numpy_iterator())
    np.testing.assert_array_equal(
        images, np.rint((images + 1) * 127.5).astype(np.float32) / np.float32(127.5) - 1
    )


def test_one_epoch_shows_every_image_once_and_drops_the_rest_of_a_batch():
    data = load("digits")
    images, labels = all_of(data.train(batch_size=1437, seed=0, augment=False))
    assert len(labels) == 1437 and len(np.unique(images.reshape(1437, -1), axis=0)) == 1437
    batches = [len(labels) for _, labels in data.train(batch_size=100, seed=0)]
    assert batches == [100] * 14
    assert [len(labels) for _, labels in data.train(batch_size=5000, seed=0)] == [1437]


def test_the_seed_decides_all_epochs_and_each_epoch_differs():
    data = load("digits")

    def two_epochs(seed):
        dataset = data.train(batch_size=128, seed=seed)
        return [all_of(dataset.take(2)) for _ in range(2)]

    first, second, other = two_epochs(3), two_epochs(3), two_epochs(4)
    for (images, labels), (same_images, same_labels) in zip(first, second, strict=True):
        np.testing.assert_array_equal(images, same_images)
        np.testing.assert_array_equal(labels, same_labels)
    assert (first[0][1] != first[1][1]).any()
    assert (first[0][1] != other[0][1]).any()


def check_skipped(data, *, batch_size, batches):
    """What is left of an epoch after some batches is what it is in the whole epoch."""
    images, labels = all_of(data.train(batch_size=batch_size, seed=5).take(batches))
    for skipped in range(1, batches):
        options = {"batch_size": batch_size, "seed": 5, "skip_batches": skipped}
        rest, rest_labels = all_of(data.train(**options).take(batches - skipped))
        np.testing.assert_array_equal(rest, images[skipped * batch_size :])
        np.testing.assert_array_equal(rest_labels, labels[skipped * batch_size :])


def test_the_first_batches_can_be_skipped():
    data = load("digits")
    check_skipped(data, batch_size=64, batches=4)
    whole = data.train(batch_size=64, seed=5, skip_batches=20)
    assert len(list(whole)) == 2 and len(list(data.train(batch_size=64, seed=5))) == 22


def test_the_first_batches_of_large_photographs_can_be_skipped(tmp_path, photos):
    write_photos(tmp_path, photos)
    check_skipped(load(f"folder:{tmp_path}"), batch_size=4, batches=3)


def test_a_limit_takes_the_first_evaluation_images():
    data = load("digits")
    images, _ = all_of(data.evaluation(batch_size=7))
    limited, _ = all_of(data.evaluation(batch_size=7, limit=10))
    np.testing.assert_array_equal(limited, images[:10])


def test_shift_moves_an_image_and_brings_in_black():
    image = np.zeros((1, 4, 4, 1), np.uint8)
    image[0, 1, 2, 0] = 9
    seen = set()
    for seed in range(200):
        moved = shift(tf.constant(image), tf.constant([seed, 1]), by=1).numpy()
        assert moved.sum() == 9
        seen.add(tuple(np.argwhere(moved[0, ..., 0])[0]))
    assert seen == {(row, column) for row in (0, 1, 2) for column in (1, 2, 3)}


def test_images_of_a_batch_are_shifted_and_flipped_independently():
    image = np.arange(64, dtype=np.uint8).reshape(1, 8, 8, 1)
    batch = tf.constant(np.repeat(image, 64, axis=0))
    assert len(np.unique(shift(batch, tf.constant([1, 2]), by=1).numpy(), axis=0)) == 9
    flipped = flip_and_normalise(batch, tf.constant([1, 2])).numpy()
    floats = image.astype(np.float32) / np.float32(127.5) - 1
    mirrored = (flipped == floats[:, :, ::-1]).all(axis=(1, 2, 3))
    assert 20 < mirrored.sum() < 44
    np.testing.assert_array_equal(flipped[~mirrored], np.repeat(floats, 64 - mirrored.sum(), axis=0))


def test_a_flipped_batch_has_the_256_numbers_bit_by_bit():
    """XLA would multiply by the inverse of a constant divisor, which is not the same number."""
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    images = [flip_and_normalise(tf.constant(pixels), tf.constant([seed, 0])).numpy() for seed in range(8)]
    wanted = np.arange(256).astype(np.float32) / np.float32(127.5) - 1
    for image in images:
        np.testing.assert_array_equal(np.sort(image.ravel()), wanted)
    assert len({image.tobytes() for image in images}) == 2


def test_resize_is_bilinear_and_rounds_to_pixels():
    row = tf.constant([[[0], [100]]], tf.uint8)
    # Half-pixel centres: samples at -0.25, 0.25, 0.75, 1.25 of the two pixels.
    np.testing.assert_array_equal(resize(row, 1, 4).numpy()[..., 0], [[0, 25, 75, 100]])


def test_a_training_crop_of_a_jpeg_is_the_same_as_of_its_pixels(photos):
    jpeg = tf.io.encode_jpeg(photos[0])
    pixels = tf.io.decode_jpeg(jpeg)
    for seed in range(5):
        pair = tf.constant([seed, 7])
        cropped = random_resized_crop(jpeg, pair, size=300, channels=3).numpy().astype(int)
        wanted = random_resized_crop(pixels, pair, size=300, channels=3).numpy().astype(int)
        # Decoding a window alone interpolates colour at its border a little differently.
        assert np.abs(cropped - wanted).mean() < 0.5
        png = random_resized_crop(tf.io.encode_png(pixels), pair, size=300, channels=3).numpy()
        np.testing.assert_array_equal(png, wanted)


@pytest.mark.parametrize("size", [64, 24])
def test_a_crop_decoded_at_a_fraction_is_like_one_that_is_resized(photos, size):
    jpeg = tf.io.encode_jpeg(photos[0])
    pixels = tf.io.decode_jpeg(jpeg)
    divisors = set()
    for seed in range(5):
        pair = tf.constant([seed, 7])
        window = _random_window(tf.shape(pixels), pair).numpy()
        divisor = max(number for number in (1, 2, 4, 8) if number * size <= min(window[2:]))
        # The window moves to whole pixels of the smaller image.
        top, left, height, width = window // divisor * divisor
        wanted = resize(pixels[top : top + height, left : left + width], size, size).numpy().astype(int)
        cropped = random_resized_crop(jpeg, pair, size=size, channels=3).numpy().astype(int)
        # Of two parts of this photograph it would be about 70.
        assert np.abs(cropped - wanted).mean() < 6
        divisors.add(divisor)
    assert divisors >= ({2, 4} if size == 64 else {4, 8})


@pytest.mark.parametrize("size", [100, 48, 20])
@pytest.mark.parametrize("encode", [tf.io.encode_jpeg, tf.io.encode_png])
def test_training_crops_show_windows_inside_the_image(encode, size):
    """A ramp in both directions: what a crop shows of it says where it lies and how large it is."""
    rows, columns = np.mgrid[:150, :200].astype(np.uint8)
    stored = encode(np.stack([rows, columns, np.zeros_like(rows)], axis=-1), **_SHARP.get(encode, {}))
    places = set()
    for seed in range(40):
        crop = random_resized_crop(stored, tf.constant([seed, 0]), size=size, channels=3).numpy().astype(int)
        top, bottom = crop[0, :, 0].mean(), crop[-1, :, 0].mean()
        left, right = crop[:, 0, 1].mean(), crop[:, -1, 1].mean()
        # The centres of the outer pixels are one step less apart than the window is high and wide.
        height, width = ((high - low) * size / (size - 1) for low, high in ((top, bottom), (left, right)))
        assert 0.07 * 150 * 200 < height * width < 1.02 * 150 * 200
        assert 0.7 < width / height < 1.42
        assert -2 < top - height / size / 2 and bottom + height / size / 2 < 152
        assert -2 < left - width / size / 2 and right + width / size / 2 < 202
        places.add((round(top), round(left)))
    assert len(places) > 30


_SHARP = {tf.io.encode_jpeg: {"quality": 100, "chroma_downsampling": False}}


def test_a_crop_that_shrinks_leaves_out_no_pixel():
    """Lines of one pixel, every 16th white: bilinear resizing to a twentieth would mostly miss them."""
    lines = np.zeros((640, 640, 1), np.uint8)
    lines[::16] = 255
    for stored in (tf.constant(lines), tf.io.encode_png(lines), tf.io.encode_jpeg(lines, quality=100)):
        for seed in range(6):
            crop = random_resized_crop(stored, tf.constant([seed, 0]), size=8, channels=1).numpy()
            assert 255 / 16 - 5 < crop.mean() < 255 / 16 + 5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["in memory", "decoded in each epoch", "large"])
def test_photographs_too_are_decided_by_the_seed(tmp_path, photos, monkeypatch, name):
    write_photos(tmp_path, photos)
    if name == "decoded in each epoch":
        monkeypatch.setattr(data_module, "MEMORY_LIMIT_BYTES", 1000)

    def two_epochs(seed):
        data = load(f"folder:{tmp_path}", image_size=112 if name == "large" else 32)
        dataset = data.train(batch_size=4, seed=seed)
        return [all_of(dataset)[0] for _ in range(2)]

    first, second, other = two_epochs(3), two_epochs(3), two_epochs(4)
    np.testing.assert_array_equal(first, second)
    assert (first[0] != first[1]).any() and (first[0] != other[0]).any()
    pixels = np.rint((first[0] + 1) * 127.5).astype(np.float32)
    np.testing.assert_array_equal(first[0], pixels / np.float32(127.5) - 1)


def test_images_in_memory_are_those_that_are_decoded_in_each_epoch(tmp_path, photos, monkeypatch):
    write_photos(tmp_path, photos)
    kept = load(f"folder:{tmp_path}", image_size=32)
    monkeypatch.setattr(data_module, "MEMORY_LIMIT_BYTES", 1000)
    decoded = load(f"folder:{tmp_path}", image_size=32)
    for (images, labels), (others, other_labels) in (
        (all_of(kept.evaluation(batch_size=1)), all_of(decoded.evaluation(batch_size=1))),
        (by_content(kept), by_content(decoded)),
    ):
        np.testing.assert_array_equal(images, others)
        np.testing.assert_array_equal(labels, other_labels)


def by_content(data):
    """The training images of one epoch, not augmented, in an order that shuffling does not change."""
    images, labels = all_of(data.train(batch_size=data.train_images, seed=0, augment=False))
    order = sorted(range(len(labels)), key=lambda index: images[index].tobytes())
    return images[order], labels[order]


def test_images_that_are_kept_are_decoded_once(tmp_path, photos, monkeypatch):
    write_photos(tmp_path, photos)
    kept = load(f"folder:{tmp_path}", image_size=32)
    before = by_content(kept)
    for path in tmp_path.rglob("*.*"):
        path.unlink()
    np.testing.assert_array_equal(by_content(kept)[0], before[0])


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


def test_large_photographs_are_cropped_anew_and_evaluated_at_the_centre(tmp_path, photos):
    write_photos(tmp_path, photos)
    data = load(f"folder:{tmp_path}")
    assert (data.image_shape, data.class_names) == ((224, 224, 3), ("china", "flower"))
    images, labels = all_of(data.evaluation(batch_size=8))
    assert images.shape == (2, 224, 224, 3) and sorted(labels) == [0, 1]
    training = data.train(batch_size=12, seed=0)
    (first, _), (second, _) = all_of(training), all_of(training)
    assert first.shape == (12, 224, 224, 3) and (first != second).any()
    np.testing.assert_array_equal(first, all_of(data.train(batch_size=12, seed=0))[0])


def test_an_evaluation_image_is_resized_to_256_and_cut_to_224(tmp_path, photos):
    square = np.repeat(np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 256, axis=0), 3, axis=2)
    for name in ("a", "b"):
        for half in ("train", "test"):
            write_png(tmp_path / half / name / "0.png", square)
    images, _ = all_of(load(f"folder:{tmp_path}").evaluation(batch_size=2))
    np.testing.assert_array_equal(np.rint((images[0, 0, :, 0] + 1) * 127.5), np.arange(16, 240))


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


def digit_examples(count: int, *, label: int | None = None) -> list[dict]:
    data = load_digits()
    return [
        {
            "image": np.rint(data.images[i] * (255 / 16)).astype(np.uint8)[..., np.newaxis],
            "label": int(data.target[i]) if label is None else label,
        }
        for i in range(count)
    ]


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


def test_digits_stay_whole_where_larger_images_are_cropped():
    data = load("digits", image_size=96)
    cropped = replace(data, source=replace(data.source, uncropped=False))
    images, others = (next(one.evaluation(batch_size=360).as_numpy_iterator())[0] for one in (data, cropped))
    # A twelfth of the size, by the mean of its squares, is the scan but for what resizing mixed.
    small, of_cropped = (
        np.reshape(one[..., 0], (360, 8, 12, 8, 12)).mean(axis=(2, 4)) for one in (images, others)
    )
    scans = all_of(load("digits", image_size=8).evaluation(batch_size=360))[0][..., 0]
    assert np.abs(small - scans).mean() < np.abs(of_cropped - scans).mean() / 1.5
    moved = next(data.train(batch_size=8, seed=0).as_numpy_iterator())[0]
    still = next(data.train(batch_size=8, seed=0, augment=False).as_numpy_iterator())[0]
    # Shifted by at most 12 pixels: the middle of one is somewhere in the other.
    middle = moved[0, 24:72, 24:72]
    places = [still[0, y : y + 48, x : x + 48] for y in range(12, 37) for x in range(12, 37)]
    assert any((middle == place).all() for place in places)
