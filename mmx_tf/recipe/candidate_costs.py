"""What a choice of bits costs, in whatever a budget counts: a cost for each layer and candidate.

Kinds of budget (`mmx_tf.recipe.budgets`) make them. Regularizer and repair know nothing else of a kind.
"""

import dataclasses
from collections.abc import Sequence
from fractions import Fraction


@dataclasses.dataclass(frozen=True)
class CandidateCosts:
    """What the searched layers cost at each candidate.

    Attributes:
      unit: what is counted, such as "BOPs" or "us".
      table: L rows, one per searched layer in graph order, of a cost per candidate: B, or W * B where weight
        bits are searched.
      fixed: cost of everything else.

    Costs that are no integers are the decimal numbers that they are written as (`exact`), and their
    sums are exact: neither the order of the layers nor rounding decides whether a choice fits.
    """

    unit: str
    table: tuple[tuple[float, ...], ...]
    fixed: float = 0.0

    is_limit = False  # A target is what the costs should come to: more bits cost more of it.

    def of(self, choice: Sequence[int]) -> float:
        """Cost of a choice: the candidate's index for every searched layer."""
        total = self.exactly(choice)
        return total if isinstance(total, int) else float(total)

    def exactly(self, choice: Sequence[int]) -> int | Fraction:
        """`of` before it is rounded to a float."""
        chosen = (exact(row[branch]) for row, branch in zip(self.table, choice, strict=True))
        return exact(self.fixed) + sum(chosen)

    @property
    def moments(self) -> tuple["CandidateCosts"]:
        """Itself: a sum costs the same at all moments (see `mmx_tf.budget.peak_costs`)."""
        return (self,)

    @property
    def reachable(self) -> tuple[float, float]:
        """Smallest and largest cost of any choice."""
        return tuple(self.of([row.index(pick(row)) for row in self.table]) for pick in (min, max))


def exact(cost: float) -> int | Fraction:
    """The decimal number that a cost is written as: 0.1 is a tenth, so three of them fit into 0.3."""
    return cost if isinstance(cost, int) else Fraction(repr(float(cost)))
