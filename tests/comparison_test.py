"""What a file is worth beside its baselines: ratios by hand, sentences at both signs, what is missing."""

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmx_tf.report.comparison import comparison, judged, verdict, with_comparison
from mmx_tf.report.comparison_table import table
from mmx_tf.report.gains import QUANTITIES, told
from mmx_tf.report.terminal import print_summary

SELECTION = {
    "bit_widths": [8, 4],
    "bops": 500,
    "layers": [
        {"name": name, "kind": "conv", "macs": 10, "activation_bits": bits, "weight_bits": bits}
        for name, bits in (("stem", 8), ("middle", 4), ("logits", 8))
    ],
}


def memory(packed_ram, packed_flash, ram, flash):
    return {
        "packed": {"ram_bytes": packed_ram, "flash_bytes": packed_flash},
        "int8": {"ram_bytes": ram, "flash_bytes": flash},
    }


def metrics_of(**changes):
    """The metrics of a run with both baselines; what changes is named."""
    metrics = {
        "fixed_top1": 0.5, "folded_top1": 0.5, "tflite_top1": 0.75, "top1_agreement": 1.0,
        "code_disagreement": 0.0, "eval_images": 10_000, "bops": 500, "file_bytes": 1100,
        "microcontroller": memory(60, 290, 100, 500),
        "baselines": {
            "int8": {
                "quality": {"accuracy": 0.70}, "bops": 2000, "file_bytes": 1000,
                "microcontroller": memory(999, 999, 100, 500),
            },
            "uniform": {
                "quality": {"accuracy": 0.74}, "bops": 500, "file_bytes": 1100,
                "activation_bits": 4, "weight_bits": 4, "microcontroller": memory(50, 290, 100, 500),
            },
        },
        "latency": {
            "threads": 1, "runs": 100, "cpu_model": "a CPU",
            "median_ms": {"tflite": 1.12, "int8": 1.0, "uniform": 1.1},
        },
    }  # fmt: skip
    return metrics | changes


def test_a_run_without_baselines_has_no_comparison():
    metrics = metrics_of(baselines={})
    assert comparison(metrics) is None and table(metrics) is None
    assert with_comparison(metrics) == metrics


def test_ratios_by_hand():
    document = with_comparison(metrics_of())["comparison"]
    assert document["reference"] == "int8"
    own, int8, uniform = (document["files"][name] for name in ("tflite", "int8", "uniform"))
    assert own["ratios"] == pytest.approx(
        {"bops": 0.25, "file_bytes": 1.1, "latency_ms": 1.12, "ram_bytes": 0.6, "flash_bytes": 0.58}
    )
    assert set(int8["ratios"].values()) == {1.0} and int8["ram_bytes"] == 100
    assert uniform["ratios"]["ram_bytes"] == 0.5 and uniform["ratios"]["latency_ms"] == 1.1
    assert (own["score"], int8["score"], uniform["score"]) == (0.75, 0.70, 0.74)


def test_sentences_say_what_is_gained_and_what_is_lost():
    sentences = comparison(metrics_of()).sentences
    assert sentences == (
        "Better than plain int8: 75% fewer BOPs, 40% less RAM on a microcontroller, 42% less flash on a "
        "microcontroller and top-1 5.00 points higher.",
        "Worse: 10% larger file and 12% slower on this CPU.",
        # 1.12 / 1.1 is within 3%; two standard errors of 0.75 and 0.74 on 10,000 images are 1.2 points.
        "The chosen bits gain nothing over 4 bits everywhere here: no cost is lower, and the top-1 is not "
        "better by more than chance.",
        "Better than 4 bits everywhere: nothing.",
        "Worse: 20% more RAM on a microcontroller.",
        "Equal or too close to call (10,000 images, times within 3%): the same BOPs, the same file "
        "size, 2% slower on this CPU, the same flash on a microcontroller and top-1 1.00 points higher.",
    )


def test_the_same_figures_the_other_way_round_are_the_opposite():
    metrics = metrics_of(tflite_top1=0.65, bops=4000, file_bytes=500)
    metrics["latency"]["median_ms"]["tflite"] = 0.5
    metrics["microcontroller"] = memory(200, 1000, 100, 500)
    gains, losses = comparison(metrics).sentences[:2]
    assert gains == "Better than plain int8: 50% smaller file and 50% less time on this CPU."
    assert losses == (
        "Worse: 2.0 times the BOPs, 2.0 times the RAM on a microcontroller, 2.0 times the flash on a "
        "microcontroller and top-1 5.00 points lower."
    )


@pytest.mark.parametrize(
    ("changes", "time", "words"),
    [
        # The other file: 0.74 on 10,000 images, 500 BOPs, 1100 bytes, 1.1 ms, 50 B of RAM, 290 B of flash.
        # Two standard errors are 2 sqrt((0.75 * 0.25 + 0.74 * 0.26) / 10,000) = 1.23 points.
        ({}, 1.1, "gain nothing over 4 bits everywhere here: no cost is lower, and the top-1 is not better"),
        ({"bops": 600, "tflite_top1": 0.70}, 1.1, "gain nothing over"),
        ({"bops": 450}, 1.1, "beat"),
        ({"tflite_top1": 0.76}, 1.1, "beat"),  # 2.00 points
        ({}, 1.068, "gain nothing over"),  # 2.9% less time
        ({}, 1.066, "beat"),  # 3.1% less
        ({"bops": 450, "file_bytes": 1101}, 1.1, "neither beat 4 bits everywhere nor lose"),
        ({"bops": 450, "tflite_top1": 0.72}, 1.1, "trade with 4 bits everywhere: a worse top-1 at lower"),
        ({"bops": 550, "tflite_top1": 0.76}, 1.1, "trade with 4 bits everywhere: a better top-1 at higher"),
        (
            {"bops": 550, "file_bytes": 1000, "tflite_top1": 0.76},
            1.1,
            "trade with 4 bits everywhere: a better top-1, some costs lower and others higher",
        ),
    ],
)  # fmt: skip
def test_the_verdict_on_the_search_by_hand(changes, time, words):
    metrics = metrics_of(microcontroller=memory(50, 290, 100, 500), **changes)
    metrics["latency"]["median_ms"]["tflite"] = time
    (sentence,) = [one for one in comparison(metrics).sentences if one.startswith("The chosen bits")]
    assert sentence.startswith(f"The chosen bits {words}")


def test_without_a_score_or_that_baseline_there_is_no_verdict():
    found = comparison(metrics_of())
    own, _, other = found.candidates
    kinds = judged(own, other, found.score, 10_000)
    assert kinds == {
        "bops": "even", "file_bytes": "even", "latency_ms": "even", "ram_bytes": "worse",
        "flash_bytes": "even", "score": "even",
    }  # fmt: skip
    del kinds["score"]
    assert verdict(kinds, "top-1", other.name) == ""
    metrics = metrics_of()
    del metrics["baselines"]["uniform"]
    assert not any("The chosen bits" in one for one in comparison(metrics).sentences)


@pytest.mark.parametrize(
    ("ratio", "bops", "time"),
    [
        (0.44, "56% fewer BOPs", "56% less time on this CPU"),
        (1.03, "3% more BOPs", "3% slower on this CPU"),
        (0.9996, "0.04% fewer BOPs", "0.04% less time on this CPU"),
        (0.004, "99.6% fewer BOPs", "99.6% less time on this CPU"),
        (1.999, "99.9% more BOPs", "99.9% slower on this CPU"),
        (2, "2.0 times the BOPs", "2.0 times the time on this CPU"),
        (1, "the same BOPs", "the same time on this CPU"),
    ],
)
def test_ratios_are_told_as_a_person_says_them(ratio, bops, time):
    assert (told("bops", ratio), told("latency_ms", ratio)) == (bops, time)


def test_few_images_cannot_tell_accuracies_apart():
    # 2 sqrt((0.75 * 0.25 + 0.7 * 0.3) / n) is 5 points at n = 636.
    for images, side in ((640, "Better"), (630, "too close to call")):
        metrics = metrics_of(eval_images=images)
        del metrics["baselines"]["uniform"]
        sentences = comparison(metrics).sentences
        (one,) = [sentence for sentence in sentences if "top-1" in sentence]
        assert side in one


def test_of_an_error_less_is_a_gain():
    quality = {"mean_absolute_error": dict.fromkeys(("float", "fixed", "folded", "tflite"), 0.5)}
    metrics = metrics_of(task="regression", quality=quality, agreement=1.0)
    del metrics["baselines"]["uniform"]
    for error, kind in ((0.75, 0), (0.25, 1)):
        metrics["baselines"]["int8"]["quality"] = {"mean_absolute_error": error}
        way = "lower" if error > 0.5 else "higher"
        assert f"mean absolute error 0.25 {way}" in comparison(metrics).sentences[kind]


@given(own=st.floats(0.01, 100), other=st.floats(0.01, 100), quantity=st.sampled_from(["file_bytes", "bops"]))
def test_every_difference_is_told_on_its_side_and_never_rounded_to_one(own, other, quantity):
    metrics = metrics_of(**{quantity: own})
    del metrics["baselines"]["uniform"]
    metrics["baselines"]["int8"][quantity] = other
    found = comparison(metrics)
    quantities = QUANTITIES[quantity]
    if own == other:
        assert any("too close" in one and f"the same {quantities.noun}" in one for one in found.sentences)
        return
    less, more = quantities.less, quantities.more or f"more {quantities.noun}"
    words = (less, more, f"the {quantities.noun}")
    (sentence,) = [one for one in found.sentences if any(part in one for part in words)]
    assert ("Better" if own < other else "Worse:") in sentence
    number, percent = re.search(rf"([\d.]+)(%?) (?:{less}|{more}|times the)", sentence).groups()
    found = float(number)
    if percent:
        found = 1 + found / 100 * (1 if own > other else -1)
        if abs(own / other - 1) > 1e-6:
            assert found not in (0, 1)
    assert found == pytest.approx(own / other, abs=0.0051 if percent else 0.051)


def test_a_baseline_that_cannot_be_made_is_told_and_the_other_is_the_reference():
    metrics = metrics_of()
    metrics["baselines"]["int8"] = {"refused": "there is no int8 baseline: no reason."}
    found = table(metrics)
    assert found.head == ("This file", "4 bits everywhere")
    assert found.words[-1].endswith("There is no int8 baseline: no reason.")
    assert found.scale.startswith("Ratios (x) and differences are to 4 bits everywhere:")
    metrics["baselines"]["uniform"] = {"refused": "there is no uniform baseline: none."}
    found = table(metrics)
    assert not found.rows and "no int8" in found.words[0] and "no uniform" in found.words[0]


def test_an_int8_file_without_c_source_has_the_figures_of_our_own_and_says_so():
    metrics = metrics_of()
    metrics["baselines"]["int8"]["microcontroller"] = {"refused": "an operator"}
    metrics["microcontroller"] = memory(60, 290, 120, 580)
    found = comparison(metrics)
    assert found.ratio(found.candidates[0], "ram_bytes") == 0.5
    assert found.ratio(found.candidates[0], "flash_bytes") == 0.5
    assert "this file's C source with 8-bit activations and weights" in found.sentences[-1]


def test_weights_with_other_bits_than_activations_are_named():
    metrics = metrics_of()
    metrics["baselines"]["uniform"] |= {"activation_bits": 3, "weight_bits": 4}
    assert table(metrics).head[2] == "3-bit activations, 4-bit weights everywhere"


def test_what_is_not_known_is_left_out():
    metrics = metrics_of(latency={"refused": "the files cannot be timed."}, microcontroller={"refused": "x"})
    for facts in metrics["baselines"].values():
        facts["microcontroller"] = {"refused": "x"}
    found = table(metrics)
    assert [row.name for row in found.rows] == ["Top-1", "Bit operations of one image", "Bytes of the file"]
    assert found.words[-1].endswith("The files cannot be timed.") and "Times" not in found.note


def test_the_summary_leads_with_the_table_and_ends_with_the_files():
    out = io.StringIO()
    print_summary(SELECTION, metrics_of(), out, folder="runs/one")
    lines = out.getvalue().splitlines()
    assert lines[0].split() == ["This", "file", "Plain", "int8", "4", "bits", "everywhere"]
    assert lines[1].split() == ["Top-1", "75.00%", "+5.00", "points", "70.00%", "74.00%", "+4.00", "points"]
    assert lines[2].split()[-7:] == ["0.25", "2.000", "kBOPs", "500", "BOPs", "x", "0.25"]
    assert lines[7] == "Ratios (x) and differences are to plain int8: x 0.50 is half of its figure."
    assert "Better than plain int8: 75% fewer BOPs" in lines[8]
    assert [line.split() for line in lines[-2:]] == [
        ["the", "file", "runs/one/model.tflite"],
        ["the", "report", "runs/one/report.html"],
    ]
