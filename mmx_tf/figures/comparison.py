"""Figures 1 and 6 side by side: do bit-meta steps make activations more alike than single-precision training?

rows = compared(document_of_figure_1, document_of_figure_6)
"""

import functools
import zlib
from collections.abc import Mapping

import tf_keras as keras
from absl import logging

from mmx_tf.figures.statistics import NORMS, largest

_COMPARED = ("figure_1", "figure_6")


def compared(one: Mapping, six: Mapping) -> list[dict] | None:
    """The spread of Figures 1 and 6 side by side, row by row, and the largest of what is drawn.

    Args:
      one, six: documents of the two figures.

    Returns:
      Rows of `layer`, `weight_bits`, `norm` (batch norm by running or batch statistics), `figure_1`,
      `figure_6` and `smaller_in_figure_6`; None if the two are of different experiments.
    """
    if any(_experiment(one)[name] != value for name, value in _experiment(six).items()):
        logging.warning("figures 1 and 6 are of different experiments (network, steps, ...); not compared.")
        return None
    rows = [
        {"layer": a["layer"], "weight_bits": a["weight_bits"], "norm": norm} | _side_by_side(a[norm], b[norm])
        for norm in NORMS
        for a, b in zip(one["spread"], six["spread"], strict=True)
    ]
    whole = [largest([row[key] for row in rows if row["norm"] == NORMS[0]]) for key in _COMPARED]
    return [*rows, {"layer": "largest", "weight_bits": "any", "norm": NORMS[0]} | _side_by_side(*whole)]


def _experiment(document: Mapping) -> dict:
    facts = {name: document.get(name) for name in ("layers", "recipe", "float_weights")}
    options = document.get("options", {})
    return facts | {name: options.get(name) for name in ("steps", "images", "statistics_momentum")}


def _side_by_side(one: Mapping, six: Mapping) -> dict:
    smaller = {name: None if None in (one[name], six[name]) else six[name] < one[name] for name in one}
    return dict(zip(_COMPARED, (one, six), strict=True)) | {"smaller_in_figure_6": smaller}


def checksum(network: keras.Model) -> str:
    """CRC-32 of a network's weights, in hexadecimal: tells whether two figures are of one network."""
    return f"{functools.reduce(lambda crc, w: zlib.crc32(w.tobytes(), crc), network.get_weights(), 0):08x}"
