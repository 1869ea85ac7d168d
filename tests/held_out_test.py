"""Training images that are held out: which ones, in every kind of dataset, and what is judged on them."""

import sys

import numpy as np
import pytest
import tensorflow as tf
from loaded_data import SHARED_TFDS, all_of, message_of
from networks import small_network
from stored_datasets import write_digits

from mmx_tf.data.chosen import chosen_range, chosen_rows
from mmx_tf.data.loading import load
from mmx_tf.recipe.recipe import Recipe
from mmx_tf.run import phases
from mmx_tf.workdir import checkpoints, fingerprints
from mmx_tf.workdir.workdir import Workdir

pytestmark = pytest.mark.heavy

GENERATED = """
import numpy as np
import tensorflow as tf

def waves():
    x = np.arange(40, dtype=np.float32)[:, None] * np.ones((40, 3), np.float32)
    half = lambda rows: tf.data.Dataset.from_tensor_slices((x[rows], (rows % 2).astype(np.int32)))
    return half(np.arange(30)), half(np.arange(30, 40))

def shuffled():
    train, evaluation = waves()
    return train.shuffle(30), evaluation
"""


def test_rows_are_parted_by_the_seed_alone():
    left, held = chosen_rows(10, 3, 5)
    assert sorted([*left, *held]) == list(range(10)) and len(held) == 3
    # By NumPy's own generator, whose stream is fixed.
    order = np.random.default_rng([5, 10, 3]).permutation(10)
    assert held.tolist() == sorted(order[:3].tolist())
    assert chosen_rows(10, 3, 5)[1].tolist() == held.tolist()
    assert any(chosen_rows(10, 3, seed)[1].tolist() != held.tolist() for seed in range(5))


@pytest.mark.parametrize("count", [1, 5, 9])
def test_a_range_lies_inside(count):
    found = {chosen_range(10, count, seed) for seed in range(50)}
    assert all(0 <= first and last <= 10 and last - first == count for first, last in found)
    assert len(found) == 11 - count


def parts(data):
    """(training, held out, evaluation) examples as sorted bytes."""
    batch = data.train_images
    every = (
        data.train(batch_size=batch, seed=0, augment=False),
        data.validation(batch_size=7),
        data.evaluation(batch_size=7),
    )
    return [sorted(image.tobytes() for image in all_of(dataset)[0]) for dataset in every]


def check_parted(whole, data, count):
    """What is held out is missing from training, and nothing else is."""
    train, held, evaluation = parts(data)
    assert (data.train_images, data.validation_images) == (whole.train_images - count, count)
    assert (len(train), len(held)) == (whole.train_images - count, count)
    before, judged_before, evaluation_before = parts(whole)
    assert sorted(train + held) == before and evaluation == evaluation_before == judged_before
    assert whole.validation_images == 0


def test_digits():
    check_parted(load("digits", image_size=8), load("digits", image_size=8, validation_images=137), 137)


def test_a_folder(tmp_path):
    write_digits(tmp_path, per_class=6)
    name = f"folder:{tmp_path}"
    # Of 60 images one of each class is for evaluation.
    check_parted(load(name), load(name, validation_images=11, seed=3), 11)


def test_arrays_of_a_file(tmp_path):
    x = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=x, y=np.arange(50) % 3)
    name = f"npz:{tmp_path / 'x.npz'}"
    check_parted(load(name), load(name, validation_images=9), 9)


def test_a_function(tmp_path, monkeypatch):
    (tmp_path / "of_waves.py").write_text(GENERATED)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "of_waves", raising=False)
    check_parted(load("module:of_waves:waves"), load("module:of_waves:waves", validation_images=4), 4)
    assert "change their order" in message_of("module:of_waves:shuffled", validation_images=4)


def test_tfds_reads_ranges():
    if not SHARED_TFDS.is_dir():
        pytest.skip(f"NOT TESTED: the TFDS folder {SHARED_TFDS} is not there")
    data = load("imagenet2012", data_dir=str(SHARED_TFDS), image_size=32, validation_images=56)
    whole = load("imagenet2012", data_dir=str(SHARED_TFDS), image_size=32)
    check_parted(whole, data, 56)
    first, last = chosen_range(256, 56, 0)
    assert data.source.validation.rows == f"train[{first}:{last}]"


def test_training_images_that_are_held_out_stay_in_their_batches():
    """An epoch that is resumed has the batches that it would have had."""
    data = load("digits", image_size=8, validation_images=100)
    whole = list(data.train(batch_size=64, seed=4).as_numpy_iterator())
    rest = list(data.train(batch_size=64, seed=4, skip_batches=15).as_numpy_iterator())
    assert len(whole) == 1337 // 64 and len(rest) == len(whole) - 15
    for (ours, _), (theirs, _) in zip(rest, whole[15:], strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("count", [1437, 5000])
def test_more_than_there_are_for_training_is_refused(count):
    said = message_of("digits", validation_images=count)
    assert f"--validation_images={count}" in said and "1 to 1436" in said


def test_the_record_of_a_run_tells_which_they_are():
    recipe = Recipe.from_flagfile("--validation_images=5")
    ours, same, other = (load("digits", validation_images=5, seed=seed) for seed in (0, 0, 1))
    known = [{"dataset": fingerprints.of_data(data)} for data in (ours, same, other)]
    assert known[0]["dataset"]["validation"]["images"] == 5
    assert fingerprints.changes(recipe, known[0], known[1]) == []
    (said,) = fingerprints.changes(recipe, known[0], known[2])
    assert "training" in said or "held out" in said
    assert "validation" not in fingerprints.of_data(load("digits"))


def test_epochs_are_judged_on_them(tmp_path):
    """The accuracy of the last epoch is that of the trained network on the images held out."""
    flags = [
        "--image_size=16", "--float_epochs=1", "--batch_size=32", "--steps_per_epoch=2", "--eval_images=8",
        "--validation_images=50", f"--workdir={tmp_path}",
    ]  # fmt: skip
    recipe = Recipe.from_flagfile("\n".join(flags))
    data, network = load("digits", image_size=16, validation_images=50), small_network()
    phases.train_float(Workdir(recipe), recipe, data, network)
    history = checkpoints.newest_facts(tmp_path / "checkpoints" / "float")["history"]
    images, labels = all_of(data.validation(batch_size=50))
    right = tf.argmax(network.predict(images, verbose=0), 1) == labels
    assert history["val_accuracy"] == pytest.approx([np.mean(right)])
