"""From a float network to an integer .tflite, in one command.

    python -m mmx_tf.train --flagfile=quick.flags
    python -m mmx_tf.train --flagfile=mbv2.flags --data_dir=DIR --workdir=DIR

Later flags override the flagfile. A run that was interrupted continues with the same command. Exit codes: 0
done, 2 flags or input that make no run (said in one paragraph, before any training).
"""

import sys

from absl import app, flags, logging

from mmx_tf import recipe as recipes
from mmx_tf.data import DataError
from mmx_tf.models.errors import ModelError
from mmx_tf.pipeline import run
from mmx_tf.recipe import Recipe, RecipeError

FLAGS = flags.FLAGS
USAGE_EXIT_CODE = 2


def parse_flags(argv: list[str]) -> list[str]:
    """Parses the command line; an unknown flag or a bad value ends the program with one line and exit code 2."""
    try:
        return FLAGS(argv)
    except flags.Error as error:
        _refuse(f"{error}. `python -m mmx_tf.train --helpfull` lists the flags.")


def main(argv: list[str]) -> None:
    """Runs the recipe that the flags describe."""
    if argv[1:]:
        _refuse(f"{argv[1]!r} is no flag; everything is given as --name=value.")
    logging.set_verbosity(logging.INFO)
    try:
        recipe = Recipe.from_flags(FLAGS)
        recipe.validate()
        run(recipe, command=" ".join(["python -m mmx_tf.train", *sys.argv[1:]]))
    except (RecipeError, DataError, ModelError) as error:
        _refuse(str(error))


def _refuse(message: str):
    print(message, file=sys.stderr)
    sys.exit(USAGE_EXIT_CODE)


if __name__ == "__main__":
    recipes.define_flags()
    app.run(main, flags_parser=parse_flags)
