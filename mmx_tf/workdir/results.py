"""The results of a finished run: which are missing, and which are not what the run wrote.

A run that ends records the SHA-256 of each of them in checkpoints/state.json. Nothing here changes a file.
"""

import json
import pathlib
from collections.abc import Iterable, Mapping

from mmx_tf.errors import RecipeError
from mmx_tf.workdir.fingerprints import sha256_of

SELECTION, NETWORK, FILE = "bit_selection.json", "fixed_model.keras", "model.tflite"
PARITY, REPORT, METRICS = "parity.json", "report.html", "metrics.json"
SOURCES = (SELECTION, NETWORK)
"""What all others are made from."""
RESULTS = (*SOURCES, FILE, PARITY, REPORT, METRICS)
_MADE_FROM = {
    SELECTION: f"made again from {NETWORK}",
    NETWORK: "made again from the last checkpoint of weight training",
    FILE: f"made again from {NETWORK}",
    PARITY: f"made again from {NETWORK} and {FILE}",
    REPORT: "written again",
    METRICS: "measured again, and the file exported again",
}


def finished_folders(root: pathlib.Path) -> list[pathlib.Path]:
    """The finished workdirs that a folder is: itself, or those of a run's targets; else []."""
    own = [root] if (root / METRICS).exists() else []
    return own or sorted(path.parent for path in root.glob(f"target_*/{METRICS}"))


def is_judged(root: pathlib.Path, baselines: Iterable[str] = ()) -> bool:
    """Whether a workdir has the figures of its file, and those of the named baselines."""
    found = _document(root / METRICS)
    return bool(found) and set(baselines) <= set(found.get("baselines", {}))


def has_sources(root: pathlib.Path) -> bool:
    """Whether a workdir has the results that all others are made from."""
    return not {*SOURCES} & {*missing(root)}


def trained_float(root: pathlib.Path) -> pathlib.Path:
    """The file of the float network that a workdir's run has trained.

    Raises:
      RecipeError: if there is none.
    """
    path = root / "checkpoints" / "float.keras"
    if not path.exists():
        raise RecipeError(
            f"--workdir={root} has no trained float network: {path.name} is not in its "
            "checkpoints. Give one with --float_model=FILE.keras, or let a run of `python -m mmx_tf.train` "
            "train it."
        )
    return path


def missing(root: pathlib.Path) -> list[str]:
    """The results that a workdir does not have."""
    return [name for name in RESULTS if not (root / name).exists()]


def digests(root: pathlib.Path, names: Iterable[str] = RESULTS) -> dict[str, str]:
    """Name -> SHA-256 of the results that are there."""
    return {name: sha256_of(root / name) for name in names if (root / name).exists()}


def known(root: pathlib.Path, state: Mapping) -> dict[str, str]:
    """Name -> SHA-256 of the results as the run wrote them, as far as anything in the workdir says so.

    Args:
      root: a workdir.
      state: what its checkpoints/state.json holds.
    """
    found = dict(state.get("results", {}))
    for name, key in ((METRICS, "file_sha256"), (PARITY, "sha256")):
        value = _document(root / name).get(key)
        if isinstance(value, str):
            found.setdefault(FILE, value)
    return found


def check(root: pathlib.Path, state: Mapping, names: Iterable[str] = RESULTS) -> None:
    """Refuses a finished workdir with a result that is not what the run wrote.

    Where the metrics are gone, only what everything is made from counts: the rest is made anew.

    Raises:
      RecipeError: names each, and what to do.
    """
    expected = known(root, state)
    if not (root / METRICS).exists():
        names = [name for name in names if name in SOURCES]
    changed = [
        name
        for name, found in digests(root, names).items()
        if found != expected.get(name, found)
    ]  # fmt: skip
    if changed:
        found = "; ".join(f"{root / name} ({(root / name).stat().st_size:,} bytes)" for name in changed)
        ways = ", ".join(f"{name} is then {_MADE_FROM[name]}" for name in changed)
        raise RecipeError(
            f"not what the finished run wrote, but damaged or edited: {found}. Put back what it wrote, or "
            f"remove it and run `python -m mmx_tf.train --flagfile={root / 'run.flags'}`: {ways}."
        )


def _document(path: pathlib.Path) -> dict:
    """A JSON object; {} where none can be read."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
