"""Asking LiteRT what XNNPACK takes, in a process of its own: a damaged file may take that process down.

    try:
        delegation = query(data)                # export.running.partitions.Delegation
    except DelegationError as error:
        print(error)                            # LiteRT crashes on the file (signal 11).

Needs only numpy and ai-edge-litert.
"""

import json
import os
import pathlib
import subprocess
import sys

import mmx_tf
from mmx_tf.export.running.partitions import Delegation, delegated_ops

_ROOT = pathlib.Path(mmx_tf.__file__).resolve().parents[1]
# Loading and delegation take well under a second; only a damaged file takes long.
_LIMIT_S = 300


class DelegationError(RuntimeError):
    """LiteRT cannot load the file, crashes on it, or does not come to an end."""


def query(data: bytes) -> Delegation:
    """The `Delegation` of the .tflite in `data` on this machine; raises `DelegationError`, with one line."""
    # Safe path: the current folder would otherwise come first in the search for modules.
    path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONSAFEPATH": "1", "PYTHONPATH": path}
    command = [sys.executable, "-m", "mmx_tf.export.running.delegation"]
    try:
        done = subprocess.run(
            command, input=data, capture_output=True, check=False, env=environment, timeout=_LIMIT_S
        )
    except subprocess.TimeoutExpired as error:
        raise DelegationError(f"LiteRT did not load the file within {_LIMIT_S} s.") from error
    if done.returncode < 0:
        raise DelegationError(f"LiteRT crashes on the file (signal {-done.returncode}).")
    if done.returncode:
        lines = done.stderr.decode(errors="replace").split("\n")
        reason = next((line.strip() for line in reversed(lines) if line.strip()), "no reason given")
        raise DelegationError(f"LiteRT cannot load the file: {reason}")
    partitions, left_outside = json.loads(done.stdout)
    return Delegation(partitions, tuple((index, name) for index, name in left_outside))


def main() -> int:
    """Answers for the file on standard input, as JSON on standard output; returns the exit code."""
    try:
        delegation = delegated_ops(sys.stdin.buffer.read())
    except (RuntimeError, ValueError) as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 1
    print(json.dumps([delegation.partitions, delegation.left_outside]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
