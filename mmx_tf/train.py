"""From a float network to an integer .tflite, in one command.

    python -m mmx_tf.train --flagfile=quick.flags
    python -m mmx_tf.train --flagfile=mbv2.flags --data_dir=DIR --workdir=DIR

Later flags override the flagfile. A run that was interrupted, killed or stopped continues with the same
command from its last checkpoint. Exit codes:

    0    done
    2    flags or input that make no run, or a workdir in which another process runs: said in one paragraph,
         before any training, and nothing is written
    3    the file differs from the folded network by more than --max_disagreement
    4    training has diverged (--on_divergence)
    5    the workdir can no longer be written, as on a full disk
    6    images that were found unusable while they were read
    7    another process of the job (--strategy=multi_worker) has ended, or was told to
    130  interrupted (SIGINT), 143 terminated (SIGTERM); during training a checkpoint is written first
"""

import os
import signal
import sys

from absl import app, flags

from export.parity import DisagreementError
from mmx_tf import quiet, tensorflow_settings
from mmx_tf import recipe as recipes
from mmx_tf.damaged_images import DamagedDataError
from mmx_tf.data import DataError
from mmx_tf.divergence import DivergenceError
from mmx_tf.job import PeerError
from mmx_tf.models.errors import ModelError
from mmx_tf.pipeline import run
from mmx_tf.recipe import Recipe, RecipeError

FLAGS = flags.FLAGS
USAGE_EXIT_CODE = 2
DISAGREEMENT_EXIT_CODE = 3
DIVERGENCE_EXIT_CODE = 4
UNWRITABLE_EXIT_CODE = 5
DAMAGED_DATA_EXIT_CODE = 6
PEER_EXIT_CODE = 7
INTERRUPTED_EXIT_CODE = 130
TERMINATED_EXIT_CODE = 143


def parse_flags(argv: list[str], flag_values: flags.FlagValues = FLAGS) -> list[str]:
    """Parses the command line; an unknown flag or a bad value ends the program with exit code 2."""
    try:
        return flag_values(argv)
    except UnicodeDecodeError as error:
        files = " ".join(word for word in argv if "flagfile" in word)
        _refuse(f"{files} is no text: {error}.")
    except flags.Error as error:
        _refuse(f"{error}. `python -m mmx_tf.train --helpfull` lists the flags.")


def main(argv: list[str], flag_values: flags.FlagValues = FLAGS) -> None:
    """Runs the recipe that the flags describe; `argv` is what is left when they have been parsed."""
    try:
        _main(argv, flag_values)
    except SystemExit as end:
        if flag_values["strategy"].value == "multi_worker" and end.code:
            # TensorFlow's own end would wait for processes that are gone, or need not end.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(end.code)
        raise


def _main(argv: list[str], flag_values: flags.FlagValues) -> None:
    if argv[1:]:
        _refuse(f"{argv[1]!r} is no flag; everything is given as --name=value.")
    quiet.set_up_logging()
    try:
        recipe = Recipe.from_flags(flag_values)
        recipe.validate()
        if recipe.deterministic:
            tensorflow_settings.make_deterministic()
        run(recipe, command=" ".join(["python -m mmx_tf.train", *sys.argv[1:]]))
    except DamagedDataError as error:
        print(error, file=sys.stderr)
        sys.exit(DAMAGED_DATA_EXIT_CODE)
    except (RecipeError, DataError, ModelError) as error:
        _refuse(str(error))
    except DisagreementError as error:
        print(f"{error} The file and parity.json are in the workdir.", file=sys.stderr)
        sys.exit(DISAGREEMENT_EXIT_CODE)
    except DivergenceError as error:
        print(error, file=sys.stderr)
        sys.exit(DIVERGENCE_EXIT_CODE)
    except PeerError as error:
        print(f"{error} Start all processes again: they continue from the last checkpoint.", file=sys.stderr)
        sys.exit(PEER_EXIT_CODE)
    except OSError as error:
        # What is wrong with input is an error of its own class.
        print(
            f"the workdir cannot be written or read: {error}. Make room; the same command continues from the "
            "last checkpoint.",
            file=sys.stderr,
        )
        sys.exit(UNWRITABLE_EXIT_CODE)
    except KeyboardInterrupt:
        print("interrupted; the same command continues from the last checkpoint.", file=sys.stderr)
        sys.exit(INTERRUPTED_EXIT_CODE)
    except Terminated:
        print("terminated; the same command continues from the last checkpoint.", file=sys.stderr)
        sys.exit(TERMINATED_EXIT_CODE)


class Terminated(BaseException):
    """The process got a SIGTERM. No error, so that nobody handles it as one."""


def _terminate(number, frame):
    raise Terminated


def _refuse(message: str):
    print(message, file=sys.stderr)
    sys.exit(USAGE_EXIT_CODE)


if __name__ == "__main__":
    recipes.define_flags()
    flags.adopt_module_key_flags(recipes)  # --help shows the flags of the main module only.
    # Before app.run, whose start-up already makes TensorFlow look for a GPU.
    quiet.provoke_native_noise()
    signal.signal(signal.SIGTERM, _terminate)
    app.run(main, flags_parser=parse_flags)
