"""The argument parsers of the commands, which go by the name that they were called by.

>>> parser("parity", "Compare every operator of a workdir's model.tflite.").description
"Compare every operator of a workdir's model.tflite."
"""

import argparse
import re
import sys

_BY_US = re.compile(r"(python -m )?mmx_tf \w+")


def parser(name: str, description: str, *, kind=argparse.ArgumentParser) -> argparse.ArgumentParser:
    """An argument parser whose usage line says how the command was called.

    Args:
      name: of the subcommand, for whoever calls its function from Python.
      description: what --help says.
      kind: class of the parser.
    """
    return kind(prog=program(name), description=description, allow_abbrev=False)


def program(name: str) -> str:
    """How the command was called: 'mmx_tf parity', 'python -m mmx_tf parity', 'python -m export.parity'."""
    if _BY_US.fullmatch(sys.argv[0]):  # `mmx_tf.__main__` has put it there
        return sys.argv[0]
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    module = spec.name.removesuffix(".__main__") if spec else ""
    return f"python -m {module}" if module.partition(".")[0] in ("mmx_tf", "export") else f"mmx_tf {name}"
