"""What the processor does during a training step, by kind of work.

    python -m benchmarks.step_profile --json=results/performance/step_profile.json --png=FILE.png

Each way to train runs under TensorFlow's profiler. Milliseconds are processor time, added up over the threads
that work at once, so they exceed a step's own time; the profiler itself slows steps by some percent.
"""

import collections
import pathlib
import re
import sys
import tempfile
from collections.abc import Iterable

import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from benchmarks import command_line
from benchmarks.ways_to_train import NETWORKS, prepared
from mmx_tf import quiet

MODULE = "benchmarks.step_profile"
WAYS = ("float", "meta", "search", "fixed")
KINDS = {
    "convolutions": r"Conv|MatMul",
    "batch norm": r"BatchNorm|@_(moments|gradient_sums|gradient_of)|@(affine|gradient_of)",
    "ReLU": r"Relu",
    "quantizers, with the batch norm and ReLU that they take over": (
        r"@(forward|backward|sums|normalized_backward)$"
    ),
    "adding up partial sums": r"^Sum$|@_fewer_positions",
    "padding and its gradient": r"^(Pad|Slice)$",
}
"""Kind of work -> pattern of TensorFlow operations, or of compiled functions, which begin with @."""
CALLING = "calling compiled functions"
OTHER = "everything else"
# Events of XLA's launch operation: all of a call, and the waiting for it.
_WHOLE_CALL, _WAITING = "Start", ("BlockUntilReady", "Done")
_ALL = "Process"


def kind_of(name: str) -> str | None:
    """The kind of work of an operation's type or of a compiled function (`@name`); None for any other."""
    return next((kind for kind, pattern in KINDS.items() if re.search(pattern, name)), None)


def by_kind(events: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Milliseconds of each kind of work.

    Args:
      events: (name, milliseconds) of a profile: operations' types, compiled functions as @name, and the
        profiler's own names for the launch of compiled functions and for all operations.
    """
    times = dict.fromkeys([*KINDS, CALLING, OTHER], 0.0)
    total = collections.Counter()
    for name, milliseconds in events:
        total[name] += milliseconds
        kind = kind_of(name)
        if kind:
            times[kind] += milliseconds
    inside = sum(value for name, value in total.items() if name.startswith("@"))
    calls = total[_WHOLE_CALL] + sum(total[name] for name in _WAITING)
    times[CALLING] = max(calls - inside, 0.0)
    outside = sum(value for name, value in total.items() if kind_of(name) and not name.startswith("@"))
    times[OTHER] = max(total[_ALL] - outside - calls, 0.0)
    return times


def profiled(way: str, network: str, *, batch_size: int, steps: int) -> dict[str, float]:
    """Milliseconds of processor time that one training step spends on each kind of work."""
    step = prepared(way, network, batch_size=batch_size)
    for _ in range(3):  # traces, compiles, and makes TensorFlow settle
        step()
    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder):
            for _ in range(steps):
                step()
        (path,) = pathlib.Path(folder).glob("plugins/profile/*/*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(path.read_bytes())
    return {kind: value / steps for kind, value in by_kind(_events(space)).items()}


def _events(space):
    for plane in space.planes:
        if "CPU" not in plane.name:
            continue
        stat_names = {key: value.name for key, value in plane.stat_metadata.items()}
        for line in plane.lines:
            for event in line.events:
                name = plane.event_metadata[event.metadata_id].name.split(":")[-1]
                for stat in event.stats:
                    if stat_names.get(stat.metadata_id) == "hlo_module":
                        module = stat.str_value or stat_names.get(stat.ref_value, "")
                        name = "@" + re.sub(r"^a_inference_|_\d+__.*$", "", module)
                yield name, event.duration_ps / 1e9


def drawn(results: dict[str, dict[str, dict[str, float]]], path: pathlib.Path) -> None:
    """Writes a PNG: for each network and way, a bar of its kinds of work."""
    import matplotlib.figure

    figure = matplotlib.figure.Figure(figsize=(9, 1.2 + 0.45 * sum(map(len, results.values()))))
    axes = figure.subplots()
    rows = [(f"{network}, {way}", times) for network, ways in results.items() for way, times in ways.items()]
    left = [0.0] * len(rows)
    for kind in [*KINDS, CALLING, OTHER]:
        values = [times[kind] for _, times in rows]
        axes.barh(range(len(rows)), values, left=left, label=kind)
        left = [start + value for start, value in zip(left, values, strict=True)]
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.invert_yaxis()
    axes.set_xlabel("processor time of one training step, ms")
    axes.legend(fontsize="small", loc="lower right")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main(argv: list[str] | None = None) -> int:
    """Profiles, prints the tables; returns the exit code."""
    parser = command_line.argument_parser(MODULE, __doc__)
    command_line.add_choice(parser, "--networks", NETWORKS)
    command_line.add_choice(parser, "--ways", WAYS)
    command_line.add_batch_size(parser)
    parser.add_argument("--steps", type=command_line.positive, default=10, help="default: %(default)s")
    parser.add_argument("--png", type=pathlib.Path, help="also draw the times")
    options = parser.parse_args(argv)
    quiet.set_up_logging()
    results = {}
    for network in options.networks:
        results[network] = {
            way: profiled(way, network, batch_size=options.batch_size, steps=options.steps)
            for way in options.ways
        }
        print(f"{network}, ms: " + ", ".join(options.ways))
        for kind in [*KINDS, CALLING, OTHER]:
            print(f"  {kind:62}", *(f"{results[network][way][kind]:8.1f}" for way in options.ways))
    if options.png:
        drawn(results, options.png)
    shown = {"png": "FILE.png"} if options.png else {}
    command_line.write_results(MODULE, options, unit="ms", results=results, **shown)
    return 0


if __name__ == "__main__":
    sys.exit(main())
