"""The command `python -m export.qonnx`; see the package for what it writes.

Exit code 2: the file is no .tflite or a damaged one, or has what has no exact form in QONNX, the output
cannot be written, a package of the extra `fpga` is missing, or the images of --check are not the file's. 1:
codes of --check differ. Nothing is written then.
"""

import os
import pathlib
import sys
from collections.abc import Sequence

import numpy as np

from mmx_tf import command_line
from mmx_tf.export.atomic import write_atomically
from mmx_tf.export.qonnx.errors import MissingPackageError
from mmx_tf.export.qonnx.exporter import FORMS
from mmx_tf.export.qonnx.model import qonnx_model
from mmx_tf.export.reading import tflite_file


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        out = _output(options.out)
        data = tflite_file.read(options.file).data
        made = qonnx_model(data, form=options.form)
        text = made.model.SerializeToString(deterministic=True)
        if options.check is not None and not _checked(options, data, made):
            return 1
        write_atomically(out, text)
    except OSError as error:
        print(f"{error.filename or options.out}: {(error.strerror or str(error)).lower()}.", file=sys.stderr)
        return 2
    except (MissingPackageError, ValueError) as error:
        message = str(error)
        own = isinstance(error, MissingPackageError)
        known = own or message.startswith(("--", str(options.file), str(options.check)))
        print(message if known else f"{options.file}: {message}", file=sys.stderr)
        return 2
    print(
        f"{out}: {len(text):,} bytes, {len(made.model.graph.node):,} nodes, {made.bops:,} BOPs on one image"
    )
    return 0


def _parser():
    parser = command_line.parser("qonnx", "Write a .tflite as QONNX, for FPGA flows.")
    parser.add_argument("file", metavar="FILE.tflite")
    parser.add_argument("--out", required=True, metavar="FILE.onnx", help="the file to write, or to replace")
    parser.add_argument(
        "--form",
        choices=FORMS,
        default="quant",
        help="how codes are rounded: by float32 multipliers and Quant nodes, or by integer thresholds "
        "(MultiThreshold), default: quant",
    )
    parser.add_argument(
        "--check",
        metavar="IMAGES.npy",
        help="compare every tensor on these images [N, H, W, C] in qonnx's executor first",
    )
    return parser


def _output(name):
    if not name:
        raise ValueError("--out= names no file; give one such as model.onnx.")
    out = pathlib.Path(name)
    if out.is_dir():
        raise ValueError(f"--out={name} is a folder; give a file such as {os.path.join(name, 'model.onnx')}.")
    if not out.parent.is_dir():
        raise ValueError(f"--out={name}: the folder {out.parent} is not there.")
    return out


def _checked(options, data, made):
    from mmx_tf.export.qonnx.running import bops_of, compared

    if not options.check:
        raise ValueError("--check= names no file of images.")
    try:
        images = np.load(options.check, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"--check={options.check} is not a NumPy file with one array of numbers.") from error
    if not isinstance(images, np.ndarray) or not images.ndim or not len(images):
        raise ValueError(f"--check={options.check} holds no images.")
    inputs = list(made.model.graph.input)
    if len(inputs) != 1:
        raise ValueError(f"--check={options.check}: the file has {len(inputs)} inputs; one is needed.")
    found = compared(data, made, {inputs[0].name: images})
    differing = sum(found.differing.values())
    print(f"{differing:,} of {found.codes:,} codes of {found.tensors} tensors differ on {len(images)} images")
    print(f"{bops_of(made.model):,} BOPs by qonnx's inference_cost, {made.bops:,} by export.inspect")
    return not differing
