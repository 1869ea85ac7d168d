"""No deprecated call in our own modules, and nobody else's lines on the screen."""

import subprocess
import sys
from pathlib import Path

import pytest
from networks import small_network

ROOT = Path(__file__).parents[1]
# `-W error::DeprecationWarning:module` takes one whole module's name; a filter by pattern is set in Python.
START = """
import runpy, sys, warnings
for category in (DeprecationWarning, PendingDeprecationWarning, FutureWarning, SyntaxWarning):
    warnings.filterwarnings("error", category=category, module=r"(mmx_tf|layers|export)(\\.|$)")
sys.argv = ["train", *sys.argv[1:]]
if "--check-the-filter" in sys.argv:
    code = "import warnings\\nwarnings.warn('old', DeprecationWarning)"
    exec(compile(code, "x", "exec"), {"__name__": "mmx_tf.anything"})
runpy.run_module("mmx_tf.train", run_name="__main__", alter_sys=True)
"""


def start(*arguments):
    words = [sys.executable, "-c", START, *arguments]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_filter_finds_a_deprecated_call():
    done = start("--check-the-filter")
    assert done.returncode == 1 and "DeprecationWarning: old" in done.stderr


@pytest.mark.slow
def test_a_run_calls_nothing_deprecated_and_logs_one_line_per_event(tmp_path):
    small_network().save(tmp_path / "float.keras")
    done = start(
        f"--float_model={tmp_path / 'float.keras'}", "--image_size=16", "--batch_size=32",
        "--steps_per_epoch=2",
        "--train_epochs=1", "--learning_rate=0.002", "--parity_images=2", "--eval_images=8",
        f"--workdir={tmp_path / 'run'}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert [line for line in lines if not line.startswith("mmx_tf: ")] == []
    assert len(set(lines)) == len(lines)
