"""The recipes that come with mmx_tf, by name: `--recipe=mbv2` is `--flagfile=` with the path of mbv2.flags.

>>> named(["train", "--recipe=quick", "--seed=1"])
['train', '--flagfile=/.../quick.flags', '--seed=1']
"""

import difflib
import pathlib
from collections.abc import Sequence

from absl import flags

from mmx_tf.errors import RecipeError

FLAG = "--recipe"
_MMX_TF = pathlib.Path(__file__).resolve().parents[1]
FOLDER = _MMX_TF / "flagfiles" if (_MMX_TF / "flagfiles").is_dir() else _MMX_TF.parent
"""Of an installed mmx_tf, or of a checkout."""


def names() -> list[str]:
    """What --recipe may be."""
    return sorted(path.stem for path in FOLDER.glob("*.flags"))


def named(argv: Sequence[str]) -> list[str]:
    """A command line in which recipes are flagfiles.

    Raises:
      RecipeError: for a name that there is not.
    """
    words = list(argv)
    for place, word in enumerate(words):
        name, _, value = word.removeprefix("-").partition("=")
        if f"-{name}" != FLAG and name != FLAG:
            continue
        if "=" not in word:
            value = words.pop(place + 1) if place + 1 < len(words) else ""
        if value not in names():
            raise RecipeError(f"{FLAG}={value}: there is no such recipe; there are {', '.join(names())}.")
        return named([*words[:place], f"--flagfile={FOLDER / value}.flags", *words[place + 1 :]])
    return words


def parsed(flag_values: flags.FlagValues, argv: Sequence[str]) -> list[str]:
    """Reads a command line with its recipes and flagfiles into the flags; returns the words that are none.

    Raises:
      RecipeError: for a recipe or a flagfile that there is not.
      flags.Error: for a flag that there is not, with the flagfile that holds it, or for its value.
    """
    words = named(argv)
    try:
        return flag_values(words)
    except flags.CantOpenFlagFileError as error:
        raise RecipeError(_not_opened(error.__context__)) from error
    except flags.UnrecognizedFlagError as error:
        path = _holding(words, error.flagname)
        if not path:
            raise
        raise flags.Error(f"{path}: {error}") from error


def _not_opened(error: OSError) -> str:
    """What is said of a flagfile that cannot be opened."""
    if not isinstance(error, FileNotFoundError):
        return f"--flagfile={error.filename} cannot be read: {error.strerror}."
    close = difflib.get_close_matches(pathlib.Path(error.filename).stem, names(), n=1)
    advice = f" Did you mean {FLAG}={close[0]}?" if close else ""
    return f"--flagfile={error.filename}: there is no such file.{advice}"


def _holding(words: Sequence[str], flag: str) -> str:
    """The flagfile of a command line in which a flag is given; '' if the command line itself gives it.

    Args:
      words: the command line, all of whose flagfiles can be read. Those in other flagfiles are not looked at.
      flag: name of the flag.
    """
    if any(_flag_of(word) == flag for word in words):
        return ""
    paths = [word.partition("=")[2] for word in words if _flag_of(word) == "flagfile" and "=" in word]
    pairs = zip(words, words[1:], strict=False)
    paths += [path for word, path in pairs if word in ("--flagfile", "-flagfile")]
    for path in paths:
        lines = pathlib.Path(path).expanduser().read_text().splitlines()
        if any(_flag_of(line.strip()) == flag for line in lines):
            return path
    return ""


def _flag_of(word: str) -> str:
    """'--name=value', '-name' -> 'name'; '' for what is no flag."""
    return word.lstrip("-").partition("=")[0] if word.startswith("-") else ""
