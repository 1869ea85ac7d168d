"""Times of .tflite files on this machine, interleaved, and their profiles.

    first, second = benchmark(["model.tflite", "int8.tflite"], threads=(1,), runs=50)
    second.ratio                                        # of its median to the first file's
    (only,) = profiles([first])
    only.operators[0].median_ms

Every file is first loaded and run in a process of its own, which measures its memory and takes the blow if
LiteRT crashes on it.
"""

import dataclasses
import os
import pathlib
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import isolated
from .interpreter import checked, memory, operators, partitions, run, start, undelegated
from .operators import FileOperator, Kernel, OperatorTime, operator_times
from .profiler import profile

# Loading a file and running it twice takes seconds; only a damaged one takes long.
_LIMIT_S = 300


@dataclasses.dataclass(frozen=True)
class Timing:
    """One model at one number of threads; times in milliseconds, memory and file size in bytes.

    `init_ms` is loading, delegation and allocation; `first_ms` the first run. XNNPACK took `partitions`
    pieces of the graph of `ops` operators and left `ops_outside` to slower kernels. `peak_rss_bytes` is the
    peak memory of a process that runs only this model, `memory_bytes` what the model added to it. None: the
    system, or LiteRT, does not tell.
    """

    model: str
    threads: int
    file_bytes: int
    init_ms: float
    first_ms: float
    median_ms: float
    p90_ms: float | None
    p95_ms: float | None
    min_ms: float
    ratio: float
    runs: int
    ops: int | None
    partitions: int | None
    ops_outside: int | None
    peak_rss_bytes: int | None
    memory_bytes: int | None


@dataclasses.dataclass(frozen=True)
class Profile:
    """Times of a model's kernels inside the whole file, in milliseconds.

    `sum_ms` adds up the kernels' medians; `run_ms` is the median run, of all its kernels together. On a busy
    machine a whole run is interrupted more often than any one of its kernels, and `sum_ms` is the smaller.
    `median_ms` is the file's median without a profiler, which takes time itself, counts in whole
    microseconds and does not see what lies between the kernels.
    """

    model: str
    threads: int
    median_ms: float
    run_ms: float
    sum_ms: float
    operators: tuple[OperatorTime, ...]


def benchmark(
    models: Sequence[str | os.PathLike], *, threads: Sequence[int] = (1,), runs: int = 50, warmup: int = 5
) -> list[Timing]:
    """Times `models` with every number of `threads`, interleaved, on random input of a fixed seed.

    Args:
      models: paths of .tflite files; `ratio` is relative to the first one's median at the same threads.
      threads: numbers of threads, each at least 1.
      runs: timed rounds, at least 1.
      warmup: untimed rounds before them, besides the first run.

    Returns:
      One `Timing` per number of threads and model, in the order given.

    Raises:
      ValueError: a number is out of range, or a file is missing, no .tflite, or one that LiteRT cannot run
        or crashes on.
    """
    check_numbers(models, threads, runs, warmup)
    paths = [checked(path) for path in models]
    peaks = [_ask(memory, path, threads=list(threads), limit_s=_LIMIT_S) for path in paths]
    start(paths[0], threads[0])  # The first start in a process pays for LiteRT's own; no model should.
    results = []
    for count in threads:
        started = [start(path, count) for path in paths]
        times: list[list[float]] = [[] for _ in paths]
        for round_index in range(warmup + runs):
            for (interpreter, _, _), mine in zip(started, times, strict=True):
                elapsed = run(interpreter)
                if round_index >= warmup:
                    mine.append(elapsed)
        base = statistics.median(times[0])
        for path, (interpreter, init, first), mine, used in zip(paths, started, times, peaks, strict=True):
            median = statistics.median(mine)
            results.append(
                Timing(
                    model=str(path),
                    threads=count,
                    file_bytes=path.stat().st_size,
                    init_ms=init,
                    first_ms=first,
                    median_ms=median,
                    p90_ms=float(np.percentile(mine, 90)),
                    p95_ms=float(np.percentile(mine, 95)),
                    min_ms=min(mine),
                    runs=runs,
                    ratio=median / base,
                    **_delegation(interpreter),
                    **used,
                )
            )
    return results


def profiles(timings: Sequence[Timing], *, runs: int = 50, warmup: int = 5) -> list[Profile]:
    """The operators of every model of `timings`, measured by LiteRT's profiler in `runs` runs of the file.

    Raises:
      ValueError: if this LiteRT has no profiler or cannot profile a file.
    """
    result = []
    for timing in timings:
        path = checked(timing.model)
        kernels, run_ms = _ask(profile, path, threads=timing.threads, runs=runs, warmup=warmup)
        own = file_operators(timing.model)
        result.append(profile_of(timing, [Kernel(**kernel) for kernel in kernels], own, run_ms=run_ms))
    return result


def file_operators(model: str | os.PathLike) -> list[FileOperator] | None:
    """The operators of a file; None where LiteRT does not list them. `ValueError` if it cannot load it."""
    listed = _ask(undelegated, checked(model), limit_s=_LIMIT_S)
    return None if listed is None else [FileOperator(**operator) for operator in listed]


def _ask(function: Callable, path: pathlib.Path, *, limit_s: float | None = None, **arguments: Any) -> Any:
    """As `isolated.ask`; raises `ValueError`, with one line that names the file, where there is no answer."""
    try:
        return isolated.ask(function, path, limit_s=limit_s, **arguments)
    except isolated.TooLongError as error:
        raise ValueError(f"{path}: LiteRT did not run it within {limit_s:g} s.") from error
    except isolated.CrashError as crash:
        raise ValueError(f"{path}: LiteRT crashes on it ({crash}).") from crash
    except isolated.RefusalError as error:
        named = str(error).startswith(f"{path}: ")
        raise ValueError(str(error) if named else f"{path}: LiteRT cannot run it: {error}") from error


def profile_of(
    timing: Timing, kernels: Sequence[Kernel], own: Sequence[FileOperator] | None, *, run_ms: float
) -> Profile:
    """The `Profile` of a timed model from its kernels, the file's own operators and the median run."""
    return Profile(
        model=timing.model,
        threads=timing.threads,
        median_ms=timing.median_ms,
        run_ms=run_ms,
        sum_ms=sum(kernel.median_ms for kernel in kernels),
        operators=operator_times(kernels, own),
    )


def check_numbers(models: Sequence, threads: Sequence[int], runs: int, warmup: int) -> None:
    """Raises `ValueError` without models, or for numbers out of range."""
    if not models:
        raise ValueError("no model to time; give at least one .tflite file.")
    if not threads or min(threads) < 1 or runs < 1 or warmup < 0:
        raise ValueError(
            f"threads={list(threads)}, runs={runs}, warmup={warmup}: threads and runs must be "
            f"at least 1, warmup at least 0."
        )


def _delegation(interpreter) -> dict[str, int | None]:
    """Numbers of operators, partitions and operators outside; None where LiteRT does not list operators."""
    own, taken = operators(interpreter), partitions(interpreter)
    if own is None or taken is None:
        return {"ops": None, "partitions": None, "ops_outside": None}
    return {
        "ops": len(own),
        "partitions": len(taken),
        "ops_outside": len(own) - len(frozenset().union(*taken)),
    }
