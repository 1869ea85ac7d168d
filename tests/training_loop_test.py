"""The loop of a phase: resumed after any step, ended by a signal when the step has been saved."""

import os
import signal

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from mmx_tf.fitting.divergence import Watch
from mmx_tf.fitting.trained import Trained
from mmx_tf.network.tracing import build_before_tracing
from mmx_tf.training import loop
from mmx_tf.training.console import Console
from mmx_tf.training.forecast import Stage
from mmx_tf.training.phase import epoch_seed
from mmx_tf.training.progress import Progress
from mmx_tf.training.signals import held_back
from mmx_tf.workdir import checkpoints

pytestmark = pytest.mark.heavy

STEPS = 5
EVALUATION = tf.data.Dataset.from_tensors((tf.ones((2, 4)), tf.range(2))).repeat(3)


@pytest.fixture(autouse=True)
def interruptible():
    """A shell starts what is put in the background with SIGINT ignored, and so this process would be."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def batches(epoch, first_step):
    """Batches that are a function of epoch and step."""
    return tf.data.Dataset.range(first_step, STEPS).map(
        lambda step: (
            tf.random.stateless_normal((8, 4), [epoch, step]),
            tf.random.stateless_uniform((8,), [epoch, step], 0, 3, tf.int32),
        )
    )


def network():
    keras.utils.set_random_seed(0)
    layers = [
        keras.Input((4,)),
        keras.layers.Dense(6, activation="relu"),
        keras.layers.BatchNormalization(),
        keras.layers.Dropout(0.5, rng_type="stateful"),
        keras.layers.Dense(3),
    ]
    model = keras.Sequential(layers)
    rate = keras.optimizers.schedules.CosineDecay(0.1, 3 * STEPS)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    model.optimizer.build(model.trainable_variables)
    return model


class Signal(keras.callbacks.Callback):
    """Sends this process a real signal at a training or evaluation batch."""

    def __init__(self, number, *, epoch, step):
        super().__init__()
        self.number, self.epoch, self.step, self.now = number, epoch, step, None

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.now, batch) == (self.epoch, self.step):
            os.kill(os.getpid(), self.number)


def phase(folder, *, callbacks=(), epochs=3, minutes=0.0):
    """(model, progress) of a phase that was taken up and trained as far as it came."""
    model = network()
    progress = Progress(
        folder, Trained(model), steps_per_epoch=STEPS, step_logs=("loss",), minutes=minutes, keep=100
    )  # fmt: skip
    progress.restore()
    build_before_tracing(model, batches(0, 0))
    watch = Watch("float", Trained(model), batches=batches, steps_per_epoch=STEPS)
    options = {"epochs": epochs, "batches": batches, "watch": watch, "validation_data": EVALUATION}
    with Console(Stage(("", "float"), ("float",) * epochs, STEPS)) as console:
        loop.train(Trained(model), progress, console=console, callbacks=callbacks, **options)
    return model, progress


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return phase(tmp_path_factory.mktemp("undisturbed"))


def check_equal(found, expected):
    (model, progress), (other, other_progress) = found, expected
    for variable, value in zip(
        (*model.variables, *model.optimizer.variables),
        (*other.variables, *other.optimizer.variables),
        strict=True,
    ):
        np.testing.assert_array_equal(variable.numpy(), value.numpy())
    assert progress.history == other_progress.history
    assert progress.steps == other_progress.steps


def test_a_phase_has_its_epochs_and_curves(undisturbed):
    model, progress = undisturbed
    assert (progress.epoch, progress.step, progress.total_steps) == (3, 0, 15)
    assert int(model.optimizer.iterations) == 15
    assert {name: len(values) for name, values in progress.history.items()} == dict.fromkeys(
        ("loss", "accuracy", "val_loss", "val_accuracy"), 3
    )
    assert len(progress.steps["loss"]) == 15


def test_the_checkpoint_of_the_best_epoch_is_kept(tmp_path):
    model = network()
    progress = Progress(tmp_path, Trained(model), steps_per_epoch=STEPS, keep=1)
    assert progress.best is None
    for accuracy in (0.5, 0.75, 0.75, 0.25):
        progress.step = STEPS
        progress.end_epoch({"val_accuracy": accuracy})
        progress.save(model)
    assert progress.best == 2 * STEPS  # the first of the two
    assert checkpoints.numbers(tmp_path) == [2 * STEPS, 4 * STEPS]


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 4, 5, 8, 14])
def test_any_step_can_be_gone_on_from(tmp_path, undisturbed, number):
    phase(tmp_path, minutes=1e-9)
    assert checkpoints.numbers(tmp_path) == list(range(1, 16))
    for other in range(number + 1, 16):
        (tmp_path / f"ckpt-{other}").rename(tmp_path / f"no-{other}")
    check_equal(phase(tmp_path), undisturbed)


SIGNALS = [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]


@pytest.mark.parametrize(("number", "ending"), SIGNALS)
def test_a_signal_ends_the_loop_when_its_step_is_saved(tmp_path, undisturbed, number, ending):
    def leave(number, frame):
        raise SystemExit

    earlier = signal.signal(signal.SIGTERM, leave)
    try:
        with pytest.raises(ending):
            phase(tmp_path, callbacks=[Signal(number, epoch=1, step=2)])
        assert signal.getsignal(signal.SIGTERM) is leave
    finally:
        signal.signal(signal.SIGTERM, earlier)
    # Five steps of the first epoch, and steps 0, 1 and 2.
    assert checkpoints.numbers(tmp_path) == [5, 8]
    check_equal(phase(tmp_path), undisturbed)


def test_a_signal_in_an_evaluation_does_not_wait_for_its_end(tmp_path, undisturbed, monkeypatch):
    seen = []

    class Evaluation(keras.callbacks.Callback):
        def on_test_batch_end(self, batch, logs=None):
            seen.append(batch)
            if len(seen) == 4:  # the first batch of the second epoch's evaluation
                os.kill(os.getpid(), signal.SIGINT)

    own = loop._EndAtSignal

    class Both(own):
        def on_test_batch_end(self, batch, logs=None):
            Evaluation.on_test_batch_end(self, batch, logs)
            super().on_test_batch_end(batch, logs)

    monkeypatch.setattr(loop, "_EndAtSignal", Both)
    with pytest.raises(KeyboardInterrupt):
        phase(tmp_path)
    monkeypatch.undo()
    assert seen == [0, 1, 2, 0]
    facts = checkpoints.newest_facts(tmp_path)
    assert (facts["epoch"], facts["step"]) == (1, STEPS) and len(facts["history"]["loss"]) == 1
    check_equal(phase(tmp_path), undisturbed)


def test_a_second_signal_is_not_held_back():
    reached = []
    with pytest.raises(KeyboardInterrupt), held_back() as signals:
        os.kill(os.getpid(), signal.SIGINT)
        assert signals.received == signal.SIGINT
        reached.append(1)
        os.kill(os.getpid(), signal.SIGINT)
        reached.append(2)
    assert reached == [1]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_signal_is_not_lost_to_an_error():
    with pytest.raises(KeyboardInterrupt), held_back():
        os.kill(os.getpid(), signal.SIGINT)
        raise ValueError("from which somebody would go on")


def test_seeds_of_epochs_differ_and_stay():
    seeds = [epoch_seed(0, "float", 0), epoch_seed(0, "float", 1), epoch_seed(0, "train", 0)]
    seeds += [epoch_seed(1, "float", 0), epoch_seed(2**31 - 1, "select", 10**6)]
    assert len(set(seeds)) == 5 and all(0 <= seed < 2**31 for seed in seeds)
    # A resumed run of another day has the same.
    assert epoch_seed(0, "float", 0) == int(np.random.SeedSequence([0, 0, 0]).generate_state(1)[0]) >> 1
