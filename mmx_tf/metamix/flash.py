"""A budget of flash: the constants of the C source, of which the weights take what their bits say.

The C source stores weights in slots of 2, 4 or 8 bits (depthwise ones of 4 or 8), in whole words
(`export.c_source.weights`): a layer's bytes follow from its kernel and its bits. All other constants (biases,
multipliers, tables that change grids) are measured on trial files: with each activation candidate everywhere,
and with candidates that alternate, since a table stands where two grids meet. The largest counts. A table
has an entry for each code that arrives, of which training decides how many there are, so it counts as 256.

>>> costs = costs_in_flash(search, {})
>>> costs.of([1, 1, 1]) > 0         # the constants of the choice's program, or some tables more
True
"""

import math
from collections.abc import Mapping

import numpy as np

from mmx_tf.budget.bops import LayerCost
from mmx_tf.export.c_source import UnsupportedError, c_source
from mmx_tf.export.c_source.emitting import emit
from mmx_tf.export.c_source.source import Source
from mmx_tf.export.c_source.unpacked_graph import unpacked_graph
from mmx_tf.export.c_source.weights import Weights, by_channel, words
from mmx_tf.layers.quantizers.multi_branch_weights import kernel_of
from mmx_tf.layers.quantizers.weights import channels_shape
from mmx_tf.metamix import file_bytes
from mmx_tf.metamix.search import SearchModel
from mmx_tf.recipe.candidate_costs import CandidateCosts

UNIT = "bytes of flash"
TABLE_BYTES = 256
"""Of the longest table from codes to codes."""
SLOTS = (2, 4, 8)
"""Bits of a stored weight; depthwise ones have no slots of 2."""


def costs_in_flash(search: SearchModel, convert_options: Mapping) -> CandidateCosts:
    """The constants of the C source as a cost, which is a limit.

    Args:
      search: a search of weight bits; it is left untouched.
      convert_options: arguments of `mmx_tf.convert` that the file will be made with.

    Raises:
      ValueError: for options that are no mapping, values that `convert` refuses, and a network whose file has
        operators that are not written in C.
      TypeError: for an option that `convert` does not have.
      FoldError: for a network that cannot be exported.
    """
    file_bytes.check_options(convert_options)
    budget, network = search.budget, search.network
    table = tuple(
        tuple(weight_bytes(network.get_layer(cost.name), cost, bits) for bits, _ in budget.pairs)
        for cost in budget.searched
    )
    ends = [
        weight_bytes(network.get_layer(cost.name), cost, budget.first_last_bits)
        for cost in budget.costs
        if cost.end
    ]
    layers, widths = len(table), budget.bit_widths
    most = budget.weight_bit_widths.index(max(budget.weight_bit_widths)) * len(widths)
    files = file_bytes.TrialFiles(search, [most] * layers, convert_options)
    trials = [[bits] * layers for bits in widths]
    trials += [[widths[(i + k) % len(widths)] for i in range(layers)] for k in range(len(widths))]
    try:
        others = max(_beside_weights(files.with_activation_bits(bits)) for bits in trials)
    except UnsupportedError as error:
        raise ValueError(f"target_flash counts the constants of the C source. {error}") from None
    return CandidateCosts(UNIT, table, others + sum(ends), is_limit=True)


def weight_bytes(layer, cost: LayerCost, bits: int) -> int:
    """Bytes of a layer's kernel in the C source at some weight bits."""
    kernel = kernel_of(layer).shape
    elements = kernel.num_elements()
    slot = min(width for width in SLOTS if width >= bits)
    if cost.kind == "depthwise":
        return by_channel(Weights(np.zeros((1, elements), np.int64), max(slot, 4), 1)).nbytes
    filters = math.prod(channels_shape(layer, kernel))
    codes = np.zeros((filters, elements // filters), np.int64)
    return words(Weights(codes, slot, 1), column_bits=8, groups=getattr(layer, "groups", 1)).nbytes


def _beside_weights(data: bytes) -> int:
    """Bytes of the constants of a file's program that are no weights, with the longest tables."""
    text = Source(unpacked_graph(data))
    for number, step in enumerate(c_source(data).program.steps):
        emit(text, step, number, weight_bits=SLOTS)
    return sum(
        max(size, TABLE_BYTES) if name.startswith("table_") else size
        for name, size in text.bytes.items()
        if not name.startswith("weights_")
    )
