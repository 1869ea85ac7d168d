r"""What LiteRT's own benchmark_model prints, read.

    run = read(text)
    run.median_ms, run.partitions
    for kernel in read_profile(text): print(kernel.name, kernel.median_ms)

Format: tflite/tools/benchmark/benchmark_model.cc and benchmark_tflite_model.cc, tflite/profiling and
tsl/util/stats_calculator in https://github.com/google-ai-edge/LiteRT and https://github.com/openxla/xla.
Lines may begin with "INFO: ". Older releases print an average and no median; columns of a profile come
and go ("[start]"), so they are found by their titles.
"""

import dataclasses
import re

from .operators import Kernel

_NUMBER = r"([-+.\deE]+)"
_TIMINGS = re.compile(
    rf"Inference timings in us: Init: {_NUMBER}, First inference: {_NUMBER}, "
    rf"Warmup \(avg\): {_NUMBER}, Inference \(avg\): {_NUMBER}"
)
_STATISTICS = re.compile(r"^(?:INFO: )?(count=\d+.*)$", re.MULTILINE)
_MEMORY = re.compile(rf"(?:Memory footprint delta|Peak memory footprint)[^\n]*overall={_NUMBER}")
_WHOLE = "the model graph will be completely executed by the delegate"
_PARTLY = re.compile(r"will be partially executed by the delegate w/ (\d+) delegate kernels")
_NOT = "the model graph will not be executed by the delegate"
_PROFILE = "Operator-wise Profiling Info for Regular Benchmark Runs:"
_TITLE = re.compile(r"=+ Run Order =+")
# A builtin kernel is named by its outputs and its place in the file; a delegate's by its own name and place.
_BUILTIN = re.compile(r"\[.*\]:(\d+)")
# Tabs and padding; kernels' names have single spaces.
_CELLS = re.compile(r"\s{2,}|\t")


class ToolOutputError(ValueError):
    """Text that is not a whole output of benchmark_model."""


@dataclasses.dataclass(frozen=True)
class ToolRun:
    """One run of the tool; times in milliseconds, memory in bytes; None where it does not say.

    `median_ms` is the average where `is_average`. `partitions` and whether `all_inside` XNNPACK are told only
    when XNNPACK was asked for by name.
    """

    init_ms: float
    first_ms: float
    median_ms: float
    is_average: bool
    p95_ms: float | None
    min_ms: float
    runs: int
    memory_bytes: int | None
    partitions: int | None
    all_inside: bool


def read(text: str) -> ToolRun:
    """The `ToolRun` of the tool's whole output; `ToolOutputError` if it did not come to its end."""
    timings, statistics = _TIMINGS.search(text), _STATISTICS.findall(text)
    if timings is None or len(statistics) < 2:
        raise ToolOutputError("benchmark_model printed no timings.")
    init, first, _, average = (float(value) / 1e3 for value in timings.groups())
    # The first statistics are of the warm-up, the second of the runs; if all are equal, only "curr" is told.
    values = {key: float(value) for key, value in re.findall(rf"(\w+)={_NUMBER}", statistics[1])}
    microseconds = {key: value / 1e3 for key, value in values.items() if key != "count"}
    memory, partly = _MEMORY.search(text), _PARTLY.search(text)
    if _WHOLE in text:
        partitions = 1
    elif partly:
        partitions = int(partly[1])
    else:
        partitions = 0 if _NOT in text else None
    return ToolRun(
        init_ms=init,
        first_ms=first,
        median_ms=microseconds.get("median", average),
        is_average="median" not in microseconds,
        p95_ms=microseconds.get("p95"),
        min_ms=microseconds.get("min", average),
        runs=int(values["count"]),
        memory_bytes=None if memory is None else round(float(memory[1]) * 2**20),
        partitions=partitions,
        all_inside=_WHOLE in text,
    )


def read_profile(text: str) -> tuple[list[Kernel], bool]:
    """The kernels of a run with --enable_op_profiling, and whether each stands for one place in the file.

    A kernel's time is the tool's average of one run of the model. The tool adds up kernels of one name and
    place in several partitions; such a list cannot be told apart.
    """
    _, found, after = text.partition(_PROFILE)
    title = _TITLE.search(after)
    if not found or title is None:
        raise ToolOutputError("benchmark_model printed no profile of its operators.")
    header, *lines = after[title.end() :].strip("\r\n").splitlines()
    columns = _CELLS.split(header.strip())
    kernels, single = [], True
    for line in lines:
        cells = _CELLS.split(line.strip(), maxsplit=len(columns) - 1)
        if len(cells) != len(columns):
            break
        row = dict(zip(columns, cells, strict=True))
        try:
            calls, average = int(row["[times called]"]), float(row["[avg ms]"])
        except (KeyError, ValueError) as error:
            raise ToolOutputError(
                f"benchmark_model printed an unknown line of its profile: {line!r}"
            ) from error
        builtin = None if "Delegate" in row["[node type]"] else _BUILTIN.fullmatch(row["[Name]"])
        kernels.append(Kernel(row["[node type]"], int(builtin[1]) if builtin else None, calls * average))
        single &= builtin is not None or calls == 1
    return kernels, single
