"""Timings and profiles as aligned text and as a JSON file.

print(table(timings))
print(profile_table(profile))
write_json("times.json", machine=..., timings=timings, profiles=profiles)
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Sequence

from .timing import Profile, Timing

PROFILE_NOTE = """\
Kernels in the order of execution, inside the whole file; one that computes several operators names them all.
Their medians need not add up to the file's: the profiler takes time, counts in whole microseconds and misses
what lies between, and other work interrupts a whole run more often than a kernel."""


def table(results: Sequence[Timing]) -> str:
    """The results as aligned text, one line each, times in milliseconds."""
    rows = [tuple("threads median ratio p90 p95 min first init memory file XNNPACK model".split())]
    for r in results:
        times = (_ms(ms) for ms in (r.p90_ms, r.p95_ms, r.min_ms, r.first_ms, r.init_ms))
        memory = "?" if r.memory_bytes is None else f"{r.memory_bytes / 1e6:.1f} MB"
        file = f"{r.file_bytes / 1e6:.2f} MB"
        rows.append(
            (str(r.threads), _ms(r.median_ms), f"{r.ratio:.2f}x", *times, memory, file, _taken(r), r.model)
        )
    return _aligned(rows, left=())


def profile_table(profile: Profile) -> str:
    """A title and one line for each kernel, times in milliseconds."""
    threads = f"{profile.threads} thread{'s' if profile.threads > 1 else ''}"
    title = (
        f"{profile.model}, {threads}: {len(profile.operators)} kernels, their medians add up to "
        f"{profile.sum_ms:.3f} ms, a run of them takes {profile.run_ms:.3f} ms;\n"
        f"the whole file without profiler takes {profile.median_ms:.3f} ms"
    )
    rows = [("#", "median", "share", "run by", "operator", "kernel", "output")]
    for time in profile.operators:
        rows.append(
            (
                "+".join(map(str, time.operators)) or "-",
                _ms(time.median_ms),
                f"{time.share:.1%}",
                "XNNPACK" if time.delegated else "builtin",
                time.kind if time.operators else "-",
                time.kernel,
                time.output or "-",
            )
        )
    return f"{title}\n{_aligned(rows, left=(3, 4, 5))}"


def write_json(
    path: str | os.PathLike, *, head: dict, timings: Sequence[Timing], profiles: Sequence[Profile] = ()
) -> None:
    """Writes `head` and the results to `path`, whole or not at all."""
    record = {
        "schema": 2,
        **head,
        "results": [dataclasses.asdict(timing) for timing in timings],
        "profiles": [dataclasses.asdict(profile) for profile in profiles],
    }
    temporary = pathlib.Path(f"{path}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def _ms(value: float | None) -> str:
    return "?" if value is None else f"{value:.3f}"


def _taken(timing: Timing) -> str:
    if timing.partitions is None:
        return "?"
    outside, ops = ("?" if n is None else str(n) for n in (timing.ops_outside, timing.ops))
    return f"{timing.partitions} part., {outside}/{ops} ops left"


def _aligned(rows: Sequence[tuple[str, ...]], left: tuple[int, ...]) -> str:
    """Columns of even width, to the right but for those in `left`; the last one is left as it is."""
    *widths, _ = (max(map(len, column)) for column in zip(*rows, strict=True))
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if place in left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=False))
        ]
        lines.append("  ".join([*cells, row[-1]]))
    return "\n".join(lines)
