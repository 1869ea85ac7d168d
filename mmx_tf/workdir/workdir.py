"""The folder of one run: where its files are, what was done and in what time."""

import contextlib
import json
import pathlib
import time
from collections.abc import Iterator
from contextlib import contextmanager

from absl import logging

from mmx_tf.distribution.job import ALONE, Job
from mmx_tf.errors import RecipeError
from mmx_tf.export.atomic import write_atomically
from mmx_tf.recipe.recipe import Recipe
from mmx_tf.version import VERSION
from mmx_tf.workdir import lock as workdir_lock
from mmx_tf.workdir import results
from mmx_tf.workdir.belonging import (
    FLAG_FILE,
    STATE_FILE,
    WORKDIR_FORMAT,
    check_flags,
    earlier_state,
    errors,
)
from mmx_tf.workdir.fingerprints import Inputs


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
        with errors(self.root):
            check_flags(self.root, recipe, inputs)
            self.state = earlier_state(self.root)
            self.finished = "results" in self.state or bool(results.finished_folders(self.root))
            if not job.is_chief:
                if not self.state:
                    raise RecipeError(
                        f"--workdir={self.root}: this process cannot see what the chief has written there. "
                        "All processes need the same folder, on a file system that they share."
                    )
                return
            self.root.mkdir(parents=True, exist_ok=True)
            # First of all files but the lock: a folder without it is refused.
            write_atomically(self.path(FLAG_FILE), recipe.to_flagfile())
            self.path("checkpoints").mkdir(exist_ok=True)
            unknown = inputs is not None and "inputs" not in self.state
            if unknown and (self.state or results.missing(self.root) != list(results.RESULTS)):
                logging.warning(
                    "%s has no record of the input that it began with, so changes of %s since then cannot be "
                    "noticed. They are recorded now.",
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
                with errors(root):
                    # Before the lock, which makes a file in the folder.
                    check_flags(root, recipe, inputs)
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
        write_atomically(self.path(STATE_FILE), json.dumps(self.state, indent=1) + "\n")

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
