"""From a float network to an integer .tflite, in one command.

    python -m mmx_tf.train --recipe=quick
    python -m mmx_tf.train --recipe=mbv2 --data_dir=DIR --workdir=DIR
    python -m mmx_tf.train --flagfile=FILE --workdir=DIR

--recipe names one of the flagfiles that come with mmx_tf. Later flags override the flagfile. A run that was
interrupted, killed or stopped continues with the same command from its last checkpoint. Exit codes:

    0    done
    2    flags or input that cannot be run, or a workdir in which another process runs: said in one paragraph,
         before any training, and nothing is written
    3    the file differs from the folded network by more than --max_disagreement
    4    training has diverged (--on_divergence)
    5    the workdir can no longer be written, as on a full disk
    6    images that were found unusable while they were read
    7    another process of the job (--strategy=multi_worker) has ended, or was told to
    130  interrupted (SIGINT), 143 terminated (SIGTERM); during training a checkpoint is written first
"""

import functools
import os
import pathlib
import signal
import sys

from absl import app, flags

from mmx_tf import exit_codes, quiet, startup
from mmx_tf.data import kinds
from mmx_tf.errors import RecipeError
from mmx_tf.exit_codes import ExitCode
from mmx_tf.recipe import flagfiles, help
from mmx_tf.recipe import recipe as recipes
from mmx_tf.recipe.recipe import Recipe
from mmx_tf.workdir import belonging, results

FLAGS = flags.FLAGS
EXAMPLES = ("--recipe=quick", "--recipe=mbv2 --data_dir=DIR --workdir=DIR", "--flagfile=FILE --workdir=DIR")
"""Of --help."""
ADVICE = {
    ExitCode.DISAGREEMENT: "{} The file and parity.json are in the workdir.",
    ExitCode.UNWRITABLE: (
        "the workdir cannot be written or read: {}. Make room; the same command continues from the last "
        "checkpoint."
    ),
    ExitCode.PEER: "{} Start all processes again: they continue from the last checkpoint.",
}
"""What is said with an error, where there is more to say."""

parse_flags = functools.partial(exit_codes.parse_flags, program="train", parsed=flagfiles.parsed)


def main(argv: list[str], flag_values: flags.FlagValues = FLAGS) -> None:
    """Runs the recipe that the flags describe; `argv` is what is left when they have been parsed."""
    try:
        _main(flag_values)
    except SystemExit as end:
        if flag_values["strategy"].value == "multi_worker" and end.code:
            # TensorFlow's own end would wait for processes that are gone, or need not end.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(end.code)
        raise


def _main(flag_values: flags.FlagValues) -> None:
    quiet.set_up_logging()
    try:
        recipe = Recipe.from_flags(flag_values)
        recipe.validate()
        _check_tool(recipe)
        kinds.check(recipe.dataset, data_dir=recipe.data_dir)
        if recipe.strategy != "multi_worker":  # whose chief looks, and tells the others
            belonging.check_first(recipe)
        if recipe.deterministic:
            startup.make_deterministic()
        # What a run needs takes seconds to load, and a wrong flag is told before.
        from mmx_tf.waiting import loading_tensorflow

        with loading_tensorflow():
            from mmx_tf.export.running.noise import provoke_native_noise
            from mmx_tf.run.pipeline import run

            provoke_native_noise()
        run(recipe, command=" ".join(["python -m mmx_tf.train", *sys.argv[1:]]))
    except exit_codes.ERRORS as error:
        code = exit_codes.of(error)
        exit_codes.end(code, ADVICE.get(code, "{}").format(flagfiles.located(error)))
    except KeyboardInterrupt:
        exit_codes.end(
            ExitCode.INTERRUPTED, "interrupted; the same command continues from the last checkpoint."
        )
    except Terminated:
        exit_codes.end(
            ExitCode.TERMINATED, "terminated; the same command continues from the last checkpoint."
        )


def _check_tool(recipe: Recipe) -> None:
    """Refuses a device whose tool is not installed, unless all that it would be asked is known already."""
    try:
        recipe.check_tool()
    except RecipeError:
        if not all(results.is_judged(pathlib.Path(one), recipe.baselines) for one in recipe.finished_in):
            raise


class Terminated(BaseException):
    """The process got a SIGTERM. No error, so that nobody handles it as one."""


def _terminate(number, frame):
    raise Terminated


def command(argv: list[str] | None = None) -> None:
    """Runs the command line; `argv` is the program's name and its arguments, by default those of Python's."""
    if help.is_asked(sys.argv if argv is None else argv):
        help.show("train", __doc__.splitlines()[0], EXAMPLES)
        return
    recipes.define_flags()
    signal.signal(signal.SIGTERM, _terminate)
    app.run(main, argv=argv, flags_parser=parse_flags)


if __name__ == "__main__":
    command()
