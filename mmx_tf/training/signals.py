"""Signals that end a process, held back until a training step is over and its result is saved.

>>> with held_back() as signals:
...     print(signals.received)     # after the block a signal does what it would have done
None
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

HELD_BACK = (signal.SIGTERM, signal.SIGINT)


class Received:
    """What `held_back` gives: `received` is the number of the first signal that came, or None."""

    received: int | None = None


@contextmanager
def held_back() -> Iterator[Received]:
    """Holds SIGTERM and SIGINT back during the block; at its end, the one that came is raised again.

    A second signal is not held back any more. Only a process's main thread can do this; in another thread
    nothing is held back.
    """
    signals = Received()
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return
    earlier = {number: signal.getsignal(number) for number in HELD_BACK}

    def restore():
        for number, handler in earlier.items():
            # None is a handler that was not set by Python, and cannot be.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def receive(number, frame):
        signals.received = number
        restore()

    for number in HELD_BACK:
        # One that the parent process wants ignored stays ignored.
        if earlier[number] is not signal.SIG_IGN:
            signal.signal(number, receive)
    try:
        yield signals
    finally:
        restore()
        # Before an exception of the block, from which somebody might go on.
        if signals.received:
            signal.raise_signal(signals.received)
