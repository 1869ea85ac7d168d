"""LiteRT's own benchmark_model on a connected Android device, on several models in turn.

    result = benchmark_on_device(["model.tflite", "int8.tflite"], tool="android_aarch64_benchmark_model")
    print(table(result.timings))

Each of several rounds starts the tool once for every model and number of threads (A B A B ...), so that a
device that warms up slows all of them alike. The program and the models are pushed to /data/local/tmp/mmx_tf
and removed again. Flags of the tool: tflite/tools/benchmark/README.md in
https://github.com/google-ai-edge/LiteRT
"""

import dataclasses
import hashlib
import os
import pathlib
import re
import statistics
from collections.abc import Sequence

from .adb import Device, DeviceError, connect, last_lines
from .interpreter import checked
from .operators import Kernel
from .program import program_abi
from .timing import Profile, Timing, check_numbers, file_operators, profile_of
from .tool_output import ToolOutputError, ToolRun, read, read_profile

FOLDER = "/data/local/tmp/mmx_tf"
_TOOL = f"{FOLDER}/benchmark_model"


@dataclasses.dataclass(frozen=True)
class DeviceResult:
    """What was measured on a device: its description, one timing (and profile) per threads and model.

    `averages`: the tool told averages of its runs, not medians; a `median_ms` is the rounds' median of them.
    """

    device: dict[str, str]
    tool_sha256: str
    timings: list[Timing]
    profiles: list[Profile]
    averages: bool


def benchmark_on_device(
    models: Sequence[str | os.PathLike],
    *,
    tool: str | os.PathLike,
    serial: str | None = None,
    threads: Sequence[int] = (1,),
    runs: int = 50,
    warmup: int = 5,
    rounds: int = 5,
    profile: bool = False,
) -> DeviceResult:
    """Times `models` on a device, with XNNPACK, on the tool's random input.

    Args:
      models: paths of .tflite files; `ratio` is relative to the first one's median at the same threads.
      tool: LiteRT's program benchmark_model for Android.
      serial: serial number of the device; None: the only one.
      threads: numbers of threads, each at least 1.
      runs: timed runs of each model over all rounds, rounded up to a multiple of `rounds`.
      warmup: untimed runs before them in each round, besides the first.
      rounds: starts of the tool for each model, at least 1.
      profile: start it once more in each round with the tool's operator profiler.

    Raises:
      ValueError: for numbers out of range, files that are no .tflite, or a tool that is no program for the
        device; `DeviceError` if there is no device or the tool fails on it.
    """
    check_numbers(models, threads, runs, warmup)
    if rounds < 1:
        raise ValueError(f"rounds={rounds}: must be at least 1.")
    paths, abi = [checked(path) for path in models], program_abi(tool)
    device = connect(serial)
    description = _description(device)
    if abi not in description["abis"].split(","):
        raise ValueError(f"{tool}: a program for {abi}; device {device.serial} runs {description['abis']}.")
    own = [_operators(path) for path in paths]
    remote = [f"{FOLDER}/{index}.tflite" for index in range(len(paths))]
    flags = (
        f"--num_runs={-(-runs // rounds)} --min_secs=0 --warmup_runs={warmup + 1} --warmup_min_secs=0 "
        f"--use_xnnpack=true"
    )
    cases = [(count, index) for count in threads for index in range(len(paths))]
    timed: dict[tuple[int, int], list[ToolRun]] = {case: [] for case in cases}
    profiled: dict[tuple[int, int], list[tuple[list[Kernel], bool]]] = {case: [] for case in cases}
    try:
        device.checked_shell(f"mkdir -p {FOLDER}")
        for source, target in [(tool, _TOOL), *zip(paths, remote, strict=True)]:
            device.push(source, target)
        device.checked_shell(f"chmod 755 {_TOOL}")
        for _ in range(rounds):
            for count, index in cases:
                command = f"{_TOOL} --graph={remote[index]} --num_threads={count} {flags}"
                timed[count, index].append(read(_run(device, command, paths[index])))
                if profile:
                    text = _run(device, f"{command} --enable_op_profiling=true", paths[index])
                    profiled[count, index].append(read_profile(text))
    finally:
        # Only what was pushed; a folder that holds anything else stays.
        device.shell(f"rm -f {' '.join([_TOOL, *remote])}; rmdir {FOLDER}")
    timings = [_timing(paths[i], own[i], count, timed[count, i], timed[count, 0]) for count, i in cases]
    return DeviceResult(
        device=description,
        tool_sha256=hashlib.sha256(pathlib.Path(tool).read_bytes()).hexdigest(),
        timings=timings,
        profiles=[
            _profile(timing, profiled[case], own[case[1]])
            for timing, case in zip(timings, cases, strict=True)
            if profile
        ],
        averages=any(run.is_average for tool_runs in timed.values() for run in tool_runs),
    )


def _description(device: Device) -> dict[str, str]:
    names = {
        "manufacturer": "ro.product.manufacturer",
        "model": "ro.product.model",
        "android": "ro.build.version.release",
        "chip": "ro.board.platform",
        "abis": "ro.product.cpu.abilist",
    }
    return {"serial": device.serial, **{key: device.property(name) for key, name in names.items()}}


def _operators(path: pathlib.Path):
    """The file's operators as LiteRT lists them here; whether it can run them is the device's matter."""
    try:
        return file_operators(path)
    except ValueError:
        return None


def _run(device: Device, command: str, path: pathlib.Path) -> str:
    """The tool's output; raises `DeviceError` with its message if it does not come to its end."""
    code, text = device.shell(command)
    text = text.replace("\r\n", "\n")
    if re.search(r"Unconsumed cmdline flags:.*--use_xnnpack", text):
        raise DeviceError(
            "benchmark_model knows no --use_xnnpack: it is not LiteRT's tool for the Interpreter, such as "
            "android_aarch64_benchmark_model, but perhaps the one for CompiledModel, whose output differs."
        )
    try:
        if code == 0:
            read(text)
            return text
    except ToolOutputError:
        pass
    raise DeviceError(
        f"{path}: benchmark_model fails on device {device.serial} (exit code {code}): {last_lines(text)}"
    )


def _timing(path, own, threads: int, tool_runs: Sequence[ToolRun], base: Sequence[ToolRun]) -> Timing:
    def median(name: str, of: Sequence[ToolRun] = tool_runs) -> float | None:
        values = [getattr(run, name) for run in of]
        return None if None in values else statistics.median(values)

    memory = median("memory_bytes")
    return Timing(
        model=str(path),
        threads=threads,
        file_bytes=path.stat().st_size,
        init_ms=median("init_ms"),
        first_ms=median("first_ms"),
        median_ms=median("median_ms"),
        p90_ms=None,
        p95_ms=median("p95_ms"),
        min_ms=min(run.min_ms for run in tool_runs),
        ratio=median("median_ms") / median("median_ms", base),
        runs=sum(run.runs for run in tool_runs),
        ops=None if own is None else len(own),
        partitions=tool_runs[0].partitions,
        ops_outside=0 if tool_runs[0].all_inside else None,
        peak_rss_bytes=None,
        memory_bytes=None if memory is None else round(memory),
    )


def _profile(timing: Timing, rounds: Sequence[tuple[list[Kernel], bool]], own) -> Profile:
    lists = [kernels for kernels, _ in rounds]
    named = [[(kernel.name, kernel.operator) for kernel in kernels] for kernels in lists]
    if any(names != named[0] for names in named):
        raise DeviceError(f"{timing.model}: benchmark_model profiles other operators in every round.")
    medians = [
        dataclasses.replace(same[0], median_ms=statistics.median(kernel.median_ms for kernel in same))
        for same in zip(*lists, strict=True)
    ]
    run_ms = statistics.median(sum(kernel.median_ms for kernel in kernels) for kernels in lists)
    return profile_of(timing, medians, own if all(single for _, single in rounds) else None, run_ms=run_ms)
