"""Pages of the documentation that are made from the code, and pictures of measured results.

`reference/flags.md` is made from the fields of the recipe, `reference/commands.md` from the commands' --help.
So both always show the flags and commands of today.
"""

import contextlib
import dataclasses
import importlib
import inspect
import io
import pathlib
import re
import shutil
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
PICTURES = {"quick_bits.png": "results/quick/bits.png", "cifar10_bits.png": "results/cifar10_mbv2/bits.png"}
DESCRIBED = {"figures": "mmx_tf.figures.make"}
"""Command -> the module whose docstring describes it, where that is not the command's own."""


def write(pages: pathlib.Path) -> None:
    """Writes the made pages and the pictures into the folder of pages; git ignores both."""
    for name, text in {"flags": flags_page(), "commands": commands_page()}.items():
        _write_changed(pages / "reference" / f"{name}.md", text)
    (pages / "images").mkdir(exist_ok=True)
    for name, source in PICTURES.items():
        shutil.copyfile(ROOT / source, pages / "images" / name)


def _write_changed(path: pathlib.Path, text: str) -> None:
    """Leaves a page alone that says the same, since Sphinx reads pages again whose time has changed."""
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def flags_page() -> str:
    """Every flag of `mmx_tf train`: default, allowed values, help, and a line as it is written."""
    from mmx_tf.recipe.fields import RecipeFields
    from mmx_tf.recipe.recipe import Recipe

    own = RecipeFields.__annotations__
    lines = [
        "# Flags",
        "",
        "All flags of `mmx_tf train` (`python -m mmx_tf.train`). `--name=value` sets a flag; `--name` and "
        "`--noname` switch one on and off. A later flag overrides an earlier one, and a flagfile before it.",
    ]
    for field in sorted(dataclasses.fields(Recipe), key=lambda field: field.name not in own):
        if field.metadata["group"]:
            lines += ["", f"## {field.metadata['group'].capitalize()}"]
        allowed = field.metadata["allowed"]
        lines += [
            "",
            f"({field.name})=",
            f"### `--{field.name}`",
            "",
            re.sub(r"--\w+(=[\w:/]+)?", r"`\g<0>`", field.metadata["help"]),
            "",
            f"Default: {_shown(field.default)}. " + (f"Allowed: {allowed.words}. " if allowed else ""),
        ]
    return "\n".join(lines) + "\n"


def _shown(value) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        value = ",".join(map(str, value))
    return f"`{value}`" if value != "" else "empty"


def commands_page() -> str:
    """What each subcommand of `mmx_tf` says of itself when it is asked for help."""
    from mmx_tf.__main__ import COMMANDS

    lines = [
        "# Commands",
        "",
        "Each is a subcommand of `mmx_tf`, and a Python module that runs by itself.",
        "",
        "| command | what it does |",
        "|---|---|",
        *(f"| [`mmx_tf {name}`](#{name}) | {does} |" for name, (_, _, does) in COMMANDS.items()),
    ]
    for name, (module, function, _) in COMMANDS.items():
        shown = module.removesuffix(".__main__").removesuffix(".command")
        lines += ["", f"({name})=", f"## mmx_tf {name}", "", f"Also `python -m {shown}`."]
        lines += ["", "```text", _said(name, module, function).strip(), "```"]
        if function == "command":
            lines += ["", "It takes the [flags](flags.md) of a run."]
    return "\n".join(lines) + "\n"


def _said(name: str, module: str, function: str) -> str:
    """The command's --help; of those that take the flags of a run, the docstring."""
    found = importlib.import_module(DESCRIBED.get(name, module))
    if function == "command":
        return inspect.getdoc(found) or ""
    said, argv = io.StringIO(), sys.argv
    sys.argv = [f"mmx_tf {name}", "--help"]
    try:
        with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
            getattr(found, function)(["--help"])
    finally:
        sys.argv = argv
    return said.getvalue()
