"""How long the files of a run take on this CPU, side by side."""

import os
import pathlib
from collections.abc import Mapping

from mmx_tf.export.benchmark import benchmark
from mmx_tf.export.provenance import machine

RUNS = 100


def latency(files: Mapping[str, pathlib.Path]) -> dict:
    """Times of files, interleaved, on one thread.

    Args:
      files: name -> path of a .tflite.

    Returns:
      `threads`, `runs`, `cpu_model`, and name -> milliseconds in `median_ms`; or `refused`, a sentence, where
      LiteRT cannot run one of them.
    """
    try:
        timings = benchmark([os.fspath(path) for path in files.values()], threads=(1,), runs=RUNS)
    except ValueError as error:
        return {"refused": f"the files cannot be timed side by side: {error}"}
    return {
        "threads": 1,
        "runs": RUNS,
        "cpu_model": machine()["cpu_model"],
        "median_ms": {name: timing.median_ms for name, timing in zip(files, timings, strict=True)},
    }
