"""Costs of one's own, such as measured latencies: what each searched layer costs at each of its candidates.

A cost table is a JSON file, or the dict that it holds:

    {
      "unit": "us",
      "fixed": 120.0,
      "layers": {"conv1": {"8": 40.0, "4": 22.5, "3": 22.5}, "conv2": {"w8a8": 10.0, "w4a8": 8.0}}
    }

`layers` has every searched layer (by the names in bit_selection.json; neither first nor last ones) with its
cost at every candidate: at an activation bit-width ("8"), or at a pair of weight and activation bits ("w4a8";
in a dict of Python also (4, 8)). The costs of a layer are all of one form. Those of activation bits alone
hold for all weight bits. Further candidates are allowed and not used. `fixed`, 0 if left out, is what
everything else costs. The cost of a network is the sum.
"""

import json
import math
import numbers
import os
import re
from collections.abc import Mapping, Sequence

from mmx_tf.recipe.candidate_costs import CandidateCosts

_KEYS = ("unit", "fixed", "layers")
_PAIR = re.compile(r"w([1-9]\d*)a([1-9]\d*)", re.IGNORECASE)


class CostTableError(ValueError):
    """A cost table that does not fit its format or the network; the message lists what is wrong."""


def read(
    table: Mapping | str | os.PathLike, *, layers: Sequence[str], pairs: Sequence[tuple[int, int]]
) -> CandidateCosts:
    """The costs of a network's searched layers.

    Args:
      table: a cost table, or the path of its JSON file.
      layers: names of the searched layers, in graph order.
      pairs: (weight bits, activation bits) of the candidates, in their order.

    Raises:
      CostTableError: for a file that cannot be read, keys or layers that are missing or unknown, candidates
        that are missing, layers with costs of both forms, and costs that are no numbers of 0 or more.
    """
    if not isinstance(table, Mapping | str | os.PathLike):
        raise CostTableError(
            f"cost_table is a {type(table).__name__}: give a dict or the path of a JSON file."
        )
    name, document = ("the cost table", table) if isinstance(table, Mapping) else (str(table), _load(table))
    document = _with_text_bits(document)
    problems = _problems(document, layers, pairs)
    if problems:
        raise CostTableError(f"{name} does not fit: {'; '.join(problems)}.")
    return CandidateCosts(
        unit=document["unit"],
        table=tuple(tuple(_at_pairs(document["layers"][layer], pairs).values()) for layer in layers),
        fixed=document.get("fixed", 0.0),
    )


def _with_text_bits(document):
    """A table whose candidates are text, as in JSON; in a dict of Python they may be numbers and pairs."""
    layers = document.get("layers") if isinstance(document, Mapping) else None
    if not isinstance(layers, Mapping) or not all(isinstance(row, Mapping) for row in layers.values()):
        return document
    texts = {name: {_text(bits): cost for bits, cost in row.items()} for name, row in layers.items()}
    return {**document, "layers": texts}


def _text(bits) -> str:
    if isinstance(bits, tuple) and len(bits) == 2:
        return "w{}a{}".format(*bits)
    return str(bits).lower()


def _at_pairs(costs: Mapping, pairs: Sequence[tuple[int, int]]) -> dict[tuple[int, int], object]:
    """A layer's costs at the pairs, in their order, where they are there."""
    of_pairs = any(map(_PAIR.fullmatch, costs))
    keys = [f"w{weights}a{activations}" if of_pairs else str(activations) for weights, activations in pairs]
    return {pair: costs[key] for pair, key in zip(pairs, keys, strict=True) if key in costs}


def _load(path):
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError) as error:
        raise CostTableError(f"{path} cannot be read as a cost table: {error}") from error


def _problems(document, layers, pairs) -> list[str]:
    if not isinstance(document, Mapping) or not isinstance(document.get("layers"), Mapping):
        return ["a table is a JSON object with 'unit' and 'layers', an object of objects"]
    problems = [f"unknown key {key!r}" for key in document if key not in _KEYS]
    if not isinstance(document.get("unit"), str) or not document["unit"]:
        problems.append("'unit' is no name of a unit, such as \"us\"")
    if not _is_cost(document.get("fixed", 0.0)):
        problems.append(f"fixed is {document['fixed']!r}, which is no number of 0 or more")
    given = document["layers"]
    problems += [f"layer {layer!r} is missing" for layer in layers if layer not in given]
    problems += [f"layer {layer!r} is no searched layer" for layer in given if layer not in layers]
    for layer in layers:
        if layer in given:
            problems += [f"layer {layer!r} {problem}" for problem in _problems_of_layer(given[layer], pairs)]
    return problems


def _problems_of_layer(costs, pairs) -> list[str]:
    if not isinstance(costs, Mapping):
        return ["is no object"]
    of_pairs = [key for key in costs if _PAIR.fullmatch(key)]
    alone = [key for key in costs if key.isdecimal()]
    if of_pairs and alone:
        return [f"has costs of pairs ({of_pairs[0]!r}) and of activation bits alone ({alone[0]!r})"]
    found, problems = _at_pairs(costs, pairs), []
    for weights, activations in pairs:
        where = f"w{weights}a{activations}" if of_pairs else f"{activations} bits"
        if (weights, activations) not in found:
            problems.append(f"has no cost at {where}")
        elif not _is_cost(found[weights, activations]):
            problems.append(f"at {where} costs {found[weights, activations]!r}, no number >= 0")
    return list(dict.fromkeys(problems))


def _is_cost(value) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and 0 <= value < math.inf
