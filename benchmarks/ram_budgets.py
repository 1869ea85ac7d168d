"""Top-1 over RAM on a microcontroller: budgets of RAM beside 8 bits and 4 bits everywhere.

    python -m benchmarks.ram_budgets --workdir=W --data_dir=DIR \\
        --json=results/microcontroller/ram_budgets.json --png=results/microcontroller/ram_budgets.png

ResNet-8 on CIFAR-10, as `cifar10_resnet8.flags` has it, but on a shorter schedule, and with 8-bit weights in
all runs: weights lie in flash, so activation bits alone decide RAM. For each seed:

  int8: 8 bits everywhere. This run trains the seed's float network, and the others start from it, unless
    --float_model names one for all.
  ram_0.75, ram_0.5: a search within --target_ram, that share of the RAM that int8's program takes.
  uniform_4: 4 bits everywhere.

Each is a run of `python -m mmx_tf.train` in a folder of --workdir. Runs that are finished are not run again,
and one that was stopped goes on; the results are written after every run. Flags behind `--` go to all runs.
RAM is the arena of the C source with packed activations, which stands in a run's metrics.json.
"""

import argparse
import json
import pathlib
import sys
from dataclasses import dataclass

from benchmarks import command_line, measuring
from benchmarks.ram_summary import figure, summarized, table
from benchmarks.runs import Told, run_as_program

MODULE = "benchmarks.ram_budgets"
BASE = ("--flagfile=cifar10_resnet8.flags", "--weight_bits=8")
REPORTED = ("float_top1", "fixed_top1", "folded_top1", "tflite_top1", "bops", "average_bits", "seconds")


@dataclass(frozen=True)
class Run:
    """One point: `bits` everywhere, or a search within a `share` of int8's RAM."""

    seed: int
    bits: int = 0
    share: float = 0.0

    @property
    def arm(self) -> str:
        """What it is called in the results."""
        return f"ram_{self.share:g}" if self.share else "int8" if self.bits == 8 else f"uniform_{self.bits}"

    @property
    def folder(self) -> str:
        """Name of its workdir."""
        return f"{self.arm}_seed{self.seed}"

    @property
    def first(self) -> "Run":
        """The run that trains the float network, and whose RAM the shares are of."""
        return Run(self.seed, bits=8)

    def flags(self, workdir: pathlib.Path, float_model: pathlib.Path | None = None) -> list[str]:
        """Its flags, which follow those of all runs; those of a search need a finished first run.

        Args:
          workdir: the folder of all workdirs.
          float_model: the float network; None takes the first run's, which trains it.
        """
        words = [f"--seed={self.seed}", f"--workdir={workdir / self.folder}"]
        if float_model is None and self != self.first:
            float_model = workdir / self.first.folder / "checkpoints" / "float.keras"
        if float_model is not None:
            words.append(f"--float_model={float_model}")
        if self.bits:
            bits = self.bits
            return [
                *words,
                "--selection=uniform",
                f"--uniform_bits={bits}",
                f"--candidate_bits={bits}",
                f"--target_average_bits={bits}",
            ]
        limit = int(self.share * row_of(self.first, workdir)["ram_bytes"])
        return [*words, "--target_average_bits=0", f"--target_ram={limit}"]


def planned(shares: list[float], seeds: list[int]) -> list[Run]:
    """All runs, seed by seed; the first one of a seed is its int8."""
    return [
        run
        for seed in dict.fromkeys(seeds)
        for run in (
            Run(seed, bits=8),
            *(Run(seed, share=share) for share in dict.fromkeys(shares)),
            Run(seed, bits=4),
        )
    ]


def row_of(run: Run, workdir: pathlib.Path) -> dict | None:
    """What a finished run found; None for one that is not finished.

    Raises:
      ValueError: if its file cannot become C source, so that nobody knows its RAM.
    """
    try:
        metrics = json.loads((workdir / run.folder / "metrics.json").read_text())
        selection = json.loads((workdir / run.folder / "bit_selection.json").read_text())
    except FileNotFoundError:
        return None
    source = metrics["microcontroller"]
    if "refused" in source:
        raise ValueError(f"{run.folder} has no RAM on a microcontroller: {source['refused']}")
    packed = source["packed"]
    return {
        "arm": run.arm,
        "seed": run.seed,
        "target_ram": metrics.get("cost", {}).get("target"),
        "ram_bytes": packed["ram_bytes"],
        "flash_bytes": packed["flash_bytes"],
        **{name: metrics[name] for name in REPORTED},
        "bits": {layer["name"]: layer["activation_bits"] for layer in selection["layers"]},
    }


def write(runs: list[Run], options: argparse.Namespace, flags: list[str], earlier: dict | None) -> list[dict]:
    """Writes what the finished runs found; returns their rows."""
    found = {run.folder: row_of(run, options.workdir) for run in runs}
    rows = [row for row in found.values() if row is not None]
    if rows and options.json:
        document = measuring.document(
            _command(options, flags),
            unfinished=[name for name, row in found.items() if row is None],
            summary=summarized(rows),
            runs=rows,
        )
        measuring.write_json(options.json, document, earlier=earlier)
    if rows and options.png:
        measuring.write_png(options.png, figure(rows, options.title))
    return rows


def _command(options: argparse.Namespace, flags: list[str]) -> str:
    """The command line, with paths of this machine left out."""
    names = ("shares", "seeds", "float_epochs", "train_epochs")
    shown = {"float_model": options.float_model.name} if options.float_model else {}
    return command_line.command_of_runs(MODULE, options, names, flags, **shown, data_dir="DIR")


def parsed(argv: list[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """The options, checked, and the flags behind `--`."""
    words, own = command_line.divided(argv)
    positive = command_line.positive
    parser = command_line.argument_parser(MODULE, __doc__)
    command_line.add_runs(parser, title="ResNet-8 on CIFAR-10")
    parser.add_argument("--data_dir", type=pathlib.Path, metavar="DIR", help="folder of TFDS datasets")
    parser.add_argument("--float_model", type=pathlib.Path, metavar="FILE", help="that all runs start from")
    parser.add_argument(
        "--shares", type=command_line.numbers, default=[0.75, 0.5], metavar="A,B", help="default: 0.75,0.5"
    )
    parser.add_argument("--seeds", type=command_line.integers, default=[0, 1], help="default: 0,1")
    parser.add_argument("--float_epochs", type=positive, default=12, help="default: %(default)s")
    parser.add_argument("--train_epochs", type=positive, default=5, help="default: %(default)s")
    options = parser.parse_args(words)
    if max(options.shares) > 1:
        parser.error(f"--shares={','.join(f'{share:g}' for share in options.shares)}: none may be above 1.")
    options.float_model = options.float_model and options.float_model.resolve()
    return options, own


def main(argv: list[str] | None = None) -> int:
    """Runs what is not finished and prints the table; 1 if a run failed."""
    options, own_flags = parsed(argv)
    flags = [*BASE, f"--float_epochs={options.float_epochs}", f"--train_epochs={options.train_epochs}"]
    if options.data_dir:
        flags.append(f"--data_dir={options.data_dir.resolve()}")
    flags += own_flags
    runs, failed, told = planned(options.shares, options.seeds), [], Told(options.workdir)
    earlier = measuring.stamp_of(options.json)
    options.workdir.mkdir(parents=True, exist_ok=True)
    rows: list[dict] = []
    for run in runs:
        if row_of(run, options.workdir) is None and run.first not in failed:
            own = run.flags(options.workdir, options.float_model)
            if not told.run(run.folder, [sys.executable, "-m", "mmx_tf.train", *flags, *own]):
                failed.append(run)
        rows = write(runs, options, own_flags, earlier)
    print(table(summarized(rows)))
    return int(len(rows) < len(runs))


if __name__ == "__main__":
    run_as_program(main)
