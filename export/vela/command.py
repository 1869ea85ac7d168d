"""The command `python -m export.vela`; see the package.

Exit code 2: Vela is not installed, a setting that it does not have, a file that is no .tflite or a damaged
one or that it does not compile, or an output that cannot be written. Every file is read before one is
compiled, and nothing is written before all are.
"""

import dataclasses
import json
import os
import pathlib
import sys
from collections.abc import Sequence
from importlib import metadata

from mmx_tf import command_line
from mmx_tf.export.atomic import write_atomically
from mmx_tf.export.reading import tflite_file
from mmx_tf.export.vela import text
from mmx_tf.export.vela.compiling import compile_parsed
from mmx_tf.export.vela.configurations import ACCELERATORS, check_accelerator, resolve

JSON_SCHEMA = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        check_accelerator(options.accelerator)
        outputs = _outputs(options)
        configuration = resolve(options.accelerator, options.system_config, options.memory_mode)
        files = {name: tflite_file.read(name) for name in options.files}
        compiled = {}
        for name, file in files.items():
            try:
                compiled[name] = compile_parsed(file, configuration)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
        estimates = {name: made.estimate for name, made in compiled.items()}
        for name, path in outputs.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, compiled[name].data)
        if options.json:
            write_atomically(options.json, json.dumps(document(estimates), indent=1) + "\n")
    except OSError as error:
        print(f"{error.filename or options.out}: {(error.strerror or str(error)).lower()}.", file=sys.stderr)
        return 2
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    first = next(iter(estimates.values()))
    print(", ".join([*dataclasses.astuple(configuration), f"{first.clock_hz / 1e6:,.0f} MHz"]))
    print(text.table(estimates))
    if left := text.cpu_table(estimates):
        print(left)
    if options.profile:
        for name, estimate in estimates.items():
            print(f"\n{name}\n{text.profile(estimate)}")
    print(text.NOTE.format(version=metadata.version("ethos-u-vela")))
    for path in outputs.values():
        print(f"{path}: compiled for {configuration.accelerator}")
    return 0


def document(estimates: dict) -> dict:
    """What --json writes: the estimates by file, in their order, with ratios to the first one."""
    first = next(iter(estimates.values()))
    results = [
        {"file": name, **dataclasses.asdict(estimate), "ratios": text.ratios(estimate, first)}
        for name, estimate in estimates.items()
    ]
    return {"schema": JSON_SCHEMA, "vela": metadata.version("ethos-u-vela"), "results": results}


def _outputs(options) -> dict[str, pathlib.Path]:
    """Where each compiled file goes; refuses what would be overwritten, before anything is compiled."""
    if len(set(options.files)) != len(options.files):
        raise ValueError("A file is named twice; name each once.")
    if options.json and not pathlib.Path(options.json).resolve().parent.is_dir():
        raise ValueError(f"--json={options.json}: its folder does not exist; create it first.")
    if options.json and os.path.isdir(options.json):
        raise ValueError(f"--json={options.json} is a folder; give a file.")
    if options.json and any(
        os.path.exists(f) and os.path.exists(options.json) and os.path.samefile(f, options.json)
        for f in options.files
    ):
        raise ValueError(f"--json={options.json} is one of the networks; give another file.")
    if options.out is None:
        return {}
    if not options.out or os.path.isfile(options.out):
        raise ValueError(f"--out={options.out} is no folder; give one for the compiled files.")
    paths = {
        name: pathlib.Path(options.out) / f"{pathlib.Path(name).stem}_vela.tflite" for name in options.files
    }
    if len(set(paths.values())) != len(paths):
        raise ValueError(
            f"--out={options.out}: two files have one name; compile them into folders of their own."
        )
    for path in paths.values():
        if path.exists():
            raise ValueError(f"{path} is already there; give another --out=.")
    return paths


def _parser():
    parser = command_line.parser(
        "vela", "Estimate what .tflite files take on an Arm Ethos-U NPU, with Arm's compiler Vela."
    )
    parser.add_argument("files", nargs="+", metavar="FILE.tflite", help="the first is the reference")
    parser.add_argument("--accelerator", required=True, metavar="NAME", help=", ".join(ACCELERATORS))
    parser.add_argument(
        "--system_config", metavar="NAME", help="clock and bandwidths, default: Vela's for the accelerator"
    )
    parser.add_argument(
        "--memory_mode", metavar="NAME", help="what lies where, default: Vela's for the accelerator"
    )
    parser.add_argument("--profile", action="store_true", help="also the cycles of every operator")
    parser.add_argument("--json", metavar="OUT", help="also write the estimates to this file")
    parser.add_argument("--out", metavar="DIR", help="also write the compiled files, NAME_vela.tflite")
    return parser
