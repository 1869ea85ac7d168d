"""The examples in docstrings are run: every line after >>>, and what it shows."""

import doctest
import importlib
import pathlib
import re

import pytest
from examples import Names, Workplace, files

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGES = {"mmx_tf": "mmx_tf", "layers": "mmx_tf.layers", "export": "mmx_tf.export"}
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
pytestmark = pytest.mark.broad


def modules() -> list[str]:
    """The modules of the product with an example, by the names that they are imported by."""
    found = []
    for folder, package in PACKAGES.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            if re.search(r"^\s*>>> ", path.read_text(), re.MULTILINE):
                parts = path.relative_to(ROOT / folder).with_suffix("").parts
                found.append(".".join([package, *(part for part in parts if part != "__init__")]))
    return found


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    made = Workplace(tmp_path_factory.mktemp("examples"))
    files(made)
    return made


@pytest.mark.parametrize("name", modules())
def test_the_examples_of_a_module_show_what_they_say(name, workplace, monkeypatch):
    monkeypatch.chdir(workplace.folder)
    module = importlib.import_module(name)
    said = []
    for example in doctest.DocTestFinder(exclude_empty=True).find(module, name):
        example.globs = Names(module, workplace)
        runner = doctest.DocTestRunner(optionflags=OPTIONS, verbose=False)  # whatever pytest was given
        runner.run(example, out=said.append, clear_globs=False)
    assert not said, "".join(said)


def test_few_examples_are_left_out():
    """An example that is not run is no example: it has to say why."""
    skipped = [
        (path.name, line)
        for folder in PACKAGES
        for path in (ROOT / folder).rglob("*.py")
        for line in path.read_text().splitlines()
        if "doctest: +SKIP" in line
    ]
    assert skipped == []


def test_a_wrong_example_is_told(workplace):
    text = "An example.\n\n>>> 1 + 1\n3\n"
    example = doctest.DocTestParser().get_doctest(text, {}, "wrong", None, 0)
    said = []
    doctest.DocTestRunner(optionflags=OPTIONS, verbose=False).run(example, out=said.append)
    assert "Expected:\n    3\nGot:\n    2" in "".join(said)
