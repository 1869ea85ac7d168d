"""The digits, and epochs of any dataset: every image once, decided by the seed."""

import numpy as np
from loaded_data import all_of, check_skipped
from sklearn.datasets import load_digits

from mmx_tf.data.loading import load


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


def test_the_first_batches_can_be_skipped():
    data = load("digits")
    check_skipped(data, batch_size=64, batches=4)
    whole = data.train(batch_size=64, seed=5, skip_batches=20)
    assert len(list(whole)) == 2 and len(list(data.train(batch_size=64, seed=5))) == 22


def test_a_limit_takes_the_first_evaluation_images():
    data = load("digits")
    images, _ = all_of(data.evaluation(batch_size=7))
    limited, _ = all_of(data.evaluation(batch_size=7, limit=10))
    np.testing.assert_array_equal(limited, images[:10])
