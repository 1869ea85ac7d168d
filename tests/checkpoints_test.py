"""Checkpoints are whole or not there: damaged ones, another network's, a disk that is full."""

import errno
import json
import pathlib
import resource
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from mmx_tf.errors import RecipeError
from mmx_tf.workdir import checkpoints
from mmx_tf.workdir.checkpoints import Checkpoints


def compiled(units=2):
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Dense(units)(inputs))
    model.compile(optimizer=keras.optimizers.SGD(0.1, momentum=0.9), loss="mse")
    model.optimizer.build(model.trainable_variables)
    return model


def of(folder, model, keep=2):
    return Checkpoints(folder, {"model": model, "optimizer": model.optimizer}, keep=keep)


def trained(folder, numbers=(1, 2), units=2, keep=2):
    """The variables, optimizer's too, at each checkpoint that was written."""
    model, values = compiled(units), {}
    saved = of(folder, model, keep)
    for number in numbers:
        model.fit(np.ones((4, 3)), np.ones((4, units)), verbose=0)
        assert saved.save(number, {"number": number})
        values[number] = [v.numpy() for v in (*model.variables, *model.optimizer.variables)]
    return values


def check_restored(folder, number, values):
    model = compiled()
    assert of(folder, model).restore() == (number, {"number": number})
    for found, expected in zip((*model.variables, *model.optimizer.variables), values, strict=True):
        np.testing.assert_array_equal(found.numpy(), expected)


def test_the_newest_is_restored_and_the_last_ones_are_kept(tmp_path):
    values = trained(tmp_path, numbers=(3, 10, 200), keep=2)
    assert checkpoints.numbers(tmp_path) == [10, 200]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ckpt-10", "ckpt-200"]
    check_restored(tmp_path, 200, values[200])
    assert checkpoints.newest_facts(tmp_path) == {"number": 200}


def test_the_best_is_kept_beside_the_last(tmp_path):
    found = of(tmp_path, compiled(), keep=1)
    kept = []
    for number, best in ((1, 1), (2, 2), (3, 2), (4, 2), (5, None)):
        found.save(number, {}, best=best)
        kept.append(checkpoints.numbers(tmp_path))
    assert kept == [[1], [2], [2, 3], [2, 4], [5]]


def test_without_checkpoints_nothing_is_restored(tmp_path):
    assert of(tmp_path / "none", compiled()).restore() is None
    assert checkpoints.newest_facts(tmp_path / "none") is None
    assert not (tmp_path / "none").exists()


def test_another_network_is_refused_with_the_way_out(tmp_path):
    trained(tmp_path)
    with pytest.raises(RecipeError, match=r"ckpt-2 is of another network.*new --workdir"):
        of(tmp_path, compiled(5)).restore()
    with pytest.raises(RecipeError, match=r"ckpt-2 is of another network"):
        Checkpoints(tmp_path, {"model": compiled(), "more": tf.Variable(0)}).restore()


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
    path.write_bytes(b"")


FILES = ("variables.index", "variables.data-00000-of-00001", "facts.json", "sha256.json")


@pytest.mark.parametrize("damage", [flip_a_bit, cut, empty, lambda path: path.unlink()])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_checkpoint_is_passed_over_by_name(tmp_path, warnings, name, damage):
    values = trained(tmp_path)
    damage(tmp_path / "ckpt-2" / name)
    check_restored(tmp_path, 1, values[1])
    (message,) = warnings
    assert f"{tmp_path / 'ckpt-2'} is passed over" in message
    # A checksum that is wrong itself is told as that of its file.
    assert name in message or name == "sha256.json"
    assert checkpoints.newest_facts(tmp_path) == {"number": 1}
    # The next one of that number takes its place.
    trained(tmp_path, numbers=(2,))
    assert checkpoints.facts_of(tmp_path / "ckpt-2") == {"number": 2}


def test_damage_that_was_signed_is_found_by_tensorflow(tmp_path, warnings):
    """Checksums that fit a damaged file: TensorFlow has some of its own."""
    values = trained(tmp_path)
    data = tmp_path / "ckpt-2" / "variables.data-00000-of-00001"
    cut(data)
    sums = json.loads((tmp_path / "ckpt-2" / "sha256.json").read_text())
    sums[data.name] = checkpoints.sha256_of(data)
    (tmp_path / "ckpt-2" / "sha256.json").write_text(json.dumps(sums))
    check_restored(tmp_path, 1, values[1])
    assert len(warnings) == 1


def test_when_all_are_damaged_nothing_is_restored(tmp_path, warnings):
    trained(tmp_path)
    for number in (1, 2):
        flip_a_bit(tmp_path / f"ckpt-{number}" / "variables.index")
    model = compiled()
    before = model.get_weights()
    assert of(tmp_path, model).restore() is None
    assert len(warnings) == 2
    for found, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_what_a_killed_writer_left_is_no_checkpoint(tmp_path):
    values = trained(tmp_path)
    shutil.copytree(tmp_path / "ckpt-2", tmp_path / ".partial")
    check_restored(tmp_path, 2, values[2])
    trained(tmp_path, numbers=(3,))
    assert checkpoints.numbers(tmp_path) == [2, 3] and not (tmp_path / ".partial").exists()


class KilledError(BaseException):
    """The process has ended here."""


@pytest.mark.parametrize("moment", range(6))
def test_a_checkpoint_of_the_same_number_is_never_missing(tmp_path, monkeypatch, moment):
    """Killed in front of each renaming and removal, one of the two is restored, never the one before."""
    trained(tmp_path, numbers=(1, 2))
    model, calls = compiled(), []

    def or_killed(call):
        def counted(*arguments, **options):
            calls.append(call)
            if len(calls) > moment:
                raise KilledError
            return call(*arguments, **options)

        return counted

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.shutil, "rmtree", or_killed(shutil.rmtree))
        patch.setattr(pathlib.Path, "rename", or_killed(pathlib.Path.rename))
        with pytest.raises(KilledError):
            of(tmp_path, model).save(2, {"number": "new"})
    number, facts = of(tmp_path, compiled()).restore()
    assert number == 2 and facts["number"] in (2, "new")
    assert checkpoints.newest_facts(tmp_path) == facts
    # The next one leaves nothing behind.
    of(tmp_path, model).save(3, {"number": 3})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ckpt-2", "ckpt-3"]


def test_a_checkpoint_that_cannot_be_read_is_not_a_damaged_one(tmp_path, monkeypatch, warnings):
    trained(tmp_path)

    def unreadable(path):
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr(checkpoints, "sha256_of", unreadable)
    with pytest.raises(OSError, match="Input/output error"):
        of(tmp_path, compiled()).restore()
    assert warnings == [] and checkpoints.numbers(tmp_path) == [1, 2]


def test_a_disk_that_takes_no_more_leaves_the_checkpoints_before(tmp_path, warnings):
    values = trained(tmp_path)
    model = compiled()
    saved = of(tmp_path, model)
    saved.restore()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # No file may grow beyond this: the kernel fails the write, as on a full disk. Python ignores the signal.
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        assert not saved.save(3, {"number": 3})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    (message,) = warnings
    assert f"{tmp_path / 'ckpt-3'} could not be written" in message
    assert f"the newest checkpoint is {tmp_path / 'ckpt-2'}" in message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ckpt-1", "ckpt-2"]
    check_restored(tmp_path, 2, values[2])
    assert saved.save(3, {"number": 3})
