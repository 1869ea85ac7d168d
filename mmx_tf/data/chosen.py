"""Rows of a dataset that a seed chooses, for examples that are held out (`mmx_tf.data.held_out`).

>>> left, held = chosen_rows(10, 3, seed=0)
>>> len(left), len(held), sorted([*left, *held]) == list(range(10))
(7, 3, True)
"""

import hashlib

import numpy as np


def chosen_rows(total: int, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows 0..total-1 in two ascending parts: those that are left, and `count` that are drawn."""
    order = np.random.default_rng([seed, total, count]).permutation(total)
    return np.sort(order[count:]), np.sort(order[:count])


def chosen_range(total: int, count: int, seed: int) -> tuple[int, int]:
    """(first, one behind the last) of `count` neighbouring rows out of `total`, at a place that is drawn."""
    first = int(np.random.default_rng([seed, total, count]).integers(total - count + 1))
    return first, first + count


def rows_told(rows: np.ndarray) -> str:
    """What tells some rows from others, for the record of a run."""
    return f"rows with SHA-256 {hashlib.sha256(rows.astype('<i8').tobytes()).hexdigest()}"
