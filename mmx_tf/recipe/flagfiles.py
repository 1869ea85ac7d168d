"""The recipes that come with mmx_tf, by name: `--recipe=mbv2` is `--flagfile=` with the path of mbv2.flags.

>>> named(["train", "--recipe=quick", "--seed=1"])
['train', '--flagfile=/.../quick.flags', '--seed=1']
"""

import difflib
import os
import pathlib
import re
from collections.abc import Sequence
from typing import NamedTuple

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
    """Reads a command line with recipes and flagfiles into the flags; returns the words that are not flags.

    Raises:
      RecipeError: for a recipe or a flagfile that does not exist, or a line of a flagfile that is not a flag.
      flags.Error: for an unknown flag or a bad value. The message names flagfile and line.
    """
    words = named(argv)
    try:
        rest = flag_values(words)
    except flags.CantOpenFlagFileError as error:
        raise RecipeError(_not_opened(error.__context__, words)) from error
    except flags.UnrecognizedFlagError as error:
        found = [one for one in _given(words) if one.name == error.flagname]
        raise flags.Error(f"{_place(found[:1])}{error}") from error
    except flags.IllegalFlagValueError as error:
        found = [one for one in _given(words) if str(error).startswith(f"flag --{one.text.lstrip('-')}: ")]
        raise flags.Error(f"{_place(found[:1])}{error}") from error
    _GIVEN[:] = _given(words)
    found = [one for one in _GIVEN if one.path and one.text in rest[1:2]]
    if found:
        raise RecipeError(f"{_place(found)}{rest[1]!r} is not a flag; write every setting as --name=value.")
    return rest


def located(error: Exception) -> str:
    """The message of an error about the value of a flag, with the flagfile and the line that has given it.

    Others are as they are, and so are those of flags that the command line itself gives.
    """
    match = re.match(r"--(\w+)=", str(error))
    found = [one for one in _GIVEN if match and one.name.removeprefix("no") == match[1].removeprefix("no")]
    return f"{_place(found[-1:])}{error}"


class _Word(NamedTuple):
    """A word of a command line, or a line of a flagfile (`path`, and its `number` from 1 on)."""

    text: str
    path: str = ""
    number: int = 0

    @property
    def name(self) -> str:
        return _flag_of(self.text)


_GIVEN: list[_Word] = []
"""What this process's command line gives, in its order; the last word for a flag counts."""


def _place(found: Sequence[_Word]) -> str:
    """'my.flags, line 3: ' for a line of a flagfile; '' for a word of the command line, or none."""
    return f"{found[0].path}, line {found[0].number}: " if found and found[0].path else ""


def _given(words: Sequence[str]) -> list[_Word]:
    """The words of a command line, in which the lines of flagfiles stand in the place of these."""
    found, rest = [], list(words)
    while rest:
        word = rest.pop(0)
        found.append(_Word(word))
        if word in ("--flagfile", "-flagfile") and rest:
            found += _lines(rest.pop(0), ())
        elif _flag_of(word) == "flagfile":
            found += _lines(word.partition("=")[2], ())
    return found


def _lines(path: str, inside: tuple[str, ...]) -> list[_Word]:
    """The flags of a flagfile, and of those that it names; [] of one that cannot be read, or names itself."""
    try:
        lines = pathlib.Path(path).expanduser().read_text().splitlines()
    except (OSError, ValueError):
        return []
    found = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or line.startswith(("#", "//")):
            continue
        found.append(_Word(text, path, number))
        if _flag_of(text) == "flagfile" and path not in inside:
            found += _lines(text.partition("=")[2], (*inside, path))
    return found


def _not_opened(error: OSError, words: Sequence[str]) -> str:
    """What is said of a flagfile that cannot be opened."""
    named_in = [
        one
        for one in _given(words)
        if one.name == "flagfile" and os.path.expanduser(one.text.partition("=")[2]) == error.filename
    ]
    place = _place(named_in)
    if not isinstance(error, FileNotFoundError):
        return f"{place}--flagfile={error.filename} cannot be read: {error.strerror}."
    close = difflib.get_close_matches(pathlib.Path(error.filename).stem, names(), n=1)
    advice = f" Did you mean {FLAG}={close[0]}?" if close else ""
    return f"{place}--flagfile={error.filename}: there is no such file.{advice}"


def _flag_of(word: str) -> str:
    """'--name=value', '-name' -> 'name'; '' for a word that is not a flag."""
    return word.lstrip("-").partition("=")[0] if word.startswith("-") else ""
