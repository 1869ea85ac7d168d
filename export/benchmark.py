"""How long .tflite files take on this machine: the same runs for every file, interleaved.

Clocks throttle and other processes come and go, so timing one file after the other compares moments. Here
each round runs every model once (A B A B ...): a drift hits all of them alike, and the ratio of medians can
be trusted where the times themselves cannot. Models find the caches as the others left them, as in an
application that does more than infer.

    python -m export.benchmark --model=model.tflite --model=int8.tflite --threads=1,2 --runs=50

The module needs numpy and ai-edge-litert, no TensorFlow and nothing of this project: copied to a device, it
runs alone (python benchmark.py ...). Exit code 2: bad arguments, or a file that LiteRT cannot run.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import metadata

import numpy as np
from ai_edge_litert.interpreter import Interpreter

_LITERT = metadata.version("ai-edge-litert")


@dataclasses.dataclass(frozen=True)
class Timing:
    """One model at one number of threads; times in milliseconds, memory and file size in bytes.

    `init_ms` is loading, delegation and allocation; `first_ms` the first run. XNNPACK took `partitions`
    pieces of the graph of `ops` operators and left `ops_outside` to slower kernels. `peak_rss_bytes` is the
    peak memory of a process that runs only this model, `memory_bytes` what the model added to it. None: not
    to be had here.
    """

    model: str
    threads: int
    file_bytes: int
    init_ms: float
    first_ms: float
    median_ms: float
    p90_ms: float
    min_ms: float
    ratio: float
    runs: int
    ops: int | None
    partitions: int | None
    ops_outside: int | None
    peak_rss_bytes: int | None
    memory_bytes: int | None


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
      ValueError: a number is out of range, or a file is missing, no .tflite, or not one that LiteRT can run.
    """
    if not models:
        raise ValueError("no model to time; give at least one .tflite file.")
    if not threads or min(threads) < 1 or runs < 1 or warmup < 0:
        raise ValueError(
            f"threads={list(threads)}, runs={runs}, warmup={warmup}: threads and runs must be "
            f"at least 1, warmup at least 0."
        )
    paths = [_checked(path) for path in models]
    memory = [_memory(path) for path in paths]
    _start(paths[0], threads[0])  # The first start in a process pays for LiteRT's own; no model should.
    results = []
    for count in threads:
        started = [_start(path, count) for path in paths]
        times: list[list[float]] = [[] for _ in paths]
        for round_index in range(warmup + runs):
            for (interpreter, _, _), mine in zip(started, times, strict=True):
                elapsed = _run(interpreter)
                if round_index >= warmup:
                    mine.append(elapsed)
        base = statistics.median(times[0])
        for path, (interpreter, init, first), mine, used in zip(paths, started, times, memory, strict=True):
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
                    min_ms=min(mine),
                    runs=runs,
                    ratio=median / base,
                    **_delegation(interpreter),
                    **used,
                )
            )
    return results


def table(results: Sequence[Timing]) -> str:
    """The results as aligned text, one line each, times in milliseconds."""
    header = "threads median ratio p90 min first init memory file XNNPACK model"
    rows = [tuple(header.split())]
    for r in results:
        taken = "?" if r.ops is None else f"{r.partitions} part., {r.ops_outside}/{r.ops} ops left"
        memory = "?" if r.memory_bytes is None else f"{r.memory_bytes / 1e6:.1f} MB"
        times = (f"{ms:.3f}" for ms in (r.p90_ms, r.min_ms, r.first_ms, r.init_ms))
        rows.append(
            (
                str(r.threads),
                f"{r.median_ms:.3f}",
                f"{r.ratio:.2f}x",
                *times,
                memory,
                f"{r.file_bytes / 1e6:.2f} MB",
                taken,
                r.model,
            )
        )
    *widths, _ = (max(map(len, column)) for column in zip(*rows, strict=True))
    return "\n".join("  ".join([*map(str.rjust, row, widths), row[-1]]) for row in rows)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = _Parser(prog="export.benchmark", allow_abbrev=False, description=__doc__.split("\n")[0])
    parser.add_argument(
        "--model",
        action="append",
        required=True,
        metavar="FILE.tflite",
        help="a file to time; repeat it to compare, the first is the reference",
    )
    parser.add_argument("--threads", type=_counts, default=(1,), metavar="N[,N...]", help="default: 1")
    parser.add_argument("--runs", type=int, default=50, metavar="N", help="timed rounds, default: 50")
    parser.add_argument("--warmup", type=int, default=5, metavar="N", help="untimed rounds, default: 5")
    parser.add_argument("--json", metavar="OUT", help="also write the results to this file")
    parser.add_argument("--memory_only", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.json and not pathlib.Path(args.json).resolve().parent.is_dir():
        parser.error(f"--json={args.json}: its folder does not exist; create it first.")
    try:
        if args.memory_only:
            print(json.dumps(_peak(_checked(args.model[0]))))
            return 0
        results = benchmark(args.model, threads=args.threads, runs=args.runs, warmup=args.warmup)
    except ValueError as error:
        parser.error(str(error))
    print(
        f"{platform.machine()}, {os.cpu_count()} CPUs, ai-edge-litert {_LITERT}; "
        f"{args.runs} interleaved runs, times in ms"
    )
    print(table(results))
    if args.json:
        _write_json(args.json, results)
    return 0


class _Parser(argparse.ArgumentParser):
    """argparse with errors of one line."""

    def error(self, message: str) -> None:
        self.exit(2, f"{self.prog}: {message}\n")


def _counts(text: str) -> tuple[int, ...]:
    if not all(part.isascii() and part.isdigit() and int(part) > 0 for part in text.split(",")):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of positive integers such as 1,2,4")
    return tuple(int(part) for part in text.split(","))


def _checked(path: str | os.PathLike) -> pathlib.Path:
    path = pathlib.Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file.")
    with path.open("rb") as file:
        # A flatbuffer holds its file identifier after the 4-byte offset of its root table.
        if file.read(8)[4:] != b"TFL3":
            raise ValueError(f"{path}: not a .tflite file (it lacks the identifier TFL3).")
    return path


def _start(path: pathlib.Path, threads: int) -> tuple[Interpreter, float, float]:
    """A loaded and fed interpreter, and the milliseconds of loading it and of its first run."""
    begin = time.perf_counter()
    try:
        interpreter = Interpreter(model_path=str(path), num_threads=threads)
        interpreter.allocate_tensors()
        init = 1e3 * (time.perf_counter() - begin)
        _feed(interpreter)
        return interpreter, init, _run(interpreter)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"{path}: LiteRT cannot run it: {' '.join(str(error).split())}") from error


def _feed(interpreter: Interpreter) -> None:
    random = np.random.default_rng(0)
    for detail in interpreter.get_input_details():
        shape, kind = detail["shape"], np.dtype(detail["dtype"])
        if kind.kind in "iu":
            limits = np.iinfo(kind)
            values = random.integers(limits.min, limits.max, size=shape, dtype=kind, endpoint=True)
        else:
            values = random.random(shape).astype(kind)
        interpreter.set_tensor(detail["index"], values)


def _run(interpreter: Interpreter) -> float:
    begin = time.perf_counter()
    interpreter.invoke()
    return 1e3 * (time.perf_counter() - begin)


def _delegation(interpreter: Interpreter) -> dict[str, int | None]:
    """Numbers of operators, partitions and operators outside; None where LiteRT does not list operators.

    A delegated graph lists its own operators and then one DELEGATE per partition; a partition is what lies
    between the inputs and the outputs of its DELEGATE.
    """
    list_operators = getattr(interpreter, "_get_ops_details", None)
    if list_operators is None:
        return {"ops": None, "partitions": None, "ops_outside": None}
    listed = list_operators()
    partitions = [op for op in listed if op["op_name"] == "DELEGATE"]
    own = [op for op in listed if op["op_name"] != "DELEGATE"]
    producer = {int(tensor): index for index, op in enumerate(own) for tensor in op["outputs"]}
    taken: set[int] = set()
    for partition in partitions:
        borders = set(map(int, partition["inputs"]))
        reached = list(map(int, partition["outputs"]))
        while reached:
            tensor = reached.pop()
            index = producer.get(tensor)
            if tensor not in borders and index is not None and index not in taken:
                taken.add(index)
                reached.extend(map(int, own[index]["inputs"]))
    return {"ops": len(own), "partitions": len(partitions), "ops_outside": len(own) - len(taken)}


def _memory(path: pathlib.Path) -> dict[str, int | None]:
    """Measured in a process of its own, because a process's peak never shrinks."""
    command = [sys.executable, __file__, "--memory_only", f"--model={path.resolve()}"]
    # Safe path: this file's folder would otherwise come first in the search for the modules it imports.
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONSAFEPATH": "1"}
    )
    if done.returncode < 0:
        raise ValueError(f"{path}: LiteRT crashes on it (signal {-done.returncode}).")
    # Any other failure is the model's and shows in this process too, with its message.
    return json.loads(done.stdout) if done.returncode == 0 else {"peak_rss_bytes": None, "memory_bytes": None}


def _peak(path: pathlib.Path) -> dict[str, int | None]:
    before = _high_water()
    interpreter, _, _ = _start(path, 1)
    _run(interpreter)
    peak = _high_water()
    return {"peak_rss_bytes": peak, "memory_bytes": None if before is None or peak is None else peak - before}


def _high_water() -> int | None:
    """Peak resident bytes of this process. Not `ru_maxrss`: on Linux it starts with the parent's peak."""
    try:
        lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), None)


def _write_json(path: str, results: Sequence[Timing]) -> None:
    machine = {"architecture": platform.machine(), "system": platform.system(), "cpus": os.cpu_count()}
    record = {
        "schema": 1,
        "machine": machine,
        "ai_edge_litert": _LITERT,
        "results": [dataclasses.asdict(result) for result in results],
    }
    temporary = pathlib.Path(f"{path}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, path)


if __name__ == "__main__":
    sys.exit(main())
