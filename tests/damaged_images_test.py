"""Images that cannot be decoded: replaced, counted and told of in training, an error in evaluation."""

import re

import numpy as np
import pytest
import tensorflow as tf
import warm_starts
from loaded_data import all_of, check_skipped
from networks import small_network
from stored_datasets import digit_examples, store, write_digits
from tensorflow.python.framework.config import disable_op_determinism
from tensorflow_datasets.core import features as tfds_features

from mmx_tf.data import dataset as data_module
from mmx_tf.data.damaged import DamagedImages, decoded
from mmx_tf.data.loading import load
from mmx_tf.errors import DamagedDataError

pytestmark = pytest.mark.broad

NO_IMAGE = b"\xff\xd8\xff\xe0 no image"


def png(value):
    return tf.io.encode_png(np.full((1, 2, 1), value, np.uint8)).numpy()


def fit(stored, number):
    image = tf.io.decode_image(stored, channels=1, expand_animations=False)
    return tf.ensure_shape(image, [1, 2, 1])


def decoded_batch(stored):
    """(first pixel of each image, labels, missing images, their labels) of one batch; label i is 10 * i."""
    count = len(stored)
    batch = tf.data.Dataset.from_tensors((stored, np.arange(count, dtype=np.int32) * 10, np.arange(count)))
    (result,) = batch.map(lambda *parts: decoded(*parts, fit=fit)).as_numpy_iterator()
    assert result[0].shape == (count, 1, 2, 1)
    return [result[0][:, 0, 0, 0].tolist(), *(part.tolist() for part in result[1:])]


def test_each_is_replaced_by_the_next_that_can_be_decoded():
    stored = [png(5), NO_IMAGE, b"", png(8), png(9)[:-20]]
    pixels, labels, missing, missing_labels = decoded_batch(stored)
    assert (pixels, labels) == ([5, 8, 8, 8, 5], [0, 30, 30, 30, 0])
    assert (missing, missing_labels) == ([NO_IMAGE, b"", png(9)[:-20]], [10, 20, 40])


def test_a_batch_without_damage_is_what_it_was():
    assert decoded_batch([png(5), png(8)]) == [[5, 8], [0, 10], [], []]


def test_a_batch_of_nothing_but_damage_is_all_missing():
    assert decoded_batch([NO_IMAGE, b""]) == [[0, 0], [0, 10], [NO_IMAGE, b""], [0, 10]]


def test_every_image_counts_once_and_more_than_one_in_a_hundred_are_an_error(warnings):
    found = DamagedImages("scans", count=200, class_names=("no", "yes"))
    found.note([b"one"], [1], of=8)
    found.note([b"one"], [1], of=8)
    found.note([b"second"], [0], of=8)
    assert len(found) == 2 and found.error is None and warnings == []
    found.report()
    found.report()
    assert warnings == [
        "2 of the 200 training images of scans could not be decoded, and others stood in for them: one of 3 "
        "bytes, class yes, one of 6 bytes, class no."
    ]
    with pytest.raises(DamagedDataError, match="at least 3 of the 200 training images of scans") as error:
        found.note([b"three"], [0], of=8)
    assert found.error is error.value


def test_a_batch_without_one_image_is_an_error():
    found = DamagedImages("scans", count=10_000, class_names=("no", "yes"))
    with pytest.raises(DamagedDataError, match="all 2 of a batch, and at least 2 of the 10000"):
        found.note([b"a", b"b"], [0, 0], of=2)


@pytest.fixture(params=["in memory", "decoded in each epoch", "large"])
def digits_folder(request, tmp_path, monkeypatch):
    """(how to open it, its training files): 240 training and 10 evaluation images of real digits."""
    write_digits(tmp_path / "train", per_class=24)
    write_digits(tmp_path / "test", per_class=1, start=100)
    if request.param == "decoded in each epoch":
        monkeypatch.setattr(data_module, "MEMORY_LIMIT_BYTES", 1000)
    size = 112 if request.param == "large" else 16
    return lambda: load(f"folder:{tmp_path}", image_size=size), sorted((tmp_path / "train").rglob("*.png"))


@pytest.mark.slow
def test_training_goes_on_without_a_damaged_image(digits_folder, warnings):
    open_data, files = digits_folder
    options = {"batch_size": 60, "seed": 3, "augment": False}
    images, labels = all_of(open_data().train(**options))
    whole = files[70].read_bytes()
    files[70].write_bytes(whole[:50])
    data = open_data()
    others, other_labels = all_of(data.train(**options))
    data.damaged.report()
    assert len(data.damaged) == 1
    (message,) = warnings
    assert f"1 of the 240 training images of {data.name}" in message and str(files[70]) in message
    # All are what they were but one, for which another stands twice.
    (row,) = np.flatnonzero((images != others).any(axis=(1, 2, 3)))
    assert labels[row] == 2 and sum((others == others[row]).all(axis=(1, 2, 3))) == 2
    assert np.array_equal(np.delete(labels, row), np.delete(other_labels, row))
    check_skipped(data, batch_size=60, batches=4)
    assert len(data.damaged) == 1


def test_files_of_equal_content_are_each_counted(digits_folder):
    open_data, files = digits_folder
    for path in (files[3], files[200]):
        path.write_bytes(b"")
    data = open_data()
    all_of(data.train(batch_size=60, seed=0))
    assert len(data.damaged) == 2


def test_more_damage_than_one_in_a_hundred_ends_training(digits_folder):
    open_data, files = digits_folder
    data = open_data()
    for path in files[:3]:
        path.write_bytes(NO_IMAGE)
    with pytest.raises(DamagedDataError, match=r"at least 3 of the 240 training images.*up to 1%") as error:
        with data.reading_errors():
            all_of(data.train(batch_size=240, seed=0))
    assert str(files[0]) in str(error.value)


def test_a_damaged_evaluation_image_is_an_error_that_names_it(digits_folder):
    open_data, files = digits_folder
    data = open_data()
    path = sorted((files[0].parents[2] / "test").rglob("*.png"))[6]
    path.write_bytes(NO_IMAGE)
    with pytest.raises(DamagedDataError, match=f"evaluation image of .* cannot be decoded: {path}"):
        with data.reading_errors():
            all_of(data.evaluation(batch_size=4))


def test_a_training_file_that_has_gone_is_named(tmp_path):
    write_digits(tmp_path, per_class=4)
    data = load(f"folder:{tmp_path}", image_size=112)
    paths = sorted(tmp_path.rglob("*.png"))
    for path in paths:
        path.unlink()
    with pytest.raises(DamagedDataError, match=f"cannot be read: .*{tmp_path}.*Repair the dataset"):
        with data.reading_errors():
            all_of(data.train(batch_size=4, seed=0))


@pytest.mark.parametrize("size", [16, 112])
def test_a_label_out_of_range_in_the_middle_is_an_error(tmp_path, size, monkeypatch):
    if size == 16:
        monkeypatch.setattr(data_module, "MEMORY_LIMIT_BYTES", 1000)
    data = scans(tmp_path, size, {30: -1})
    with pytest.raises(DamagedDataError, match="has the label -1, but labels must be 0 to 9"):
        with data.reading_errors():
            all_of(data.train(batch_size=20, seed=0))


def scans(folder, size, labels):
    examples = digit_examples(60)
    for index, label in labels.items():
        examples[index]["label"] = label
    features = {
        "image": tfds_features.Image(shape=(8, 8, 1)),
        "label": tfds_features.ClassLabel(num_classes=10),
    }
    store("scans", folder, features, {"train": examples, "test": examples[:5]})
    return load("scans", data_dir=str(folder), image_size=size)


@pytest.mark.parametrize("size", [16, 112])
def test_images_of_other_kinds_are_no_damage(tmp_path, size):
    """Beside colour photographs in a folder; of a CMYK file the colours are libjpeg's."""
    from PIL import Image

    kinds = {
        "cmyk.jpg": Image.new("CMYK", (30, 20), (0, 0, 0, 55)),
        "colour.jpg": Image.new("RGB", (40, 30), (200, 200, 200)),
        "grey with alpha.png": Image.new("LA", (30, 20), (200, 9)),
        "grey.jpg": Image.new("L", (30, 20), 200),
        "thin.jpg": Image.new("RGB", (400, 1), (200,) * 3),
        "tiny.jpg": Image.new("RGB", (1, 1), (200,) * 3),
    }
    for half in ("train", "test"):
        for name in ("a", "b"):
            (tmp_path / half / name).mkdir(parents=True)
            kinds["colour.jpg"].save(tmp_path / half / name / "colour.jpg")
        for name, image in kinds.items():
            image.save(tmp_path / half / "a" / name, **{"quality": 100} if "cmyk" in name else {})
    data = load(f"folder:{tmp_path}", image_size=size)
    assert data.image_shape == (size, size, 3)
    for dataset, names in (
        (data.evaluation(batch_size=7), [*kinds, "colour.jpg"]),
        (data.train(batch_size=7, seed=0, augment=False), None),
        (data.train(batch_size=7, seed=0) if size == 112 else data.evaluation(batch_size=1), None),
    ):
        images, labels = all_of(dataset)
        assert images.shape == (7, size, size, 3) and sorted(labels) == [0] * 6 + [1]
        differences = np.abs((images + 1) * 127.5 - 200).max(axis=(1, 2, 3))
        assert (differences < 4).all(), (names, differences)
    assert len(data.damaged) == 0


def command(tmp_path, *arguments):
    small_network().save(tmp_path / "float.keras")
    words = [
        f"--float_model={tmp_path / 'float.keras'}", "--image_size=16", "--batch_size=32",
        "--steps_per_epoch=3", "--train_epochs=1", "--learning_rate=0.002", "--parity_images=4",
        f"--workdir={tmp_path / 'run'}",
    ]  # fmt: skip
    return warm_starts.finished(["-m", "mmx_tf.train", *words, *arguments])


@pytest.mark.slow
def test_a_run_with_a_damaged_image_ends_well_and_says_so_once(tmp_path):
    write_digits(tmp_path / "data" / "train", per_class=13)
    write_digits(tmp_path / "data" / "test", per_class=1, start=20)
    path = sorted((tmp_path / "data" / "train" / "3").iterdir())[5]
    path.write_bytes(path.read_bytes()[:60])
    done = command(tmp_path, f"--dataset=folder:{tmp_path / 'data'}")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("could not be decoded") == 1
    assert re.search(rf"mmx_tf: warning: 1 of the 130 training images of .*: {path}\.", done.stderr)


@pytest.mark.slow
def test_a_run_with_too_much_damage_ends_with_its_own_exit_code(tmp_path):
    examples = digit_examples(120)
    features = {
        "image": tfds_features.Image(shape=(8, 8, 1)),
        "label": tfds_features.ClassLabel(num_classes=10),
    }
    store("scans", tmp_path, features, {"train": examples, "test": examples[:20]})
    (path,) = tmp_path.rglob("scans-train.tfrecord-*")
    records = [record.numpy() for record in tf.data.TFRecordDataset(str(path))]
    with tf.io.TFRecordWriter(str(path)) as writer:
        for index, record in enumerate(records):
            # The end of the PNG's signature, so that TFDS's own reading of the record stays whole.
            writer.write(record.replace(b"PNG\r\n", b"PNJ\r\n") if index in (10, 90) else record)
    done = command(tmp_path, "--dataset=scans", f"--data_dir={tmp_path}")
    assert done.returncode == 6
    assert re.search(
        r"at least 2 of the 120 training images of scans cannot be decoded \(one of", done.stderr
    )
    assert "Traceback" not in done.stderr
    assert [line for line in done.stderr.splitlines() if not line.startswith("mmx_tf: ")] == [
        done.stderr.splitlines()[-1]
    ]


def test_reading_writes_no_error_under_op_determinism(capfd):
    """TensorFlow takes parallel maps with state apart then, and complains of one of their attributes."""
    tf.config.experimental.enable_op_determinism()
    try:
        all_of(load("digits", image_size=8).train(batch_size=64, seed=0).take(1))
    finally:
        disable_op_determinism()
    assert "use_unbounded_threadpool" not in capfd.readouterr().err
