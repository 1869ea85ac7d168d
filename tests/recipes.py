"""Recipes as tests write them, and what is said of one that is refused."""

import pytest

from mmx_tf.errors import RecipeError
from mmx_tf.recipe.recipe import Recipe

RUNNABLE = "--float_epochs=3\n--workdir=runs/test\n"


def recipe(*arguments: str) -> Recipe:
    return Recipe.from_flagfile(RUNNABLE + "\n".join(arguments))


def refusal(*arguments: str) -> str:
    with pytest.raises(RecipeError) as caught:
        recipe(*arguments).validate()
    message = str(caught.value)
    assert "\n" not in message
    return message
