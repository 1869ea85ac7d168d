"""Costs of one's own, such as measured latencies: what each searched layer costs at each bit-width.

A cost table is a JSON file, or the dict that it holds:

    {
      "unit": "us",
      "fixed": 120.0,
      "layers": {"conv1": {"8": 40.0, "4": 22.5, "3": 22.5}, "conv2": {"8": 10.0, "4": 6.0, "3": 5.0}}
    }

`layers` has every searched layer (by the names in bit_selection.json; neither first nor last ones) with its
cost at every candidate activation bit-width; further bit-widths are allowed and not used. `fixed`, 0 if left
out, is what everything else costs. The cost of a network is the sum.
"""

import json
import math
import numbers
import os
from collections.abc import Mapping, Sequence

from mmx_tf.recipe.candidate_costs import CandidateCosts

_KEYS = ("unit", "fixed", "layers")


class CostTableError(ValueError):
    """A cost table that does not fit its format or the network; the message lists what is wrong."""


def read(
    table: Mapping | str | os.PathLike, *, layers: Sequence[str], bit_widths: Sequence[int]
) -> CandidateCosts:
    """The costs of a network's searched layers.

    Args:
      table: a cost table, or the path of its JSON file.
      layers: names of the searched layers, in graph order.
      bit_widths: candidates, in the order of the branches.

    Raises:
      CostTableError: for a file that cannot be read, keys or layers that are missing or unknown, bit-widths
        that are missing, and costs that are no numbers of 0 or more.
    """
    if not isinstance(table, Mapping | str | os.PathLike):
        raise CostTableError(
            f"cost_table is a {type(table).__name__}: give a dict or the path of a JSON file."
        )
    name, document = ("the cost table", table) if isinstance(table, Mapping) else (str(table), _load(table))
    document = _with_text_bits(document)
    problems = _problems(document, layers, bit_widths)
    if problems:
        raise CostTableError(f"{name} does not fit: {'; '.join(problems)}.")
    return CandidateCosts(
        unit=document["unit"],
        table=tuple(tuple(document["layers"][layer][str(b)] for b in bit_widths) for layer in layers),
        fixed=document.get("fixed", 0.0),
    )


def _with_text_bits(document):
    """A table whose bit-widths are text, as in JSON; in a dict of Python they may be numbers."""
    layers = document.get("layers") if isinstance(document, Mapping) else None
    if not isinstance(layers, Mapping) or not all(isinstance(row, Mapping) for row in layers.values()):
        return document
    texts = {name: {str(bits): cost for bits, cost in row.items()} for name, row in layers.items()}
    return {**document, "layers": texts}


def _load(path):
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError) as error:
        raise CostTableError(f"{path} cannot be read as a cost table: {error}") from error


def _problems(document, layers, bit_widths) -> list[str]:
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
        costs = given.get(layer, {})
        if not isinstance(costs, Mapping):
            problems.append(f"layer {layer!r} is no object")
            continue
        for bits in bit_widths if layer in given else ():
            if str(bits) not in costs:
                problems.append(f"layer {layer!r} has no cost at {bits} bits")
            elif not _is_cost(costs[str(bits)]):
                problems.append(f"layer {layer!r} at {bits} bits costs {costs[str(bits)]!r}, no number >= 0")
    return problems


def _is_cost(value) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and 0 <= value < math.inf
