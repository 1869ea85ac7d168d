"""What the command lines of the benchmarks have in common.

>>> parser = argument_parser("benchmarks.training_steps", __doc__, rounds=10)
>>> add_choice(parser, "--networks", NETWORKS)
>>> options = parser.parse_args()
>>> command("benchmarks.training_steps", options)      # as it will stand in the results
"""

import argparse
import math
import pathlib
import sys
from collections.abc import Callable, Iterable, Sequence

from benchmarks import measuring
from mmx_tf.export import provenance


def argument_parser(module: str, doc: str, *, rounds: int | None = None) -> argparse.ArgumentParser:
    """A parser with --json and, where `rounds` is their default, --rounds.

    Args:
      module: what `python -m` is given.
      doc: the module's docstring, whose first line describes the command.
      rounds: default of --rounds, or None for a command without rounds.
    """
    provenance.commit()  # asked for now: the results name the code that this process has begun with
    parser = argparse.ArgumentParser(prog=module, description=doc.splitlines()[0])
    if rounds is not None:
        parser.add_argument("--rounds", type=positive, default=rounds, help="default: %(default)s")
    parser.add_argument("--json", type=pathlib.Path, metavar="OUT", help="where results are written")
    return parser


def positive(text: str) -> int:
    """The argparse type of an integer of 1 or more."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no integer of 1 or more.")
    return value


def integers(text: str) -> list[int]:
    """The argparse type of a comma-separated list of integers, at least one."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no list of integers, separated by commas, such as 4,3."
        ) from error


def numbers(text: str) -> list[float]:
    """The argparse type of a comma-separated list of numbers above 0, at least one."""
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = [math.nan]
    if not all(0 < number < math.inf for number in found):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no list of numbers above 0, separated by commas, such as 4,3.5."
        )
    return found


def one_or_more_of(known: Iterable[str]) -> Callable[[str], list[str]]:
    """The argparse type of a comma-separated list, at least one, of `known` names."""
    known = list(known)

    def names(text: str) -> list[str]:
        given = [part for part in text.split(",") if part]
        unknown = [name for name in given if name not in known]
        if unknown or not given:
            what = f"{unknown} is unknown" if unknown else "nothing is named"
            raise argparse.ArgumentTypeError(f"{what}; known are {', '.join(known)}.")
        return given

    return names


def add_choice(parser: argparse.ArgumentParser, option: str, known: Iterable[str]) -> None:
    """Adds an option that takes some of the `known` names; all of them by default."""
    known = list(known)
    parser.add_argument(
        option, type=one_or_more_of(known), default=known, metavar="A,B", help=f"default: {','.join(known)}"
    )


def add_trained_network(parser: argparse.ArgumentParser) -> None:
    """Adds --float_model, which is needed, and --dataset and --data_dir, on which it was trained."""
    parser.add_argument("--float_model", required=True, type=pathlib.Path, help="a trained .keras file")
    parser.add_argument("--dataset", default="cifar10", help="default: %(default)s")
    parser.add_argument("--data_dir", default="")


def add_runs(parser: argparse.ArgumentParser, *, title: str) -> None:
    """Adds --workdir, the folder of several runs' workdirs, and --png and --title of a plot of them."""
    # Absolute, since the runs begin in another folder.
    parser.add_argument(
        "--workdir",
        required=True,
        type=lambda text: pathlib.Path(text).resolve(),
        help="folder of the runs' workdirs",
    )
    parser.add_argument("--title", default=title, help="of the plot; default: %(default)s")
    parser.add_argument("--png", type=pathlib.Path, metavar="OUT", help="where the plot is written")


def divided(argv: list[str] | None) -> tuple[list[str], list[str]]:
    """The words in front of `--` and those behind it, of the process's command line where argv is None."""
    words = list(sys.argv[1:] if argv is None else argv)
    cut = words.index("--") if "--" in words else len(words)
    return words[:cut], words[cut + 1 :]


def add_batch_size(parser: argparse.ArgumentParser, *, default: int = 128) -> None:
    """Adds --batch_size, the images of a training step."""
    parser.add_argument("--batch_size", type=positive, default=default, help="default: %(default)s")


def command_of_runs(
    module: str, options: argparse.Namespace, names: Sequence[str], own: list[str], **shown: str
) -> str:
    """The command line of a benchmark that begins runs in a --workdir, with paths of this machine left out.

    Args:
      module: what `python -m` is given.
      options: parsed.
      names: the options that are shown.
      own: the flags of the runs, which stand behind `--`.
      **shown: further options, with what replaces their paths.
    """
    values = {name: getattr(options, name) for name in names}
    words = ["--", *without_paths(own)] if own else []
    return " ".join([command(module, argparse.Namespace(**values), workdir="W", **shown), *words])


def command(module: str, options: argparse.Namespace, **shown: str) -> str:
    """The command line of parsed options, without --json; values in `shown` replace paths of this machine."""
    values = {name: value for name, value in vars(options).items() if name != "json"} | shown
    words = [
        f"--{name}={','.join(map(str, value)) if isinstance(value, list) else value}"
        for name, value in values.items()
    ]
    return " ".join([f"python -m {module}", *words])


def write_results(
    module: str,
    options: argparse.Namespace,
    *,
    unit: str,
    results: dict,
    earlier: dict | None = None,
    **shown: str,
) -> None:
    """Writes results with their command (see `command`) where --json says so; without --json nothing.

    `earlier` is the stamp of the file that they continue, if they do.
    """
    if options.json:
        document = measuring.document(command(module, options, **shown), unit=unit, results=results)
        measuring.write_json(options.json, document, earlier=earlier)


def without_paths(flags: list[str]) -> list[str]:
    """Flags of a run as its command shows them: of files their names alone, of --data_dir nothing."""
    words, before = [], ""
    for flag in flags:
        # Without a dash it is the value of the flag in front of it.
        name, _, value = flag.partition("=") if flag.startswith("-") else ("", "", flag)
        kept = "DIR" if value and (name or before) == "--data_dir" else pathlib.PurePath(value).name
        words.append("=".join(filter(None, (name, kept))))
        before = name
    return words
