"""What searched weight bits are worth on a device beside the same bits everywhere, at no less flash.

    python -m benchmarks.device_budget --float_model=FILE.keras --data_dir=DIR --workdir=W --json=OUT

For each seed two runs of mmx_tf.train with --device: one searches weight bits within --target_flash, the
other one has --uniform_bits everywhere; activations, schedule and everything else are the same. Both are
judged by the device's own tool. A command that is given again goes on with what is left (each run is a
workdir in W). It says so where the uniform network takes less flash than the budget, as the comparison then
is not the one that it is meant to be.
"""

import json
import pathlib
import subprocess
import sys

from benchmarks import command_line, measuring

MODULE = "benchmarks.device_budget"


def flags_of(options, way: str, seed: int) -> list[str]:
    """The flags of a run; `way` is "searched" or "uniform"."""
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
        "seconds": metrics["seconds"],
    }


def main(argv: list[str] | None = None) -> int:
    """Runs what is left and writes the results; returns the exit code."""
    parser = command_line.argument_parser(MODULE, __doc__)
    parser.add_argument("--float_model", type=pathlib.Path, required=True)
    parser.add_argument("--dataset", default="cifar10", help="default: %(default)s")
    parser.add_argument("--data_dir", default="")
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
    options = parser.parse_args(argv)
    found = {}
    for seed in options.seeds:
        for way in ("searched", "uniform"):
            words = [sys.executable, "-m", "mmx_tf.train", *flags_of(options, way, seed)]
            done = subprocess.run(words, check=False)
            if done.returncode:
                return done.returncode
            found[f"{way}_{seed}"] = result_of(options.workdir / f"{way}_{seed}")
        flash = {way: _flash(found[f"{way}_{seed}"]) for way in ("searched", "uniform")}
        fair = flash["uniform"] >= flash["searched"]
        print(f"seed {seed}: {flash}{'' if fair else ': uniform bits take less, so this compares nothing'}")
    for name, one in found.items():
        print(f"{name}: top-1 {one['tflite_top1']:.4f}, {_flash(one):,} bytes of flash")
    if options.json:
        kept = {"workdir", "json", "float_model", "data_dir"}
        settings = {name: value for name, value in vars(options).items() if name not in kept}
        settings["float_model"] = options.float_model.name
        command = f"python -m {MODULE} --float_model={options.float_model.name}"
        measuring.write_json(options.json, measuring.document(command, settings=settings, results=found))
    return 0


def _flash(result: dict) -> int:
    return result["device"]["figures"]["device_flash_bytes"]


if __name__ == "__main__":
    sys.exit(main())
