"""What the training phases say of networks that would disappoint, and their logs on a full disk."""

import resource

import numpy as np
import pytest
import tf_keras as keras

from mmx_tf.export import atomic
from mmx_tf.run import phases
from mmx_tf.training.board import Board


def network(*momenta):
    norms = [keras.layers.BatchNormalization(momentum=momentum) for momentum in momenta]
    return keras.Sequential([keras.Input((4, 4, 2)), *norms])


def test_statistics_that_a_few_steps_do_not_change_are_told_of(caplog):
    # 0.999^200 = 0.8187; 0.999^2994.2 = 0.05.
    phases.warn_of_slow_statistics(network(0.9, 0.999), 200)
    assert "momentum of 0.999 is slow for the 200 steps of weight training" in caplog.text
    assert "statistics: 82% of these, which evaluation and the file normalize by, will" in caplog.text
    assert "Train for 2,995 steps or more, or give a network" in caplog.text


@pytest.mark.parametrize(("momenta", "steps"), [((0.999,), 2995), ((0.9,), 29), ((0.0,), 1), ((), 1)])
def test_enough_steps_are_passed_over(momenta, steps, caplog):
    phases.warn_of_slow_statistics(network(*momenta), steps)
    assert caplog.text == ""


def test_statistics_that_never_change_are_told_of(caplog):
    phases.warn_of_slow_statistics(network(1.0), 5000)
    assert "100% of these" in caplog.text and "Give a network" in caplog.text


def test_a_full_disk_ends_the_events_alone(tmp_path, warnings):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # No file may grow beyond this: the kernel fails the write, as on a full disk. Python ignores the signal.
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, limits[1]))
    try:
        # TensorFlow's writer flushes when it holds 10 events.
        history = model.fit(
            np.ones((2, 2)), np.ones((2, 1)), epochs=30, verbose=0, callbacks=[Board(tmp_path)]
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(history.history["loss"]) == 30
    (message,) = warnings
    assert f"{tmp_path}: events cannot be written any more" in message


def test_a_signal_behind_the_renaming_is_not_taken_for_an_error(tmp_path, monkeypatch):
    own = atomic.os.replace

    def interrupted(*arguments):
        own(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(atomic.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        atomic.write_atomically(tmp_path / "file", "new")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["new"]
