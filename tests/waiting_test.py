"""How far a comparison has come: a bar that fits a terminal, or a line a minute."""

import io
import logging
import re
import sys
import threading
import time

import pytest
from absl import logging as absl_logging
from listening import logged, terminal_of

from mmx_tf import waiting


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test sets: clock[0] is the time in seconds."""
    now = [0.0]
    monkeypatch.setattr(waiting.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def terminal(monkeypatch):
    """`terminal_of`, for displays that are drawn often."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(waiting, "SECONDS_BETWEEN_DRAWINGS", 0.01)
    return lambda columns: terminal_of(monkeypatch, columns)


def test_there_is_a_line_a_minute_where_there_is_no_terminal(clock, monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with logged(logging.INFO) as lines, waiting.images_done("verify", 1000) as progress:
        for done in range(10, 1001, 10):  # one second each
            clock[0] += 1
            progress(done)
    # A second for ten images: after 5 s of silence, and a minute later.
    assert lines == [
        "verify: 50 of 1,000 images, about 1 min 35 s left",
        "verify: 650 of 1,000 images, about 35.0 s left",
    ]


def test_a_short_comparison_says_nothing(clock, monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with logged(logging.INFO) as lines, waiting.images_done("verify", 100) as progress:
        clock[0] = 4.9
        progress(100)
    assert not lines


def test_what_takes_long_is_said_after_some_silence_and_once_a_minute(clock, monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with logged(logging.INFO) as lines, waiting.busy("writing the file") as display:
        for clock[0] in range(131):
            display.refresh()
    assert lines == [
        "writing the file ...",
        "writing the file, 1 min 05 s so far",
        "writing the file, 2 min 05 s so far",
    ]


def test_a_thread_of_its_own_says_what_the_program_is_at(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr(waiting, "SECONDS_BETWEEN_DRAWINGS", 0.01)
    with logged(logging.INFO) as lines, waiting.busy("sleeping", first=0.05):
        time.sleep(0.5)
    assert lines == ["sleeping ..."]
    assert not [thread for thread in threading.enumerate() if "_keep_in_sight" in thread.name]


def test_of_two_displays_the_inner_one_is_in_sight(clock, monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with logged(logging.INFO) as lines, waiting.busy("outer") as outer:
        with waiting.busy("inner") as inner:
            clock[0] = 6
            outer.refresh()
            inner.refresh()
        outer.refresh()
        assert lines == ["inner ..."]  # what the outer one is at has begun now
        clock[0] = 12
        outer.refresh()
    assert lines == ["inner ...", "outer ..."]


@pytest.mark.parametrize("columns", [60, 200])
def test_a_bar_fits_the_terminal_and_is_gone_afterwards(terminal, columns):
    with terminal(columns) as shown:
        with waiting.images_done("verifying the file", 300) as progress:
            progress(128)
            time.sleep(0.2)
            progress(384)  # of a last batch that is cut
            time.sleep(0.2)
    assert "verifying the file" in shown[0] and "128/300" in shown[0] and "300/300" in shown[0]
    assert max(map(len, shown[0].split("\r"))) < columns
    # The last thing written is the line emptied, and the cursor at its beginning.
    assert shown[0].endswith("\r") and not shown[0].rstrip("\r").rpartition("\r")[2].strip(), repr(shown[0])


def test_what_is_over_at_once_draws_nothing(terminal):
    with terminal(80) as shown, waiting.busy("writing the file"):
        pass
    assert shown == [""]


def test_lines_of_the_log_stand_above_the_bar(terminal, monkeypatch):
    logger, handler = absl_logging.get_absl_logger(), absl_logging.get_absl_handler()
    with terminal(80) as shown, waiting.busy("training", first=0):
        # Where flags have been parsed, absl keeps to the stream that was there at first.
        monkeypatch.setattr(handler.python_handler, "stream", sys.stderr)
        handler.handle(logger.makeRecord("", logging.WARNING, __file__, 1, "a line", (), None))
    # The bar is emptied, the line written (absl's first one has a line before it), the bar drawn anew.
    bar = r"\rmmx_tf: training 00:00"
    assert re.search(rf"{bar}\r +\r(WARNING[^\n]*\n)?[^\r]*a line\r\n{bar}", shown[0]), repr(shown[0])


def test_what_is_printed_stands_alone(terminal):
    with terminal(80) as shown, waiting.busy("training", first=0):
        with waiting.aside():
            print("the file  model.tflite", file=sys.stderr, flush=True)
            time.sleep(0.1)  # nothing is drawn in the meantime
        time.sleep(0.2)
    bar = r"\rmmx_tf: training 00:00"
    assert re.match(rf"{bar}\r +\rthe file  model.tflite\r\n{bar}", shown[0]), repr(shown[0])


def test_a_terminal_that_cannot_go_back_has_lines(terminal, monkeypatch, clock):
    monkeypatch.setenv("TERM", "dumb")
    with terminal(80) as shown, logged(logging.INFO) as lines, waiting.busy("training") as display:
        clock[0] = 6
        display.refresh()
    assert lines == ["training ..."] and "\r" not in shown[0].replace("\r\n", "")


@pytest.mark.parametrize(
    "done, total, seconds, said",
    [
        (1280, 10_000, 50.0, "1,280 of 10,000 images, about 5 min 41 s left"),
        (384, 300, 9.0, "384 of 300 images, about 0.0 s left"),
        (2500, None, 9.0, "2,500 images"),
    ],
)
def test_what_is_left_follows_from_what_is_done(done, total, seconds, said):
    assert waiting.words(done, total, seconds) == said
