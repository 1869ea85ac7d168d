"""What `isolated.ask` runs in a process of its own: `python -m export.benchmark.child TASK PATH ARGUMENTS`.

The arguments are a JSON object; the last line on standard output is a JSON object with the key `answer`, or
`error` with one line of text.
"""

import dataclasses
import json
import pathlib
import sys

from ai_edge_litert.interpreter import Interpreter, OpResolverType

from . import interpreter, profiler


def memory(path: pathlib.Path, threads: list[int]) -> dict[str, int | None]:
    """Loads and runs the file with each number of threads; peak memory of the first, in bytes.

    `peak_rss_bytes` is the process's peak, `memory_bytes` what the file added to it.
    """
    before = _high_water()
    started, _, _ = interpreter.start(path, threads[0])
    interpreter.run(started)
    peak = _high_water()
    for count in threads[1:]:
        interpreter.start(path, count)
    return {"peak_rss_bytes": peak, "memory_bytes": None if before is None or peak is None else peak - before}


def operators(path: pathlib.Path) -> list[dict] | None:
    """The file's operators, as `FileOperator`s, as they are before any delegate takes them."""
    loaded = Interpreter(
        model_path=str(path), experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    )
    listed = interpreter.operators(loaded)
    return None if listed is None else [dataclasses.asdict(op) for op in listed]


def kernels(path: pathlib.Path, threads: int, runs: int, warmup: int) -> tuple[list[dict], float]:
    """The kernels that LiteRT ran for the file, as `Kernel`s, and the median run of them in milliseconds."""
    measured, run_ms = profiler.profile(path, threads=threads, runs=runs, warmup=warmup)
    return [dataclasses.asdict(kernel) for kernel in measured], run_ms


def _high_water() -> int | None:
    """Peak resident bytes of this process. Not `ru_maxrss`: on Linux it starts with the parent's peak."""
    try:
        lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), None)


def main() -> int:
    """Does one task; returns the exit code."""
    task, path, arguments = sys.argv[1:]
    try:
        result = {memory.__name__: memory, operators.__name__: operators, kernels.__name__: kernels}[task](
            pathlib.Path(path), **json.loads(arguments)
        )
    except (
        Exception
    ) as error:  # Whatever a damaged file makes Python's part of LiteRT raise is about the file.
        reason = " ".join(str(error).split()) or type(error).__name__
        print(
            json.dumps(
                {"error": reason if reason.startswith(path) else f"{path}: LiteRT cannot run it: {reason}"}
            )
        )
        return 1
    print(json.dumps({"answer": result}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
