"""One run per workdir, with real processes: refused by name, taken over when the holder was killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from networks import small_network
from refusals import refused

from mmx_tf.recipe.recipe import Recipe
from mmx_tf.workdir import lock
from mmx_tf.workdir.lock import WorkdirInUseError
from mmx_tf.workdir.workdir import Workdir

ROOT = Path(__file__).parents[1]
# Holds the lock until its standard input is closed, or it is killed.
HOLDER = """
import pathlib, sys
from mmx_tf.workdir import lock
with lock.held(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""

# Opens a new workdir again and again, in children that kill themselves in front of the first, second, ...
# look at the file system inside it, until one comes through. Prints what each left, and opens it.
KILLED_OPENINGS = """
import os, pathlib, signal, sys
from mmx_tf.recipe.recipe import Recipe
from mmx_tf.workdir.workdir import Workdir

for last in range(1000):
    workdir = f"{sys.argv[1]}/{last}"
    recipe = Recipe.from_flagfile(f"--float_epochs=1\\n--workdir={workdir}\\n")
    child = os.fork()
    if child == 0:
        seen = 0
        def watch(event, arguments):
            global seen
            if any(isinstance(a, (str, os.PathLike)) and os.fspath(a).startswith(workdir) for a in arguments):
                seen += 1
                if seen > last:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(watch)
        with Workdir.opened(recipe):
            os._exit(0)
    killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
    left = sorted(str(path.relative_to(workdir)) for path in pathlib.Path(workdir).rglob("*"))
    with Workdir.opened(recipe) as again:
        assert again.path("run.flags").exists() and again.state["seconds"] == {}
    print("killed" if killed else "opened", *left, flush=True)
    if not killed:
        break
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of tmp_path / "run"."""
    (tmp_path / "run").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "run")],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def contents(folder):
    return {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()}


def test_a_run_in_a_workdir_that_is_in_use_is_refused_at_once_and_names_the_holder(holder, tmp_path, capsys):
    run = tmp_path / "run"
    small_network().save(tmp_path / "float.keras")
    before = contents(run)
    # The holder is the other process, so that the command may run in this one.
    said = refused(capsys, tmp_path, f"--float_model={tmp_path / 'float.keras'}")
    note = json.loads((run / "run.lock").read_text())
    assert note["pid"] == holder.pid and note["host"] == os.uname().nodename
    named = f"--workdir={run} is in use by process {holder.pid} on {note['host']}, started {note['started']}."
    assert said.startswith(named)
    assert contents(run) == before


def test_the_lock_of_a_killed_process_is_taken_over(holder, tmp_path):
    run = tmp_path / "run"
    start = time.monotonic()
    with pytest.raises(WorkdirInUseError, match=f"in use by process {holder.pid} "):
        lock.check_free(run)
    with pytest.raises(WorkdirInUseError), lock.held(run):
        pass
    assert time.monotonic() - start < 5
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    # Its note is left, which does not matter.
    assert json.loads((run / "run.lock").read_text())["pid"] == holder.pid
    lock.check_free(run)
    with lock.held(run):
        assert json.loads((run / "run.lock").read_text())["pid"] == os.getpid()
    assert (run / "run.lock").read_text() == ""


def test_nobody_opens_a_workdir_twice_and_a_look_writes_nothing(tmp_path):
    recipe = Recipe.from_flagfile(f"--float_epochs=1\n--workdir={tmp_path / 'run'}\n")
    lock.check_free(tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with Workdir.opened(recipe):
        before = contents(tmp_path)
        with pytest.raises(WorkdirInUseError, match=f"process {os.getpid()} "), Workdir.opened(recipe):
            pass
        assert contents(tmp_path) == before
    with Workdir.opened(recipe) as workdir:
        assert workdir.path("run.flags").exists()


def test_a_folder_that_holds_a_lock_alone_can_become_a_workdir(tmp_path):
    (tmp_path / "run.lock").touch()  # as left by a run that was killed before its first file
    with Workdir.opened(Recipe.from_flagfile(f"--float_epochs=1\n--workdir={tmp_path}\n")) as workdir:
        assert workdir.state["seconds"] == {}


@pytest.mark.slow
def test_an_opening_that_is_killed_at_any_moment_can_be_repeated(tmp_path):
    process = subprocess.run(
        [sys.executable, "-c", KILLED_OPENINGS, str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    *killed, opened = [line.split() for line in process.stdout.splitlines()]
    assert opened == ["opened", "checkpoints", "checkpoints/state.json", "run.flags", "run.lock"]
    assert {line[0] for line in killed} == {"killed"}
    # Among the moments: nothing is there, the lock alone, and either file written but not renamed.
    left = [" ".join(line[1:]) for line in killed]
    assert "" in left and "run.lock" in left
    assert any(names.startswith(".run.flags.") for names in left)
    assert any("checkpoints/.state.json." in names for names in left)


def test_a_damaged_note_does_not_hide_that_the_workdir_is_in_use(tmp_path):
    with lock.held(tmp_path):
        (tmp_path / "run.lock").write_text("{")
        with pytest.raises(WorkdirInUseError, match="a process that has left no name"):
            lock.check_free(tmp_path)
