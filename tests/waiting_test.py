"""How far a comparison has come: a bar that fits a terminal, or a line a minute."""

import io
import logging
import os
import pty
import select
import sys
import termios

import pytest
from listening import logged

from mmx_tf import waiting


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test sets: clock[0] is the time in seconds."""
    now = [0.0]
    monkeypatch.setattr(waiting.time, "monotonic", lambda: now[0])
    return now


def test_there_is_a_line_a_minute_where_there_is_no_terminal(clock, monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with logged(logging.INFO) as lines, waiting.images_done("verify", 1000) as progress:
        for done in range(10, 1001, 10):  # one second each
            clock[0] += 1
            progress(done)
    # 60 s for 600 images: the 400 that are left take 40 s.
    assert lines == ["verify: 600 of 1,000 images, about 40.0 s left"]


def test_a_short_comparison_says_nothing(clock, monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with logged(logging.INFO) as lines, waiting.images_done("verify", 100) as progress:
        clock[0] = 59
        progress(100)
    assert not lines


@pytest.mark.parametrize("columns", [60, 200])
def test_a_bar_fits_the_terminal_and_is_gone_afterwards(monkeypatch, columns):
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, columns))
    with open(theirs, "w") as screen:
        monkeypatch.setattr(sys, "stderr", screen)
        with waiting.images_done("verifying the file", 300) as progress:
            progress(128)
            progress(384)  # of a last batch that is cut
        screen.flush()
        shown = b""
        while select.select([ours], [], [], 0.5)[0]:  # a terminal hands on what it has in pieces
            shown += os.read(ours, 10_000)
        shown = shown.decode()
    os.close(ours)
    assert "verifying the file" in shown and "0/300" in shown
    assert max(map(len, shown.split("\r"))) <= columns
    # The last thing written is the line emptied, and the cursor at its beginning.
    assert shown.endswith("\r") and not shown.rstrip("\r").rpartition("\r")[2].strip(), repr(shown)


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
