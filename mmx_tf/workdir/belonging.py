"""Whether a folder can be the workdir of a run: what the file system tells of it, which nothing waits for.

    check_first(recipe)                                      # before TensorFlow is loaded; changes nothing
    state = check_finished(root, ("model.tflite",))          # for commands that read a finished run

No TensorFlow is loaded here, so that commands refuse a wrong folder at once.
"""

import contextlib
import dataclasses
import errno
import functools
import json
import os
import pathlib
from collections.abc import Iterator

from mmx_tf.errors import RecipeError
from mmx_tf.export.atomic import is_left_over
from mmx_tf.recipe.recipe import EXPORT_FLAGS, Recipe
from mmx_tf.version import VERSION
from mmx_tf.workdir import fingerprints, results
from mmx_tf.workdir import lock as workdir_lock
from mmx_tf.workdir.fingerprints import Inputs

WORKDIR_FORMAT = 2
"""Number of what a workdir holds and how; one more whenever a run can no longer go on from what was left."""
FINISHED_FORMATS = (1, WORKDIR_FORMAT)
"""Formats whose results are still read; checkpoints of a search in format 1 have an alpha per layer."""
STATE_FILE = pathlib.Path("checkpoints", "state.json")
FLAG_FILE = "run.flags"
COST_TABLE = "cost_table.json"
"""The run's copy of --cost_table."""


def check(recipe: Recipe, inputs: Inputs) -> None:
    """Refuses a workdir that a run cannot be resumed in, or whose results are damaged; changes nothing.

    Raises:
      RecipeError: as `Workdir` and `results.check`.
    """
    root = pathlib.Path(recipe.workdir)
    with errors(root):
        check_flags(root, recipe, inputs)
        state = earlier_state(root)
        if "results" in state or (root / results.METRICS).exists():
            results.check(root, state)


def check_first(recipe: Recipe) -> None:
    """Refuses the workdir of a run, and those of its targets, before anything else is looked at.

    What passes is looked at again when the dataset is open (`check`) and when the folder is made.

    Raises:
      WorkdirInUseError: if another run holds one of them.
      RecipeError: as `check`, and if it cannot be written.
    """
    targets = [recipe.for_target(bops) for bops in recipe.target_bops] if len(recipe.target_bops) > 1 else []
    for folder in dict.fromkeys([recipe.workdir, *recipe.finished_in]):
        workdir_lock.check_free(pathlib.Path(folder))
    # Files are read as a whole for it: once for all folders, and never for new ones.
    given = functools.cache(lambda: fingerprints.of_files(recipe))
    for one in (recipe, *targets):
        root = pathlib.Path(one.workdir)
        with errors(root):
            begun = (root / FLAG_FILE).exists()
        check(one, given() if begun else {})
        with errors(root):
            _check_writable(root)


def check_finished(root: pathlib.Path, needed: tuple[str, ...]) -> dict:
    """Refuses a folder that is no finished workdir; returns what its checkpoints/state.json holds.

    Args:
      root: the folder.
      needed: the results that have to be there, as the run wrote them.

    Raises:
      RecipeError: says what is missing, or is not what the run wrote.
    """
    missing = [name for name in (FLAG_FILE, *needed) if not (root / name).exists()]
    if missing:
        folders = sorted(str(path.parent) for path in root.glob("target_*/model.tflite"))
        advice = f" It is that of several targets: give one of {', '.join(folders)}." if folders else ""
        if not folders and (root / FLAG_FILE).exists():
            advice = f" `python -m mmx_tf.train --flagfile={root / FLAG_FILE}` makes what is missing."
        raise RecipeError(f"{root} is not a finished workdir: {', '.join(missing)} missing.{advice}")
    check_format(root)
    state = earlier_state(root)
    if (root / results.METRICS).exists():
        results.check(root, state, needed)
    return state


def _check_writable(root: pathlib.Path) -> None:
    """Raises the error (OSError) that making the folder, or its lock, would end with; changes nothing.

    What only a try shows (a full disk, a folder of the kernel's) is left to the try.
    """
    if (root / workdir_lock.LOCK_FILE).exists():
        os.close(os.open(root / workdir_lock.LOCK_FILE, os.O_RDWR))
    there, made = root, root / workdir_lock.LOCK_FILE
    while not there.exists():
        there, made = there.parent, there
    if not there.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(root))
    if not os.access(there, os.W_OK | os.X_OK):
        kind = errno.EROFS if os.statvfs(there).f_flag & os.ST_RDONLY else errno.EACCES
        raise OSError(kind, os.strerror(kind), str(made))


def check_format(root: pathlib.Path) -> None:
    """Refuses a workdir whose results are of an unknown format; one without a number is let through.

    Raises:
      RecipeError: names the numbers, and the version that began the run.
    """
    state = earlier_state(root)
    if state.get("format", WORKDIR_FORMAT) not in FINISHED_FORMATS:
        raise RecipeError(_other_format(root, state))


def earlier_state(root: pathlib.Path) -> dict:
    """What checkpoints/state.json holds; {} where a run has not come so far.

    Raises:
      RecipeError: if it cannot be read.
    """
    path = root / STATE_FILE
    if not path.exists():
        return {}
    try:
        state = json.loads(path.read_text())
        if not isinstance(state, dict):
            raise ValueError("it holds no facts of a run")
        parts = (state["seconds"], state.get("inputs", {}), state.get("results", {}))
        if not all(isinstance(part, dict) for part in parts):
            raise ValueError("it holds no facts of a run")
    except (ValueError, KeyError) as error:
        raise RecipeError(f"{path} cannot be read: {error}. Give a new --workdir.") from error
    return state


def _other_format(root: pathlib.Path, state: dict) -> str:
    began = state.get("mmx_tf", "one before 0.1.0 that recorded no version")
    return (
        f"--workdir={root} has format {state.get('format', 'without a number')} (mmx_tf {began}); this "
        f"version ({VERSION}) goes on with format {WORKDIR_FORMAT} alone. Finish the run with the version "
        "that began it, or give a new --workdir."
    )


@contextlib.contextmanager
def errors(root: pathlib.Path) -> Iterator[None]:
    """A block in which what the file system refuses of a workdir is a `RecipeError` that says so."""
    try:
        yield
    except OSError as error:
        raise RecipeError(
            f"--workdir={root} cannot be used: {error}. Give a folder that can be made and written."
        ) from error


def _left_by_a_beginning(path: pathlib.Path) -> bool:
    """Whether a file is what a run that was killed before it had its run.flags leaves behind."""
    return path.name == workdir_lock.LOCK_FILE or is_left_over(path, FLAG_FILE)


def check_flags(root: pathlib.Path, recipe: Recipe, inputs: Inputs | None) -> None:
    """Refuses a folder that is not a workdir of this run; changes nothing.

    Raises:
      RecipeError: if it holds a run with other flags, other inputs or of another format, or files that no run
        of ours wrote.
      OSError: as the file system does.
    """
    flagfile = root / FLAG_FILE
    if not flagfile.exists():
        if root.exists() and not all(_left_by_a_beginning(path) for path in root.iterdir()):
            raise RecipeError(
                f"--workdir={root} holds files but no run.flags, so it is no workdir of a run. Give a new or "
                "empty folder."
            )
        return
    # Before the flags: those of another version need not be readable.
    state = earlier_state(root)
    begun = state or not all(is_left_over(path, STATE_FILE.name) for path in (root / "checkpoints").glob("*"))
    finished = "results" in state or bool(results.finished_folders(root))
    if begun and state.get("format") not in (FINISHED_FORMATS if finished else (WORKDIR_FORMAT,)):
        raise RecipeError(_other_format(root, state))
    try:
        earlier = Recipe.from_flagfile(flagfile.read_text())
    except ValueError as error:  # not one of our flagfiles, or not even a text
        raise RecipeError(
            f"{flagfile} does not describe a run of this program: {error} Give a new --workdir."
        ) from error
    differences = recipe.differences(earlier)
    if differences:
        raise RecipeError(
            f"--workdir={root} holds a run with other flags: {'; '.join(differences)}. "
            f"{_way_on(root, recipe, earlier)}Give another --workdir, or the same flags to resume that run."
        )
    if inputs is not None:
        check_inputs(recipe, state, inputs)


def _way_on(root: pathlib.Path, recipe: Recipe, earlier: Recipe) -> str:
    """The command that makes what other flags ask of a finished run, where it need not be trained for it."""
    of_the_file = {name: getattr(earlier, name) for name in EXPORT_FLAGS}
    folders = results.finished_folders(root)
    if not folders or dataclasses.replace(recipe, **of_the_file).differences(earlier):
        return ""
    asked = [
        f"--{name}={getattr(recipe, name)}"
        for name in EXPORT_FLAGS
        if getattr(recipe, name) not in ("", of_the_file[name])
    ]
    words = " ".join(["python -m mmx_tf.reexport", f"--workdir={folders[0]}", *asked, "--out=FILE.tflite"])
    others = f" (or another of its {len(folders)} targets' folders)" if len(folders) > 1 else ""
    return f"`{words}`{others} writes that file of the finished run without training. "


def check_inputs(recipe: Recipe, state: dict, inputs: Inputs) -> None:
    """Refuses inputs that are not those that a workdir's run began with.

    Args:
      recipe: with the workdir.
      state: what its checkpoints/state.json holds.
      inputs: what is given now, or a part of it.

    Raises:
      RecipeError: says what has changed.
    """
    root = pathlib.Path(recipe.workdir)
    before, copy = dict(state.get("inputs", {})), root / COST_TABLE
    if "cost_table" in inputs and "cost_table" not in before and copy.exists():
        before["cost_table"] = fingerprints.of_file(copy)
    changes = fingerprints.changes(recipe, before, inputs)
    if changes:
        kept = f" The cost table is kept as {copy}." if any("--cost_table" in c for c in changes) else ""
        raise RecipeError(
            f"--workdir={root} holds a run with other input. {'; '.join(changes)}. Put back what the run "
            f"began with, or give a new --workdir.{kept}"
        )
