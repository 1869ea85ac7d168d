"""What chooses the bits: MetaMix beside one bit-width everywhere, random bits, and a joint search.

    python -m benchmarks.selection_methods --workdir=W --average_bits=4,3.5 --seeds=0,1 --json=OUT \\
        -- --flagfile=cifar10_mbv2.flags --data_dir=DIR --float_model=FILE.keras --steps_per_epoch=200

Everything behind `--` goes to `python -m mmx_tf.train`, the same for all runs: one float network, one
schedule. Each method, budget and seed is a run of its own in a folder of --workdir. Runs that are finished
are not run again, and those that were stopped go on; the results are written after every run.

Methods:
  metamix: the search.
  single: one candidate, so one bit-width everywhere, in bit selection too; where a budget is a candidate.
  meta_single: the same bits, after meta training with all candidates.
  random: bits drawn within the budget, after meta training with all candidates.
  joint: weights, step sizes and alpha trained together on the mix of all branches, as in DNAS and EdMIPS.
  trained_weights: the search, but its bit-search steps train weights too (the paper's Figure 7a).
"""

import argparse
import concurrent.futures
import json
import pathlib
import sys
import threading
import time
from dataclasses import dataclass

from benchmarks import command_line, measuring
from benchmarks.runs import Jobs, refusal, refused, run_as_program, train_command
from benchmarks.selection_summary import METHODS, figure, summarized, table

MODULE = "benchmarks.selection_methods"
REPORTED = ("fixed_top1", "folded_top1", "tflite_top1", "top1_agreement", "bops", "target_bops")


@dataclass(frozen=True)
class Run:
    """A method at one budget, in average bits weighted by operations, with one seed."""

    method: str
    average_bits: float
    seed: int

    @property
    def folder(self) -> str:
        """Name of its workdir."""
        return f"{self.method}_{self.average_bits:g}_seed{self.seed}"

    def flags(self) -> list[str]:
        """Its flags, which follow those of all runs."""
        bits = f"{self.average_bits:g}"
        uniform = ["--selection=uniform", f"--uniform_bits={bits}"]
        return [
            f"--seed={self.seed}",
            f"--target_average_bits={bits}",
            *{
                "metamix": [],
                "single": [*uniform, f"--candidate_bits={bits}"],
                "meta_single": uniform,
                "random": ["--selection=random"],
                "joint": ["--nometa_training"],
                "trained_weights": ["--train_weights_in_search"],
            }[self.method],
        ]


def planned(methods: list[str], average_bits: list[float], seeds: list[int]) -> list[Run]:
    """All runs, seed by seed; those of one bit-width where the budget is a whole number."""
    return [
        Run(method, bits, seed)
        for seed in dict.fromkeys(seeds)
        for bits in dict.fromkeys(average_bits)
        for method in dict.fromkeys(methods)
        if bits == int(bits) or "single" not in method
    ]


def row_of(run: Run, workdir: pathlib.Path) -> dict | None:
    """What a finished run found; None for one that is not finished."""
    try:
        metrics = json.loads((workdir / "metrics.json").read_text())
        selection = json.loads((workdir / "bit_selection.json").read_text())
    except FileNotFoundError:
        return None
    row = {"method": run.method, "target_average_bits": run.average_bits, "seed": run.seed}
    row |= {name: metrics[name] for name in REPORTED}
    row |= {"average_bits": metrics["average_bits"], "seconds": metrics["seconds"]}
    bits = {layer["name"]: layer["activation_bits"] for layer in selection["layers"]}
    return {**row, "float_top1": metrics["float_top1"], "bits": bits}


def parsed(argv: list[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """The options, checked, and the flags of all runs."""
    words, flags = command_line.divided(argv)
    parser = command_line.argument_parser(MODULE, __doc__)
    parser.add_argument("--workdir", required=True, type=pathlib.Path, help="folder of the runs' workdirs")
    methods = [method for method in METHODS if method != "additive"]
    command_line.add_choice(parser, "--methods", methods)
    parser.add_argument("--average_bits", type=command_line.numbers, default=[4.0], help="default: 4")
    parser.add_argument("--seeds", type=command_line.integers, default=[0, 1], help="default: 0,1")
    parser.add_argument("--jobs", type=command_line.positive, default=1, help="runs at a time; default: 1")
    parser.add_argument("--minutes", type=float, help="stop all runs after so long; the command continues")
    parser.add_argument("--png", type=pathlib.Path, metavar="OUT", help="where the plot is written")
    options = parser.parse_args(words)
    if not planned(options.methods, options.average_bits, options.seeds):
        parser.error(
            f"--methods={','.join(options.methods)} with --average_bits="
            f"{','.join(f'{bits:g}' for bits in options.average_bits)}: one bit-width everywhere needs a "
            "whole number of bits."
        )
    return options, flags


def main(argv: list[str] | None = None) -> int:
    """Runs what is not finished and prints the table; 1 if a run failed or was stopped, 2 for wrong flags."""
    options, flags = parsed(argv)
    runs = planned(options.methods, options.average_bits, options.seeds)
    if refused(lambda: [refusal(options.workdir / run.folder, [*flags, *run.flags()]) for run in runs]):
        return 2
    options.workdir.mkdir(parents=True, exist_ok=True)
    begin, jobs, failed = time.monotonic(), Jobs(options.jobs), []
    if options.minutes:
        timer = threading.Timer(60 * options.minutes, jobs.stop)
        timer.daemon = True
        timer.start()

    def finished(run: Run) -> None:
        folder = options.workdir / run.folder
        if row_of(run, folder) is None:
            words = train_command([*flags, *run.flags()], folder)
            code = jobs.run(words, options.workdir / f"{run.folder}.log")
            if code:
                failed.append(run)
            if code is not None:
                print(f"{time.monotonic() - begin:7.0f} s  {run.folder}: exit code {code}", flush=True)

    def write() -> list[dict]:
        rows = [row for run in runs if (row := row_of(run, options.workdir / run.folder)) is not None]
        if rows and options.json:
            settings = vars(options) | {"workdir": "W", "png": None, "json": None}
            written = measuring.document(
                _command(options, flags), settings=settings, summary=summarized(rows), runs=rows
            )
            measuring.write_json(options.json, written)
        if rows and options.png:
            options.png.parent.mkdir(parents=True, exist_ok=True)
            figure(rows, _title(flags)).savefig(options.png, dpi=120)
        return rows

    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        try:
            for future in concurrent.futures.as_completed([pool.submit(finished, run) for run in runs]):
                future.result()
                rows = write()
        except BaseException:  # Ctrl-C above all: no further run begins.
            jobs.stop()
            raise
    print(table(summarized(rows)))
    for run in failed:
        print(f"{run.folder} is not finished: see {options.workdir / run.folder}.log", file=sys.stderr)
    return int(len(rows) < len(runs))


def _command(options: argparse.Namespace, flags: list[str]) -> str:
    """The command line, with paths of this machine left out."""
    return command_line.command_of_runs(MODULE, options, ("methods", "average_bits", "seeds", "jobs"), flags)


def _title(flags: list[str]) -> str:
    for flag in flags:
        if flag.startswith("--float_model="):
            return pathlib.PurePath(flag).stem
    return ""


if __name__ == "__main__":
    run_as_program(main)
