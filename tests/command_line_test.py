"""The names by which commands go in their usage lines."""

import dataclasses
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import mmx_tf
from mmx_tf.__main__ import COMMANDS, main
from mmx_tf.figures.options import FigureOptions
from mmx_tf.recipe.recipe import Recipe

ROOT = Path(__file__).parents[1]
OF_ARGPARSE = [name for name, (_, function, _) in COMMANDS.items() if function == "main"]


@pytest.mark.parametrize("name", OF_ARGPARSE)
@pytest.mark.parametrize(
    "called, program", [("/bin/mmx_tf", "mmx_tf"), ("/mmx_tf/__main__.py", "python -m mmx_tf")]
)
def test_a_usage_line_says_how_the_command_was_called(name, called, program, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", [called])
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: {program} {name} ")


@pytest.mark.parametrize("name", OF_ARGPARSE)
def test_a_command_that_python_calls_has_the_name_of_the_subcommand(name, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/a/program.py"])
    module, function, _ = COMMANDS[name]
    with pytest.raises(SystemExit):
        getattr(importlib.import_module(module), function)(["--help"])
    assert capsys.readouterr().out.startswith(f"usage: mmx_tf {name} ")


@pytest.mark.parametrize("name, word", [("train", "--help"), ("figures", "-h")])
def test_the_flags_of_a_run_are_listed_in_their_groups(name, word):
    """A line each, with the default as a flagfile has it, in 80 columns and without TensorFlow."""
    code = (
        "import sys; from mmx_tf.__main__ import main; sys.argv[0] = 'mmx_tf'; main(sys.argv[1:]); "
        "sys.exit('tensorflow' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, name, word], cwd=ROOT, capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert done.stderr == "" and lines[0] == f"usage: mmx_tf {name} [--recipe=NAME] [--name=value ...]"
    assert max(map(len, lines)) <= 80
    shown = [line.split()[0] for line in lines if line.startswith("  --")]
    flags = Recipe().flag_texts
    wanted = [f"--{flag}={default}" for flag, default in flags.items()]
    assert shown[-len(wanted) :] == wanted
    others = [one.name for one in dataclasses.fields(FigureOptions)] if name == "figures" else []
    assert [flag.lstrip("-").split("=")[0] for flag in shown[: -len(wanted)]] == others
    headings = [field.metadata["group"] for field in dataclasses.fields(Recipe) if field.metadata["group"]]
    assert set(headings) <= set(lines)
    assert "  --seed=0                      Seed of initial weights, shuffling and ..." in lines
    assert "  --batch_size=128              Images per training step." in lines


@pytest.mark.parametrize(
    "words, code, said",
    [
        (["check", "no.keras"], 2, "no.keras: there is no file 'no.keras'."),
        (["check", "README.md", "no.keras"], 2, "README.md: 'README.md' is not a file of a network"),
        (["train", "--float_model=README.md"], 2, "--float_model=README.md cannot be loaded: 'README.md' is"),
        (["train", "--float_model=README.md", "--teacher=no.h5"], 2, "--float_model=README.md cannot"),
    ],
)
def test_what_is_no_network_is_refused_before_tensorflow_is_loaded(words, code, said):
    program = (
        "import sys; from mmx_tf.__main__ import main; sys.argv[0] = 'mmx_tf'\n"
        "try: found = main(sys.argv[1:])\n"
        "except SystemExit as end: found = end.code\n"
        "sys.exit(99 if 'tensorflow' in sys.modules else found)"
    )
    done = subprocess.run([sys.executable, "-c", program, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert said in done.stderr


def test_a_reader_that_takes_some_lines_of_the_help_ends_it_quietly():
    words = ["bash", "-c", "$0 -m mmx_tf train --help | head -n 1", sys.executable]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == "" and len(done.stdout.splitlines()) == 1


@pytest.mark.parametrize(
    "words, said",
    [
        (["-m", "export.parity", "--help"], "usage: python -m export.parity "),
        (["-m", "mmx_tf.reexport"], "usage: python -m mmx_tf.reexport "),
        (["-m", "mmx_tf", "check"], "usage: python -m mmx_tf check "),
        (["-m", "mmx_tf.train", "--no_such=1"], "`python -m mmx_tf.train --helpfull` lists"),
        (["-m", "mmx_tf", "train", "--no_such=1"], "`python -m mmx_tf train --helpfull` lists"),
    ],
)
def test_a_module_that_is_run_has_its_own_name(words, said):
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert said in done.stdout + done.stderr


def test_the_version_is_printed(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"mmx_tf {mmx_tf.__version__}\n"


@pytest.mark.parametrize(
    "words, first",
    [
        ([], "usage: mmx_tf SUBCOMMAND"),
        (["trian"], "mmx_tf: there is no subcommand 'trian'. Did you mean train?"),
        (["quantum"], "mmx_tf: there is no subcommand 'quantum'."),
    ],
)
def test_what_is_no_subcommand_gets_the_usage(words, first, capsys):
    assert main(words) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith(first) and "\n    train " in shown.err and not shown.out
    assert ("Did you mean" in shown.err) == ("Did you mean" in first)


LOGGING = """
import logging
from mmx_tf import quiet, waiting
quiet.set_up_logging()
others = logging.getLogger("tensorflow")
others.info("a line")
others.warning("5 calls triggered tf.function retracing.")
others.warning("a warning")
with waiting.busy("writing the file", first=0):
    pass
"""


@pytest.mark.parametrize("before", ["", "from absl import logging as early; early.debug('a line before')"])
def test_commands_log_in_one_form_without_others_lines(before):
    """Also those that are no program of absl's, which would give its handler to the log.

    What logs before them has Python set up a handler of its own form, INFO:absl:...
    """
    done = subprocess.run(
        [sys.executable, "-c", before + LOGGING], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stderr.splitlines() == ["tensorflow: warning: a warning", "mmx_tf: writing the file ..."]
