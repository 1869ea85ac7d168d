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
      is_limit: whether what is below a target is free, as of the bytes that a device has. Otherwise a target
        is what the costs should come to.

    Costs that are no integers are the decimal numbers that they are written as (`exact`), and their
    sums are exact: neither the order of the layers nor rounding decides whether a choice fits.
    """

    unit: str
    table: tuple[tuple[float, ...], ...]
    fixed: float = 0.0
    is_limit: bool = False

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
        """Itself: a sum costs the same at all moments (see `mmx_tf.budget.ram_costs`)."""
        return (self,)

    @property
    def cheapest(self) -> list[int]:
        """The choice with the smallest cost."""
        return [row.index(min(row)) for row in self.table]

    @property
    def reachable(self) -> tuple[float, float]:
        """Smallest and largest cost of any choice."""
        return self.of(self.cheapest), self.of([row.index(max(row)) for row in self.table])


def exact(cost: float) -> int | Fraction:
    """The decimal number that a cost is written as: 0.1 is a tenth, so three of them fit into 0.3."""
    return cost if isinstance(cost, int) else Fraction(repr(float(cost)))
