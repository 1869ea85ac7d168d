"""How the command lines end: which error has which exit code, and how flags are parsed.

parse = functools.partial(exit_codes.parse_flags, program="train")
try:
    run(recipe)
except exit_codes.ERRORS as error:
    exit_codes.end(exit_codes.of(error), str(error))
"""

import enum
import sys
import typing
from collections.abc import Callable

from absl import flags

from mmx_tf import command_line
from mmx_tf.errors import (
    DamagedDataError,
    DataError,
    DisagreementError,
    DivergenceError,
    ModelError,
    PeerError,
    RecipeError,
)


class ExitCode(enum.IntEnum):
    """Exit codes other than 0; `python -m mmx_tf.train` describes them."""

    USAGE = 2
    DISAGREEMENT = 3
    DIVERGENCE = 4
    UNWRITABLE = 5
    DAMAGED_DATA = 6
    PEER = 7
    INTERRUPTED = 130
    TERMINATED = 143


# The first that fits: some are subclasses of others.
_CODES = {
    DamagedDataError: ExitCode.DAMAGED_DATA,
    RecipeError: ExitCode.USAGE,
    DataError: ExitCode.USAGE,
    ModelError: ExitCode.USAGE,
    DisagreementError: ExitCode.DISAGREEMENT,
    DivergenceError: ExitCode.DIVERGENCE,
    PeerError: ExitCode.PEER,
    # What is wrong with input is an error of its own class.
    OSError: ExitCode.UNWRITABLE,
}
ERRORS = tuple(_CODES)
"""The errors that end a program with an exit code and a message; all others are defects."""


def of(error: BaseException) -> ExitCode:
    """The exit code of one of the `ERRORS`."""
    return next(code for kind, code in _CODES.items() if isinstance(error, kind))


def end(code: ExitCode, message: str) -> typing.NoReturn:
    """Ends the program, with the message on stderr."""
    print(message, file=sys.stderr)
    sys.exit(int(code))


def parse_flags(
    argv: list[str],
    flag_values: flags.FlagValues = flags.FLAGS,
    *,
    program: str,
    parsed: Callable = flags.FlagValues.__call__,
) -> list[str]:
    """Parses the command line of a program.

    Args:
      argv: the words of it.
      flag_values: takes the flags.
      program: the name of its subcommand.
      parsed: reads the words into the flags and returns those that are not flags, such as
        `mmx_tf.recipe.flagfiles.parsed`.

    Returns:
      The program's name alone. An unknown flag, a bad value or an argument that is no flag ends the program
      with `ExitCode.USAGE`.
    """
    try:
        rest = parsed(flag_values, argv)
    except RecipeError as error:
        end(ExitCode.USAGE, str(error))
    except UnicodeDecodeError as error:
        files = " ".join(word for word in argv if "flagfile" in word)
        end(ExitCode.USAGE, f"{files} is no text: {error}.")
    except flags.Error as error:
        end(ExitCode.USAGE, f"{error}. `{command_line.program(program)} --helpfull` lists the flags.")
    if rest[1:]:
        end(ExitCode.USAGE, f"{rest[1]!r} is not a flag; write every setting as --name=value.")
    return rest
