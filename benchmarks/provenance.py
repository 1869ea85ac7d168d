"""Brings a finished run's JSON files and the plot of its bits into the results, with their origin.

    python -m benchmarks.provenance --workdir=runs/quick --out=results/quick

copies metrics.json, bit_selection.json and parity.json, each with a stamp under the key `provenance` (see
`export.provenance`), and draws bits.png. Give it on the machine that the run was on. The date is that of the
run's end. The commit is the checkout's; where that is newer than the run's beginning it cannot have made it,
and --commit=NAME has to say which one did.
"""

import datetime
import json
import pathlib
import sys

from benchmarks import command_line
from mmx_tf.errors import RecipeError
from mmx_tf.export import provenance
from mmx_tf.export.atomic import write_atomically
from mmx_tf.metamix.selection import BitSelection
from mmx_tf.report.plots import save_bits_plot
from mmx_tf.workdir import lock

MODULE = "benchmarks.provenance"
COPIED = ("metrics.json", "bit_selection.json", "parity.json")
RECORDED = "when the finished run was brought in"


class OriginError(ValueError):
    """A run that cannot be brought in, or whose commit is not known; the message says what to do."""


def documents_of(workdir: pathlib.Path) -> dict[str, dict]:
    """The contents of a finished run's files, by name.

    Raises:
      OriginError: if the run is not finished, still goes on, or a file is missing or damaged.
    """
    targets = sorted(path.parent.name for path in workdir.glob("target_*/metrics.json"))
    if not (workdir / "metrics.json").exists():
        if targets:
            raise OriginError(f"{workdir} has several targets: give one of {', '.join(targets)} in it.")
        raise OriginError(
            f"{workdir} is no finished workdir: it has no metrics.json, which a run writes last. Give the "
            "run's command again: it goes on where it stopped."
        )
    try:
        lock.check_free(workdir)
    except RecipeError as error:
        raise OriginError(str(error)) from error
    documents = {}
    for name in COPIED:
        try:
            documents[name] = json.loads((workdir / name).read_text())
            if not isinstance(documents[name], dict):
                raise ValueError("it holds no object")
        except (OSError, ValueError) as error:
            raise OriginError(
                f"{workdir / name} cannot be read: {error}. Remove metrics.json and give the run's command "
                "again."
            ) from error
    try:
        BitSelection.from_json(documents["bit_selection.json"])
    except ValueError as error:
        raise OriginError(f"{workdir / 'bit_selection.json'} is no bit selection: {error}") from error
    return documents


def stamp_of(workdir: pathlib.Path, commit: str = "", *, root: pathlib.Path = provenance.ROOT) -> dict:
    """The stamp of a finished run.

    Args:
      workdir: its folder.
      commit: any name that git knows of the commit that made the run; empty takes the checkout's.
      root: the checkout.

    Raises:
      OriginError: if the commit is not known, or was made after the run had begun.
    """
    began, ended = (_modified(workdir / name) for name in ("run.flags", "metrics.json"))
    if commit:
        found = provenance.git(root, "rev-parse", "--verify", "--end-of-options", f"{commit}^{{commit}}")
        if found is None:
            raise OriginError(f"--commit={commit} is no commit of {root}. Give one that `git log` shows.")
    else:
        found = provenance.commit(root)
        if found is None:
            raise OriginError(
                f"{root} is no git checkout with a commit, or git cannot be run there, so no commit can be "
                "named. Give this command in the checkout that made the run."
            )
        of_commit = provenance.git(root, "show", "-s", "--format=%cI", found.removesuffix(provenance.CHANGES))
        made = datetime.datetime.fromisoformat(of_commit)
        if began < made:
            raise OriginError(
                f"{workdir} was begun on {provenance.iso(began)}, before commit {found[:10]} was made "
                f"({provenance.iso(made)}). Name the commit that made it with --commit=NAME, or run it again."
            )
    machine = provenance.machine()
    return {"commit": found, "date": provenance.iso(ended), "machine": machine, "recorded": RECORDED}


def bring_in(workdir: pathlib.Path, out: pathlib.Path, stamp: dict) -> list[pathlib.Path]:
    """Writes a finished run's files with the stamp, and its plot, into `out`; returns the paths.

    Raises:
      OriginError: as `documents_of`, and if `out` is the workdir itself; nothing is written then.
    """
    documents = documents_of(workdir)
    if out.resolve() == workdir.resolve():
        raise OriginError(f"--out={out} is the workdir itself, whose files stay as the run wrote them.")
    out.mkdir(parents=True, exist_ok=True)
    for name, document in documents.items():
        write_atomically(out / name, json.dumps({"provenance": stamp} | document, indent=1) + "\n")
    save_bits_plot(out / "bits.png", documents["bit_selection.json"], documents["metrics.json"])
    return [out / name for name in (*COPIED, "bits.png")]


def main(argv: list[str] | None = None) -> int:
    """Copies and tells what is written; returns the exit code, 2 for a run that cannot be brought in."""
    parser = command_line.argument_parser(MODULE, __doc__)
    parser.add_argument("--workdir", required=True, type=pathlib.Path, help="a finished workdir")
    parser.add_argument("--out", required=True, type=pathlib.Path, help="folder, such as results/quick")
    parser.add_argument(
        "--commit", default="", metavar="NAME", help="the one that made the run; default: the checkout's"
    )
    options = parser.parse_args(argv)
    try:
        documents_of(options.workdir)
        paths = bring_in(options.workdir, options.out, stamp_of(options.workdir, options.commit))
    except OriginError as error:
        parser.error(str(error))
    print("\n".join(map(str, paths)))
    return 0


def _modified(path: pathlib.Path) -> datetime.datetime:
    try:
        return datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.UTC)
    except OSError as error:
        raise OriginError(f"{path} cannot be read: {error}. A run writes it: give its workdir.") from error


if __name__ == "__main__":
    sys.exit(main())
