"""The folder of one run: which recipe it belongs to, where its files are, what was done and in what time."""

import contextlib
import dataclasses
import json
import pathlib
import time
from collections.abc import Iterator
from contextlib import contextmanager

from absl import logging

from mmx_tf.distribution.job import ALONE, Job
from mmx_tf.errors import RecipeError
from mmx_tf.export.atomic import is_left_over, write_atomically
from mmx_tf.recipe.recipe import EXPORT_FLAGS, Recipe
from mmx_tf.version import VERSION
from mmx_tf.workdir import fingerprints, results
from mmx_tf.workdir import lock as workdir_lock
from mmx_tf.workdir.fingerprints import Inputs

WORKDIR_FORMAT = 2
"""Number of what a workdir holds and how; one more whenever a run can no longer go on from what was left."""
FINISHED_FORMATS = (1, WORKDIR_FORMAT)
"""Formats whose results are still read; checkpoints of a search in format 1 have an alpha per layer."""
_STATE_FILE = pathlib.Path("checkpoints", "state.json")
_FLAG_FILE = "run.flags"
COST_TABLE = "cost_table.json"
"""The run's copy of --cost_table."""


class Workdir:
    """Paths and progress of a run; everything in it is written atomically.

    Attributes:
      root: the folder.
      state: facts that finished phases recorded, saved in checkpoints/state.json; `state["seconds"]` maps
        phases to the time they took, restarts included; `state["format"]` is `WORKDIR_FORMAT`, and
        `state["mmx_tf"]` the version that began the run. `state["inputs"]` is what the run was given (see
        `fingerprints`), `state["results"]` what it wrote (see `results`).
      inputs: what the run is given now; None where nobody looked.
      job: whose chief alone writes here.
      finished: whether the run, or a target of it, was finished when the folder was opened. Nothing is
        trained in it again.
    """

    def __init__(self, recipe: Recipe, job: Job = ALONE, inputs: Inputs | None = None):
        """Opens or makes the folder; call only when the recipe has been validated. A run uses `opened`.

        In a process that is no chief it must have been made, and is only read.

        Args:
          recipe: of the run.
          job: whose process this is.
          inputs: what the run is given, as this process sees it; recorded when the folder is made.

        Raises:
          RecipeError: if the folder holds a run with other flags, other inputs or of another format, or files
            that no run of ours wrote, or cannot be written.
        """
        self.root, self.job, self.inputs = pathlib.Path(recipe.workdir), job, inputs
        with _errors(self.root):
            _check(self.root, recipe, inputs)
            self.state = earlier_state(self.root)
            self.finished = "results" in self.state or bool(results.finished_folders(self.root))
            if not job.is_chief:
                if not self.state:
                    raise RecipeError(
                        f"--workdir={self.root}: what the chief has written there is not to be seen here. "
                        "All processes need the same folder, on a file system that they share."
                    )
                return
            self.root.mkdir(parents=True, exist_ok=True)
            # First of all files but the lock: a folder without it is refused.
            write_atomically(self.path(_FLAG_FILE), recipe.to_flagfile())
            self.path("checkpoints").mkdir(exist_ok=True)
            unknown = inputs is not None and "inputs" not in self.state
            if unknown and (self.state or results.missing(self.root) != list(results.RESULTS)):
                logging.warning(
                    "%s was begun without a record of what it was given: whether %s are what it began with "
                    "is not known. They are recorded now.",
                    self.root, ", ".join(f"--{flag}" for flag in inputs),
                )  # fmt: skip
            begun = bool(self.state)
            self.state = self.state or {"format": WORKDIR_FORMAT, "mmx_tf": VERSION, "seconds": {}}
            if unknown:
                # Written with the next fact: a run that is refused first leaves the folder as it was.
                self.state["inputs"] = inputs
            if not begun:
                self.record()

    @classmethod
    @contextmanager
    def opened(cls, recipe: Recipe, job: Job = ALONE, inputs: Inputs | None = None) -> Iterator["Workdir"]:
        """The workdir of a recipe, which no other run can open during the block.

        The processes of a job open it together; the chief holds the lock.

        Raises:
          WorkdirInUseError: if another run holds it; nothing in it is changed.
          RecipeError: as the constructor.
        """
        root = pathlib.Path(recipe.workdir)
        with contextlib.ExitStack() as lock:

            def made():
                with _errors(root):
                    # Before the lock, which makes a file in the folder.
                    _check(root, recipe, inputs)
                    root.mkdir(parents=True, exist_ok=True)
                    lock.enter_context(workdir_lock.held(root))
                return cls(recipe, job, inputs)

            workdir = job.on_chief(made)
            yield workdir or cls(recipe, job, inputs)

    def path(self, *parts: str) -> pathlib.Path:
        """A path inside the folder."""
        return self.root.joinpath(*parts)

    def record(self, **facts) -> None:
        """Remembers facts across restarts."""
        self.state.update(facts)
        if not self.job.is_chief:
            return
        write_atomically(self.path(_STATE_FILE), json.dumps(self.state, indent=1) + "\n")

    @contextmanager
    def timed(self, phase: str):
        """Adds the time of the block to a phase's seconds, also when the block is interrupted.

        A finished run's phases have their times.
        """
        if self.finished and phase in self.state["seconds"]:
            yield
            return
        start = time.monotonic()
        try:
            yield
        finally:
            seconds = self.state["seconds"]
            seconds[phase] = round(seconds.get(phase, 0.0) + time.monotonic() - start, 2)
            self.record()


def check(recipe: Recipe, inputs: Inputs) -> None:
    """Refuses a workdir that a run cannot be resumed in, or whose results are damaged; changes nothing.

    Raises:
      RecipeError: as `Workdir` and `results.check`.
    """
    root = pathlib.Path(recipe.workdir)
    with _errors(root):
        _check(root, recipe, inputs)
        state = earlier_state(root)
        if "results" in state or (root / results.METRICS).exists():
            results.check(root, state)


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
    path = root / _STATE_FILE
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


@contextmanager
def _errors(root: pathlib.Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RecipeError(
            f"--workdir={root} cannot be used: {error}. Give a folder that can be made and written."
        ) from error


def _left_by_a_beginning(path: pathlib.Path) -> bool:
    """Whether a file is what a run that was killed before it had its run.flags leaves behind."""
    return path.name == workdir_lock.LOCK_FILE or is_left_over(path, _FLAG_FILE)


def _check(root: pathlib.Path, recipe: Recipe, inputs: Inputs | None) -> None:
    """Refuses a folder that is no workdir of this run; changes nothing."""
    flagfile = root / _FLAG_FILE
    if not flagfile.exists():
        if root.exists() and not all(_left_by_a_beginning(path) for path in root.iterdir()):
            raise RecipeError(
                f"--workdir={root} holds files but no run.flags, so it is no workdir of a run. Give a new or "
                "empty folder."
            )
        return
    # Before the flags: those of another version need not be readable.
    state = earlier_state(root)
    begun = state or not all(
        is_left_over(path, _STATE_FILE.name) for path in (root / "checkpoints").glob("*")
    )
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
