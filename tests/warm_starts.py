"""Programs in processes of their own that have TensorFlow from the start.

To load TensorFlow and what a run needs takes four to six seconds of processor time, often more than the run
of a test. Here one process loads it, and does nothing else; each program is forked from it, by the
forkserver of Python's multiprocessing. It is a process like any other: with a number, files and an end of
its own, and a kill is a kill. What it shares with its sisters is what a process draws as it starts, such as
the seed of hashes; so what is to be the same in any process is compared with a run that was started by its
command.

oneDNN is off in all of them: TensorFlow asks for it as it is loaded.
"""

import multiprocessing
import os
import pathlib
import runpy
import subprocess
import sys
import tempfile

import pytest

from mmx_tf import startup
from mmx_tf.export.running.noise import provoke_native_noise

ROOT = pathlib.Path(__file__).parents[1]
_LOADED = ["mmx_tf.run.pipeline", "ai_edge_litert.interpreter", "sklearn.datasets", "jinja2"]


def _run(words: list[str], environment: dict[str, str], files: list[str]) -> None:
    """In the new process: what `python *words` does in a folder, its output in files."""
    # Before the output is the program's: in a fork, what TensorFlow says of missing GPUs was not held back.
    provoke_native_noise()
    for descriptor, path in enumerate(files, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
    os.chdir(ROOT)
    os.environ.clear()
    os.environ.update(environment)
    startup.apply()  # what the environment has not set, as each start does
    try:
        if words[0] == "-m":
            sys.argv = words[1:]
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = words
            runpy.run_path(words[0], run_name="__main__")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


class Program:
    """A running program of Python's, as `subprocess.Popen` is one; `words` may begin with the interpreter."""

    def __init__(self, words, *, environment=None):
        words = [str(word) for word in words]
        words = words[1:] if words[0] == sys.executable else words
        # `env=` of the parent has no say in how TensorFlow was loaded.
        environment = {**(os.environ if environment is None else environment), "TF_ENABLE_ONEDNN_OPTS": "0"}
        self._folder = tempfile.TemporaryDirectory()
        self._files = [os.path.join(self._folder.name, name) for name in ("out", "err")]
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(_LOADED)
        self._process = context.Process(target=_run, args=(words, environment, self._files))
        with pytest.MonkeyPatch.context() as patch:  # for the forkserver, which the first program starts
            patch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
            patch.setenv("PYTHONPATH", os.pathsep.join(map(str, [ROOT, ROOT / "tests"])))
            self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, of a kill the negative signal; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """`returncode`."""
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Sends a signal to a program that still runs."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Ends it at once."""
        self._process.kill()

    def wait(self, timeout: float | None = None) -> int:
        """Waits for the end and returns the exit code."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("program", timeout)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Waits for the end; what it wrote on standard output and standard error."""
        self.wait(timeout)
        return tuple(pathlib.Path(path).read_text() for path in self._files)


def finished(words, **options) -> subprocess.CompletedProcess:
    """A program that has run to its end, as `subprocess.run` gives it."""
    program = Program(words, **options)
    out, err = program.communicate()
    return subprocess.CompletedProcess(words, program.returncode, out, err)
