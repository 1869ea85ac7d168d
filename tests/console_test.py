"""How far training has come: a line that fits the terminal, or lines of a log, in units that people read."""

import io
import logging
import sys

import pytest
from listening import logged, terminal_of

from mmx_tf import waiting
from mmx_tf.notation import amount
from mmx_tf.training import console as consoles
from mmx_tf.training import forecast
from mmx_tf.training.console import Console
from mmx_tf.training.forecast import Forecast, Stage
from mmx_tf.training.told import Told, goals, told

THREE = [Told("BOPs", ("a/bops", "b/bops", "c/bops"), (60e6, 80e6, 100e6)), Told("bytes of RAM", ("cost",))]
LOGS = {
    "loss": 0.969381, "accuracy": 0.67401, "a/bops": 124_426_240.0, "b/bops": 81_040_000.0,
    "c/bops": 60_100_000.0, "cost": 24_600.0, "a/search_loss": 0.6278, "a/alpha_entropy": 1.0986,
}  # fmt: skip
SELECT = Stage(("runs/w", "select"), ("meta", "search"), 10, weights=(("meta", 3.0), ("search", 4.0)))
TRAIN = Stage(("runs/w", "train"), ("fixed",) * 3, 10, judged=4)


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test sets: clock[0] is the time in seconds."""
    now = [1000.0]
    for module in (waiting, consoles, forecast):
        monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(
    "values, unit, text",
    [
        ([124_426_240.0, 81_040_000.0, 6e6], "BOPs", "124/81.0/6.00 MBOPs"),
        ([5_394_053_120.0], "BOPs", "5.39 GBOPs"),
        ([96.0], "BOPs", "96.0 BOPs"),
        ([24_600.0], "bytes of RAM", "24.6 kB of RAM"),
        ([812.0], "bytes", "812 bytes"),
        ([3.98], "bits on average, weighted by elements", "3.98 bits on average"),
        ([0.0123], "us", "0.01 us"),
    ],
)
def test_amounts_are_in_units_that_people_read(values, unit, text):
    assert amount(values, unit) == text


def test_figures_of_a_step_and_of_an_epoch():
    assert told(LOGS, THREE) == [
        "loss 0.9694", "124/81.0/60.1 MBOPs", "24.6 kB of RAM", "accuracy 67.40%",
    ]  # fmt: skip
    regression = {"loss": 2.0, "mean_absolute_error": 0.125, "val_mean_absolute_error": 0.25, "val_loss": 3.0}
    assert told(regression) == [
        "loss 2", "mean absolute error 0.125", "validation mean absolute error 0.25",
    ]  # fmt: skip
    assert goals(THREE) == "60.0/80.0/100 MBOPs"


def test_time_left_by_hand(clock):
    expected = Forecast([SELECT, TRAIN])
    assert expected.left(SELECT, epoch=0, step=0) == (None, None)
    expected.started(SELECT, 40.0)
    for seconds in (9.0, 3.0, 3.0):  # the median: a step that waited for the disk does not count
        expected.seen("meta", seconds)
    # 8 meta steps of 3 s and, at 4/3 of these, 10 search steps of 4 s. Then 30 steps at 1/3, a start at 1/4
    # of the search's, and 3 evaluations of 4 batches at 0.35 of a training step.
    assert expected.left(SELECT, epoch=0, step=2) == pytest.approx((24 + 40, 64 + 30 + 10 + 4.2))
    expected.seen("fixed", 2.0)
    expected.seen("judged", 0.5)
    assert expected.left(TRAIN, epoch=2, step=4) == pytest.approx((6 * 2 + 2, 14))
    # What lies between two phases is put at the last time, for each phase that is still to come.
    check = Stage(("runs/w", forecast.CHECK), ("checked",), 3)
    again = Forecast([SELECT, TRAIN, check])
    clock[0] += 100
    again.ends()
    clock[0] += 7
    again.begins()
    again.seen("meta", 3.0)
    assert again.left(SELECT, epoch=2, step=0) == pytest.approx((0, 30 + 12 * 0.35 + 7 + 3))
    assert expected.left(TRAIN, epoch=3, step=0) == (0, 0)
    # A phase that no run has planned, as in a test of its own.
    assert expected.left(Stage(("", "x"), ("fixed",), 10), epoch=0, step=5) == (10.0, None)


def told_by(console, clock, *, epochs=2, seconds=4.0, steps=10):
    with console:
        clock[0] += 6
        console.refresh()
        for epoch in range(epochs):
            console.begin(epoch, 0)
            for _ in range(steps):
                clock[0] += seconds
                console.step(LOGS)
                console.refresh()
            with console.evaluating():
                clock[0] += 1
            console.end(LOGS | {"val_accuracy": 0.5})


def test_a_log_has_a_line_a_minute_and_the_ends_of_epochs(clock, monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with forecast.using(Forecast([SELECT, TRAIN])), logged(logging.INFO) as lines:
        told_by(Console(SELECT, THREE), clock, seconds=7.0)
    # Bit-meta steps alone choose no bits.
    meta = "loss 0.9694, accuracy 67.40%"
    figures = "loss 0.9694, 124/81.0/60.1 MBOPs, 24.6 kB of RAM, accuracy 67.40%"
    ending = ", validation accuracy 50.00%; about "
    assert lines[0].startswith("select: preparing the first step, 6.0 s so far")
    # The first of 7 s was preparation; then 9 of 7 s, a minute after the line before.
    assert lines[1].startswith(f"select: epoch 1 of 2, step 9 of 10, 45% of the phase: {meta}; about ")
    assert lines[2].startswith(f"select: epoch 1 of 2 done after 1 min 11 s: {meta}{ending}1 min ")
    assert lines[3].startswith(f"select: epoch 2 of 2, step 9 of 10, 95% of the phase: {figures}; about ")
    assert lines[4].startswith(f"select: epoch 2 of 2 done after 1 min 11 s: {figures}{ending}")
    assert lines[4].endswith(" of the run left") and len(lines) == 5


def test_short_epochs_are_told_ten_seconds_apart_and_the_last_one_always(clock, monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    stage = Stage(("", "float"), ("float",) * 9, 2)
    with logged(logging.INFO) as lines:
        told_by(Console(stage), clock, epochs=9, seconds=1.0, steps=2)
    # Epochs of 3 s each: the first at 9 s, the fifth at 21 s, and the last.
    assert [line.partition(" of")[0] for line in lines[1:]] == [
        f"float: epoch {epoch}" for epoch in (1, 5, 9)
    ]


def test_a_process_that_is_no_chief_says_nothing(clock, monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with logged(logging.INFO) as lines:
        told_by(Console(SELECT, THREE, silent=True), clock, seconds=70.0)
    assert not lines


@pytest.mark.parametrize(
    "columns, figures",
    [
        (50, "left, run"),
        (80, "loss 0.9694, 124/81.0/60.1 MBOPs"),
        (160, "loss 0.9694, 124/81.0/60.1 MBOPs, 24.6 kB of RAM, accuracy 67.40%"),
    ],
)
def test_a_line_of_three_budgets_fits_the_terminal(clock, monkeypatch, columns, figures):
    monkeypatch.setenv("TERM", "xterm")
    with terminal_of(monkeypatch, columns) as shown, forecast.using(Forecast([SELECT, TRAIN])):
        told_by(Console(SELECT, THREE), clock)
    frames = [frame for frame in shown[0].replace("\n", "").split("\r") if frame.strip()]
    bars = [frame for frame in frames if frame.startswith("select ")]
    assert len(bars) >= 20 and max(map(len, frames)) < columns
    assert all("|" in bar for bar in bars) and figures in bars[-3]
    assert bars[-3].startswith("select 2/2 ") and not any("MBOPs" in bar for bar in bars[:8])
    assert "search_loss" not in shown[0] and "124426240" not in shown[0]
    assert "mmx_tf: select: preparing the first step" in frames[0]
