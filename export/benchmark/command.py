"""The command line: python -m export.benchmark --model=FILE.tflite ..."""

import argparse
import os
import pathlib
import platform
import sys
from collections.abc import Sequence
from importlib import metadata

from .android import benchmark_on_device
from .report import PROFILE_NOTE, profile_table, table, write_json
from .timing import benchmark, profiles


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit code (errors exit with 2 and one line)."""
    parser = _parser()
    args = parser.parse_args(argv)
    if args.json and not pathlib.Path(args.json).resolve().parent.is_dir():
        parser.error(f"--json={args.json}: its folder does not exist; create it first.")
    device_only = {
        "benchmark_model": args.benchmark_model,
        "adb_serial": args.adb_serial,
        "rounds": args.rounds,
    }
    given = [name for name, value in device_only.items() if value is not None]
    if given and not args.adb:
        parser.error(f"--{given[0]} is for a device; give --adb with it.")
    if args.adb and args.benchmark_model is None:
        parser.error("--adb needs --benchmark_model=FILE, LiteRT's program benchmark_model for Android.")
    numbers = {"threads": args.threads, "runs": args.runs, "warmup": args.warmup}
    try:
        if args.adb:
            head, line, timings, measured = _on_device(args, numbers)
        else:
            head, line, timings, measured = _here(args, numbers)
    except ValueError as error:
        parser.error(str(error))
    print(line)
    print(table(timings))
    for profile in measured:
        print(f"\n{profile_table(profile)}")
    if measured:
        print(f"\n{PROFILE_NOTE}")
    if args.json:
        write_json(args.json, head=head, timings=timings, profiles=measured)
    return 0


def _here(args, numbers):
    timings = benchmark(args.model, **numbers)
    measured = profiles(timings, runs=args.runs, warmup=args.warmup) if args.profile else []
    litert = metadata.version("ai-edge-litert")
    machine = {"architecture": platform.machine(), "system": platform.system(), "cpus": os.cpu_count()}
    line = (
        f"{platform.machine()}, {os.cpu_count()} CPUs, ai-edge-litert {litert}; "
        f"{args.runs} interleaved runs, times in ms"
    )
    return {"machine": machine, "ai_edge_litert": litert}, line, timings, measured


def _on_device(args, numbers):
    rounds = min(args.runs, 5) if args.rounds is None else args.rounds
    result = benchmark_on_device(
        args.model,
        tool=args.benchmark_model,
        serial=args.adb_serial,
        rounds=rounds,
        profile=args.profile,
        **numbers,
    )
    device, tool = result.device, os.path.basename(args.benchmark_model)
    statistic = "averages" if result.averages else "medians"
    line = (
        f"{device['manufacturer']} {device['model']} ({device['chip']}), Android {device['android']}, "
        f"{tool}; "
        f"medians of {rounds} interleaved rounds of the tool's {statistic}, times in ms"
    )
    head = {
        "machine": device,
        "benchmark_model": {
            "file": tool,
            "sha256": result.tool_sha256,
            "statistic": statistic,
            "rounds": rounds,
        },
    }
    return head, line, result.timings, result.profiles


def _parser() -> argparse.ArgumentParser:
    description = "Times .tflite files, on this machine or on an Android phone, interleaved."
    parser = _Parser(prog=_program(), description=description, allow_abbrev=False)
    parser.add_argument(
        "--model",
        action="append",
        required=True,
        metavar="FILE.tflite",
        help="a file to time; repeat it to compare, the first is the reference",
    )
    parser.add_argument("--threads", type=_counts, default=(1,), metavar="N[,N...]", help="default: 1")
    parser.add_argument("--runs", type=int, default=50, metavar="N", help="timed runs, default: 50")
    parser.add_argument("--warmup", type=int, default=5, metavar="N", help="untimed runs, default: 5")
    parser.add_argument("--profile", action="store_true", help="also the time of every operator")
    parser.add_argument("--json", metavar="OUT", help="also write the results to this file")
    parser.add_argument("--adb", action="store_true", help="on a connected Android device")
    parser.add_argument(
        "--benchmark_model", metavar="FILE", help="with --adb: LiteRT's program benchmark_model for Android"
    )
    parser.add_argument("--adb_serial", metavar="SERIAL", help="with --adb: which of several devices")
    parser.add_argument("--rounds", type=int, metavar="N", help="with --adb: starts per model, default: 5")
    return parser


def _program() -> str:
    """How the command was called. On a device this folder is alone and cannot ask `mmx_tf.command_line`."""
    if sys.argv[0].endswith("mmx_tf benchmark"):
        return sys.argv[0]
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    module = spec.name.removesuffix(".__main__") if spec else ""
    return f"python -m {module}" if module.rpartition(".")[2] == "benchmark" else "mmx_tf benchmark"


class _Parser(argparse.ArgumentParser):
    """argparse with errors of one line."""

    def error(self, message: str) -> None:
        self.exit(2, f"{self.prog}: {message}\n")


def _counts(text: str) -> tuple[int, ...]:
    if not all(part.isascii() and part.isdigit() and int(part) > 0 for part in text.split(",")):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of positive integers such as 1,2,4")
    return tuple(int(part) for part in text.split(","))
