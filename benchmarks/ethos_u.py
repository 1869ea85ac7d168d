"""What fewer weight bits save on an Arm Ethos-U NPU beside the plain int8 file, by Vela's estimates.

    python -m benchmarks.ethos_u --make=files --float_model=FILE.keras --dataset=cifar10 --data_dir=DIR
    python -m benchmarks.ethos_u --files=files --json=results/devices/ethos_u.json

The first command trains and writes the files (`benchmarks.ethos_u_files`), the second one compiles them with
Vela (extra ethos-u) for each of --accelerators: an NPU reads its weights compressed, and few different codes
compress well.
"""

import argparse
import dataclasses
import json
import pathlib
import sys
from importlib import metadata

from benchmarks import command_line, ethos_u_files, measuring
from mmx_tf.export import vela
from mmx_tf.export.vela import text

MODULE = "benchmarks.ethos_u"
ACCELERATORS = ("ethos-u55-128", "ethos-u65-256")


def of_files(paths: dict[str, pathlib.Path], accelerator: str) -> dict:
    """Estimates of several files on one accelerator, the first one the reference.

    Args:
      paths: .tflite files by the names that they have in the result.
      accelerator: one of `vela.ACCELERATORS`.

    Returns:
      `configuration`, and `files`: for each its estimate (`vela.Estimate`), its `ratios` to the first file
      and `cycles_by_operator`, {Vela's name of the operator: cycles}, instead of every operator.
    """
    found = {name: vela.estimate(path.read_bytes(), accelerator=accelerator) for name, path in paths.items()}
    first = next(iter(found.values()))
    print(f"\n{', '.join(dataclasses.astuple(first.configuration))}\n{text.table(found)}", flush=True)
    files = {}
    for name, estimate in found.items():
        row = dataclasses.asdict(estimate)
        kinds: dict[str, int] = {}
        for operator in row.pop("operator_cycles"):
            kinds[operator["kind"]] = kinds.get(operator["kind"], 0) + operator["cycles"]
        del row["configuration"]
        files[name] = row | {"cycles_by_operator": kinds, "ratios": text.ratios(estimate, first)}
    return {"configuration": dataclasses.asdict(first.configuration), "files": files}


def measured(folder: pathlib.Path, accelerators: list[str]) -> dict:
    """The results of all files of `benchmarks.ethos_u_files` in a folder, on each accelerator."""
    ours = sorted(folder.glob("w*.tflite"), key=lambda path: -int(path.stem[1:]))
    paths = {path.stem: path for path in (folder / f"{ethos_u_files.REFERENCE}.tflite", *ours)}
    results = {"accelerators": {name: of_files(paths, name) for name in accelerators}}
    results["top1"] = {path.stem: json.loads(path.with_suffix(".json").read_text()) for path in ours}
    results["made_with"] = json.loads((folder / "made_with.json").read_text())
    return results


def add_accelerators(parser: argparse.ArgumentParser) -> None:
    """Adds --accelerators, some of those that Vela knows; by default `ACCELERATORS`."""
    parser.add_argument(
        "--accelerators",
        type=command_line.one_or_more_of(vela.ACCELERATORS),
        default=list(ACCELERATORS),
        metavar="A,B",
        help=f"default: {','.join(ACCELERATORS)}",
    )


def main(argv: list[str] | None = None) -> int:
    """Makes or measures the files; returns the exit code."""
    parser = command_line.argument_parser(MODULE, __doc__)
    parser.add_argument("--make", type=pathlib.Path, metavar="DIR", help="write the files here")
    parser.add_argument("--files", type=pathlib.Path, metavar="DIR", help="measure those that are here")
    parser.add_argument("--float_model", type=pathlib.Path, help="with --make: a trained .keras file")
    parser.add_argument("--dataset", default="cifar10", help="default: %(default)s")
    parser.add_argument("--data_dir", default="")
    parser.add_argument(
        "--weight_bits", type=command_line.integers, default=[8, 4, 3, 2], help="default: 8,4,3,2"
    )
    parser.add_argument(
        "--activation_bits", type=command_line.positive, default=4, help="default: %(default)s"
    )
    parser.add_argument("--steps", type=command_line.positive, default=200, help="default: %(default)s")
    parser.add_argument("--learning_rate", type=float, default=0.01, help="default: %(default)s")
    parser.add_argument(
        "--eval_images", type=command_line.positive, default=2000, help="default: %(default)s"
    )
    add_accelerators(parser)
    options = parser.parse_args(argv)
    if (options.make is None) == (options.files is None) or (options.make and not options.float_model):
        parser.error("give --make=DIR with --float_model=FILE.keras, or --files=DIR.")
    if options.make:
        _make(options)
        return 0
    results = measured(options.files, options.accelerators)
    if options.json:
        command = f"python -m {MODULE} --files=files --accelerators={','.join(options.accelerators)}"
        document = measuring.document(command, vela=metadata.version("ethos-u-vela"), results=results)
        measuring.write_json(options.json, document)
    return 0


def _make(options) -> None:
    import mmx_tf

    float_model = mmx_tf.load_model(options.float_model)
    data = mmx_tf.data.load(options.dataset, data_dir=options.data_dir, image_size=float_model.input_shape[1])
    settings = {
        name: getattr(options, name)
        for name in ("weight_bits", "activation_bits", "steps", "learning_rate", "eval_images")
    }
    ethos_u_files.make(options.make, float_model, data, **settings)
    said = {"float_model": options.float_model.name, "dataset": options.dataset, **settings}
    (options.make / "made_with.json").write_text(json.dumps(said) + "\n")


if __name__ == "__main__":
    sys.exit(main())
