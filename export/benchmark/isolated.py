"""Asking LiteRT about a file in a process of its own: a damaged file may take that process down.

    ask("memory", path, threads=[1, 2])     # {"peak_rss_bytes": 41021440, "memory_bytes": 7520256}

The process also keeps its peak of memory to itself: that of a process never shrinks.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
from typing import Any

_PACKAGE = __package__
# Of mmx_tf, of this folder's parent in a checkout, or of this folder alone on a device.
_TOP = sys.modules[_PACKAGE.partition(".")[0]]
_ROOT = pathlib.Path(_TOP.__file__).resolve().parents[1]


def ask(task: str, path: pathlib.Path, *, limit_s: float | None = None, **arguments: Any) -> Any:
    """The answer of `child` to one task.

    Args:
      task: name of a function of `child`.
      path: the .tflite file.
      limit_s: seconds that the answer may take; None: any.
      arguments: the function's other arguments, as JSON has them.

    Raises:
      ValueError: with one line, if LiteRT refuses the file, crashes on it, or takes too long.
    """
    command = [sys.executable, "-m", f"{_PACKAGE}.child", task, str(path), json.dumps(arguments)]
    # Safe path: the current folder would otherwise come first in the search for modules.
    search = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONSAFEPATH": "1", "PYTHONPATH": search}
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            env=environment,
            timeout=limit_s,
        )
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"{path}: LiteRT did not run it within {limit_s:g} s.") from error
    if done.returncode < 0:
        raise ValueError(f"{path}: LiteRT crashes on it ({_signal_name(-done.returncode)}).")
    try:
        answer = json.loads(done.stdout.decode().splitlines()[-1])
    except (IndexError, ValueError) as error:
        lines = [line.strip() for line in done.stderr.decode(errors="replace").splitlines()]
        reason = next(filter(None, reversed(lines)), f"exit code {done.returncode}")
        raise ValueError(f"{path}: LiteRT cannot run it: {reason}") from error
    if "error" in answer:
        raise ValueError(answer["error"])
    return answer["answer"]


def _signal_name(number: int) -> str:
    try:
        return f"signal {number}, {signal.Signals(number).name}"
    except ValueError:
        return f"signal {number}"
