"""What searched weight bits are worth on a device beside the same bits everywhere, at no less flash.

    python -m benchmarks.device_budget --float_model=FILE.keras --data_dir=DIR --workdir=W --json=OUT

For each seed two runs of mmx_tf.train with --device: one searches weight bits within --target_flash, the
other one has --uniform_bits everywhere; activations, schedule and everything else are the same. Both are
judged by the device's own tool. A command that is given again goes on with what is left (each run is a
workdir in W); results are written after each seed. A seed whose uniform network takes less flash than the
searched one compares nothing, and it is told so.
"""

import json
import pathlib
import subprocess
import sys

from benchmarks import command_line, measuring

MODULE = "benchmarks.device_budget"
WAYS = ("searched", "uniform")


def flags_of(options, way: str, seed: int) -> list[str]:
    """The flags of a run; `way` is one of `WAYS`."""
    activations = options.activation_bits
    common = [
        f"--float_model={options.float_model}", f"--dataset={options.dataset}",
        f"--data_dir={options.data_dir}", f"--device={options.device}", f"--candidate_bits={activations}",
        f"--batch_size={options.batch_size}", f"--steps_per_epoch={options.steps}",
        f"--select_epochs={options.select_epochs}", f"--train_epochs={options.train_epochs}",
        f"--eval_images={options.eval_images}", "--parity_images=8", "--sensitivity_images=0",
        f"--seed={seed}", f"--workdir={options.workdir / f'{way}_{seed}'}",
    ]  # fmt: skip
    if way == "searched":
        weights = ",".join(map(str, options.weight_bits))
        return [*common, f"--weight_bits={weights}", f"--target_flash={options.target_flash}"]
    uniform = [
        "--selection=uniform",
        f"--uniform_bits={activations}",
        f"--weight_bits={options.uniform_bits}",
    ]
    return [*common, *uniform]


def result_of(workdir: pathlib.Path) -> dict:
    """What of a finished run is compared."""
    metrics, selection = (
        json.loads((workdir / name).read_text()) for name in ("metrics.json", "bit_selection.json")
    )
    layers = [layer for layer in selection["layers"] if layer["searched"]]
    bits = [layer["weight_bits"] for layer in layers]
    return {
        "tflite_top1": metrics["tflite_top1"],
        "device": metrics["device"],
        "before_weight_training": metrics.get("cost"),
        "layers_by_weight_bits": {width: bits.count(width) for width in sorted(set(bits), reverse=True)},
        "search": metrics.get("search"),
        "seconds": metrics["seconds"],
    }


def compared(searched: dict, uniform: dict) -> dict:
    """What two runs of a seed say, each by `result_of`.

    Returns:
      `flash_bytes` and `top1` of both, `gain` (top-1 searched less uniform), `met` (whether the searched file
      meets its budget by the tool's figure) and `fair` (whether the uniform one takes as much flash).
    """
    runs = {"searched": searched, "uniform": uniform}
    flash = {way: one["device"]["figures"]["device_flash_bytes"] for way, one in runs.items()}
    top1 = {way: one["tflite_top1"] for way, one in runs.items()}
    return {
        "flash_bytes": flash,
        "top1": top1,
        "gain": top1["searched"] - top1["uniform"],
        "met": searched["device"]["budgets"]["target_flash"]["met"],
        "fair": flash["uniform"] >= flash["searched"],
    }


def parsed(argv: list[str] | None):
    """The options of a command line."""
    parser = command_line.argument_parser(MODULE, __doc__)
    command_line.add_trained_network(parser)
    parser.add_argument("--workdir", type=pathlib.Path, required=True, help="a folder for all runs")
    parser.add_argument("--device", default="ethos-u55-128", help="default: %(default)s")
    parser.add_argument("--target_flash", default="300K", help="default: %(default)s")
    parser.add_argument("--weight_bits", type=command_line.integers, default=[8, 4, 2], help="default: 8,4,2")
    for name, default in (
        ("uniform_bits", 3), ("activation_bits", 8), ("batch_size", 64), ("steps", 100),
        ("select_epochs", 2), ("train_epochs", 4), ("eval_images", 10_000),
    ):  # fmt: skip
        parser.add_argument(
            f"--{name}", type=command_line.positive, default=default, help=f"default: {default}"
        )
    parser.add_argument("--seeds", type=command_line.integers, default=[0, 1], help="default: 0,1")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Runs what is left and writes the results; returns the exit code."""
    options = parsed(argv)
    runs, comparisons = {}, {}
    for seed in options.seeds:
        for way in WAYS:
            words = [sys.executable, "-m", "mmx_tf.train", *flags_of(options, way, seed)]
            done = subprocess.run(words, check=False)
            if done.returncode:
                return done.returncode
            runs[f"{way}_{seed}"] = result_of(options.workdir / f"{way}_{seed}")
        comparisons[seed] = found = compared(*(runs[f"{way}_{seed}"] for way in WAYS))
        print(f"seed {seed}: {json.dumps(found)}", flush=True)
        if not found["fair"]:
            print(f"seed {seed}: uniform bits take less flash, so that this compares nothing.", flush=True)
        if options.json:
            measuring.write_json(options.json, _document(options, runs, comparisons))
    return 0


def _document(options, runs: dict, comparisons: dict) -> dict:
    kept = {"workdir", "json", "data_dir"}
    settings = {name: value for name, value in vars(options).items() if name not in kept}
    settings["float_model"] = options.float_model.name
    command = command_line.command(
        MODULE, options, workdir="W", data_dir="DIR", float_model=options.float_model.name
    )
    return measuring.document(command, settings=settings, comparisons=comparisons, results=runs)


if __name__ == "__main__":
    sys.exit(main())
