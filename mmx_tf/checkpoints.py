"""Checkpoints of a training phase, each a folder that is whole or not there.

    checkpoints/train/ckpt-1200/       number: training steps of the phase that were done
        variables.index, variables.data-00000-of-00001     what tf.train.Checkpoint wrote
        facts.json                                         what is no variable, as JSON
        sha256.json                                        the files above, with their checksums

A checkpoint is written under another name, flushed to the disk and then renamed. One whose checksums do not
hold is told of and passed over, and the one before it is taken.

    >>> checkpoints = Checkpoints(folder, {"model": model, "optimizer": model.optimizer}, keep=2)
    >>> checkpoints.save(1200, {"epoch": 3})
    >>> checkpoints.restore()
    (1200, {'epoch': 3})
"""

import hashlib
import json
import os
import pathlib
import re
import shutil
import tempfile

import tensorflow as tf
from absl import logging

from mmx_tf.recipe_texts import RecipeError

_VARIABLES = "variables"
_FACTS = "facts.json"
_CHECKSUMS = "sha256.json"
_PARTIAL = ".partial"


class DamagedCheckpointError(ValueError):
    """A checkpoint whose files are not those that were written."""


class Checkpoints:
    """Saves and restores variables and facts, in numbered checkpoints of one folder.

    Args:
      folder: made when it is first needed; one process at a time may use it.
      objects: name -> trackable object, in the same form whenever the folder is used.
      keep: how many checkpoints are left after a new one was written, 1 or more, beside the best.
      writes: False in the processes of a job that are no chief; they restore alone.
    """

    def __init__(self, folder: pathlib.Path, objects: dict, *, keep: int = 2, writes: bool = True):
        self.folder = pathlib.Path(folder)
        self.keep, self._writes = keep, writes
        self._checkpoint = tf.train.Checkpoint(**objects)

    def save(self, number: int, facts: dict, *, best: int | None = None) -> bool:
        """Writes checkpoint `number`; then drops those before the last `keep`, and any of a later number.

        A later number can only be that of a checkpoint that was passed over.

        Args:
          number: training steps that were done.
          facts: what is kept beside the variables, as JSON.
          best: number of a checkpoint that is not dropped.

        Returns:
          Whether it was written. A disk that is full is a warning, since the checkpoints before are as good
          as they were.

        Raises:
          TypeError: if the facts are not JSON.
        """
        text = json.dumps(facts)
        if not self._writes:
            # Running metrics are sums over all processes, in whose reading each has to take part.
            with tempfile.TemporaryDirectory() as unread:
                self._checkpoint.write(os.path.join(unread, _VARIABLES))
            return True
        partial = self.folder / _PARTIAL
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            self._checkpoint.write(str(partial / _VARIABLES))
            (partial / _FACTS).write_text(text)
            checksums = {path.name: _checksum(path) for path in sorted(partial.iterdir())}
            (partial / _CHECKSUMS).write_text(json.dumps(checksums, indent=1) + "\n")
            for path in (*partial.iterdir(), partial):
                _flush(path)
            target = self._path(number)
            shutil.rmtree(target, ignore_errors=True)
            partial.rename(target)
            _flush(self.folder)
        except (OSError, tf.errors.OpError) as error:
            shutil.rmtree(partial, ignore_errors=True)
            logging.warning(
                "%s could not be written: %s The run goes on; %s.",
                self._path(number), " ".join(str(error).split()), self._newest_in_words(),
            )  # fmt: skip
            return False
        kept = [n for n in numbers(self.folder) if n <= number][-self.keep :]
        for other in set(numbers(self.folder)) - {*kept, best}:
            shutil.rmtree(self._path(other), ignore_errors=True)
        return True

    def restore(self) -> tuple[int, dict] | None:
        """Restores the newest checkpoint that is whole.

        Returns:
          (its number, its facts), or None where there is none.

        Raises:
          RecipeError: if it is of another network.
        """
        for number in reversed(numbers(self.folder)):
            path = self._path(number)
            try:
                facts = facts_of(path)
                self._restore(path)
            except DamagedCheckpointError as error:
                logging.warning("%s is passed over: %s", path, error)
                continue
            return number, facts
        return None

    def _restore(self, path: pathlib.Path) -> None:
        try:
            self._checkpoint.read(str(path / _VARIABLES)).assert_consumed()
        except (ValueError, AssertionError) as error:
            reason = " ".join(str(error).split())[:400]
            raise RecipeError(
                f"checkpoint {path} is of another network, as one that another version of mmx_tf built would "
                f"be: {reason} Start the run in a new --workdir."
            ) from error
        except (tf.errors.OpError, IndexError, RuntimeError) as error:  # what its reader raises
            raise DamagedCheckpointError(" ".join(str(error).split())[:400]) from error

    def _path(self, number: int) -> pathlib.Path:
        return self.folder / f"ckpt-{number}"

    def _newest_in_words(self) -> str:
        found = numbers(self.folder)
        return f"the newest checkpoint is {self._path(found[-1])}" if found else "there is no checkpoint yet"


def numbers(folder: pathlib.Path) -> list[int]:
    """The numbers of a folder's checkpoints, in ascending order."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(match[1]) for name in names if (match := re.fullmatch(r"ckpt-(\d+)", name)))


def newest_facts(folder: pathlib.Path) -> dict | None:
    """The facts of a folder's newest whole checkpoint; None where there is none."""
    for number in reversed(numbers(folder)):
        try:
            return facts_of(folder / f"ckpt-{number}")
        except DamagedCheckpointError:
            continue
    return None


def facts_of(path: pathlib.Path) -> dict:
    """The facts of one checkpoint, after all its files have been checked.

    Raises:
      DamagedCheckpointError: names the file that is not what was written.
    """
    try:
        checksums = json.loads((path / _CHECKSUMS).read_text())
        names = {_FACTS, f"{_VARIABLES}.index", *checksums}
        for name in sorted(names):
            if pathlib.PurePath(name).name != name or _checksum(path / name) != checksums.get(name):
                raise DamagedCheckpointError(f"{name} is not what was written (its checksum differs).")
        facts = json.loads((path / _FACTS).read_text())
    except (OSError, ValueError, TypeError, AttributeError) as error:
        if isinstance(error, DamagedCheckpointError):
            raise
        raise DamagedCheckpointError(
            f"{_CHECKSUMS} or a file that it names cannot be read: {error}"
        ) from error
    if not isinstance(facts, dict):
        raise DamagedCheckpointError(f"{_FACTS} holds no facts.")
    return facts


def _checksum(path: pathlib.Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: pathlib.Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
