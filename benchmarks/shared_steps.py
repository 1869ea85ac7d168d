"""What one step size for layers that read one tensor at equal bits saves, and what it does to accuracy.

    python -m benchmarks.shared_steps --float_model=FILE.keras --data_dir=DIR --workdir=W --json=OUT

For each seed two runs of mmx_tf.train at one bit-width everywhere, alike but for --share_step_sizes, with
plain int8 beside them. Of the first seed's three files Vela estimates cycles (extra ethos-u), and LiteRT
measures times at one and two threads, interleaved. A command that is given again goes on with what is left.
"""

import dataclasses
import json
import pathlib
import subprocess
import sys

from benchmarks import command_line, ethos_u, measuring
from mmx_tf.export.benchmark import benchmark
from mmx_tf.export.reading.summary import summary

MODULE = "benchmarks.shared_steps"
WAYS = {"own": [], "shared": ["--share_step_sizes"]}
"""Name of a run -> its own flags."""


def flags_of(options, way: str, seed: int) -> list[str]:
    """The flags of a run; `way` is one of `WAYS`."""
    bits = options.bits
    return [
        f"--float_model={options.float_model}", f"--dataset={options.dataset}",
        f"--data_dir={options.data_dir}", "--selection=uniform", f"--uniform_bits={bits}",
        f"--candidate_bits={bits}", f"--weight_bits={options.weight_bits}", "--batch_size=128",
        f"--steps_per_epoch={options.steps}", "--select_epochs=2", f"--train_epochs={options.train_epochs}",
        "--parity_images=32", "--sensitivity_images=0", "--baselines=int8", f"--seed={seed}",
        f"--workdir={options.workdir / f'{way}_{seed}'}", *WAYS[way],
    ]  # fmt: skip


def result_of(workdir: pathlib.Path) -> dict:
    """What of a finished run is compared."""
    metrics = json.loads((workdir / "metrics.json").read_text())
    names = ("float_top1", "fixed_top1", "tflite_top1", "code_disagreement", "seconds")
    operators = summary((workdir / "model.tflite").read_bytes()).operators
    return {name: metrics[name] for name in names} | {"operators": {one.kind: one.count for one in operators}}


def of_files(paths: dict[str, pathlib.Path], options) -> dict:
    """Vela's estimates and this machine's times of three files, the first one the reference."""
    names = {str(path): name for name, path in paths.items()}
    timings = benchmark(list(paths.values()), threads=(1, 2), runs=options.timed_runs)
    times = [dataclasses.asdict(timing) | {"model": names[timing.model]} for timing in timings]
    return {
        "accelerators": {name: ethos_u.of_files(paths, name) for name in options.accelerators},
        "times": times,
    }


def parsed(argv: list[str] | None):
    """The options of a command line."""
    parser = command_line.argument_parser(MODULE, __doc__)
    command_line.add_trained_network(parser)
    parser.add_argument("--workdir", type=pathlib.Path, required=True, help="a folder for all runs")
    for name, default in (
        ("bits", 4), ("weight_bits", 4), ("steps", 150), ("train_epochs", 3), ("timed_runs", 200),
    ):  # fmt: skip
        kind = command_line.positive
        parser.add_argument(f"--{name}", type=kind, default=default, help=f"default: {default}")
    parser.add_argument("--seeds", type=command_line.integers, default=[0, 1], help="default: 0,1")
    ethos_u.add_accelerators(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Runs what is left and writes the results; returns the exit code."""
    options, runs = parsed(argv), {}
    for seed in options.seeds:
        for way in WAYS:
            words = [sys.executable, "-m", "mmx_tf.train", *flags_of(options, way, seed)]
            done = subprocess.run(words, check=False)
            if done.returncode:
                return done.returncode
            runs[f"{way}_{seed}"] = result_of(options.workdir / f"{way}_{seed}")
    first = {way: options.workdir / f"{way}_{options.seeds[0]}" for way in WAYS}
    folders = {"int8": first["own"] / "baselines" / "int8", **first}
    files = {name: folder / "model.tflite" for name, folder in folders.items()}
    found = of_files(files, options)
    if options.json:
        settings = {name: getattr(options, name) for name in ("bits", "weight_bits", "steps", "train_epochs")}
        command = command_line.command(
            MODULE, options, workdir="W", data_dir="DIR", float_model=options.float_model.name
        )
        document = measuring.document(command, settings=settings, runs=runs, **found)
        measuring.write_json(options.json, document)
    return 0


if __name__ == "__main__":
    sys.exit(main())
