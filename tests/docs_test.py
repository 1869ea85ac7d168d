"""The documentation: it builds without a warning, and its commands and flags exist."""

import contextlib
import functools
import importlib.util
import io
import pathlib
import re
import shlex
import subprocess
import sys

import pytest
from absl import flags

from mmx_tf.__main__ import COMMANDS
from mmx_tf.recipe import flagfiles
from mmx_tf.recipe.recipe import Recipe, define_flags

ROOT = pathlib.Path(__file__).resolve().parents[1]
MADE = ("flags.md", "commands.md")
PAGES = [
    path for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))) if path.name not in MADE
]


def _blocks(path):
    """The fenced blocks of a page without a language: command lines."""
    for language, body in re.findall(r"^```(\S*)\n(.*?)^```", path.read_text(), re.M | re.S):
        if not language:
            yield body.replace("\\\n", " ")


def _commands():
    """(page, words) of each command of ours in README and documentation."""
    for path in PAGES:
        for body in _blocks(path):
            for line in body.splitlines():
                words = shlex.split(line.partition("$ ")[2] or line, comments=True)
                start = next((i for i, word in enumerate(words) if "=" not in word), 0)
                if words[start : start + 2] and words[start] in ("python", "mmx_tf", "make"):
                    yield pytest.param(words[start:], id=f"{path.name}: {line.strip()[:60]}")


@pytest.mark.parametrize("words", list(_commands()))
def test_a_command_exists_and_has_the_flags_that_it_is_given(words):
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.M)
        return
    if words[0] == "python":
        assert words[1] == "-m"
        name, given = words[2], words[3:]
        assert importlib.util.find_spec(
            name.replace("export", "mmx_tf.export", 1) if name[0] == "e" else name
        )
        name = name.removeprefix("mmx_tf.").removeprefix("export.")
    else:
        name, given = words[1], words[2:]
        assert name in COMMANDS or name == "--help"
    if name == "train":
        _parsed_as_flags(given)
    elif name in COMMANDS and COMMANDS[name][1] == "main":
        known = _help(name)
        for word in given:
            if word.startswith("--"):
                assert word.partition("=")[0] in known


def _parsed_as_flags(given):
    values = flags.FlagValues()
    define_flags(values)
    words = [word for word in flagfiles.named(["train", *given]) if not word.startswith("--flagfile")]
    assert values(words)[1:] == []
    Recipe.from_flags(values)


@functools.cache
def _help(name):
    module, function, _ = COMMANDS[name]
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        getattr(importlib.import_module(module), function)(["--help"])
    return set(re.findall(r"--\w+", said.getvalue()))


USER_PAGES = [path for path in PAGES if path.parent.name != "design"]
by_page = pytest.mark.parametrize("path", USER_PAGES, ids=lambda path: path.name)
_ANY_COMMAND, _ANY_RECIPE = "|".join(COMMANDS), "|".join(flagfiles.names())
OF_A_CLONE = re.compile(
    rf"python -m export\b|\bexport\.(?:{_ANY_COMMAND})\b|--flagfile=(?:{_ANY_RECIPE})\.flags"
)
"""What runs in a clone alone. `mmx_tf inspect` and `--recipe=quick` run wherever mmx_tf is installed."""


@by_page
def test_a_page_speaks_of_commands_that_an_installation_has(path):
    text = path.read_text()
    # Modules of the installed package, such as mmx_tf.export.vela, are there.
    assert not OF_A_CLONE.findall(text.replace("mmx_tf.export", "mmx_tf_export"))
    named = re.findall(r"`mmx_tf ([a-z_]+)", text)
    assert set(named) <= set(COMMANDS), named


def test_what_a_clone_alone_has_is_found():
    for words in ("python -m export.inspect a.tflite", "`export.verify` warns", "--flagfile=quick.flags"):
        assert OF_A_CLONE.search(words)
    assert not OF_A_CLONE.search("mmx_tf inspect a.tflite --flagfile=my.flags")


@by_page
def test_what_a_clone_alone_has_is_said_to_be_there(path):
    """A benchmark to run, in a paragraph; the front page is that of the repository."""
    for paragraph in re.split(r"\n\n+", path.read_text()):
        if "python -m benchmarks." in paragraph:
            assert re.search(r"\bclone\b|\brepository\b", paragraph), paragraph


def test_every_command_of_the_documentation_is_run_by_the_test_that_is_named_for_it():
    page = (ROOT / "docs" / "design" / "tests.md").read_text()
    named = {}
    for commands, test in re.findall(r"^\| (`mmx_tf .*) \| `(\w+)` \|$", page, re.M):
        named |= {name: test for name in re.findall(r"`mmx_tf (\w+)`", commands)}
    assert named.keys() == COMMANDS.keys()
    for name, test in named.items():
        text = (ROOT / "tests" / f"{test}.py").read_text()
        module = COMMANDS[name][0].removesuffix(".__main__").removesuffix(".command")
        parent = module.rpartition(".")[0]
        uses = rf"from {parent} import .*\b{name}\b|from {module}\S* import|import .*\btrain_main\b"
        assert re.search(uses, text) and re.search(r"\bmain\b|\btrain_main\b", text), (name, test)


def test_a_flag_that_is_not_there_is_found():
    with pytest.raises(flags.UnrecognizedFlagError):
        _parsed_as_flags(["--no_such_flag=1"])


def test_the_front_page_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


@by_page
def test_flags_that_are_named_in_a_text_exist(path):
    """In backquotes, such as `--target_bops=5.3G`, outside of command lines."""
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.M | re.S)
    known = {f"--{name}" for name in Recipe.__dataclass_fields__} | {
        f"--no{name}" for name in Recipe.__dataclass_fields__
    }
    known |= {"--recipe", "--flagfile", "--help", "--helpfull"}.union(
        *(_help(n) for n, c in COMMANDS.items() if c[1] == "main")
    )
    named = set(re.findall(r"`(--\w+)", text))
    assert named <= known | OF_OTHERS, named - known


OF_OTHERS = {
    "--selections",
    "--which",
    "--compare",
    "--layers",
    "--steps",
    "--switched_layer",
    "--switch_every",
    "--hessian_samples",
}
"""Flags of `mmx_tf figures`."""


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip(
        "sphinx", reason="the documentation is not built: pip install -r requirements-dev.txt"
    )
    found = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "docs", tmp_path / "site"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    assert "augment" in (tmp_path / "site" / "reference" / "api.html").read_text()
    # No page asks another host for a font or a script.
    for page in (tmp_path / "site").rglob("*.html"):
        assert not re.search(r'<(?:script|link)[^>]+(?:src|href)="https?://', page.read_text()), page.name
