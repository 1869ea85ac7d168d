"""Our commands, called in the test's own process: a process of their own would take ten seconds to start."""

import subprocess

from absl import flags

from mmx_tf import train
from mmx_tf.recipe.recipe import define_flags


def called(capsys, main, *words) -> subprocess.CompletedProcess:
    """What `main` of a command gives for its arguments: exit code, and what it prints."""
    words = list(map(str, words))
    capsys.readouterr()
    try:
        code = main(words)
    except SystemExit as end:
        code = end.code
    shown = capsys.readouterr()
    return subprocess.CompletedProcess(words, code or 0, shown.out, shown.err)


def train_main(words: list[str]) -> None:
    """`python -m mmx_tf.train` on these flags."""
    flag_values = flags.FlagValues()
    define_flags(flag_values)
    train.main(train.parse_flags(["train", *words], flag_values), flag_values)
