"""Average activation bits of the searched layers, weighted by operations (then it is one of BOPs) or not."""

from collections.abc import Sequence

from mmx_tf.choices import WEIGHTINGS
from mmx_tf.recipe import budgets
from mmx_tf.recipe.candidate_costs import CandidateCosts

SHARES = 10**14
"""What the layers' weights in an average are whole parts of. A part times a bit-width has 15 digits, which a
float64 holds, so that averages are exact: 4 bits everywhere are 4 bits on average."""


def average_bits_costs(costs: Sequence, bit_widths: Sequence[int], weighting: str) -> CandidateCosts:
    """Average activation bits of the searched layers as a cost.

    Args:
      costs: of all weighted layers (`mmx_tf.budget.bops.LayerCost`).
      bit_widths: activation bits of the candidates.
      weighting: what a layer's bits are weighted by: its "operations", the "elements" of its input, or
        "plain" for equal weights.
    """
    weights = {
        "operations": [cost.macs for cost in costs if not cost.end],
        "elements": [cost.input_elements for cost in costs if not cost.end],
        "plain": [1 for cost in costs if not cost.end],
    }[weighting]
    shares = [SHARES * weight // sum(weights) for weight in weights]
    # The largest remainders get what is left, so that the shares add up.
    remainders = sorted(range(len(weights)), key=lambda i: -(SHARES * weights[i] % sum(weights)))
    for i in remainders[: SHARES - sum(shares)]:
        shares[i] += 1
    table = tuple(tuple(share * bits / SHARES for bits in bit_widths) for share in shares)
    behind = "" if weighting == "plain" else f", weighted by {weighting}"
    return CandidateCosts(f"bits on average{behind}", table)


class Kind(budgets.Kind):
    """An average, and what it is weighted by."""

    text = (
        "budget as average activation bits of the searched layers. With several weight candidates, which it "
        "leaves without a cost, give one that counts weight bits beside it."
    )
    example = "4"
    counts = (budgets.ACTIVATIONS,)
    in_bops = True
    beside = {
        "average_bits_weighting": budgets.Argument(
            "operations",
            str,
            'what the bits of a layer are weighted by in that average: "operations" (which makes it a budget '
            'in BOPs), "elements" of its input, or "plain" for equal weights.',
        )
    }

    def counts_bops(self, asked) -> bool:
        """An average weighted by operations is one of BOPs."""
        return asked.average_bits_weighting == "operations"

    def check(self, asked) -> None:
        """Refuses an unknown weighting, and one without its budget."""
        said = asked.said("average_bits_weighting")
        if asked.average_bits_weighting not in WEIGHTINGS:
            raise budgets.BudgetRuleError(f"{said}: one of {', '.join(map(repr, WEIGHTINGS))}.")
        if asked.average_bits_weighting != "operations" and asked.target_average_bits is None:
            raise budgets.BudgetRuleError(f"{said}: it is for {asked.named(self.name)} alone.")

    def check_candidates(self, asked, bit_widths: Sequence[int]) -> None:
        """Refuses an average that does not lie between the candidates."""
        low, high = min(bit_widths), max(bit_widths)
        if not low <= asked.target_average_bits <= high:
            raise budgets.BudgetRuleError(
                f"{asked.said(self.name)} is out of reach: with candidates "
                f"{','.join(map(str, bit_widths)) if asked.flags else tuple(bit_widths)} the average is "
                f"{low} to {high} bits."
            )

    def costs(self, asked, free) -> CandidateCosts | None:
        """Shares of the average; None where it amounts to BOPs, which depend on weight bits too."""
        if self.counts_bops(asked) and not free.searches_weights:
            return None
        activation_bits = [activations for _, activations in free.pairs]
        return average_bits_costs(free.costs, activation_bits, asked.average_bits_weighting)

    def targets(self, asked, free) -> tuple[float]:
        """The average, or the BOPs that it amounts to."""
        if self.costs(asked, free) is not None:
            return (float(asked.target_average_bits),)
        self.check_candidates(asked, free.bit_widths)
        return (free.bops_at(asked.target_average_bits),)
