"""TensorFlow Lite Micro's own interpreter, each file in a process of its own: what it refuses may abort.

    (answer,) = run([(data, [images])])     # images [N, ...], one array for each input of the file
    answer.outputs                          # an array [N, ...] for each output; None: it did not run
    answer.refusal                          # what Micro said then
    answer.arena_bytes                      # of RAM for tensors, scratch buffers and its own structures

The PyPI package `tflite-micro` (requirements-dev.txt) is Micro's C++ interpreter with its portable kernels.
It can live beside TensorFlow in one process, but would take that along when it aborts.
"""

import os
import pathlib
import pickle
import re
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass

import numpy as np

_ARENA_BYTES = 2**26


@dataclass(frozen=True)
class Answer:
    """What Micro made of a file: its `outputs` and `arena_bytes`, or None and the `refusal`."""

    outputs: list[np.ndarray] | None
    refusal: str = ""
    arena_bytes: int | None = None


def run(jobs) -> list[Answer]:
    """Runs pairs (bytes of a .tflite, arrays [N, ...] of its inputs), image by image -> their Answers."""
    # Not at the top: the process that is started here has tflite-micro alone.
    from mmx_tf.export.reading.tflite_file import parse

    command = [sys.executable, os.path.abspath(__file__)]
    told = [(data, inputs, len(parse(data).outputs)) for data, inputs in jobs]
    done = subprocess.run(command, input=pickle.dumps(told), stdout=subprocess.PIPE)
    if done.returncode:
        raise RuntimeError("the package tflite-micro does not run here: install requirements-dev.txt.")
    return [Answer(*fields) for fields in pickle.loads(done.stdout)]


def _answer(data, inputs, outputs):
    with tempfile.TemporaryDirectory() as folder:
        said, found = (pathlib.Path(folder) / name for name in ("said", "found"))
        child = os.fork()
        if not child:
            _run_and_exit(data, inputs, outputs, said, found)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        text = said.read_text(errors="replace").strip()
        if not status:
            (arena,) = re.findall(r"Arena allocation total (\d+) bytes", text)
            return pickle.loads(found.read_bytes()), "", int(arena)
        end = f"{signal.Signals(-status).name} " if status < 0 else ""
        return None, end + text


def _run_and_exit(data, inputs, outputs, said, found):
    from tflite_micro import runtime

    status = 1
    try:
        os.dup2(os.open(said, os.O_CREAT | os.O_WRONLY), 2)
        interpreter = runtime.Interpreter.from_bytes(data, arena_size=_ARENA_BYTES)
        rows = []
        for row in zip(*inputs, strict=True):
            for index, values in enumerate(row):
                interpreter.set_input(values[None], index)
            interpreter.invoke()
            rows.append([interpreter.get_output(index) for index in range(outputs)])
        interpreter.print_allocations()
        found.write_bytes(pickle.dumps([np.concatenate(values) for values in zip(*rows, strict=True)]))
        status = 0
    except Exception as error:
        os.write(2, str(error).encode())
    finally:
        os._exit(status)


if __name__ == "__main__":
    # Imported once, before the processes part.
    from tflite_micro import runtime  # noqa: F401

    _jobs = pickle.load(sys.stdin.buffer)
    sys.stdout.buffer.write(pickle.dumps([_answer(*job) for job in _jobs]))
