"""Arrays of any shape as a dataset: what is read, how it is given to a network, and what is refused."""

import re
import zipfile

import numpy as np
import pytest
import tensorflow as tf

from mmx_tf import data as datasets
from mmx_tf.data import kinds
from mmx_tf.data.kinds import npz
from mmx_tf.errors import DataError

RANDOM = np.random.default_rng(0)
SIGNALS = RANDOM.normal(size=(60, 12, 2)).astype(np.float32)
CLASSES = np.arange(60) % 3
GREY = RANDOM.integers(0, 256, (40, 10, 12), np.uint8)


@pytest.fixture
def saved(tmp_path):
    """Saves arrays, and gives the name of the dataset."""

    def save(**arrays):
        np.savez(tmp_path / "arrays.npz", **arrays)
        return f"npz:{tmp_path / 'arrays.npz'}"

    return save


def all_of(dataset):
    examples, labels = zip(*dataset.as_numpy_iterator(), strict=True)
    return np.concatenate(examples), np.concatenate(labels)


@pytest.mark.parametrize("shape", [(7,), (12, 2), (5, 9), (9, 5, 4), (6, 6, 1)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16])
def test_numbers_of_every_shape_are_given_as_they_are(saved, shape, dtype):
    x = (100 * RANDOM.normal(size=(30, *shape))).astype(dtype)
    y = np.arange(30) % 3
    data = datasets.load(saved(x_train=x[:20], y_train=y[:20], x_test=x[20:], y_test=y[20:]))
    assert (data.image_shape, data.train_images, data.eval_images) == (shape, 20, 10)
    assert (data.num_classes, data.pixel_scaling) == (3, None)
    examples, labels = all_of(data.evaluation(batch_size=4))
    assert examples.dtype == np.float32 and labels.dtype == np.int32
    np.testing.assert_array_equal(examples, x[20:].astype(np.float32))
    np.testing.assert_array_equal(labels, y[20:])
    examples, labels = all_of(data.train(batch_size=5, seed=3))
    order = [int(np.flatnonzero((x.astype(np.float32) == one).reshape(30, -1).all(1))[0]) for one in examples]
    assert sorted(order) == list(range(20)) and order != sorted(order)
    np.testing.assert_array_equal(labels, y[order])


def test_a_tenth_of_every_class_is_held_out_the_same_in_every_run(saved, warnings):
    x = np.arange(100, dtype=np.float32).reshape(50, 2)
    y = np.array([0] * 30 + [1] * 18 + [2] * 2)
    name = saved(x=x, y=y)
    examples, labels = all_of(datasets.load(name).evaluation(batch_size=8))
    np.testing.assert_array_equal(np.bincount(labels), [3, 2, 1])
    again, _ = all_of(datasets.load(name).evaluation(batch_size=50))
    np.testing.assert_array_equal(examples, again)
    trained, _ = all_of(datasets.load(name).train(batch_size=44, seed=0))
    assert len(trained) == 44 and not set(trained[:, 0]) & set(examples[:, 0])
    assert not warnings


@pytest.mark.parametrize("count", [2, 3, 9, 40])
def test_both_halves_have_examples_however_few_there_are(count):
    for classes in (None, np.arange(count), np.zeros(count, int)):
        train, evaluation = npz.held_out(count, classes)
        assert len(train) and len(evaluation)
        assert sorted([*train, *evaluation]) == list(range(count))


def test_pixels_are_scaled_and_images_are_shifted_in_training(saved):
    name = saved(x=GREY, y=np.arange(40) % 2)
    data = datasets.load(name)
    assert (data.image_shape, data.pixel_scaling) == ((10, 12), datasets.PIXEL_SCALING)
    examples, _ = all_of(data.evaluation(batch_size=4))
    pixels = np.rint((examples + 1) * 127.5)
    assert all((GREY == one).reshape(40, -1).all(1).any() for one in pixels)
    moved, _ = all_of(data.train(batch_size=36, seed=0))
    still, _ = all_of(data.train(batch_size=36, seed=0, augment=False))
    none, _ = all_of(datasets.load(name, augmentation="none").train(batch_size=36, seed=0))
    assert (moved != still).any()
    np.testing.assert_array_equal(still, none)
    # An image that is moved by up to one pixel: black comes in, all else is there.
    whole = np.pad(np.rint((still + 1) * 127.5), [(0, 0), (1, 1), (1, 1)])
    for one, around in zip(np.rint((moved + 1) * 127.5), whole, strict=True):
        assert any((around[a : a + 10, b : b + 12] == one).all() for a in range(3) for b in range(3))
    divided = datasets.load(name, pixel_scaling=(1 / 255, 0.0))
    examples, _ = all_of(divided.evaluation(batch_size=4))
    np.testing.assert_array_equal(examples, pixels.astype(np.float32) / np.float32(255))


def test_images_of_a_folder_or_of_tfds_have_their_scaling_and_augmentation_too(digits):
    raw = datasets.load("digits", image_size=16, pixel_scaling=(1.0, 0.0), augmentation="none")
    examples, _ = all_of(raw.evaluation(batch_size=100))
    usual, _ = all_of(digits.evaluation(batch_size=100))
    np.testing.assert_array_equal(examples / np.float32(127.5) - 1, usual)
    epochs = [next(iter(raw.train(batch_size=64, seed=0).take(1)))[0].numpy() for _ in range(2)]
    still = next(iter(digits.train(batch_size=64, seed=0, augment=False)))[0].numpy()
    np.testing.assert_array_equal(epochs[0] / np.float32(127.5) - 1, still)
    mirrored = datasets.load("digits", image_size=16, augmentation="crop_flip")
    assert mirrored.source.mirrored and not digits.source.mirrored


def test_labels_are_told_from_their_numbers(saved):
    x = SIGNALS
    one_hot = np.eye(3)[CLASSES]
    for y, options, classes, shape in (
        (CLASSES, {}, 3, ()),
        (CLASSES[:, np.newaxis].astype(np.int8), {}, 3, ()),
        (CLASSES, {"num_classes": 7}, 7, ()),
        (CLASSES, {"task": "regression"}, 0, (1,)),
        ((CLASSES > 0).astype(np.float32), {}, 2, ()),
        (CLASSES > 0, {}, 2, ()),
        (CLASSES.astype(np.float64), {}, 0, (1,)),
        (CLASSES.astype(np.float64), {"task": "classification"}, 3, ()),
        (one_hot, {}, 3, ()),
        (one_hot, {"task": "multi_label"}, 0, (3,)),
        (x[..., 0], {}, 0, (12,)),
        (x * 2, {}, 0, (12, 2)),
    ):
        data = datasets.load(saved(x=x, y=y), **options)
        assert (data.num_classes, data.labels.shape) == (classes, shape), (y.dtype, y.shape, options)
        assert not data.reconstructs
        examples, labels = all_of(data.evaluation(batch_size=60))
        rows = [int(np.flatnonzero((x == one).reshape(60, -1).all(1))[0]) for one in examples]
        expected = CLASSES if y is one_hot and classes else y
        np.testing.assert_array_equal(labels.reshape(-1), np.float32(expected[rows]).reshape(-1))
        np.testing.assert_array_equal(data.first_labels(count=4), labels[:4])


@pytest.mark.parametrize("again", [{}, {"y": SIGNALS}])
def test_examples_without_labels_are_their_own(saved, again):
    data = datasets.load(saved(x=SIGNALS, **again)).for_task("regression")
    assert data.reconstructs and data.labels.shape == (12, 2) and not data.num_classes
    for batches in (data.train(batch_size=8, seed=0), data.evaluation(batch_size=8)):
        for examples, labels in batches:
            np.testing.assert_array_equal(examples, labels)


def test_an_image_that_is_its_own_label_is_moved_with_it(saved):
    data = datasets.load(saved(x=GREY)).for_task("regression")
    examples, labels = all_of(data.train(batch_size=36, seed=0))
    still, _ = all_of(data.train(batch_size=36, seed=0, augment=False))
    np.testing.assert_array_equal(examples, labels)
    assert (examples != still).any()
    maps = datasets.load(saved(x=GREY, y=GREY / 255.0))
    assert not maps.source.moved


def test_names_of_classes_are_in_the_file(saved):
    data = datasets.load(saved(x=SIGNALS, y=CLASSES, class_names=np.array(["yes", "no", "up", "down"])))
    assert data.class_names == ("yes", "no", "up", "down")


@pytest.mark.parametrize("name", ["arrays", "pixels"])
def test_parts_make_up_the_batch_from_any_step_on(saved, name):
    x = SIGNALS if name == "arrays" else GREY
    data = datasets.load(saved(x=x, y=np.arange(len(x)) % 2))
    whole = list(data.train(batch_size=12, seed=3).as_numpy_iterator())
    rest = list(data.train(batch_size=12, seed=3, skip_batches=1).as_numpy_iterator())
    parts = [list(data.train(batch_size=12, seed=3, part=(i, 3)).as_numpy_iterator()) for i in range(3)]
    assert len(rest) == len(whole) - 1 > 0
    for step, (examples, labels) in enumerate(whole):
        np.testing.assert_array_equal(np.concatenate([part[step][0] for part in parts]), examples)
        np.testing.assert_array_equal(np.concatenate([part[step][1] for part in parts]), labels)
        if step:
            np.testing.assert_array_equal(rest[step - 1][0], examples)


@pytest.mark.parametrize(
    ("network", "stored", "fits"),
    [
        ((10, 12, 1), (10, 12), True),
        ((10, 12), (10, 12, 1), True),
        ((None, 12, 1), (10, 12), True),
        ((12, 10), (10, 12), False),
        ((10,), (10, 12), False),
        ((10, 12, 3), (10, 12), False),
        ((120,), (10, 12), False),
    ],
)
def test_an_axis_of_length_one_may_be_missing(saved, network, stored, fits):
    data = datasets.load(saved(x=GREY.reshape(-1, *stored), y=np.arange(40) % 2))
    assert data.fits(network) == fits
    if fits and None not in network:
        examples, _ = next(iter(data.shaped(network).train(batch_size=4, seed=0)))
        assert examples.shape == (4, *network)


def broken(values, index, number):
    values = values.copy()
    values[index].flat[0] = number
    return values


OK = {"x": SIGNALS, "y": CLASSES}
HALVES = {"x_train": SIGNALS, "y_train": CLASSES, "x_test": SIGNALS[:5], "y_test": CLASSES[:5]}
REFUSED = {
    "no arrays": ({}, "no x and no x_train, but no arrays"),
    "other names": ({"images": SIGNALS, "labels": CLASSES}, r"but images \(60, 12, 2\), labels \(60,\)"),
    "a name with an error": ({**OK, "Y": CLASSES}, "an array 'Y'; allowed are x and y, or x_train"),
    "both ways": ({**OK, "x_test": SIGNALS}, "not some of both"),
    "y_test alone": ({"x_train": SIGNALS, "y_train": CLASSES, "y_test": CLASSES}, "y_test and no x_test"),
    "labels of one half": ({k: v for k, v in HALVES.items() if k != "y_test"}, "labels for one half alone"),
    "lengths": ({"x": SIGNALS, "y": CLASSES[:59]}, r"x \(60, 12, 2\) and y \(59,\) differ in number"),
    "halves of two shapes": ({**HALVES, "x_test": SIGNALS[:5, :4]}, "have different shapes"),
    "a number": ({"x": np.float32(1.0)}, r"x \(\) is not one of \(N, features\)"),
    "videos": ({"x": np.zeros((4, 2, 3, 4, 5))}, "is not one of"),
    "nothing in it": ({"x": np.zeros((0, 3))}, "is not one of"),
    "one example": ({"x": SIGNALS[:1]}, "one example; at least 2"),
    "objects": ({"x": np.array([[1, 2], "a"], object).reshape(2, 1)}, "pickle: such arrays are never read"),
    "texts": ({"x": SIGNALS, "y": CLASSES.astype(str)}, "y is of type <U"),
    "complex": ({"x": SIGNALS.astype(complex)}, "x is of type complex"),
    "names that are no texts": ({**OK, "class_names": CLASSES[:3]}, "give a list of texts"),
    "NaN": ({**OK, "x": broken(SIGNALS, 7, np.nan)}, "example 7 of x holds NaN"),
    "too large": ({**OK, "x": broken(SIGNALS.astype(np.float64), 9, 1e300)}, "example 9 of x holds"),
    "NaN in the test": ({**HALVES, "x_test": broken(SIGNALS[:5], 2, np.inf)}, "example 2 of x_test holds"),
    "NaN as a label": ({**OK, "y": broken(SIGNALS[..., 0], 3, np.nan)}, "are NaN or infinite"),
    "a class below 0": ({**OK, "y": CLASSES - 1}, "has the label -1: classes are whole numbers from 0 on"),
    "more classes": ({**OK, "class_names": np.array(["a", "b"])}, "label 2, and classes are 0 to 1"),
    "one class": ({**OK, "y": CLASSES * 0}, "all labels of .* are 0; a classifier needs at least 2"),
    "names of numbers": ({"x": SIGNALS, "y": SIGNALS + 1, "class_names": np.array(["a"])}, "not classes"),
    "names of nothing": ({"x": SIGNALS, "class_names": np.array(["a"])}, "no labels that have them"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_arrays_that_cannot_be_used_are_refused(saved, case):
    arrays, message = REFUSED[case]
    name = saved(**arrays)
    with pytest.raises(DataError, match=message) as caught:
        datasets.load(name)
    assert "\n" not in str(caught.value) and "arrays.npz" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 2}, "label 2, and classes are 0 to 1 .--num_classes."),
        ({"task": "binary"}, "has 3 classes, and a binary task has two"),
        ({"image_size": 32}, "--image_size=32: .* are not resized. Leave it out"),
        (
            {"augmentation": "crop"},
            r"--augmentation=crop: .* arrays of the shape \(12, 2\), which are not moved",
        ),
        ({"augmentation": "all"}, "augmentation='all': empty, or one of none, crop, crop_flip"),
        ({"pixel_scaling": (0.01, 0.0)}, "--pixel_scaling=0.01,0 does not fit .* images go from"),
        ({"pixel_scaling": 3}, r"pixel_scaling=3: .scale, offset."),
    ],
)
def test_what_does_not_fit_the_arrays_is_refused(saved, options, message):
    with pytest.raises((DataError, TypeError), match=message):
        datasets.load(saved(**OK), **options)


def test_files_that_are_none_are_refused_without_tensorflow(tmp_path, saved):
    whole = saved(**OK).partition(":")[2]
    stored = open(whole, "rb").read()
    cases = {
        "missing.npz": (None, "No such file"),
        "text.npz": (b"x, y\n1, 2\n", "not a whole .npz file"),
        "empty.npz": (b"", "not a whole .npz file"),
        "half.npz": (stored[: len(stored) // 2], "may be truncated"),
    }
    for file, (content, message) in cases.items():
        if content is not None:
            (tmp_path / file).write_bytes(content)
        with pytest.raises(DataError, match=message):
            kinds.check(f"npz:{tmp_path / file}", data_dir="")
    np.save(tmp_path / "one.npy", SIGNALS)
    with pytest.raises(DataError, match=r"one array \(.npy\): save x and y together"):
        kinds.check(f"npz:{tmp_path / 'one.npy'}", data_dir="")


def test_an_array_that_was_changed_behind_its_header_is_named(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", **OK)
    stored = bytearray((tmp_path / "a.npz").read_bytes())
    begin = stored.index(b"x.npy") + 600
    stored[begin : begin + 64] = bytes(64)
    (tmp_path / "a.npz").write_bytes(stored)
    with pytest.raises(DataError, match="array 'x' is truncated or damaged"):
        datasets.load(f"npz:{tmp_path / 'a.npz'}")


def test_arrays_above_the_memory_are_refused_by_their_headers(tmp_path):
    header = {"descr": "<f4", "fortran_order": False, "shape": (10**9, 640)}
    with zipfile.ZipFile(tmp_path / "huge.npz", "w") as archive, archive.open("x.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, header)
    with pytest.raises(DataError, match=r"take 2560.0 GB, and this machine has .*module:NAME:FUNCTION"):
        kinds.check(f"npz:{tmp_path / 'huge.npz'}", data_dir="")


def test_errors_of_reading_are_the_datasets_own(tmp_path):
    (tmp_path / "a.npz").mkdir()
    for name in (f"npz:{tmp_path / 'a.npz'}", f"npz:{tmp_path / ('long' * 100)}"):
        with pytest.raises(DataError, match=re.escape(name)):
            datasets.load(name)


def test_tensors_of_the_file_are_not_copied_into_the_graph(saved):
    data = datasets.load(saved(**OK))
    _, labels = data.source.train.arrays
    assert isinstance(labels, tf.Tensor) and labels.dtype == tf.int32
