"""What training and evaluation do to images: shifts, flips, crops, sizes."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from loaded_data import all_of, by_content, check_skipped
from sklearn.datasets import load_sample_images
from stored_datasets import write_photos, write_png

from mmx_tf.data import dataset as data_module
from mmx_tf.data.images import _random_window, flip_and_normalise, random_resized_crop, resize, shift
from mmx_tf.data.loading import load

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def photos() -> list[np.ndarray]:
    """The two photographs that scikit-learn ships, uint8 [427, 640, 3]."""
    return load_sample_images().images


def test_the_first_batches_of_large_photographs_can_be_skipped(tmp_path, photos):
    write_photos(tmp_path, photos)
    check_skipped(load(f"folder:{tmp_path}"), batch_size=4, batches=3)


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


def test_images_that_are_kept_are_decoded_once(tmp_path, photos, monkeypatch):
    write_photos(tmp_path, photos)
    kept = load(f"folder:{tmp_path}", image_size=32)
    before = by_content(kept)
    for path in tmp_path.rglob("*.*"):
        path.unlink()
    np.testing.assert_array_equal(by_content(kept)[0], before[0])


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
