"""Whether mixed bits can win in whole schedules: MetaMix beside seven others on MobileNet-v1 0.25, CIFAR-10.

    python -m benchmarks.whole_schedules --workdir=W --json=results/cifar10/whole_schedules.json \\
        --png=results/cifar10/whole_schedules.png -- --data_dir=DIR

The network has its published strides, which reduce 32 pixels to one. 4-bit weights, activation candidates
{8,4,3,2}, budgets of 3 and 4 bits on average by operations, which one bit-width everywhere spends exactly.
5,000 training images are held out; all that is chosen on the way (the best epoch of weight training) is
chosen on them, and the test images are for the end. For each seed:

  float_seed0: the float network of all arms, 60 epochs; the run is stopped when it has one.
  metamix: one epoch of bit-meta steps, one of bit-meta and bit-search steps, then stopped; its meta-state and
    selection are those of the arms below. It goes on to weight training when the gate is written.
  gate: `benchmarks.sensitivity` on that meta-state: how much mixed bits can gain at all, whatever it says.
  additive, random (2 draws), meta_single: other bits from the same meta-state: the additive selection of the
    gate, drawn ones, one bit-width everywhere.
  single: one bit-width from the float network, trained for as many epochs.
  joint, trained_weights: as in `benchmarks.selection_methods`, from the float network.

Every arm has 40 epochs of weight training. Seeds at the first of the budgets come first. Each arm is a run of
`python -m mmx_tf.train` in a folder of --workdir. The same command goes on after any kill; folders of runs
with other flags or another float network are refused, finished or not. Results are written after every run:
per arm the differences of MetaMix's top-1 to its own, seed by seed, with their mean and its standard error;
the two random draws of a seed count as one. Flags behind `--` go to all runs, after those of `BASE`.
"""

import argparse
import json
import pathlib
import sys
from dataclasses import dataclass

from benchmarks import command_line, measuring, selection_methods
from benchmarks.runs import Told, changed_file, refusal, refused, run_as_program
from benchmarks.selection_summary import figure, summarized, table
from benchmarks.shared_start import begin_from, other_start, sha256_of
from mmx_tf.export.atomic import write_atomically
from mmx_tf.recipe.recipe import Recipe

MODULE = "benchmarks.whole_schedules"
BASE = (
    "--model=mobilenet_v1", "--network_variant=published", "--width=0.25", "--image_size=32",
    "--dataset=cifar10", "--batch_size=128", "--validation_images=5000",
    "--candidate_bits=8,4,3,2", "--weight_bits=4", "--float_epochs=60", "--select_epochs=2",
    "--train_epochs=40", "--learning_rate=0.02", "--alpha_learning_rate=0.02",
    "--weight_decay=1e-4", "--weight_decay_kind=l2", "--parity_images=32",
)  # fmt: skip
ARMS = ("metamix", "meta_single", "joint", "additive", "random", "single", "trained_weights")
"""In the order in which a seed's are run: what the question hangs on comes first."""
FROM_META_STATE = ("additive", "meta_single", "random")
DRAWS = 2
"""Random selections of a seed that are trained."""
JUDGED_DRAWS = 10
"""Those that the gate judges, the trained ones among them."""


@dataclass(frozen=True)
class Run(selection_methods.Run):
    """An arm at one budget with one seed; `draw` tells the random ones of a seed apart."""

    draw: int = 0

    @property
    def folder(self) -> str:
        """Name of its workdir."""
        return super().folder + (f"_draw{self.draw}" if self.method == "random" else "")

    @property
    def start(self) -> "Run":
        """The run whose meta-state arms of this budget and seed share."""
        return Run("metamix", self.average_bits, self.seed)

    @property
    def gate(self) -> str:
        """Name of the gate's results, without suffix, and of the folder of its selections."""
        return f"gate_{self.average_bits:g}_seed{self.seed}"

    @property
    def draw_seed(self) -> int:
        """The seed of its random bits."""
        return JUDGED_DRAWS * self.seed + self.draw

    def given(self, workdir: pathlib.Path) -> pathlib.Path | None:
        """The file of the gate that has its bits; None where it has none."""
        names = {"additive": "additive.json", "random": f"random_{self.draw_seed}.json"}
        return workdir / self.gate / names[self.method] if self.method in names else None

    def flags_in(self, workdir: pathlib.Path) -> list[str]:
        """Its flags, which follow those of all runs, with the files of a --workdir."""
        bits, selection = f"{self.average_bits:g}", self.given(workdir)
        own = [f"--seed={self.seed}", f"--target_average_bits={bits}", f"--bit_selection={selection}"]
        return [*(own if selection else self.flags()), f"--float_model={float_network(self.seed, workdir)}"]


def float_network(seed: int, workdir: pathlib.Path) -> pathlib.Path:
    """The file of a seed's float network."""
    return workdir / f"float_seed{seed}" / "checkpoints" / "float.keras"


def take_float_network(folder: pathlib.Path | None, seed: int, workdir: pathlib.Path) -> bool:
    """Copies a seed's float network to where its runs look for it: whether the folder has it."""
    given = folder and folder / f"float_seed{seed}.keras"
    if not (given and given.exists()):
        return False
    network = float_network(seed, workdir)
    network.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(network, given.read_bytes())
    return True


def float_flags(seed: int, flags: list[str]) -> list[str]:
    """The flags of the run that trains a seed's float network, whose bits do not matter.

    Raises:
      RecipeError: for flags that do not exist.
    """
    bits = max(Recipe.from_flagfile("\n".join(flags)).candidate_bits)
    uniform = ["--selection=uniform", f"--uniform_bits={bits}", f"--target_average_bits={bits}"]
    return [*flags, f"--seed={seed}", *uniform]


def planned(arms: list[str], average_bits: list[float], seeds: list[int]) -> list[Run]:
    """All arms, budget by budget and seed by seed; MetaMix, whose meta-state others need, is the first."""
    return [
        Run(arm, bits, seed, draw)
        for bits in dict.fromkeys(average_bits)
        for seed in dict.fromkeys(seeds)
        for arm in ARMS
        if arm in arms and (bits == int(bits) or "single" not in arm)
        for draw in range(DRAWS if arm == "random" else 1)
    ]


def refusals(runs: list[Run], workdir: pathlib.Path, flags: list[str]) -> list[str]:
    """Why folders of a workdir cannot be gone on with, in sentences."""
    found = []
    for seed in dict.fromkeys(run.seed for run in runs):
        found.append(refusal(workdir / f"float_seed{seed}", float_flags(seed, flags)))
    for run in dict.fromkeys([*(run.start for run in runs), *runs]):
        folder, network = workdir / run.folder, float_network(run.seed, workdir)
        files = {"float_model": network, "bit_selection": run.given(workdir)}
        found.append(refusal(folder, [*flags, *run.flags_in(workdir)]))
        if run.method in FROM_META_STATE:
            found.append(other_start(workdir / run.start.folder, folder))
        for flag, path in files.items():
            if path and path.exists():
                found.append(changed_file(folder, flag, sha256_of(path)))
    return list(filter(None, found))


class Experiment:
    """What is done of an experiment, and the commands that do the rest.

    Args:
      options: of `parsed`.
      flags: of all runs.
    """

    def __init__(self, options: argparse.Namespace, flags: list[str]):
        self.workdir, self.flags, self.float_networks = options.workdir, flags, options.float_networks
        self._told = Told(options.workdir)

    def prepare(self, run: Run) -> bool:
        """Makes what a run starts from, where it is missing: whether all of it is there."""
        network = float_network(run.seed, self.workdir)
        flags = float_flags(run.seed, self.flags)
        if not (network.exists() or take_float_network(self.float_networks, run.seed, self.workdir)):
            if not self._told.train(f"float_seed{run.seed}", flags, until=network):
                return False
        selected = self.workdir / run.start.folder / "sensitivity.json"
        if not selected.exists() and not self._train_arm(run.start, until=selected):
            return False
        return self._gate(run)

    def finish(self, run: Run) -> bool:
        """Runs an arm, or what is left of it: whether it is finished."""
        if self.row_of(run) is not None:
            return True
        if run.method in FROM_META_STATE:
            source, folder = self.workdir / run.start.folder, self.workdir / run.folder
            if not begin_from(source, folder, lambda state: self._train_arm(run, until=state)):
                return False
        return self._train_arm(run)

    def row_of(self, run: Run) -> dict | None:
        """What a finished arm found; None for one that is not finished."""
        row = selection_methods.row_of(run, self.workdir / run.folder)
        return row and row | {"draw": run.draw}

    def _gate(self, run: Run) -> bool:
        path = self.workdir / f"{run.gate}.json"
        if path.exists():
            return True
        seeds = ",".join(str(JUDGED_DRAWS * run.seed + i) for i in range(JUDGED_DRAWS))
        words = [
            sys.executable, "-m", "benchmarks.sensitivity", f"--workdir={self.workdir / run.start.folder}",
            f"--images={self._gate_images()}", f"--draw_seeds={seeds}",
            f"--selections={self.workdir / run.gate}", f"--json={path}", f"--png={path.with_suffix('.png')}",
        ]  # fmt: skip
        return self._told.run(run.gate, words)

    def _gate_images(self) -> int:
        """4,096, in 32 batches; as few as there are steps in an epoch where those are fewer."""
        recipe = Recipe.from_flagfile("\n".join(self.flags))
        steps = recipe.steps_per_epoch or 4096
        return min(4096, recipe.batch_size * max(2, steps))

    def _train_arm(self, run: Run, *, until: pathlib.Path | None = None) -> bool:
        return self._told.train(run.folder, [*self.flags, *run.flags_in(self.workdir)], until=until)


def document_of(rows: list[dict], gates: list[dict], command: str, unfinished: list[str]) -> dict:
    """What is written: the differences of the arms, their runs, and the gates."""
    return measuring.document(
        command, unfinished=unfinished, summary=summarized(rows), runs=rows, gates=gates
    )


def write(
    experiment: Experiment,
    runs: list[Run],
    options: argparse.Namespace,
    own: list[str],
    earlier: dict | None,
) -> list[dict]:
    """Writes what the finished arms found, and the gates; returns the rows of the arms.

    `earlier` is the stamp of the file that they continue, if they do.
    """
    found = {run.folder: experiment.row_of(run) for run in runs}
    rows = [row for row in found.values() if row is not None]
    gates = []
    for run in dict.fromkeys(run.start for run in runs):
        path = options.workdir / f"{run.gate}.json"
        if path.exists():
            gate = json.loads(path.read_text())
            kept = {name: gate[name] for name in gate if name not in ("provenance", "command", "versions")}
            gates.append({"target_average_bits": run.average_bits, "seed": run.seed, **kept})
    unfinished = [name for name, row in found.items() if row is None]
    if options.json and (rows or gates):
        document = document_of(rows, gates, _command(options, own), unfinished)
        measuring.write_json(options.json, document, earlier=earlier)
    if options.png and rows:
        measuring.write_png(options.png, figure(rows, options.title))
    return rows


def _command(options: argparse.Namespace, own: list[str]) -> str:
    """The command line, with paths of this machine left out."""
    return command_line.command_of_runs(MODULE, options, ("arms", "average_bits", "seeds"), own)


def parsed(argv: list[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """The options, checked, and the flags behind `--`."""
    words, own = command_line.divided(argv)
    parser = command_line.argument_parser(MODULE, __doc__)
    command_line.add_runs(parser, title="MobileNet-v1 0.25 on CIFAR-10")
    command_line.add_choice(parser, "--arms", ARMS)
    parser.add_argument("--average_bits", type=command_line.numbers, default=[3.0, 4.0], help="default: 3,4")
    parser.add_argument("--seeds", type=command_line.integers, default=[0, 1, 2], help="default: 0,1,2")
    parser.add_argument(
        "--float_networks",
        type=pathlib.Path,
        metavar="DIR",
        help="folder of float_seed0.keras, ..., trained before with the same flags; others are trained",
    )
    options = parser.parse_args(words)
    if min(options.seeds) < 0:
        parser.error(f"--seeds={','.join(map(str, options.seeds))}: numbers of 0 or more.")
    return options, own


def main(argv: list[str] | None = None) -> int:
    """Runs what is not finished and prints the table; 1 if a run failed, 2 for folders of other runs."""
    options, own = parsed(argv)
    flags, runs = [*BASE, *own], planned(options.arms, options.average_bits, options.seeds)
    if refused(lambda: refusals(runs, options.workdir, flags)):
        return 2
    options.workdir.mkdir(parents=True, exist_ok=True)
    experiment, rows, earlier = Experiment(options, flags), [], measuring.stamp_of(options.json)
    for run in runs:
        if experiment.prepare(run):
            write(experiment, runs, options, own, earlier)  # the gate, before hours of training
            experiment.finish(run)
        rows = write(experiment, runs, options, own, earlier)
    print(table(summarized(rows)))
    return int(len(rows) < len(runs))


if __name__ == "__main__":
    run_as_program(main)
