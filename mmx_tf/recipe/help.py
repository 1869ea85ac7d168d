"""What `mmx_tf train --help` prints: the flags in their groups, a line each, in 80 columns.

>>> print(listed("run", [("seed", "0", "Seed of initial weights, shuffling and augmentation.")]))
run
  --seed=0                      Seed of initial weights, shuffling and ...

`--helpfull` has the whole texts.
"""

import dataclasses
import os
import sys
import textwrap
from collections.abc import Iterable, Sequence

from mmx_tf import command_line
from mmx_tf.recipe import flagfiles
from mmx_tf.recipe.recipe import Recipe

COLUMNS, TEXT_FROM = 80, 32
WORDS = ("--help", "-help", "-h", "--helpshort", "-helpshort", "-?")


def is_asked(argv: Sequence[str]) -> bool:
    """Whether a command line (its first word is the program) asks for help."""
    return any(word in WORDS for word in argv[1:])


def show(name: str, about: str, examples: Sequence[str], others: Iterable[dataclasses.Field] = ()) -> None:
    """Prints `text`, of whose lines a pager or `head` need not take all."""
    try:
        print(text(name, about, examples, others), flush=True)
    except BrokenPipeError:
        # Python would say at the end that it could not write the rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def text(name: str, about: str, examples: Sequence[str], others: Iterable[dataclasses.Field] = ()) -> str:
    """The help of a command that takes the flags of a run.

    Args:
      name: of the subcommand.
      about: what it does, a sentence.
      examples: command lines without the program's name.
      others: fields of the flags that it has beside.
    """
    program = command_line.program(name)
    recipes = f"--recipe is one of {', '.join(flagfiles.names())}."
    rules = (
        "Flags with their defaults. --name=value sets one; --name and --noname switch one on and off. A "
        "later flag overrides an earlier one, and those of a recipe, or of a file of flags "
        f"(--flagfile=FILE), before it. `{program} --helpfull` has the whole texts."
    )
    parts = [
        f"usage: {program} [--recipe=NAME] [--name=value ...]",
        *map(_wrapped, (about,)),
        "\n".join(f"  {program} {example}" for example in examples),
        *map(_wrapped, (recipes, rules)),
    ]
    if others := [(one.name, _shown(one.default), one.metadata["help"]) for one in others]:
        parts.append(listed(name, others))
    return "\n\n".join([*parts, *_groups()])


def listed(heading: str, flags: Iterable[tuple[str, str, str]]) -> str:
    """A group of flags: (name, default, help), of which the first sentence is shown as far as it fits."""
    lines = [heading]
    for name, default, said in flags:
        head = f"  --{name}={default}"
        if len(head) > TEXT_FROM - 2:
            lines.append(head)
            head = ""
        sentence = textwrap.shorten(
            said.split(". ")[0], COLUMNS - TEXT_FROM, placeholder=" ...", break_on_hyphens=False
        )
        lines.append(f"{head:<{TEXT_FROM}}{sentence}")
    return "\n".join(lines)


def _groups() -> list[str]:
    fields = {field.name: field.metadata for field in dataclasses.fields(Recipe)}
    groups: dict[str, list[tuple[str, str, str]]] = {}
    for name, default in Recipe().flag_texts.items():
        if fields[name]["group"]:
            group = groups.setdefault(fields[name]["group"], [])
        group.append((name, default, fields[name]["help"]))
    return [listed(heading, flags) for heading, flags in groups.items()]


def _wrapped(sentence: str) -> str:
    return textwrap.fill(sentence, COLUMNS, break_on_hyphens=False)


def _shown(default) -> str:
    return ",".join(default) if isinstance(default, tuple) else str(default)
