"""Which function folds a layer of which class: it registers itself, beside its code.

    @folds("Concatenate")
    def concatenate(layer, values): ...

A handler is (layer, value) -> value, where a value is a `Codes` or a `Pending`, or a list of them for a layer
of several inputs. A layer whose integer layer takes its settings by the same names (`form_of`) needs none.
"""

import dataclasses
from collections.abc import Callable

import tf_keras as keras

from mmx_tf.folding.values import FoldError, Pending, codes_of, on_same_grid
from mmx_tf.layers import classes  # noqa: F401 (they fill FORMS)
from mmx_tf.layers.integer.layers import FORMS, BinaryLayer, SameGridLayer
from mmx_tf.network.kinds import KINDS, WEIGHTED

HANDLERS: dict[str, Callable] = {}
_REFUSALS: dict[str, Callable] = {}


def folds(*kinds: str) -> Callable:
    """A decorator of the handler of layers of these classes, by name."""
    return _registering(HANDLERS, kinds)


def refuses(*kinds: str) -> Callable:
    """A decorator of a function that says why a layer of these classes has no integer form; "" if it has."""
    return _registering(_REFUSALS, kinds)


def refusal(layer: keras.layers.Layer) -> str:
    """Why a layer of a kind that can be folded has no integer form, and what to use; empty if it has one."""
    refuse = _REFUSALS.get(type(layer).__name__)
    return refuse(layer) if refuse else ""


def has_integer_form(layer: keras.layers.Layer) -> bool:
    """Whether a layer of a canonical network, wherever it stands, can be folded."""
    kind = type(layer).__name__
    return (kind in (*HANDLERS, *FORMS, *WEIGHTED) or kind == "InputLayer") and not refusal(layer)


def folded(layer: keras.layers.Layer, value):
    """What a layer without quantized weights makes of a value.

    Raises:
      FoldError: if it has no integer form.
    """
    check(layer)
    kind = type(layer).__name__
    if kind in HANDLERS:
        return HANDLERS[kind](layer, value)
    if kind in FORMS:
        return as_form(layer, value)
    raise FoldError(layer, "its class has no integer operator here.")


def check(layer: keras.layers.Layer) -> None:
    """Raises FoldError for a layer of a kind that can be folded which has no integer form."""
    if reason := refusal(layer):
        raise FoldError(layer, reason, advice="")


def as_form(layer: keras.layers.Layer, value):
    """The integer layer that has the settings of `layer`, called on a tensor or on two."""
    form, kind = FORMS[type(layer).__name__], KINDS[type(layer).__name__]
    if issubclass(form, BinaryLayer):
        return _of_two(form, kind, layer, value)
    settings = {name: getattr(layer, name) for name in form.settings if hasattr(layer, name)}
    settings["name"] = layer.name
    if kind.commutes:
        return on_same_grid(value, lambda grid: form(grid=grid, **settings))
    value = codes_of(layer, value)
    if issubclass(form, SameGridLayer):
        return dataclasses.replace(value, tensor=form(grid=value.grid, **settings)(value.tensor))

    def emit(output_grid, activation):
        return form(input_grid=value.grid, output_grid=output_grid, **settings)(value.tensor)

    nonnegative = kind.floor == 0 or (kind.keeps_floor and value.nonnegative)
    return Pending(emit, layer, fuses=False, nonnegative=nonnegative)


def _of_two(form, kind, layer, values) -> Pending:
    values = [codes_of(layer, value) for value in values]

    def emit(output_grid, activation):
        grids = {"input_grids": [value.grid for value in values], "output_grid": output_grid}
        operator = form(activation=activation, name=layer.name, **grids)
        return operator([value.tensor for value in values])

    return Pending(emit, layer, nonnegative=kind.keeps_sign and all(value.nonnegative for value in values))


def _registering(table, kinds):
    def register(function):
        table.update(dict.fromkeys(kinds, function))
        return function

    return register
