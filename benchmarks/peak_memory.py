"""Peak memory of the bit search and of fixed-bit training beside float training.

    python -m benchmarks.peak_memory --json=results/performance/peak_memory.json        # about 20 minutes

Each way to train runs in a process of its own, as a peak cannot be taken back. `median` is the peak of the
whole process, libraries included; `added` is that less what the process held before the first step, which
takes away TensorFlow itself, the network and the images. Tracing and XLA's compiler are in both: they happen
in the first step. The search is measured with meta and search steps, as it is trained.
"""

import argparse
import json
import pathlib
import subprocess
import sys

import numpy as np

from benchmarks import command_line, measuring
from benchmarks.ways_to_train import NETWORKS, PeerRefusedError, prepared

MODULE = "benchmarks.peak_memory"
WAYS = ("float", "meta_and_search", "fixed", "tfmot_8bit")
_ROOT = pathlib.Path(__file__).resolve().parents[1]


def resident_bytes(status: str) -> tuple[int, int]:
    """(now, at its peak): a process's resident bytes, from the text of Linux's /proc/PID/status.

    Its peak is that of the program alone; `ru_maxrss` begins with the peak of the process that started it.

    Raises:
      ValueError: if the text has no such lines.
    """
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    missing = [name for name in ("VmRSS", "VmHWM") if name not in fields]
    if missing:
        raise ValueError(f"no {' and no '.join(missing)} in the status of this process; Linux has them.")
    return 1024 * int(fields["VmRSS"].split()[0]), 1024 * int(fields["VmHWM"].split()[0])


def weighed(network: str, way: str, *, batch_size: int, steps: int) -> dict:
    """Bytes at the peak of this process and before its first step; or the `error` of a peer that refuses."""
    status = pathlib.Path("/proc/self/status")
    try:
        step = prepared(way, network, batch_size=batch_size)
    except PeerRefusedError as error:
        return {"error": str(error)}
    before, _ = resident_bytes(status.read_text())
    for _ in range(steps):
        step()
    return {"before": before, "peak": resident_bytes(status.read_text())[1]}


def weighed_elsewhere(network: str, way: str, options: argparse.Namespace) -> dict:
    """`weighed` in a process of its own.

    Raises:
      RuntimeError: with the process's own words, if it fails.
    """
    arguments = [f"--networks={network}", f"--ways={way}", f"--batch_size={options.batch_size}"]
    done = subprocess.run(
        [sys.executable, "-m", MODULE, "--in_this_process", f"--steps={options.steps}", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=_ROOT,
    )
    if done.returncode:
        raise RuntimeError(f"{way} on {network} ended with exit code {done.returncode}:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def summarized(found: dict[str, list[dict]]) -> dict[str, dict]:
    """The summary of peaks, with `added` and its ratio; found: way -> what `weighed` gave in each round."""
    errors = {way: runs[0] for way, runs in found.items() if "error" in runs[0]}
    numbers = {way: runs for way, runs in found.items() if way not in errors}
    added = {way: [run["peak"] - run["before"] for run in runs] for way, runs in numbers.items()}
    peaks = {way: [run["peak"] for run in runs] for way, runs in numbers.items()}
    summary = measuring.summarized(peaks, reference="float")
    for way, row in summary.items():
        row["added"] = float(np.median(added[way]))
        row["added_ratio"] = measuring.ratio_of(added[way], added["float"])
    return {way: errors.get(way) or summary[way] for way in found}


def main(argv: list[str] | None = None) -> int:
    """Measures, prints the tables; returns the exit code."""
    parser = command_line.argument_parser(MODULE, __doc__, rounds=3)
    command_line.add_choice(parser, "--networks", NETWORKS)
    command_line.add_choice(parser, "--ways", WAYS)
    command_line.add_batch_size(parser)
    parser.add_argument("--steps", type=command_line.positive, default=3, help="default: %(default)s")
    parser.add_argument("--in_this_process", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.in_this_process:
        (network,), (way,) = options.networks, options.ways
        print(json.dumps(weighed(network, way, batch_size=options.batch_size, steps=options.steps)))
        return 0
    if "float" not in options.ways:
        parser.error("--ways needs float, the unit of the ratios.")
    results = {}
    for network in options.networks:
        found: dict[str, list[dict]] = {way: [] for way in options.ways}
        for _ in range(options.rounds):
            for way in options.ways:
                found[way].append(weighed_elsewhere(network, way, options))
        results[network] = summarized(found)
        print(measuring.table(network, results[network], unit="bytes", extra="added"), flush=True)
        for way, row in results[network].items():
            if "added_ratio" in row:
                print(f"  added by the steps of {way}: {row['added_ratio']:.3f} of float's")
    del options.in_this_process
    command_line.write_results(MODULE, options, unit="bytes", results=results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
