"""The command `mmx_tf`, also `python -m mmx_tf`: each subcommand is a module that can be run by itself too.

mmx_tf train --recipe=quick
mmx_tf inspect model.tflite
mmx_tf figures --help
"""

import difflib
import importlib
import os
import sys

from mmx_tf import __version__

COMMANDS = {
    "train": ("mmx_tf.train", "command", "from a float network to an integer .tflite"),
    "reexport": ("mmx_tf.reexport", "main", "another .tflite of a finished run, without training"),
    "figures": ("mmx_tf.figures.__main__", "command", "the paper's figures for one's own network"),
    "check": ("mmx_tf.check", "main", "whether a network can be searched and exported, without data"),
    "run": ("mmx_tf.export.run", "main", "what a .tflite says of images: its top classes, or its outputs"),
    "verify": (
        "mmx_tf.export.verify",
        "main",
        "compare the file of a finished workdir with its folded network",
    ),
    "parity": ("mmx_tf.export.parity", "main", "the same, operator by operator, on three sets of kernels"),
    "inspect": ("mmx_tf.export.inspect", "main", "what a .tflite holds and costs, layer by layer"),
    "benchmark": (
        "mmx_tf.export.benchmark",
        "main",
        "how long .tflite files take, here or on an Android phone",
    ),
    "c_source": (
        "mmx_tf.export.c_source.command",
        "main",
        "a .tflite as C for a microcontroller, with packed activations",
    ),
    "vela": (
        "mmx_tf.export.vela.command",
        "main",
        "what .tflite files take on an Arm Ethos-U NPU, as Arm's compiler estimates it",
    ),
    "qonnx": ("mmx_tf.export.qonnx.command", "main", "a .tflite as QONNX, for FPGA flows"),
    "c_array": ("mmx_tf.export.c_array", "main", "a .tflite as C source, for TensorFlow Lite Micro"),
}
"""Subcommand -> module, function, what it does. "command" is given the program's name too, and "main" not."""


def main(argv: list[str] | None = None) -> int:
    """Runs a subcommand; returns its exit code, 2 for one that there is not."""
    name, *words = (sys.argv[1:] if argv is None else argv) or [""]
    if name in ("-h", "--help", "help"):
        print(_usage())
        return 0
    if name == "--version":
        print(f"mmx_tf {__version__}")
        return 0
    if name not in COMMANDS:
        print(f"{_unknown(name)}{_usage()}", file=sys.stderr)
        return 2
    module, function, _ = COMMANDS[name]
    run = getattr(importlib.import_module(module), function)
    # Programs name themselves and their command by it.
    program = "python -m mmx_tf" if os.path.basename(sys.argv[0]) == "__main__.py" else "mmx_tf"
    sys.argv = [f"{program} {name}", *words]
    return run(sys.argv if function == "command" else words) or 0


def _unknown(name: str) -> str:
    """A line about a subcommand that there is not; '' where none is given."""
    if not name:
        return ""
    close = difflib.get_close_matches(name, COMMANDS, n=1)
    advice = f" Did you mean {close[0]}?" if close else ""
    return f"mmx_tf: there is no subcommand {name!r}.{advice}\n"


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"    {name:<{width}}  {does}" for name, (*_, does) in COMMANDS.items()]
    head = "usage: mmx_tf SUBCOMMAND ..., with --help for its own flags\n       mmx_tf --version\n"
    return "\n".join([head, *lines])


if __name__ == "__main__":
    sys.exit(main())
