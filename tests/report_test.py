"""The report: figures against hand arithmetic; a page that is whole, self-contained, escaped, repeatable."""

import base64
import io
import math
import re
import xml.etree.ElementTree as ElementTree

import pytest
from html_page import Page
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import colors, image, pyplot

from mmx_tf.notation import duration, percent, si
from mmx_tf.report import plots, print_summary, save_bits_plot, themes, write_report
from mmx_tf.report.facts import run_facts

_HOSTILE = '<script>alert("x")</script> & $\\frac{1}$'


def _layer(name, kind, macs, activation_bits, weight_bits):
    return {
        "name": name,
        "kind": kind,
        "macs": macs,
        "activation_bits": activation_bits,
        "weight_bits": weight_bits,
        "signed": kind == "depthwise",
    }


@pytest.fixture
def selection():
    layers = [
        _layer("stem", "conv", 1000, 8, 8),
        _layer("block_depthwise", "depthwise", 300, 4, 4),
        _layer("block_project", "conv", 500, 3, 4),
        _layer("logits", "dense", 100, 8, 8),
    ]
    # 1000*64 + 300*16 + 500*12 + 100*64
    return {"schema": 1, "bit_widths": [8, 4, 3], "layers": layers, "bops": 81_200, "target_bops": 82_000}


@pytest.fixture
def metrics():
    return {
        "float_top1": 0.9312,
        "fixed_top1": 0.92,
        "folded_top1": 0.9185,
        "tflite_top1": 0.9185,
        "top1_agreement": 1.0,
        "code_disagreement": 0.00031,
        "eval_images": 10_000,
        "bops": 81_200,
        "target_bops": 82_000,
        "average_bits": {"plain": 3.5, "by_ops": 3.375, "by_elements": 3.8},
        "file_bytes": 3_990_000,
        "seconds": {"select": 1800.0, "verify": 12.34},
        "versions": {"tensorflow": "2.21.0"},
    }


HISTORY = {
    "float": {},
    "select": {
        "bops": [96_000, 90_000, 81_200],
        "meta_loss": [2.0, 1.0, 0.5],
        "search_loss": [math.nan, 1.5, 1.0],
        "alpha_entropy": [1.1, 1.0, 0.9],
    },
    "train": {"loss": [1.0], "val_accuracy": [0.9]},
}


def _write(folder, selection, metrics, **options):
    path = folder / "report.html"
    write_report(path, selection=selection, metrics=metrics, **options)
    return Page(path.read_text(encoding="utf-8"))


def test_facts_by_hand(selection, metrics):
    facts = run_facts(selection, metrics)
    assert [layer.bops for layer in facts.layers] == [64_000, 4_800, 6_000, 6_400]
    assert facts.layer_bops == facts.bops == 81_200
    assert facts.macs == 1_900
    assert facts.uniform_bops(8) == 64_000 + 300 * 32 + 500 * 32 + 6_400
    assert facts.uniform_bops(4) == 83_200
    assert facts.layers[1].bops_share == 4_800 / 81_200
    assert facts.layers[1].macs_share == 300 / 1_900
    assert [facts.layers_at(bits) for bits in (8, 4, 3)] == [0, 1, 1]  # the two end layers were not searched
    del metrics["average_bits"]
    assert run_facts(selection, metrics).average_bits == {"plain": 3.5, "by_ops": (4 * 300 + 3 * 500) / 800}


def test_page_says_what_the_run_gave(tmp_path, selection, metrics):
    settings = {
        "command": "python -m mmx_tf.train --flagfile=quick.flags",
        "model": "mobilenet_v2",
        "dataset": "digits",
        "train_epochs": 1,
        "seed": 3,
    }
    page = _write(tmp_path, selection, metrics, history=HISTORY, settings=settings)
    for words in (
        "MetaMix report: mobilenet_v2 on digits",
        "81.20 k BOPs",
        "0.98% below the budget",
        "15.42% below what 8-bit activations everywhere would cost",  # 81200 / 96000
        "width of the activations: 4 bits for 1 and 3 bits for 1.",
        "91.85%",
        "93.12%",
        "-1.27 points",
        "0.03% of the logit codes differ",
        "takes as much time and as much memory",
        "30 min 00 s",
        "python -m mmx_tf.train --flagfile=quick.flags",
        "train_epochs 1",
        "tensorflow 2.21.0",
        "Bit selection over time",
        "Weight training over time",
        "weighted by input elements 3.80",
    ):
        assert words in page.text.replace("81.20 kBOPs", "81.20 k BOPs"), words
    assert "Training of the float network" not in page.text
    assert "2 block_depthwise depthwise 300 4 4 signed 4,800 5.91%" in page.text


def test_page_is_self_contained_and_accessible(tmp_path, selection, metrics):
    page = _write(tmp_path, selection, metrics, history=HISTORY)
    assert len(page.alts) == 3 and all(page.alts)
    assert len(page.links) == 6  # every figure once for light and once for dark screens
    for link in page.links:
        form, data = link.split(";base64,")
        assert form == "data:image/svg+xml"
        assert ElementTree.fromstring(base64.b64decode(data)).tag.endswith("svg")
    text = (tmp_path / "report.html").read_text()
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert "@import" not in text and "url(" not in text and "http" not in re.sub(r"base64,[^\"]*", "", text)


def test_names_from_the_run_are_escaped(tmp_path, selection, metrics):
    selection["layers"][1]["name"] = selection["layers"][2]["kind"] = _HOSTILE
    metrics["versions"] = {_HOSTILE: _HOSTILE}
    metrics["seconds"] = {_HOSTILE: 1.0}
    metrics["average_bits"] = {_HOSTILE: 4.0}
    settings = {name: _HOSTILE for name in ("command", "model", "dataset", _HOSTILE)}
    history = {"select": {_HOSTILE: [1.0, 2.0]}}
    page = _write(tmp_path, selection, metrics, settings=settings, history=history)
    assert "script" not in page.tags
    assert page.text.count(_HOSTILE) >= 10
    assert page.alts == [page.alts[0], f"Bit selection over time: {_HOSTILE}."]


def test_exact_file_over_budget_and_other_records(tmp_path, selection, metrics):
    metrics["code_disagreement"] = 0.0
    assert "every logit code of every image is equal" in _write(tmp_path, selection, metrics).text
    selection["target_bops"] = 58_000
    assert "40.00% above the budget" in _write(tmp_path, selection, metrics).text
    selection["bops"] = 80_000
    assert "sum to 81,200 BOPs but 80,000 are recorded" in _write(tmp_path, selection, metrics).text


def test_optional_parts_may_be_missing(tmp_path, selection, metrics):
    for key in ("float_top1", "average_bits", "seconds", "versions", "target_bops", "bops"):
        del metrics[key]
    del selection["target_bops"], selection["schema"]
    for layer in selection["layers"]:
        del layer["signed"]
    page = _write(tmp_path, selection, metrics, history={"select": {"bops": [], "loss": [math.inf]}})
    assert "no budget in BOPs was given" in page.text and "float network" not in page.text
    print_summary(selection, metrics, file=io.StringIO())
    for layers in (selection["layers"][:2], selection["layers"][:1]):  # nothing between the ends
        assert "MetaMix chose" not in _write(tmp_path, {**selection, "layers": layers}, metrics).text


def test_missing_keys_are_named_and_the_old_report_stays(tmp_path, selection, metrics):
    _write(tmp_path, selection, metrics)
    before = (tmp_path / "report.html").read_bytes()
    del metrics["tflite_top1"], metrics["file_bytes"]
    with pytest.raises(ValueError, match="`metrics` lacks tflite_top1, file_bytes; it has float_top1"):
        _write(tmp_path, selection, metrics)
    with pytest.raises(ValueError, match="`selection` lacks bit_widths, layers, bops; it has nothing"):
        save_bits_plot(tmp_path / "bits.png", {}, metrics)
    metrics |= {"tflite_top1": 0.5, "file_bytes": 1}
    del selection["layers"][2]["kind"]
    with pytest.raises(ValueError, match=r"layer 2 \(block_project\) of `selection` lacks kind"):
        print_summary(selection, metrics)
    with pytest.raises(ValueError, match="empty `layers`"):
        print_summary({**selection, "layers": []}, metrics)
    assert (tmp_path / "report.html").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_same_run_gives_the_same_bytes(tmp_path, selection, metrics):
    pages = []
    for _ in range(2):
        _write(tmp_path, selection, metrics, history=HISTORY)
        pages.append((tmp_path / "report.html").read_bytes())
    assert pages[0] == pages[1]


def test_a_figure_painted_for_a_theme_has_the_colours_of_one_that_is_drawn_in_it(selection, metrics):
    facts = run_facts(selection, metrics)

    def drawn(theme):
        return plots.render(plots.bits_figure(facts, theme=theme), "svg").decode()

    for theme in (themes.LIGHT, themes.DARK):
        found, expected = (
            re.findall("#[0-9a-f]{6}", svg)
            for svg in (themes.painted(drawn(themes.MARKS), theme), drawn(theme))
        )
        assert found == expected and theme.paper in found and theme.kinds["dense"] in found
    assert len(set(themes.MARKS.colours)) == len(themes.MARKS.colours)


def test_bits_plot_shows_bits_kinds_and_shares(tmp_path, selection, metrics):
    facts = run_facts(selection, metrics)
    bits_axes, cost_axes = plots.bits_figure(facts).axes
    assert [bar.get_height() for bar in bits_axes.patches] == [8, 4, 3, 8]
    assert [colors.to_hex(bar.get_facecolor()) for bar in bits_axes.patches] == [
        themes.LIGHT.kinds[kind] for kind in ("conv", "depthwise", "conv", "dense")
    ]
    assert [bar.get_height() for bar in cost_axes.patches] == [
        100 * layer.bops_share for layer in facts.layers
    ]
    assert list(cost_axes.lines[0].get_ydata()) == [100 * layer.macs_share for layer in facts.layers]
    assert [label.get_text() for label in cost_axes.get_xticklabels()] == [
        "stem",
        "block_depthwise",
        "block_project",
        "logits",
    ]
    save_bits_plot(tmp_path / "bits.png", selection, metrics, title="digits")
    assert image.imread(tmp_path / "bits.png").shape[:2] == (700, 1600)
    assert [path.name for path in tmp_path.iterdir()] == ["bits.png"]
    assert not pyplot.get_fignums()


def test_many_long_names_are_thinned_and_shortened(selection, metrics):
    selection["layers"] = [
        _layer(f"stage_{i}_with_a_very_long_name_conv", "conv", 10, 4, 4) for i in range(200)
    ]
    _, cost_axes = plots.bits_figure(run_facts(selection, metrics)).axes
    labels = [label.get_text() for label in cost_axes.get_xticklabels()]
    assert len(labels) == 67  # every third
    assert labels[1] == "stage_3_wit…g_name_conv"


def test_summary_is_aligned(selection, metrics, capsys):
    selection["layers"][1]["name"] = "a_name_that_is_longer_than_all_the_others"
    print_summary(selection, metrics)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == "# layer kind MACs act bits weight bits BOPs share".split()
    assert lines[3].split() == [
        "2",
        "a_name_that_is_longer_than_all_the_others",
        "depthwise",
        "300",
        "4",
        "4",
        "4.800",
        "k",
        "5.91%",
    ]
    assert len({len(line) for line in lines[:7]}) == 1
    rest = {line.split("  ")[0]: line for line in lines[7:]}
    assert rest["cost of one image"].endswith("81.20 kBOPs  (budget 82.00 kBOPs)")
    assert rest["top-1, .tflite file"].endswith(" 91.85%")
    assert rest["average bits"].endswith("3.50 plain, 3.38 by_ops, 3.80 by_elements")
    assert rest["file and folded agree"].endswith("100% of 10,000 images, 0.03% of logit codes differ")


@given(st.floats(0, 1))
def test_percent_never_claims_more_than_is_true(fraction):
    text = percent(fraction)
    assert (text == "100%") == (fraction == 1) and (text == "0%") == (fraction == 0)
    if text[0] not in "<>":
        assert abs(float(text[:-1]) / 100 - fraction) <= 0.5000001e-4
    else:
        assert min(fraction, 1 - fraction) < 1e-4


@given(st.floats(1, 9e14))
def test_si_keeps_four_digits(value):
    number, prefix = si(value).split(" ")
    assert len(number.replace(".", "")) <= 5
    factor = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}[prefix]
    assert float(number) * factor == pytest.approx(value, rel=5.1e-4)


def test_units():
    assert si(5_394_053_120) == "5.394 G" and si(999_999) == "1.000 M" and si(96) == "96 " and si(0) == "0 "
    assert [duration(s) for s in (0.04, 12.34, 59.97, 3599.7, 3725)] == [
        "0.0 s",
        "12.3 s",
        "1 min 00 s",
        "1 h 00 min",
        "1 h 02 min",
    ]
    assert percent(0.99999) == ">99.99%" and percent(1e-9) == "<0.01%" and percent(math.nan) == "not a number"


def test_parity_is_shown_by_kernels_and_by_operator(tmp_path, selection, metrics):
    def runtime(images, differing, agreement):
        operators = [
            {
                "name": "stem<1>", "kind": "CONV_2D", "codes": 1000, "differing": 0, "largest_difference": 0,
                "rules": "xnnpack",
            },
            {
                "name": "pool", "kind": "MEAN", "codes": 200, "differing": differing, "largest_difference": 1,
                "rules": None,
            },
        ]  # fmt: skip
        return {
            "images": images, "operators": operators, "top1": 0.9, "top1_agreement": agreement,
            "code_disagreement": differing / 400,
        }  # fmt: skip

    parity = {
        "sha256": "ab" * 32,
        "runtimes": {"xnnpack": runtime(64, 0, 1.0), "reference": runtime(8, 50, 0.75)},
    }
    text = _write(tmp_path, selection, metrics, parity=parity).text
    assert "Parity of the file" in text and "ab" * 32 in text
    assert "0 of 1,200" in text and "50 of 1,200" in text and "2 of 2" in text and "1 of 2" in text
    assert "stem<1>" in text and "25.00%" in text and "75.00%" in text
    assert "Parity of the file" not in _write(tmp_path, selection, metrics).text


def test_weight_bits_that_were_searched_are_shown(selection, metrics, tmp_path):
    for layer, bits in zip(selection["layers"], (8, 2, 4, 8), strict=True):
        layer["weight_bits"] = bits
    selection["bops"] = 1000 * 64 + 300 * 8 + 500 * 12 + 100 * 64
    facts = run_facts(selection, metrics)
    assert facts.mixed_weights
    axes, _ = plots.bits_figure(facts).axes
    (marks,) = axes.get_lines()
    assert list(marks.get_ydata()) == [8, 2, 4, 8] and list(axes.get_yticks()) == [2, 3, 4, 8]
    write_report(tmp_path / "report.html", selection=selection, metrics=metrics)
    page = (tmp_path / "report.html").read_text()
    assert "It also chose the width of their weights: 4 bits for 1 and 2 bits for 1. " in page
    assert "Their weights have 3.00 bits in the mean." in page and "activation and weight bits" in page


def test_weight_bits_that_are_the_same_everywhere_are_not(selection, metrics):
    facts = run_facts(selection, metrics)
    assert not facts.mixed_weights and not plots.bits_figure(facts).axes[0].get_lines()


def test_a_budget_in_bytes_is_told_to_the_byte(selection, metrics, tmp_path):
    selection["target_bops"] = None
    metrics["cost"] = {"unit": "bytes", "value": 2_893_111, "target": 2_900_000.0}
    write_report(tmp_path / "report.html", selection=selection, metrics=metrics)
    page = (tmp_path / "report.html").read_text()
    assert "it takes 2,893,111 bytes of a budget of 2,900,000." in page
    assert "BOPs</strong>, 15.42% below what 8-bit activations everywhere would cost" in page


def test_all_of_several_budgets_are_told(selection, metrics, tmp_path, capsys):
    ram = {"unit": "bytes of RAM", "value": 47_112, "target": 48_000.0}
    metrics |= {"cost": ram, "costs": [ram, {"unit": "us", "value": 8.5, "target": 9.0}]}
    write_report(tmp_path / "report.html", selection=selection, metrics=metrics)
    told = (
        "below the budget; it takes 47,112 bytes of RAM of a budget of 48,000; it takes 8.5 us of a budget "
        "of 9."
    )
    assert told in (tmp_path / "report.html").read_text()
    print_summary(selection, metrics)
    rows = [line for line in capsys.readouterr().out.splitlines() if "budget's unit" in line]
    assert len(rows) == 2 and rows[1].endswith("8.5 us (budget 9)")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model": "resnet18", "selection": "search"}, ("resnet18</strong>", "MetaMix chose the width")),
        ({"model": "resnet18", "float_model": "imagenet"}, ("resnet18</strong>", "MetaMix chose the width")),
        ({"float_model": "a/own.keras", "selection": "random"}, ("own</strong>", "a random draw chose")),
        ({"model": "resnet18", "selection": "uniform"}, ("resnet18</strong>", "--selection=uniform has set")),
        (
            {"bit_selection": "b.json", "selection": "search"},
            ("<strong>The network</strong>", "a given selection has set"),
        ),
    ],
)
def test_the_page_names_the_network_and_what_chose_its_bits(settings, words, selection, metrics, tmp_path):
    _write(tmp_path, selection, metrics, settings=settings)
    said = (tmp_path / "report.html").read_text()
    assert all(word in said for word in words), said
