"""The command `python -m export.c_source`; see the package for what it writes.

Exit code 2: the file is no .tflite or a damaged one, or has what is not written in C, the name is no C
identifier or that of a header, the folder is not empty or cannot be written, or the images of --check are
not the file's. 3: the activations take more than --max_ram. Nothing is written then.
"""

import os
import pathlib
import re
import sys
from collections.abc import Sequence

import numpy as np

from mmx_tf import command_line
from mmx_tf.export.atomic import write_atomically
from mmx_tf.export.c_source.check import check_program
from mmx_tf.export.c_source.errors import BudgetError
from mmx_tf.export.c_source.memory_plan import table
from mmx_tf.export.c_source.prefix import check_prefix
from mmx_tf.export.c_source.writer import WIDTHS, c_source
from mmx_tf.export.reading import tflite_file

_UNITS = {"": 1, "K": 10**3, "M": 10**6}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        check_prefix(options.name, said="--name=")
        max_ram = None if options.max_ram is None else _bytes(options.max_ram)
        if not options.out:
            raise ValueError("--out= names no folder; give one that is empty or not there.")
        folder = pathlib.Path(options.out)
        if folder.is_file():
            raise ValueError(f"--out={options.out} is a file; give a folder that is empty or not there.")
        if folder.is_dir() and any(folder.iterdir()):
            raise ValueError(f"--out={options.out} is a folder that is not empty; give a new one.")
        data = tflite_file.read(options.file).data
        made = c_source(
            data,
            name=options.name,
            activations=options.activations,
            weights=options.weights,
            max_ram=max_ram,
            source=os.path.basename(options.file),
        )
        files = dict(made.files)
        if options.check is not None:
            files[f"{options.name}_check.c"] = check_program(made, _images(options.check, made))
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            write_atomically(folder / name, text)
    except OSError as error:
        print(f"{error.filename or options.out}: {(error.strerror or str(error)).lower()}.", file=sys.stderr)
        return 2
    except BudgetError as error:
        print(f"{options.file}: {error}", file=sys.stderr)
        return 3
    except ValueError as error:
        message = str(error)
        known = message.startswith(("--", str(options.file), str(options.check)))
        print(message if known else f"{options.file}: {message}", file=sys.stderr)
        return 2
    print(table(made.plan))
    print(
        f"{folder / options.name}.c, .h: {made.ram_bytes:,} bytes of RAM for activations, "
        f"{made.flash_bytes:,} of constants"
    )
    return 0


def _parser():
    parser = command_line.parser("c_source", "Write a .tflite as C for a microcontroller.")
    parser.add_argument("file", metavar="FILE.tflite")
    parser.add_argument("--out", required=True, metavar="DIR", help="a folder that is empty or not there")
    parser.add_argument("--name", default="net", help="prefix of files and names, default: net")
    for what in ("activations", "weights"):
        parser.add_argument(
            f"--{what}", choices=WIDTHS, default="packed", help="2, 4 or 8 bits, or 8 always, default: packed"
        )
    parser.add_argument(
        "--max_ram", metavar="BYTES", help="what activations may take, such as 65536, or 64K for 64,000"
    )
    parser.add_argument(
        "--check", metavar="IMAGES.npy", help="write a test program too, with these images [N, H, W, C]"
    )
    return parser


def _bytes(text):
    match = re.fullmatch(r"([0-9]+)([KM]?)", text)
    if not match or not int(match[1]):
        raise ValueError(
            f"--max_ram={text} is not a number of bytes above 0; write it like 65536, or 64K for 64,000."
        )
    return int(match[1]) * _UNITS[match[2]]


def _images(path, made):
    if not path:
        raise ValueError("--check= names no file of images.")
    try:
        images = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"--check={path} is not a NumPy file with one array of numbers.") from error
    if not isinstance(images, np.ndarray) or not images.ndim or not len(images):
        raise ValueError(f"--check={path} holds no images.")
    if len(made.program.inputs) != 1:
        raise ValueError(f"--check={path}: the file has {len(made.program.inputs)} inputs; one is needed.")
    ((_, tensor),) = made.program.inputs
    return {tensor.name: images}
