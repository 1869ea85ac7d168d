"""The alpha of a search as tests read and set it: row by row, in the order of `SearchModel.alpha_rows`."""

import numpy as np


def rows(search, values=None, *, target=None):
    """The rows of alpha, or of an array of its shape; of one target if its index is given."""
    found = [row.values for row in search.alpha_rows(values)]
    count = len(found) // len(search.targets)
    return found if target is None else found[target * count : (target + 1) * count]


def moved(before, search):
    """For every row of alpha whether it is another than before."""
    return [not np.array_equal(old, new) for old, new in zip(before, rows(search), strict=True)]


def set_rows(search, values):
    """Gives all rows their values, a list of rows or one for all."""
    shape, columns = search.alpha.shape, len(search.budget.bit_widths)
    count = shape[0] * shape[1] * (2 if search.budget.searches_weights else 1)
    values = np.broadcast_to(np.asarray(values, np.float32), (count, columns))
    # Target, activations or weights, layer, column -> target, layer, both beside each other.
    parts = values.reshape(shape[0], -1, shape[1], columns)
    search.alpha.assign(np.concatenate(list(np.moveaxis(parts, 1, 0)), axis=-1))


def set_row(search, layer, values, *, target=0, of_weights=False):
    """Gives one row its values.

    Args:
      search: search network.
      layer: index of the searched layer.
      values: one per candidate.
      target: its index.
      of_weights: the row is that of weight bits.
    """
    branches = len(search.budget.bit_widths)
    columns = slice(branches, None) if of_weights else slice(None, branches)
    changed = search.alpha.numpy()
    changed[target, layer, columns] = values
    search.alpha.assign(changed)
