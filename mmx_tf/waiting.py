"""What the program is doing, kept in sight while it takes long.

A terminal has one line that fits its width, is drawn anew every second and is gone at the end. Elsewhere (a
file, a pipe, a terminal that cannot go back to a line's beginning) the log has a line after five seconds of
silence, and one a minute after that.

>>> with busy("writing the file"):
...     data = mmx_tf.convert(folded)
>>> with images_done("verify", 32) as progress:
...     report = mmx_tf.verify(folded, data, eval_ds.take(1), progress=progress)
>>> report.code_disagreement
0.0

Lines of the log that come meanwhile stand above the terminal's line. A `Display` that begins inside another
one takes its place until it ends.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TextIO

from absl import logging
from tqdm import tqdm

from mmx_tf.notation import duration

SECONDS_BETWEEN_LINES = 60.0
SECONDS_OF_SILENCE = 5.0
SECONDS_BETWEEN_DRAWINGS = 1.0
COLUMNS = 80
"""Of a terminal that does not tell."""
_SHOWN: list["Display"] = []
"""Those that have begun and not ended; the last one is in sight."""
_LOCK = threading.RLock()
"""Held while `_SHOWN` or a terminal's line changes."""


class Display:
    """Keeps in sight, while its block lasts, what `words` and `on_screen` of a subclass say.

    Args:
      first: seconds until the first line of the log, where there is no terminal; 0: at once on both.
    """

    def __init__(self, *, first: float = SECONDS_OF_SILENCE):
        self._first, self._ended = first, threading.Event()
        self._screen: TextIO | None = None
        self._bar: tqdm | None = None

    def words(self) -> str:
        """A line for the log."""
        raise NotImplementedError

    def on_screen(self, columns: int) -> tuple[str, tuple[int, int] | None, str]:
        """What a terminal of so many columns shows: text, (done, total) of a bar or None, text behind it."""
        raise NotImplementedError

    def tell(self, line: str) -> None:
        """Logs a line now; the next one that comes by itself is due a minute later."""
        self._due = time.monotonic() + SECONDS_BETWEEN_LINES
        logging.info("%s", line)

    def refresh(self) -> None:
        """Draws the terminal's line, or logs a line that is due, unless another display is in sight."""
        with _LOCK:
            if _SHOWN[-1:] != [self]:
                return
            if self._screen:
                self._draw()
            elif time.monotonic() >= self._due:
                self.tell(self.words())

    @property
    def seconds(self) -> float:
        """Time since the block began, or since another one inside it ended."""
        return time.monotonic() - self._begun

    def _begin(self) -> None:
        self._begun = time.monotonic()
        self._due = self._begun + self._first

    def __enter__(self):
        self._begin()
        with contextlib.ExitStack() as exits:
            self._screen = exits.enter_context(_terminal())
            if self._screen:
                exits.enter_context(_log_above(self._screen))
            with aside():
                _SHOWN.append(self)
            exits.callback(self._leave)
            # The program's own thread is in what takes long.
            thread = threading.Thread(target=self._keep_in_sight, daemon=True)
            exits.callback(thread.join)
            exits.callback(self._ended.set)
            thread.start()
            self._exits = exits.pop_all()
        if not self._first:
            self.refresh()
        return self

    def __exit__(self, *_):
        self._exits.close()

    def _leave(self) -> None:
        with _LOCK:
            _SHOWN.remove(self)
            self._hide()
            if _SHOWN:
                # What it is at now has begun now.
                _SHOWN[-1]._begin()

    def _keep_in_sight(self) -> None:
        while not self._ended.wait(SECONDS_BETWEEN_DRAWINGS):
            self.refresh()

    def _draw(self) -> None:
        # The last column stays empty: some terminals begin a new line when it is written.
        columns = (os.get_terminal_size(self._screen.fileno()).columns or COLUMNS) - 1
        text, bar, behind = (part.replace("{", "{{") if isinstance(part, str) else part
                             for part in self.on_screen(columns))  # fmt: skip
        done, total = bar or (0, None)
        form = f"{text} {{percentage:3.0f}}%|{{bar}}| {behind}" if bar else f"{text} {behind}"
        if self._bar is None:
            options = {"file": self._screen, "leave": False, "miniters": 10**9}
            self._bar = tqdm(total=total, initial=done, ncols=columns, bar_format=form, **options)
            return
        self._bar.n, self._bar.total, self._bar.ncols, self._bar.bar_format = done, total, columns, form
        self._bar.refresh()

    def _hide(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class _Busy(Display):
    def __init__(self, what: str, first: float):
        super().__init__(first=first)
        self._what = what

    def words(self) -> str:
        """What is done, and for how long when that is more than a minute."""
        long = self.seconds >= SECONDS_BETWEEN_LINES
        return f"{self._what}, {duration(self.seconds)} so far" if long else f"{self._what} ..."

    def on_screen(self, columns: int):
        """What is done, and for how long."""
        return f"mmx_tf: {self._what}", None, tqdm.format_interval(self.seconds)


class _Images(Display):
    def __init__(self, what: str, total: int | None):
        super().__init__()
        self._what, self._total, self.done = what, total, 0

    def words(self) -> str:
        """How many are done, and the time that is left."""
        return f"{self._what}: {words(self.done, self._total, self.seconds)}"

    def on_screen(self, columns: int):
        """The same in figures."""
        if self._total is None:
            return f"mmx_tf: {self._what}", None, f"{self.done} images"
        done = min(self.done, self._total)
        left = f", {clock(self.seconds / done * (self._total - done))} left" if done else ""
        return f"mmx_tf: {self._what}", (done, self._total), f"{done}/{self._total} images{left}"

    def count(self, done: int) -> None:
        """Takes note of how many are done."""
        self.done = done
        if not self._screen:
            self.refresh()


def busy(what: str, *, first: float = SECONDS_OF_SILENCE) -> Display:
    """Says what is being done, for how long, while the block lasts.

    Args:
      what: is done, such as "writing the file".
      first: seconds after which the log says so, where there is no terminal.
    """
    return _Busy(what, first)


def loading_tensorflow() -> contextlib.AbstractContextManager:
    """Says that TensorFlow is being loaded, at once, unless it is there already."""
    if "tensorflow" in sys.modules:
        return contextlib.nullcontext()
    return busy("loading TensorFlow", first=0)


@contextlib.contextmanager
def images_done(what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """A function that is told how many images are done, and shows it on stderr.

    Args:
      what: is done with them.
      total: number of images; None where nobody knows.
    """
    with _Images(what, total) as images:
        yield images.count


@contextlib.contextmanager
def aside() -> Iterator[None]:
    """A block that prints to the terminal, whose line is gone in the meantime."""
    with _LOCK:
        for display in _SHOWN:
            display._hide()
        yield


def words(done: int, total: int | None, seconds: float) -> str:
    """'1,280 of 10,000 images, about 5 min 41 s left', after `seconds` for those that are done."""
    if total is None or not done:
        return f"{done:,} images"
    left = seconds / done * max(0, total - done)
    return f"{done:,} of {total:,} images, about {duration(left)} left"


def clock(seconds: float) -> str:
    """`seconds` as a clock shows them: 3725 -> '1:02:05'."""
    return tqdm.format_interval(seconds)


@contextlib.contextmanager
def _terminal() -> Iterator[TextIO | None]:
    """A terminal on stderr whose lines can be drawn anew; None where there is none."""
    try:
        if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
            raise OSError
        # A descriptor of its own: while TensorFlow loads, number 2 is held back.
        number = os.dup(sys.stderr.fileno())
    except (AttributeError, OSError, ValueError):  # no standard error, a closed one, or no file
        yield None
        return
    with open(number, "w", encoding=sys.stderr.encoding) as screen:
        yield screen


@contextlib.contextmanager
def _log_above(screen: TextIO) -> Iterator[None]:
    """Lines of the log take the place of the terminal's line, which is drawn anew below them."""
    handler = logging.get_absl_handler().python_handler
    emit = handler.emit

    def above(record):
        with tqdm.external_write_mode(file=screen):
            emit(record)

    handler.emit = above
    try:
        yield
    finally:
        handler.emit = emit
