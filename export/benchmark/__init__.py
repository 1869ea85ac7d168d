"""How long .tflite files take, here or on an Android phone: the same runs for every file, interleaved.

Clocks throttle and other processes come and go, so timing one file after the other compares moments. Here
each round runs every model once (A B A B ...): a drift hits all of them alike, and the ratio of medians can
be trusted where the times themselves cannot. Models find the caches as the others left them, as in an
application that does more than infer.

    python -m export.benchmark --model=model.tflite --model=int8.tflite --threads=1,2 --runs=50
    python -m export.benchmark --model=model.tflite --profile                   # operator by operator
    python -m export.benchmark --model=model.tflite --adb --benchmark_model=android_aarch64_benchmark_model

The package needs numpy and ai-edge-litert, no TensorFlow and nothing of this project: its folder, copied to
a device, runs there as `python -m benchmark`. Exit code 2: bad arguments, a file that LiteRT cannot run or
crashes on, or a device that cannot be used.
"""

from .command import main
from .report import table
from .timing import Timing, benchmark

__all__ = ["Timing", "benchmark", "main", "table"]
