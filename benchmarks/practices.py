"""What each practice of training gains at one bit-width everywhere: MobileNet-v1 0.25, CIFAR-10.

    python -m benchmarks.practices --workdir=W --float_networks=DIR --json=OUT --png=OUT -- --data_dir=DIR

The network, its data and its rates are those of `benchmarks.whole_schedules`, with 4-bit weights. For each
number of activation bits and each seed all runs start from one state: two epochs of bit selection with one
candidate, from that seed's float network. "plain" trains weights from there, and every other run does the
same with one practice on. Runs have the same number of epochs in all: those with a stage of their own give
it epochs of weight training. Each run is judged by its fixed and by its folded network, on the test images;
the best epoch is chosen on 5,000 held-out training images.

Flags behind `--` go to all runs, after those of `BASE`. The same command goes on after any kill, and writes
its results after every run.
"""

import argparse
import json
import pathlib
import sys
from dataclasses import dataclass

from benchmarks import command_line, measuring, whole_schedules
from benchmarks.practices_summary import PLAIN, figure, summarized, table
from benchmarks.runs import Told, refusal, refused, run_as_program
from benchmarks.shared_start import begin_from, other_start
from mmx_tf.recipe.recipe import Recipe

MODULE = "benchmarks.practices"
BASE = (*whole_schedules.BASE, "--float_epochs=30", "--train_epochs=20")
PRACTICES = {
    PLAIN: (),
    "distillation": ("--teacher=float",),
    "step_rate_10": ("--step_size_learning_rate_factor=10",),
    "step_rate_100": ("--step_size_learning_rate_factor=100",),
    "adam": ("--optimizer=adam", "--learning_rate=1e-3", "--weight_decay=5e-6"),
    "two_stages": ("--activation_epochs=1",),
    "batch_norm": ("--batch_norm_images=4096",),
    "dampening": ("--oscillation_dampening=0.01",),
    "ema": ("--ema_decay=0.999",),
    "folded": ("--folded_epochs=1",),
}
"""Practice -> the flags that turn it on, beside the flags of all runs."""
REPORTED = ("fixed_top1", "folded_top1", "tflite_top1", "top1_agreement", "seconds")


@dataclass(frozen=True)
class Run:
    """A practice at a number of activation bits, with one seed."""

    practice: str
    bits: int
    seed: int

    @property
    def folder(self) -> str:
        """Name of its workdir."""
        return f"{self.practice}_{self.bits}_seed{self.seed}"

    @property
    def start(self) -> "Run":
        """The run whose state after bit selection it starts from."""
        return Run(PLAIN, self.bits, self.seed)

    def flags(self, common: list[str], workdir: pathlib.Path) -> list[str]:
        """All its flags, of which `common` are those of every run.

        Raises:
          RecipeError: for flags that do not exist or do not go together.
        """
        network = whole_schedules.float_network(self.seed, workdir)
        given = [*common, f"--seed={self.seed}", f"--float_model={network}", f"--candidate_bits={self.bits}"]
        given += ["--selection=uniform", f"--uniform_bits={self.bits}", f"--target_average_bits={self.bits}"]
        recipe = Recipe.from_flagfile("\n".join([*given, *PRACTICES[self.practice]]))
        # Those of activations alone would come on top.
        epochs = recipe.train_epochs - recipe.activation_epochs
        return [*given, *PRACTICES[self.practice], f"--train_epochs={epochs}"]


def planned(practices: list[str], bits: list[int], seeds: list[int]) -> list[Run]:
    """All runs, seed by seed and bits by bits; the plain one, whose start others need, is the first."""
    names = dict.fromkeys([PLAIN, *practices])
    return [
        Run(name, b, seed) for seed in dict.fromkeys(seeds) for b in dict.fromkeys(bits) for name in names
    ]


def refusals(runs: list[Run], workdir: pathlib.Path, flags: list[str]) -> list[str]:
    """Why folders of a workdir cannot be gone on with, in sentences."""
    found = [refusal(workdir / run.folder, run.flags(flags, workdir)) for run in runs]
    found += [
        other_start(workdir / run.start.folder, workdir / run.folder) for run in runs if run != run.start
    ]
    return list(filter(None, found))


def row_of(run: Run, workdir: pathlib.Path) -> dict | None:
    """What a finished run found; None for one that is not finished."""
    try:
        metrics = json.loads((workdir / run.folder / "metrics.json").read_text())
    except FileNotFoundError:
        return None
    own = {"practice": run.practice, "bits": run.bits, "seed": run.seed, "flags": PRACTICES[run.practice]}
    return own | {name: metrics[name] for name in ("float_top1", *REPORTED)}


class Experiment:
    """What is done of the runs, and the commands that do the rest.

    Args:
      options: of `parsed`.
      flags: of all runs.
    """

    def __init__(self, options: argparse.Namespace, flags: list[str]):
        self.workdir, self.flags, self.float_networks = options.workdir, flags, options.float_networks
        self._told = Told(options.workdir)

    def finish(self, run: Run) -> bool:
        """Runs what is left of one: whether it is finished."""
        if row_of(run, self.workdir) is not None:
            return True
        if not whole_schedules.float_network(run.seed, self.workdir).exists():
            whole_schedules.take_float_network(self.float_networks, run.seed, self.workdir)
        flags = run.flags(self.flags, self.workdir)
        if run != run.start:
            source, folder = self.workdir / run.start.folder, self.workdir / run.folder
            if not (source / "bit_selection.json").exists():  # stopped or failed before it was done
                print(f"{run.folder} is not begun: {run.start.folder} has no state yet.", file=sys.stderr)
                return False
            if not begin_from(source, folder, lambda state: self._told.train(run.folder, flags, until=state)):
                return False
        return self._told.train(run.folder, flags)


def write(runs: list[Run], options: argparse.Namespace, own: list[str], earlier: dict | None) -> list[dict]:
    """Writes what the finished runs found, and returns it; `earlier` is the stamp of what it continues."""
    found = {run.folder: row_of(run, options.workdir) for run in runs}
    rows = [row for row in found.values() if row is not None]
    if rows and options.json:
        unfinished = [name for name, row in found.items() if row is None]
        written = measuring.document(
            _command(options, own), unfinished=unfinished, summary=summarized(rows), runs=rows
        )
        measuring.write_json(options.json, written, earlier=earlier)
    if rows and options.png:
        measuring.write_png(options.png, figure(rows, options.title))
    return rows


def _command(options: argparse.Namespace, own: list[str]) -> str:
    """The command line, with paths of this machine left out."""
    names = ("practices", "bits", "seeds")
    return command_line.command_of_runs(MODULE, options, names, own, float_networks="DIR")


def parsed(argv: list[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """The options, checked, and the flags behind `--`."""
    words, own = command_line.divided(argv)
    parser = command_line.argument_parser(MODULE, __doc__)
    command_line.add_runs(parser, title="MobileNet-v1 0.25 on CIFAR-10")
    parser.add_argument(
        "--float_networks",
        required=True,
        type=pathlib.Path,
        metavar="DIR",
        help="folder of float_seed0.keras, ..., as benchmarks.whole_schedules trains them",
    )
    command_line.add_choice(parser, "--practices", PRACTICES)
    parser.add_argument("--bits", type=command_line.integers, default=[3, 4], help="default: 3,4")
    parser.add_argument("--seeds", type=command_line.integers, default=[0, 1], help="default: 0,1")
    options = parser.parse_args(words)
    for seed in options.seeds:
        if not (options.float_networks / f"float_seed{seed}.keras").exists():
            parser.error(f"--float_networks={options.float_networks} has no float_seed{seed}.keras.")
    return options, own


def main(argv: list[str] | None = None) -> int:
    """Runs what is not finished and prints the table; 1 if a run failed, 2 for folders of other runs."""
    options, own = parsed(argv)
    flags, runs = [*BASE, *own], planned(options.practices, options.bits, options.seeds)
    if refused(lambda: refusals(runs, options.workdir, flags)):
        return 2
    options.workdir.mkdir(parents=True, exist_ok=True)
    experiment, rows, earlier = Experiment(options, flags), [], measuring.stamp_of(options.json)
    for run in runs:
        experiment.finish(run)
        rows = write(runs, options, own, earlier)
    print(table(summarized(rows)))
    return int(len(rows) < len(runs))


if __name__ == "__main__":
    run_as_program(main)
