"""What the program logs and draws, for tests that read it."""

import contextlib
import logging
import os
import pty
import sys
import termios
import threading
from collections.abc import Iterator

from absl import logging as absl_logging


@contextlib.contextmanager
def logged(level: int = logging.WARNING) -> Iterator[list[str]]:
    """The messages of `level` and above that are logged in the block."""
    lines = []

    class Listener(logging.Handler):
        def emit(self, record):
            lines.append(record.getMessage())

    logger, listener = absl_logging.get_absl_logger(), Listener(level)
    verbosity = absl_logging.get_verbosity()
    if level < logging.WARNING:
        absl_logging.set_verbosity(absl_logging.INFO)
    logger.addHandler(listener)
    try:
        yield lines
    finally:
        logger.removeHandler(listener)
        absl_logging.set_verbosity(verbosity)


@contextlib.contextmanager
def terminal_of(monkeypatch, columns: int) -> Iterator[list[str]]:
    """A terminal as stderr in the block; afterwards the list has one text, all that was written to it."""
    shown, written, (ours, theirs) = [], [], pty.openpty()
    termios.tcsetwinsize(theirs, (24, columns))

    def read():
        with contextlib.suppress(OSError):  # nobody can write any more
            while part := os.read(ours, 100_000):
                written.append(part)

    # A terminal that nobody reads is full after 4 kB.
    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    with open(theirs, "w") as screen, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", screen)
        yield shown
    reader.join(10)
    os.close(ours)
    shown.append(b"".join(written).decode())
