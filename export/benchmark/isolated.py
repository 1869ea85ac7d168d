"""Asking LiteRT about a file in a process of its own: a damaged file may take that process down.

    ask(interpreter.memory, path, threads=[1, 2])   # {"peak_rss_bytes": 41021440, "memory_bytes": 7520256}

The process also keeps its peak of memory to itself: that of a process never shrinks. It is here, and not in
`running`, since this folder alone is copied to a device.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

_PACKAGE = __package__
# Of mmx_tf, of this folder's parent in a checkout, or of this folder alone on a device.
_TOP = sys.modules[_PACKAGE.partition(".")[0]]
_ROOT = pathlib.Path(_TOP.__file__).resolve().parents[1]


class NoAnswerError(Exception):
    """LiteRT gives no answer about a file; the message is one line, why."""


class CrashError(NoAnswerError):
    """LiteRT ended its process by the signal `number`."""

    def __init__(self, number: int):
        super().__init__(_signal_name(number))
        self.number = number


class RefusalError(NoAnswerError):
    """LiteRT, or what asks it, raised an error."""


class TooLongError(NoAnswerError):
    """The time limit is over."""


def ask(
    function: Callable, file: pathlib.Path | bytes, *, limit_s: float | None = None, **arguments: Any
) -> Any:
    """What `function(file, **arguments)` returns in another process.

    Args:
      function: of a module that can be imported.
      file: the .tflite file, or its bytes; the function gets the same.
      limit_s: seconds that the answer may take; None: any.
      arguments: the function's other arguments, as JSON has them.

    Returns:
      The result as JSON has it, a dataclass as a dictionary.

    Raises:
      CrashError, RefusalError, TooLongError: there is no answer.
    """
    given = isinstance(file, bytes)
    command = [sys.executable, "-m", f"{_PACKAGE}.child", function.__module__, function.__qualname__]
    command += ["-" if given else str(file), json.dumps(arguments)]
    # Safe path: the current folder would otherwise come first in the search for modules.
    search = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONSAFEPATH": "1", "PYTHONPATH": search}
    try:
        done = subprocess.run(
            command,
            input=file if given else b"",
            capture_output=True,
            check=False,
            env=environment,
            timeout=limit_s,
        )
    except subprocess.TimeoutExpired as error:
        raise TooLongError(f"more than {limit_s:g} s") from error
    if done.returncode < 0:
        raise CrashError(-done.returncode)
    try:
        answer = json.loads(done.stdout.decode().splitlines()[-1])
    except (IndexError, ValueError) as error:
        lines = [line.strip() for line in done.stderr.decode(errors="replace").splitlines()]
        reason = next(filter(None, reversed(lines)), f"exit code {done.returncode}")
        raise RefusalError(reason) from error
    if "error" in answer:
        raise RefusalError(answer["error"])
    return answer["answer"]


def _signal_name(number: int) -> str:
    try:
        return f"signal {number}, {signal.Signals(number).name}"
    except ValueError:
        return f"signal {number}"
