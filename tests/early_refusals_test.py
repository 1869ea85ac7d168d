"""What the file system or a missing extra refuses is told before TensorFlow is loaded, in real programs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmx_tf.recipe.recipe import Recipe
from mmx_tf.workdir import lock

ROOT = Path(__file__).parents[1]
TRAIN = ["train", "--float_epochs=1"]
# A command that ends, and what it has loaded by then.
ENDED = """
import sys
sys.modules["ethosu"] = None  # as where Vela is not installed
from mmx_tf.__main__ import main
try:
    code = main(sys.argv[1:])
except SystemExit as end:
    code = end.code
print(code, "tensorflow" in sys.modules)
"""


def told(*words, wrapper=()) -> str:
    """What a command says that must end with exit code 2 before TensorFlow is loaded."""
    done = subprocess.run(
        [*wrapper, sys.executable, "-c", ENDED, *map(str, words)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1:] == ["2 False"], done.stdout + done.stderr
    return done.stderr


@pytest.fixture
def folder(tmp_path):
    """A file, a folder of other things, and a workdir of another run."""
    (tmp_path / "file").touch()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "photo.jpg").touch()
    (tmp_path / "run").mkdir()
    recipe = Recipe.from_flagfile(f"--float_epochs=1\n--workdir={tmp_path / 'run'}\n")
    (tmp_path / "run" / "run.flags").write_text(recipe.to_flagfile())
    (tmp_path / "run" / "checkpoints").mkdir()
    facts = {"format": 2, "seconds": {}}
    (tmp_path / "run" / "checkpoints" / "state.json").write_text(json.dumps(facts))
    return tmp_path


def test_train_refuses_a_folder_that_cannot_be_its_workdir(folder):
    assert "Not a directory" in told(*TRAIN, f"--workdir={folder / 'file'}")
    said = told(*TRAIN, f"--workdir={folder / 'file' / 'below'}")
    assert f"--workdir={folder / 'file' / 'below'} cannot be used: [Errno 20] Not a directory" in said
    assert "cannot be used: [Errno 36] File name too long" in told(
        *TRAIN, f"--workdir={folder / (300 * 'x')}"
    )
    assert "holds files but no run.flags" in told(*TRAIN, f"--workdir={folder / 'other'}")
    said = told(*TRAIN, "--seed=3", f"--workdir={folder / 'run'}")
    assert "holds a run with other flags: --seed is 3 here and 0 there." in said
    with lock.held(folder / "run"):
        assert f"is in use by process {os.getpid()} " in told(*TRAIN, f"--workdir={folder / 'run'}")


def test_train_refuses_a_folder_in_which_it_may_not_write(folder):
    """Root may write everywhere but in what is mounted to be read."""
    script = f'mount -t tmpfs -o ro none {folder / "other"} && exec "$@"'
    wrapper = ["unshare", "--mount", "--map-root-user", "sh", "-c", script, "sh"]
    if subprocess.run([*wrapper, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    new = folder / "other" / "a" / "run"
    said = told(*TRAIN, f"--workdir={new}", wrapper=wrapper)
    assert f"cannot be used: [Errno 30] Read-only file system: '{folder / 'other' / 'a'}'. Give" in said


def test_train_names_the_extra_of_a_device(folder):
    said = told(*TRAIN, "--device=ethos-u55-128", f"--workdir={folder / 'new'}")
    assert "pip install 'mmx_tf[ethos-u]'" in said and not (folder / "new").exists()


@pytest.mark.parametrize("words", [["reexport", "--out=x.tflite"], ["verify"], ["parity"]])
def test_commands_on_a_finished_run_refuse_a_folder_without_one(folder, words):
    said = told(*words, f"--workdir={folder / 'missing'}")
    assert said.startswith(f"{folder / 'missing'} is not a finished workdir: run.flags, ")
    said = told(*words, f"--workdir={folder / 'run'}")
    assert "run.flags` makes what is missing." in said


def test_figures_refuse_a_folder_without_a_run(folder):
    said = told("figures", "--which=5", f"--workdir={folder / 'other'}")
    assert "there is no finished workdir to draw" in said
    said = told("figures", "--which=1", f"--workdir={folder / 'run'}")
    assert "has no trained float network" in said
