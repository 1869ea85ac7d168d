"""The recipes that come with mmx_tf, by name: `--recipe=mbv2` is `--flagfile=` with the path of mbv2.flags.

>>> named(["train", "--recipe=quick", "--seed=1"])
['train', '--flagfile=/.../quick.flags', '--seed=1']
"""

import pathlib
from collections.abc import Sequence

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
