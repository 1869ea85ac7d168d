"""A run that starts from the meta-state of another one, whose checkpoints of bit selection it is given.

A run whose bits are given trains a meta-state of its own. Runs that are compared for their bits alone should
have the same one: that of a search, which trains the same variables.
"""

import hashlib
import pathlib
import shutil
from collections.abc import Callable

SELECT = pathlib.Path("checkpoints", "select")
TRAIN = pathlib.Path("checkpoints", "train")
STATE = pathlib.Path("checkpoints", "state.json")


def other_start(source: pathlib.Path, folder: pathlib.Path) -> str | None:
    """Why a run did not start from another's meta-state, in a sentence; None if it did, or can still.

    Args:
      source: workdir of the run whose meta-state it is.
      folder: of the run that starts from it; neither need be there.
    """
    trained = (folder / "metrics.json").exists() or any((folder / TRAIN).glob("ckpt-*"))
    if not trained or _contents(folder / SELECT) == _contents(source / SELECT):
        return None
    return (
        f"{folder} was trained from another meta-state than the one in {source}. Put that one back, or "
        f"remove {folder.name}."
    )


def begin_from(source: pathlib.Path, folder: pathlib.Path, begin: Callable[[pathlib.Path], bool]) -> bool:
    """Makes a folder a run's workdir with the meta-state of another: whether it is one now.

    It can be killed at any moment and called again.

    Args:
      source: workdir of a run whose bit selection is done.
      folder: of the run that starts from it; not of one with an `other_start`.
      begin: begins the run and stops it when the file that it is given is there; whether that went well.
    """
    if (folder / SELECT).exists() and _contents(folder / SELECT) == _contents(source / SELECT):
        return True
    if not (folder / STATE).exists() and not begin(folder / STATE):
        return False
    partial = folder / SELECT.with_name(".select.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(source / SELECT, partial)
    shutil.rmtree(folder / SELECT, ignore_errors=True)
    partial.rename(folder / SELECT)
    for name in ("bit_selection.json", "sensitivity.json"):  # of a run that was stopped after its selection
        (folder / name).unlink(missing_ok=True)
    return True


def sha256_of(path: pathlib.Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _contents(folder: pathlib.Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): sha256_of(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
