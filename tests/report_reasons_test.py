"""The report's section on why each layer has its bits: words, rows, near ties, and what is left out."""

import json

import pytest
from html_page import Page

from mmx_tf import report
from mmx_tf.report.reasons import reasons, tie_warning
from tests.report_pages_test import quick

SETTINGS = {"select_epochs": 2, "alpha_learning_rate": 0.01}


def neighbour(bits, change):
    return {"bits": bits, "change": change, "standard_error": 0.0021}


def choice(bits, lower, higher, margin):
    probabilities = None if margin is None else {"8": 0.2, "4": 0.4 - margin / 2, "3": 0.4 + margin / 2}
    return {
        "bits": bits, "lower": lower, "higher": higher, "probabilities": probabilities, "margin": margin
    }  # fmt: skip


@pytest.fixture
def document():
    layers = [
        ("a", choice(4, neighbour(3, 0.25), neighbour(8, -0.125), 0.3)),
        ("b", choice(3, None, neighbour(4, -0.5), 0.04)),
        ("c", choice(8, neighbour(4, -0.03), None, 0.2)),
        ("d", choice(4, neighbour(3, 0.01), neighbour(8, 0.02), 0.06)),
    ]
    layers = [{"name": name, "activation": one, "weights": None} for name, one in layers]
    return {"schema": 1, "near_tie": 0.05, "images": 256, "loss": 0.75, "near_ties": ["b"], "layers": layers}


def test_words_name_the_layers_that_matter_most(document):
    words = reasons(document, SETTINGS).words
    assert "The loss of the selection is 0.75" in words and "256 training images" in words
    # Twice the standard error of each is 0.0042.
    assert "6 of 6 changes are larger than 2 of their standard errors." in words
    document["layers"][2]["activation"]["lower"]["change"] = -0.0042
    document["layers"][3]["activation"]["lower"]["standard_error"] = None
    assert "4 of 5 changes are larger" in reasons(document, SETTINGS).words
    assert "Fewer bits would cost the most in a (+0.25 at 3 instead of 4 bits) and d (+0.01" in words
    assert "More bits would help the most in b (-0.5 at 4 instead of 3 bits) and a (-0.125" in words


def test_rows(document):
    a, b, *_ = reasons(document, SETTINGS).rows
    assert (a.lower, a.higher) == ("3 bits: +0.2500 ± 0.0021", "8 bits: -0.1250 ± 0.0021")
    assert (a.probabilities, a.margin, a.tie) == ("8: 0.200, 4: 0.250, 3: 0.550", "0.300", False)
    assert (b.lower, b.tie) == ("", True)


def test_a_quarter_of_near_ties_is_a_warning_with_the_flags_that_mend_it(document):
    document["search"] = {"steps": 100, "steps_per_epoch": 100, "rate": 0.02}
    warning = tie_warning(document, SETTINGS)
    assert warning.startswith("1 of 4 choices of bits are near ties")
    # 300 steps are enough at 0.02, in three epochs of 100 after the first.
    assert "had 100 bit-search steps; 300 are enough" in warning and "--select_epochs=4 " in warning
    # A workdir of an earlier version has no length; the report then has the flags, as texts.
    del document["search"]
    assert "600 bit-search steps are enough" in tie_warning(document, {"alpha_learning_rate": "0.01"})
    assert "more --select_epochs" in tie_warning(document, {})
    document["layers"].append({"name": "e", "activation": choice(4, None, None, 0.3), "weights": None})
    assert tie_warning(document, SETTINGS) == ""


def test_bits_that_nothing_searched_have_no_margins_and_no_warning(document):
    for layer in document["layers"]:
        layer["activation"] |= {"probabilities": None, "margin": None}
    found = reasons(document, SETTINGS)
    assert found.warning == "" and {row.margin for row in found.rows} == {""}
    # And without losses there is nothing to tell.
    for layer in document["layers"]:
        layer["activation"] |= {"lower": None, "higher": None}
    assert reasons(document, SETTINGS) is None
    assert reasons(None, SETTINGS) is None


def test_the_page_has_the_section_where_there_is_a_document(tmp_path, document):
    names = ("bit_selection", "metrics", "parity")
    selection, metrics, parity = map(quick, names)
    pages = []
    for found in (None, json.loads(json.dumps(document))):
        path = tmp_path / "report.html"
        report.write_report(path, selection=selection, metrics=metrics, parity=parity, reasons=found)
        pages.append(Page(path.read_text()))
    without, page = pages
    assert "Why these bits" not in without.text
    assert "Why these bits" in page.text and "1 of 4 choices of bits are near ties" in page.text
    assert "0.040 (near tie)" in page.text and len(page.alts) == len(without.alts) + 1
