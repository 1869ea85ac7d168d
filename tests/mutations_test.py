"""The lines that `benchmarks.mutations` breaks are there, so that breaking them breaks something."""

import pathlib

import pytest

from benchmarks.mutations import MUTATIONS

ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_its_line_stands_once_in_its_file_and_its_tests_are_there(mutation):
    assert (ROOT / mutation.file).read_text().count(mutation.line) == 1
    assert mutation.mutated != mutation.line
    for module in mutation.tests:
        assert (ROOT / "tests" / f"{module}.py").exists(), module
