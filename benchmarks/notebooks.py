"""Runs the notebooks and stores them with what they show.

    python -m benchmarks.notebooks                 # all of notebooks/
    python -m benchmarks.notebooks quickstart

Each runs in a folder of its own, in which nothing is but what it writes: a notebook may not depend on where
it is opened. The tests run them in the same way.
"""

import argparse
import os
import pathlib
import sys
import tempfile

import nbclient
import nbformat

from mmx_tf.export.atomic import write_atomically

ROOT = pathlib.Path(__file__).resolve().parents[1]
FOLDER = ROOT / "notebooks"
SECONDS = 600
"""What one cell may take."""


def executed(notebook: nbformat.NotebookNode, folder: pathlib.Path) -> nbformat.NotebookNode:
    """A notebook after it ran in `folder`, with its outputs.

    Raises:
      nbclient.exceptions.CellExecutionError: if a cell raises.
    """
    # `make notebook` installs mmx_tf into the environment; here the path stands for that.
    paths = filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    client = nbclient.NotebookClient(
        notebook, timeout=SECONDS, resources={"metadata": {"path": str(folder)}}, record_timing=False
    )
    client.execute(env=environment)
    return notebook


def stored(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A notebook that ran as it is stored: without the kernel's version and what libraries tell on stderr."""
    notebook.metadata.language_info = nbformat.NotebookNode(name="python")
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    return notebook


def names() -> list[str]:
    """The notebooks, by name."""
    return sorted(path.stem for path in FOLDER.glob("*.ipynb"))


def read(name: str) -> nbformat.NotebookNode:
    """A notebook as it is stored."""
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def main(argv: list[str] | None = None) -> int:
    """Runs and stores what is named; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.notebooks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all of {', '.join(names())}")
    for name in parser.parse_args(argv).names or names():
        if name not in names():
            parser.error(f"there is no notebook {name!r}; there are {', '.join(names())}.")
        with tempfile.TemporaryDirectory() as folder:
            notebook = stored(executed(read(name), pathlib.Path(folder)))
        nbformat.validate(notebook)
        write_atomically(FOLDER / f"{name}.ipynb", nbformat.writes(notebook) + "\n")
        print(FOLDER / f"{name}.ipynb")
    return 0


if __name__ == "__main__":
    sys.exit(main())
