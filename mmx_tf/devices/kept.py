"""What devices' tools said of trial files, kept in a file, so that a resumed run does not measure again.

    with kept.using(Kept(path)) as found:
        ...                             # tools are asked through `current().of(key, measure)`
    found.save()

A key holds the SHA-256 of the bytes that were measured: other weights are measured anew.
"""

import contextlib
import contextvars
import json
import pathlib
from collections.abc import Callable, Iterator

from mmx_tf.export.atomic import write_atomically


class Kept:
    """Figures by key.

    Attributes:
      measured: how many were measured, not read.
    """

    def __init__(self, path: pathlib.Path | None = None):
        """Reads `path`, if it is there; a damaged file counts as none, since all of it can be measured."""
        self._path, self.measured = path, 0
        self._saved = self._found = {}
        with contextlib.suppress(OSError, ValueError):
            found = json.loads(path.read_text()) if path else {}
            self._saved = self._found = found if isinstance(found, dict) else {}

    def of(self, key: str, measure: Callable[[], object]):
        """What is kept under a key; measured where there is nothing. It is a value for JSON."""
        if key not in self._found:
            self._found = self._found | {key: measure()}
            self.measured += 1
        return self._found[key]

    def has(self, key: str) -> bool:
        """Whether something is kept under a key."""
        return key in self._found

    def __len__(self) -> int:
        """How many figures are kept."""
        return len(self._found)

    def save(self) -> None:
        """Writes what is new to the path."""
        if self._path and self._found != self._saved:
            write_atomically(self._path, json.dumps(self._found, indent=1, sort_keys=True) + "\n")
            self._saved = self._found


_CURRENT: contextvars.ContextVar[Kept] = contextvars.ContextVar("kept")


@contextlib.contextmanager
def using(found: Kept) -> Iterator[Kept]:
    """A block in which tools' figures are kept there."""
    token = _CURRENT.set(found)
    try:
        yield found
    finally:
        _CURRENT.reset(token)


def current() -> Kept:
    """That of the block; outside of one, a new one."""
    found = _CURRENT.get(None)
    return Kept() if found is None else found
