"""The first screen of the report: what was chosen, what it gains and whether it can be trusted, by hand."""

import pytest
from comparison_test import SELECTION, metrics_of

from mmx_tf.report.answers import answers
from mmx_tf.report.comparison import comparison
from mmx_tf.report.facts import run_facts


def asked(selection=None, near_ties=(0, 0), **changes):
    """The answers about the run of comparison_test: three layers of 10 MACs, 4x4 bits between 8x8."""
    metrics = metrics_of(**changes)
    return answers(
        run_facts(SELECTION | (selection or {}), metrics), comparison(metrics), near_ties=near_ties
    )


def test_what_was_chosen():
    chosen, _, _ = asked({"target_bops": 1000})
    assert (chosen.question, chosen.value, chosen.mood) == ("What was chosen", "4.00 bits on average", "")
    assert chosen.text == (
        "4 bits for 1 of 1 searched layers. Their weights have 4 bits. One image costs 500 BOPs, 50.00% "
        "below the budget. The file has 1,100 bytes."
    )
    assert asked({"target_bops": 400})[0].mood == "bad"  # 500 are spent
    assert "no budget in BOPs was given" in asked()[0].text


def test_budgets_of_other_kinds_are_met_or_not():
    ram = {"unit": "bytes of RAM", "value": 60, "target": 64.0}
    time = {"unit": "ms", "figure": 2.5, "target": 2.0, "met": False}
    chosen, gain, _ = asked(
        costs=[ram], device={"name": "npu", "figures": {}, "budgets": {"target_latency": time}}
    )
    assert (
        " One image costs 500 BOPs; it takes 60 bytes of RAM of a budget of 64; by the device's tool, the "
        "time of one image is 2.5 ms, which exceeds a budget of 2. "
    ) in chosen.text
    assert chosen.mood == "bad"
    # The gain is told in what has the budget and is known: RAM, 60 beside 100.
    assert gain.value == "40% less RAM on a microcontroller"
    assert asked(costs=[ram])[0].mood == ""
    over = asked(costs=[ram | {"target": 59.0}])[0]
    assert "60 bytes of RAM, which exceeds a budget of 59." in over.text and over.mood == "bad"


def test_a_network_of_two_layers_has_nothing_between_its_ends():
    layers = [SELECTION["layers"][0], SELECTION["layers"][2]]
    chosen, _, _ = asked({"layers": layers})
    assert chosen.value == "8 bits at both ends" and "searched" not in chosen.text


def test_what_it_gains_over_int8():
    _, gain, _ = asked()
    assert (gain.question, gain.mood) == ("What it gains over plain int8", "good")
    assert gain.value == "75% fewer BOPs"  # 500 of 2000
    assert gain.text.startswith("Better than plain int8: 75% fewer BOPs, 40% less RAM")
    assert "Worse: 10% larger file" in gain.text and "4 bits everywhere" not in gain.text
    assert asked(bops=3000)[1].mood == "bad" and asked(bops=3000)[1].value == "50% more BOPs"


def test_without_int8_it_is_compared_with_what_there_is():
    baselines = metrics_of()["baselines"] | {"int8": {"refused": "no int8 here."}}
    assert asked(baselines=baselines)[1].question == "What it gains over 4 bits everywhere"
    _, gain, _ = asked(baselines={"int8": {"refused": "no int8 here."}})
    assert gain.question == "What it gains over 8-bit activations" and "No int8 here." in gain.text
    # 10 * (64 + 16 + 64) as recorded in the layers, beside 10 * (64 + 32 + 64) at 8 bits.
    _, gain, _ = asked({"bops": 1440}, baselines={})
    assert gain.value == "10% fewer BOPs" and "--baselines=int8" in gain.text


@pytest.mark.parametrize("exact", [True, False])
def test_whether_it_can_be_trusted(exact):
    found = {} if exact else {"code_disagreement": 0.25, "top1_agreement": 0.5}
    _, _, trust = asked(near_ties=(1, 4), float_top1=0.76, **found)
    assert trust.mood == ("good" if exact else "")
    assert trust.value == ("Exact; 75.00% top-1" if exact else "75.00% top-1")
    assert ("computes exactly" in trust.text) == exact
    assert ("on 50.00% of the images; 25.00% of the logit codes differ" in trust.text) != exact
    assert "-1.00 points against the float network." in trust.text
    # Two standard errors of 0.75 on 10,000 images: 2 * sqrt(0.75 * 0.25 / 10,000) = 0.87 points.
    assert "On 10,000 images the top-1 is known to ±0.9 points." in trust.text
    assert '1 of 4 choices of bits are near ties: "Why these bits" says' in trust.text
    assert "near ties" not in asked(near_ties=(1, 5))[2].text
