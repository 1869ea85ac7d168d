"""What a budget out of reach says: the range, by hand, and what to do."""

import pytest

from mmx_tf.budget.bops import LayerCost
from mmx_tf.budget.budget import Budget, UnreachableBudgetError
from mmx_tf.recipe.candidate_costs import CandidateCosts

LAYER = LayerCost("conv", "conv", macs=100, weights=9, input_elements=64, end=False)
MORE = "Ask for more."
ADD = "Ask for more, or add a smaller candidate, such as 2 (--candidate_bits, in a notebook bit_widths)."


def refused(bits, weight_bits=4, **targets) -> str:
    with pytest.raises(UnreachableBudgetError) as error:
        Budget(costs=(LAYER,), bit_widths=bits, weight_bits=weight_bits, first_last_bits=8, **targets)
    return str(error.value)


@pytest.mark.parametrize(
    "bits, weight_bits, target, text, advice",
    [
        # 100 products of 4-bit weights and activations of 3 to 8 bits.
        ((8, 4, 3), 4, 1199, "8, 4, 3 bits and 4-bit weights this network takes 1200 to 3200 BOPs", ADD),
        ((8, 4, 2), 4, 799, "8, 4, 2 bits and 4-bit weights this network takes 800 to 3200 BOPs", MORE),
        ((8, 4, 3), 4, 3201, "this network takes 1200 to 3200 BOPs", "Ask for less."),
        (
            (8, 4), (8, 4), 1599, "8, 4 bits and 8, 4-bit weights this network takes 1600 to 6400 BOPs",
            "Ask for more, or add smaller candidates.",
        ),
        ((8, 4), (8, 2), 799, "this network takes 800 to 6400 BOPs", MORE),
    ],
)  # fmt: skip
def test_bops_out_of_reach(bits, weight_bits, target, text, advice):
    said = refused(bits, weight_bits, target_bops=target)
    assert text in said and said.endswith(f" bits. {advice}")


@pytest.mark.parametrize("target, advice", [(12, ADD), (26, "Ask for less.")])
def test_another_cost_out_of_reach(target, advice):
    costs = CandidateCosts(unit="us", fixed=5.0, table=((20.0, 12.0, 8.0),))
    assert refused((8, 4, 3), others=((costs, target),)) == (
        f"the target of {target} us is out of reach: with candidates of 8, 4, 3 bits this network takes "
        f"13 to 25 us. {advice}"
    )
