"""What the program logs, for tests that read it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from absl import logging as absl_logging


@contextmanager
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
