"""Checkpoints of a training phase, each a folder that is whole or not there.

    checkpoints/train/ckpt-1200/       number: training steps of the phase that were done
        variables.index, variables.data-00000-of-00001     what tf.train.Checkpoint wrote
        facts.json                                         what is no variable, as JSON
        sha256.json                                        the files above, with their checksums

A checkpoint is written under another name, flushed to the disk and then renamed. One of the same number is
renamed to .replaced-1200 before, and counts as long as there is no ckpt-1200. One whose checksums do not hold
is told of and passed over, and the one before it is taken.

    >>> variables = {"model": tf.Module(), "step": tf.Variable(0)}
    >>> checkpoints = Checkpoints(pathlib.Path("checkpoints"), variables, keep=2)
    >>> _ = checkpoints.save(1200, {"epoch": 3})
    >>> checkpoints.restore()
    (1200, {'epoch': 3})
"""

import contextlib
import json
import os
import pathlib
import re
import shutil
import tempfile

import tensorflow as tf
from absl import logging

from mmx_tf.errors import RecipeError
from mmx_tf.export.atomic import flush
from mmx_tf.workdir.fingerprints import sha256_of

_VARIABLES = "variables"
_FACTS = "facts.json"
_CHECKSUMS = "sha256.json"
_PARTIAL = ".partial"
_NO_FILE = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
_NAMES = ("ckpt-{}", ".replaced-{}")
# What TensorFlow raises for files that are not what it wrote; anything else may be well the next time.
_DAMAGE = (
    tf.errors.DataLossError, tf.errors.OutOfRangeError, tf.errors.NotFoundError,
    tf.errors.InvalidArgumentError, IndexError, RuntimeError,
)  # fmt: skip


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
            self._take_part()
            return True
        partial = self.folder / _PARTIAL
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        except OSError as error:
            self._take_part()
            self._tell_unwritten(number, error)
            return False
        try:
            self._checkpoint.write(str(partial / _VARIABLES))
            (partial / _FACTS).write_text(text)
            checksums = {path.name: sha256_of(path) for path in sorted(partial.iterdir())}
            (partial / _CHECKSUMS).write_text(json.dumps(checksums, indent=1) + "\n")
            for path in (*partial.iterdir(), partial):
                flush(path)
            target, replaced = _paths(self.folder, number)
            if target.exists():
                shutil.rmtree(replaced, ignore_errors=True)
                target.rename(replaced)
            partial.rename(target)
            flush(self.folder)
        except (OSError, tf.errors.OpError) as error:
            shutil.rmtree(partial, ignore_errors=True)
            self._tell_unwritten(number, error)
            return False
        self._tidy(number, best)
        return True

    def _tidy(self, number: int, best: int | None) -> None:
        found = numbers(self.folder)
        kept = {*[n for n in found if n <= number][-self.keep :], best}
        for other in found:
            target, replaced = _paths(self.folder, other)
            if other not in kept:
                shutil.rmtree(target, ignore_errors=True)
            elif not target.exists():
                with contextlib.suppress(OSError):
                    replaced.rename(target)
                continue
            shutil.rmtree(replaced, ignore_errors=True)

    def _take_part(self) -> None:
        """Running metrics are sums over all processes, in whose reading each has to take part."""
        with contextlib.suppress(OSError, tf.errors.OpError), tempfile.TemporaryDirectory() as unread:
            self._checkpoint.write(os.path.join(unread, _VARIABLES))

    def _tell_unwritten(self, number: int, error: Exception) -> None:
        found, newest = numbers(self.folder), "there is no checkpoint yet"
        if found:
            newest = f"the newest checkpoint is {path_of(self.folder, found[-1])}"
        logging.warning(
            "%s could not be written: %s The run goes on; %s.",
            _paths(self.folder, number)[0], " ".join(str(error).split()), newest,
        )  # fmt: skip

    def restore(self) -> tuple[int, dict] | None:
        """Restores the newest checkpoint that is whole.

        Returns:
          (its number, its facts), or None without one.

        Raises:
          RecipeError: if it is of another network.
          OSError: if one cannot be read, which does not say that it is damaged.
        """
        for number in reversed(numbers(self.folder)):
            path = path_of(self.folder, number)
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
                f"checkpoint {path} is of another network, perhaps one that another version of mmx_tf built: "
                f"{reason} Start the run in a new --workdir."
            ) from error
        except _DAMAGE as error:
            raise DamagedCheckpointError(" ".join(str(error).split())[:400]) from error
        except tf.errors.OpError as error:
            raise OSError(f"{path}: {' '.join(str(error).split())[:400]}") from error


def numbers(folder: pathlib.Path) -> list[int]:
    """The numbers of a folder's checkpoints, in ascending order."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    found = (re.fullmatch(r"(?:ckpt|\.replaced)-(\d+)", name) for name in names)
    return sorted({int(match[1]) for match in found if match})


def path_of(folder: pathlib.Path, number: int) -> pathlib.Path:
    """The folder of checkpoint `number`."""
    target, replaced = _paths(folder, number)
    return target if target.exists() or not replaced.exists() else replaced


def _paths(folder: pathlib.Path, number: int) -> tuple[pathlib.Path, pathlib.Path]:
    """Where checkpoint `number` is, and where a kill between two renamings leaves it."""
    target, replaced = (folder / name.format(number) for name in _NAMES)
    return target, replaced


def newest_facts(folder: pathlib.Path) -> dict | None:
    """The facts of a folder's newest whole checkpoint; None without one."""
    for number in reversed(numbers(folder)):
        try:
            return facts_of(path_of(folder, number))
        except DamagedCheckpointError:
            continue
    return None


def facts_of(path: pathlib.Path) -> dict:
    """The facts of one checkpoint, after all its files have been checked.

    Raises:
      DamagedCheckpointError: names the file that is not what was written.
      OSError: if a file is there but cannot be read, as for an error of the disk.
    """
    try:
        checksums = json.loads((path / _CHECKSUMS).read_text())
        names = {_FACTS, f"{_VARIABLES}.index", *checksums}
        for name in sorted(names):
            if pathlib.PurePath(name).name != name or sha256_of(path / name) != checksums.get(name):
                raise DamagedCheckpointError(f"{name} is not what was written (its checksum differs).")
        facts = json.loads((path / _FACTS).read_text())
    except (*_NO_FILE, ValueError, TypeError, AttributeError) as error:
        if isinstance(error, DamagedCheckpointError):
            raise
        raise DamagedCheckpointError(
            f"{_CHECKSUMS} or a file that it names cannot be read: {error}"
        ) from error
    if not isinstance(facts, dict):
        raise DamagedCheckpointError(f"{_FACTS} holds no facts.")
    return facts
