"""Which operators the reference interpreter knows, on which types, and which of them XNNPACK takes.

    outputs = compute(operator, inputs, "xnnpack")         # list of arrays, one per output of the operator

A kernel is a function (operator, input arrays, rules) -> output array that registers itself where it stands:

    @computes("MAX_POOL_2D")
    def max_pool(operator, inputs, rules): ...
"""

from collections.abc import Callable
from dataclasses import dataclass

RULES = ("xnnpack", "builtin", "reference")
INT8 = ("INT8", "INT8")
FLOAT32 = ("FLOAT32", "FLOAT32")


@dataclass(frozen=True)
class Kernel:
    """A function (operator, inputs, rules) -> output, and whether XNNPACK takes the operator."""

    function: Callable
    in_xnnpack: bool | Callable


_KERNELS: dict[str, dict[tuple[str, str], Kernel]] = {}
"""Kind of operator -> (type of its first input, of its output) -> kernel."""


def computes(kind: str, types: tuple[str, str] = INT8, *, in_xnnpack: bool | Callable = True) -> Callable:
    """A decorator of the function that computes an operator.

    Args:
      kind: of the operator, by the schema's name.
      types: of its first input and its output; a function of several has a decorator for each.
      in_xnnpack: whether LiteRT hands it to XNNPACK on x86-64, or a function that tells it of one operator
        from its types, shapes and scales.
    """

    def register(function):
        if types in _KERNELS.setdefault(kind, {}):
            raise ValueError(f"{kind} on {types} has a kernel already: {_KERNELS[kind][types].function}.")
        _KERNELS[kind][types] = Kernel(function, in_xnnpack)
        return function

    return register


def check(operator):
    """ValueError when the operator's kind or types are not here; the message names those that are."""
    label = f"operator {operator.index} ({operator.kind})"
    if operator.kind not in _KERNELS:
        raise ValueError(f"{label} is not here; known operators: {', '.join(sorted(_KERNELS))}.")
    types, allowed = _types(operator), sorted(_KERNELS[operator.kind])
    if types not in allowed:
        known = ", ".join(f"{source} -> {target}" for source, target in allowed)
        raise ValueError(f"{label} computes {types[0]} -> {types[1]}; known here: {known}.")


def compute(operator, inputs, rules):
    """Input arrays (None for one left out) -> list with the operator's output. Errors as in `check`."""
    check(operator)
    if rules not in RULES:
        raise ValueError(f"rules is {rules!r}; use one of {', '.join(map(repr, RULES))}.")
    kernel = _KERNELS[operator.kind][_types(operator)]
    if rules == "xnnpack" and not taken_by_xnnpack(operator):
        rules = "builtin"
    return [kernel.function(operator, inputs, rules)]


def taken_by_xnnpack(operator) -> bool:
    """Whether LiteRT hands an operator that passes `check` to XNNPACK on x86-64."""
    taken = _KERNELS[operator.kind][_types(operator)].in_xnnpack
    return taken(operator) if callable(taken) else taken


def kinds_on(types: tuple[str, str]) -> frozenset[str]:
    """The operators that are computed on these types of first input and output."""
    return frozenset(kind for kind, kernels in _KERNELS.items() if types in kernels)


def between(ratio: float, lowest: float, limit: float) -> bool:
    """Whether a ratio of scales is in lowest..limit, the limit itself left out."""
    return lowest <= ratio < limit


def _types(operator):
    return operator.inputs[0].type, operator.outputs[0].type
