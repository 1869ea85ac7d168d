"""`python -m mmx_tf.figures`: see `mmx_tf.figures.make`."""

import dataclasses
import functools
import sys

from absl import app, flags

from mmx_tf import exit_codes, quiet, startup
from mmx_tf.figures import options
from mmx_tf.recipe import flagfiles, help

ABOUT = "The paper's Figures 1, 2, 5, 6 and 7 for one's own network."
EXAMPLES = ("--which=5 --workdir=DIR --compare=DIR,DIR", "--which=7 --workdir=DIR")
"""Of --help."""
parse_flags = functools.partial(exit_codes.parse_flags, program="figures", parsed=flagfiles.parsed)


def main(argv: list[str], flag_values: flags.FlagValues = flags.FLAGS) -> None:
    """Makes the figures that the flags ask for; `argv` is what is left when they have been parsed."""
    quiet.set_up_logging()
    try:
        wanted, recipe = options.from_flags(flag_values)
        options.check_first(wanted, recipe)
        if recipe.deterministic:
            startup.make_deterministic()
        # What figures need takes seconds to load, and a wrong flag is told before.
        from mmx_tf.waiting import loading_tensorflow

        with loading_tensorflow():
            from mmx_tf.export.running.noise import provoke_native_noise

            # Before the figures, which load TensorFlow as it comes.
            provoke_native_noise()
            from mmx_tf.figures.make import make
        make(wanted, recipe, command=" ".join(["python -m mmx_tf.figures", *sys.argv[1:]]))
    except exit_codes.ERRORS as error:
        exit_codes.end(exit_codes.of(error), flagfiles.located(error))
    except KeyboardInterrupt:
        exit_codes.end(
            exit_codes.ExitCode.INTERRUPTED, "interrupted; figures that were finished are written."
        )


def command(argv: list[str] | None = None) -> None:
    """Runs the command line; `argv` is the program's name and its arguments, by default those of Python's."""
    if help.is_asked(sys.argv if argv is None else argv):
        others = dataclasses.fields(options.FigureOptions)
        help.show("figures", ABOUT, EXAMPLES, others)
        return
    options.define()
    app.run(main, argv=argv, flags_parser=parse_flags)


if __name__ == "__main__":
    command()
