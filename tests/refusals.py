"""What a command that must be refused does: one paragraph, its exit code, and not a file changed."""

import re
from pathlib import Path

import pytest
from absl import flags

from mmx_tf import train
from mmx_tf.recipe.recipe import define_flags

DOING = re.compile(r"mmx_tf: [\w ]+(, .* so far| \.\.\.)\n")


def files_of(folder: Path):
    """Every path below `folder` with its content."""
    return {path: path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


def refused(capsys, tmp_path, *arguments, code=2) -> str:
    """The error of a command that must be refused: one paragraph, the exit code, nothing written."""
    before = files_of(tmp_path)
    flag_values = flags.FlagValues()
    define_flags(flag_values)
    argv = ["train", f"--workdir={tmp_path / 'run'}", "--image_size=16", *map(str, arguments)]
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_:
        train.main(train.parse_flags(argv, flag_values), flag_values)
    shown = capsys.readouterr()
    assert exit_.value.code == code
    assert files_of(tmp_path) == before
    assert shown.out == ""
    # A machine that does much else says what it is doing after some seconds.
    said = [line for line in shown.err.splitlines(keepends=True) if not DOING.fullmatch(line)]
    assert len(said) == 1 and said[0].endswith("\n")
    assert len(said[0]) < 1200
    return said[0]
