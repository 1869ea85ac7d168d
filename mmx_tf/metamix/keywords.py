"""The arguments that `augment` takes as `**options`: those of budgets, and the settings of the search.

They are declared elsewhere, and signature, docstring and errors of `augment` name each of them all the same.

>>> inspect.signature(mmx_tf.augment).parameters["average_bits_weighting"].default
'operations'
>>> parted({"target_bop": 5e9}, mmx_tf.augment)
Traceback (most recent call last):
    ...
TypeError: augment has no argument 'target_bop'. Did you mean target_bops?
"""

import dataclasses
import difflib
import inspect
import re
import textwrap
from collections.abc import Callable, Mapping

from mmx_tf.recipe import budget_rules
from mmx_tf.recipe.budgets import Argument
from mmx_tf.recipe.search_settings import SearchSettings

OPTIONS = budget_rules.ARGUMENTS | {
    field.name: Argument(field.default, field.type, field.metadata["help"])
    for field in dataclasses.fields(SearchSettings)
}
WIDTH = 110
"""Columns of the lines that a docstring gets."""


def parted(options: Mapping, function: Callable) -> tuple[dict, SearchSettings]:
    """The arguments of a budget among a function's `**options`, and the settings of the search.

    Raises:
      TypeError: for one that the function does not have.
      ValueError: for a setting that is not allowed.
    """
    for name in options:
        if name not in OPTIONS:
            names = list(inspect.signature(function).parameters)[1:]
            near = difflib.get_close_matches(name, names, n=1)
            advice = f" Did you mean {near[0]}?" if near else f" It has {', '.join(names)}."
            raise TypeError(f"{function.__name__} has no argument {name!r}.{advice}")
    settings, budget = SearchSettings.parted(options)
    return budget, settings


def named(*, after: str) -> Callable:
    """Decorates a function with `**options`: its signature has them behind the argument `after`.

    In its docstring the entry of `**options` gives way to an entry for each.
    """

    def decorated(function: Callable) -> Callable:
        signature = inspect.signature(function)
        own = [one for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
        place = 1 + [one.name for one in own].index(after)
        keyword = inspect.Parameter.KEYWORD_ONLY
        own[place:place] = [
            inspect.Parameter(name, keyword, default=one.default, annotation=one.annotation)
            for name, one in OPTIONS.items()
        ]
        function.__signature__ = signature.replace(parameters=own)
        if function.__doc__:  # python -OO leaves none.
            entry = re.compile(r"^( *)\*\*options:.*\n(?:\1 +.*\n)*", re.MULTILINE)
            function.__doc__ = entry.sub(lambda found: _entries(found[1]), function.__doc__)
        return function

    return decorated


def _entries(indent: str) -> str:
    layout = {
        "width": WIDTH,
        "break_on_hyphens": False,
        "initial_indent": indent,
        "subsequent_indent": f"{indent}  ",
    }
    return "".join(f"{textwrap.fill(f'{name}: {one.text}', **layout)}\n" for name, one in OPTIONS.items())
