"""The tutorial of one's own network, line by line as it stands on its page."""

import pathlib
import re
import shlex
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "tutorials" / "own_network.md"
ENDING = """
assert report.code_disagreement == 0
assert report.metrics["accuracy"]["tflite"] > 0.9
"""


def _blocks(language):
    return [
        body
        for found, body in re.findall(r"^```(\S*)\n(.*?)^```", PAGE.read_text(), re.M | re.S)
        if found == language
    ]


@pytest.mark.slow
def test_the_tutorial_of_ones_own_network_runs_as_it_stands(tmp_path):
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}

    def run(words):
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, (words, done.stdout, done.stderr)

    (tmp_path / "tutorial.py").write_text("\n".join([*_blocks("python"), ENDING]))
    run([sys.executable, "tutorial.py"])
    commands = [line for body in _blocks("") for line in body.splitlines()]
    assert len(commands) == 5
    for line in commands:
        name, *words = shlex.split(line)
        assert name == "mmx_tf"
        run([sys.executable, "-m", "mmx_tf", *words])
    assert (tmp_path / "runs" / "own" / "report.html").exists()
    assert (tmp_path / "firmware" / "net" / "net.c").exists()
