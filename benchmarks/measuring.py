"""Times of several things side by side, what they say as ratios, and the file they are kept in.

A machine that does other work, or whose clock changes, gives no time that holds an hour later. So things
that are compared are measured interleaved: each round runs every one of them once, each round begins with
another one, and what is told is the median of the ratios within a round.

    >>> seconds = interleaved({"float": float_step, "meta": meta_step}, rounds=10)
    >>> summary = summarized(seconds, reference="float")
    >>> summary["meta"]["ratio"]
    3.1
    >>> write_json(path, document(command, unit="s", results={"mobilenet_v2": summary}))
"""

import json
import pathlib
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from typing import TYPE_CHECKING

import numpy as np

from mmx_tf.export.atomic import write_atomically
from mmx_tf.export.provenance import provenance

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PACKAGES = (
    "tensorflow", "tf-keras", "tensorflow-model-optimization", "ai-edge-litert", "ai-edge-quantizer", "numpy",
)  # fmt: skip
_UNITS = {"s": (1e3, "ms"), "bytes": (2**-20, "MiB")}


def interleaved(
    functions: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    calls: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of one call of every function, in every round.

    Args:
      functions: what is timed; each has to end its work before it returns, and to be warm.
      rounds: how often each is timed. Round i begins with function i, so that none always follows the same.
      calls: calls in a row that one timing covers; more than 1 for functions of microseconds.
      clock: gives seconds.

    Raises:
      ValueError: without functions, or for rounds or calls below 1.
    """
    if not functions or rounds < 1 or calls < 1:
        raise ValueError(
            f"{len(functions)} functions, rounds={rounds}, calls={calls}: at least 1 of each is needed."
        )
    names = list(functions)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for index in range(rounds):
        first = index % len(names)
        for name in names[first:] + names[:first]:
            function = functions[name]
            begin = clock()
            for _ in range(calls):
                function()
            seconds[name].append((clock() - begin) / calls)
    return seconds


def seconds_of(function: Callable[[], object], *, clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of one call, such as the first one of a function that is traced and compiled by it."""
    begin = clock()
    function()
    return clock() - begin


def ratio_of(values: Sequence[float], reference: Sequence[float]) -> float:
    """The median of the ratios within a round, which a drift over the rounds does not move."""
    return float(np.median(np.divide(values, reference)))


def summarized(measured: Mapping[str, Sequence[float]], *, reference: str) -> dict[str, dict[str, float]]:
    """What is told of measurements in any unit: one value per round for every name.

    Returns:
      name -> `median`, `minimum`, `spread` (distance of the quartiles relative to the median) and `ratio` to
      the reference (see `ratio_of`).
    """
    summary = {}
    for name, values in measured.items():
        low, median, high = np.percentile(values, [25, 50, 75])
        summary[name] = {
            "median": float(median),
            "minimum": float(min(values)),
            "spread": float((high - low) / median),
            "ratio": ratio_of(values, measured[reference]),
        }
    return summary


def table(title: str, summary: Mapping[str, Mapping], *, unit: str = "s", extra: str = "first_call") -> str:
    """A summary as text, one line for each name; a name with an `error` instead of numbers shows that.

    Args:
      title: the heading of the first column.
      summary: what `summarized` returns, with `extra` or `error` added where there is one.
      unit: "s" or "bytes".
      extra: one more key to show, in the same unit.
    """
    factor, shown = _UNITS[unit]
    width = max(len(title), *map(len, summary))
    heading = f"{f'median {shown}':>12} {f'minimum {shown}':>12} {'spread':>7} {'ratio':>7}"
    with_extra = any(extra in row for row in summary.values())
    lines = [f"{title:<{width}} {heading}" + (f"  {extra} {shown}" if with_extra else "")]
    for name, row in summary.items():
        if "error" in row:
            lines.append(f"{name:<{width}} {row['error']}")
            continue
        line = f"{name:<{width}} {factor * row['median']:>12.3f} {factor * row['minimum']:>12.3f} "
        line += f"{row['spread']:>7.1%} {row['ratio']:>7.3f}"
        lines.append(line + (f"  {factor * row[extra]:>14.1f}" if extra in row else ""))
    return "\n".join(lines)


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that are measured or compared with."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in _PACKAGES}}


def document(command: str, **contents) -> dict:
    """A result with what is needed to judge it: the command that made it, the versions."""
    return {"command": command, "versions": versions(), **contents}


def standard_errors(values: np.ndarray) -> np.ndarray:
    """Standard errors of the means over the first axis, which has two entries at least."""
    return np.std(values, axis=0, ddof=1) / np.sqrt(len(values))


def mean_and_error(values: Sequence[float]) -> tuple[float | None, float | None]:
    """The mean of values and its standard error; None for what too few of them do not give."""
    mean = float(np.mean(values)) if len(values) else None
    return mean, float(standard_errors(np.asarray(values))) if len(values) > 1 else None


def write_png(path: pathlib.Path, figure: "Figure") -> None:
    """Writes a figure, making its folder; a reader sees the old file or the whole new one."""
    from mmx_tf.report import plots  # Matplotlib is for those that draw, and not in what is timed or weighed

    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, plots.render(figure, "png"))


def stamp_of(path: pathlib.Path | None) -> dict | None:
    """The stamp of a result that is there, to be read before it is first written; None without one."""
    return json.loads(path.read_text())["provenance"] if path and path.exists() else None


def write_json(path: pathlib.Path, contents: dict, *, earlier: dict | None = None) -> None:
    """Writes a result and its origin (`export.provenance`), making its folder.

    A reader sees the old file or the whole new one.

    Args:
      path: the file.
      contents: what is written behind the key `provenance`.
      earlier: the stamp of the file that `contents` continue, if they do.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    written = {"provenance": provenance(earlier=earlier)} | contents
    write_atomically(path, json.dumps(written, indent=1) + "\n")
