"""What a choice of bits costs at its worst moment, such as bytes of RAM that are in use at the same time.

    >>> early, late = CandidateCosts("", ((8, 4), (2, 1))), CandidateCosts("", ((0, 0), (6, 3)))
    >>> ram = PeakCosts("bytes of RAM", (early, late))
    >>> ram.of([0, 0]), ram.of([1, 0])
    (10, 6)

A sum has one moment, a `CandidateCosts`; regularizer and repair take both as a tuple of `moments`.
"""

import dataclasses
from collections.abc import Sequence
from fractions import Fraction

from mmx_tf.recipe.candidate_costs import CandidateCosts


@dataclasses.dataclass(frozen=True)
class PeakCosts:
    """The largest of several sums.

    Attributes:
      unit: what is counted.
      moments: what the searched layers' candidates cost at each moment. A layer's candidates come in the same
        order of costs at all moments, as tensors have more bytes at more bits at all times.
    """

    unit: str
    moments: tuple[CandidateCosts, ...]

    is_limit = True  # What is below the peak is free, so a target is what the costs must not exceed.

    def __post_init__(self):
        """Refuses (ValueError) no moments, and layers whose cheapest candidate depends on the moment."""
        if not self.moments:
            raise ValueError("a peak of no moments.")
        for rows in zip(*(moment.table for moment in self.moments), strict=True):
            pairs = [(a, b) for a in range(len(rows[0])) for b in range(a)]
            if any({(row[a] > row[b]) - (row[a] < row[b]) for row in rows} >= {1, -1} for a, b in pairs):
                raise ValueError(f"costs {rows} of a layer are in another order at other moments.")

    def of(self, choice: Sequence[int]) -> float:
        """Cost of a choice: the candidate's index for every searched layer."""
        return max(moment.of(choice) for moment in self.moments)

    def exactly(self, choice: Sequence[int]) -> int | Fraction:
        """`of` before it is rounded to a float."""
        return max(moment.exactly(choice) for moment in self.moments)

    @property
    def reachable(self) -> tuple[float, float]:
        """Smallest and largest cost of any choice: one choice is the cheapest at all moments."""
        return tuple(map(max, zip(*(moment.reachable for moment in self.moments), strict=True)))


def without_lower(moments: Sequence[CandidateCosts]) -> tuple[CandidateCosts, ...]:
    """The moments that can be the peak: those that no other one covers in every candidate."""
    each = tuple(dict.fromkeys(moments))
    return tuple(one for one in each if not any(_covers(other, one) for other in each if other != one))


def _covers(high: CandidateCosts, low: CandidateCosts) -> bool:
    return high.fixed >= low.fixed and all(
        above >= below
        for highs, lows in zip(high.table, low.table, strict=True)
        for above, below in zip(highs, lows, strict=True)
    )
