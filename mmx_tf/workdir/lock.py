"""One run per workdir: a lock of the operating system, and a note of who holds it.

The lock is `flock` on the file run.lock in the workdir. The kernel gives it back when the process ends, in
whatever way, so that a lock is never stale: one that can be taken is free. The file's text names the holder
for the process that is refused; it is empty when the last run ended by itself.

    >>> with held(pathlib.Path("exported")):
    ...     pathlib.Path("exported/run.lock").exists()
    True
"""

import datetime
import fcntl
import json
import os
import pathlib
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from absl import logging

from mmx_tf.errors import RecipeError

LOCK_FILE = "run.lock"
PATIENCE_SECONDS = 1.0
"""How long another process's look at the lock, or the writing of its note, may take."""


class WorkdirInUseError(RecipeError):
    """Another process works in the workdir; the message names it."""


def check_free(root: pathlib.Path) -> None:
    """Looks whether a run holds the workdir, and changes nothing.

    Raises:
      WorkdirInUseError: if one does.
    """
    try:
        descriptor = os.open(root / LOCK_FILE, os.O_RDONLY)
    except OSError:  # no such file, or none that can be opened: `held` says what is wrong
        return
    try:
        _lock(descriptor, fcntl.LOCK_SH, root)
    finally:
        os.close(descriptor)


@contextmanager
def held(root: pathlib.Path) -> Iterator[None]:
    """Holds the lock of a workdir, which must exist, during the block.

    Raises:
      WorkdirInUseError: if another run holds it.
      OSError: if the file cannot be made, or the file system has no locks.
    """
    # Not inheritable: a child that outlives the run would keep the lock.
    descriptor = os.open(root / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _lock(descriptor, fcntl.LOCK_EX, root)
        left = _text(descriptor)
        if left:
            logging.info("the lock of %s was left by %s, which has ended; it is taken over.", root, left)
        _write(descriptor, json.dumps(_owner()) + "\n")
        try:
            yield
        finally:
            _write(descriptor, "")
    finally:
        os.close(descriptor)


def _lock(descriptor: int, kind: int, root: pathlib.Path) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            # A look takes the lock for a moment, and a run that has just begun has no note yet.
            owner = _text(descriptor)
            if time.monotonic() > end:
                raise WorkdirInUseError(
                    f"--workdir={root} is in use by {owner or 'a process that has left no name'}. Wait for "
                    "that run or stop it, or give another --workdir; nothing was changed."
                ) from None
            time.sleep(0.02)


def _owner() -> dict[str, object]:
    now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    return {"pid": os.getpid(), "host": socket.gethostname(), "started": now}


def _text(descriptor: int) -> str:
    """The note as part of a sentence; '' without a note."""
    try:
        owner = json.loads(os.pread(descriptor, 4096, 0))
        return f"process {owner['pid']} on {owner['host']}, started {owner['started']}"
    except (ValueError, KeyError, TypeError):
        return ""


def _write(descriptor: int, text: str) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text.encode(), 0)
