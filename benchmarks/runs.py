"""Runs of `mmx_tf.train` in folders, as benchmarks that compare some of them begin, stop and check them."""

import json
import os
import pathlib
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import NoReturn

from mmx_tf.errors import RecipeError
from mmx_tf.recipe.recipe import Recipe

ROOT = pathlib.Path(__file__).parents[1]
POLL_SECONDS = 0.5


def train_command(flags: Sequence[str], folder: pathlib.Path) -> list[str]:
    """The words of the command that begins, or goes on with, a run in a folder."""
    return [sys.executable, "-m", "mmx_tf.train", *flags, f"--workdir={folder}"]


def refusal(folder: pathlib.Path, flags: Sequence[str]) -> str | None:
    """Why a folder's run is not the one that flags describe, in a sentence; None if it is, or without a run.

    `mmx_tf.train` refuses such a folder too; this is for one that is finished, so that nobody asks it, and
    tells before anything is trained.

    Raises:
      RecipeError: for flags that do not exist.
    """
    recipe = Recipe.from_flagfile("\n".join(flags))
    written = folder / "run.flags"
    if not written.exists():
        return None
    try:
        differences = recipe.differences(Recipe.from_flagfile(written.read_text()))
    except RecipeError as error:
        return f"{written} cannot be read: {error}"
    if differences:
        return (
            f"{folder} holds a run with other flags: {'; '.join(differences)}. Give another --workdir, or "
            "the flags of that run."
        )
    return None


def changed_file(folder: pathlib.Path, flag: str, sha256: str) -> str | None:
    """Why a run did not begin with a file, in a sentence; None if it did, or has not begun.

    Args:
      folder: the run's.
      flag: that names the file, without dashes.
      sha256: of what the file holds now.
    """
    state = folder / "checkpoints" / "state.json"
    if not state.exists():
        return None
    began = json.loads(state.read_text()).get("inputs", {}).get(flag, {}).get("sha256")
    if began in (None, sha256):
        return None
    return (
        f"{folder} began with another --{flag} (SHA-256 {began[:12]}..., now {sha256[:12]}...). Put back "
        "what it began with, or remove the folder."
    )


def refused(reasons: Callable[[], Sequence[str | None]]) -> bool:
    """Whether runs are refused; why is printed.

    Args:
      reasons: finds sentences, or None for a run that can be gone on with; may raise RecipeError.
    """
    try:
        found = [reason for reason in reasons() if reason]
    except RecipeError as error:
        found = [str(error)]
    if found:
        print("\n".join(found), file=sys.stderr)
    return bool(found)


def run_as_program(main: Callable[[], int]) -> NoReturn:
    """Ends the process with the exit code of a function whose runs stop as by Ctrl-C on SIGTERM too.

    Each run that goes on then saves a checkpoint.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())


def cores_of(jobs: int) -> list[list[int]]:
    """The processor's cores dealt out to jobs that run at the same time, one at least for each."""
    cores = sorted(os.sched_getaffinity(0))
    share = max(1, len(cores) // jobs)
    return [[cores[(i * share + j) % len(cores)] for j in range(share)] for i in range(jobs)]


class Jobs:
    """Commands that go on at the same time, each on cores of its own, and can be stopped together."""

    def __init__(self, jobs: int):
        self._free: queue.SimpleQueue = queue.SimpleQueue()
        for cores in cores_of(jobs):
            self._free.put(cores)
        self._running: set[subprocess.Popen] = set()
        self._lock = threading.Lock()
        self.stopped = False

    def run(
        self, words: list[str], log: pathlib.Path, *, until: Callable[[], bool] | None = None
    ) -> int | None:
        """Exit code of a command whose output goes to a file; None if it was not begun any more.

        Args:
          words: the command.
          log: the file, which is continued.
          until: the command is stopped as by SIGTERM, which saves a run's checkpoint, once this holds; the
            exit code is then 0.
        """
        cores = self._free.get()
        try:
            with self._lock, log.open("a") as file:
                if self.stopped:
                    return None
                process = subprocess.Popen(words, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT)
                os.sched_setaffinity(process.pid, cores)
                self._running.add(process)
            try:
                while until and process.poll() is None:
                    if until():
                        process.terminate()
                        break
                    time.sleep(POLL_SECONDS)
                process.wait()
            except BaseException:  # Ctrl-C above all: a run saves a checkpoint before it ends.
                process.terminate()
                process.wait()
                raise
            with self._lock:
                self._running.discard(process)
            return 0 if until and until() else process.returncode
        finally:
            self._free.put(cores)

    def stop(self) -> None:
        """Ends all commands as SIGTERM does, which saves a checkpoint of each run, and begins no more."""
        with self._lock:
            self.stopped = True
            for process in self._running:
                process.send_signal(signal.SIGTERM)


class Told:
    """Commands one after the other, each with a log in a folder; the end of each is printed.

    Args:
      workdir: the folder of the logs and of the workdirs of runs.
    """

    def __init__(self, workdir: pathlib.Path):
        self.workdir = workdir
        self._jobs, self._begin = Jobs(1), time.monotonic()

    def train(self, name: str, flags: Sequence[str], *, until: pathlib.Path | None = None) -> bool:
        """Begins the run in the folder of this name, or goes on with it: whether it went well.

        Args:
          name: of the folder.
          flags: of the run.
          until: the run is stopped when this file is there.
        """
        return self.run(name, train_command(flags, self.workdir / name), until=until)

    def run(self, name: str, words: list[str], *, until: pathlib.Path | None = None) -> bool:
        """Runs a command whose log has this name: whether it went well; `until` is as for `train`."""
        log = self.workdir / f"{name}.log"
        code = self._jobs.run(words, log, until=until and until.exists)
        print(f"{time.monotonic() - self._begin:7.0f} s  {name}: exit code {code}", flush=True)
        if code:
            print(f"{name} failed: see {log}", file=sys.stderr)
        return code == 0
