"""Writing a file so that a reader sees the old content or the whole new content, never a part."""

import contextlib
import errno
import os
import tempfile
from pathlib import Path


def write_atomically(path, data):
    """Write `data` (bytes, or str as UTF-8) to `path`, replacing it; the folder must exist.

    The bytes go to a temporary file in the same folder, are flushed to the disk, and are renamed over `path`.
    On an error the temporary file is removed and `path` is what it was. Raises OSError as the file system
    does.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "no such folder to write to", str(path.parent))
    data = data.encode() if isinstance(data, str) else bytes(data)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=_prefix(path.name))
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes private files; a result is readable like any file that its owner writes.
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
        # So that the new name, too, outlives a power failure, on file systems that can promise it.
        with contextlib.suppress(OSError):
            flush(path.parent)
    except BaseException:
        # A signal's handler may raise when it has been renamed already.
        Path(temporary).unlink(missing_ok=True)
        raise


def is_left_over(path, name):
    """Whether `path` is the temporary file that a killed write to a file called `name` leaves."""
    return Path(path).name.startswith(_prefix(name))


def flush(path):
    """Waits until a file, or a folder's names, are on the disk. Raises OSError as the file system does."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _prefix(name):
    return f".{name}."


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask
