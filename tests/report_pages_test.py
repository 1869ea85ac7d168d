"""The templates of the report: they escape every text of a run, and refuse a value that is missing."""

import base64
import json
import pathlib
import xml.etree.ElementTree as ElementTree

import jinja2
import pytest
from html_page import Page

from mmx_tf import report
from mmx_tf.report import front, rendering

ROOT = pathlib.Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results" / "quick"
TEMPLATES = ROOT / "mmx_tf" / "report" / "templates"
PLAIN = "word{}z"
# A tag, an entity, both quotes, the ends of a style, a comment and a figure, an expression of a template.
HOSTILE = "word{}z<script>&\"'</style>--></svg>{{{{ 7 * 7 }}}}"


class Words:
    """Gives names that are all different, and remembers them."""

    def __init__(self, form):
        self.form, self.given = form, []

    def __call__(self):
        self.given.append(self.form.format(len(self.given)))
        return self.given[-1]


def quick(name):
    """A result of the recorded run of quick.flags."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def settings_of(word):
    return {name: word() for name in ("model", "dataset", "command", "image_size", word())}


def page_of_a_run(path, form):
    """The page of the recorded run in which every text that a run may choose is replaced, and these texts."""
    word = Words(form)
    selection, metrics, parity = map(quick, ("bit_selection", "metrics", "parity"))
    for layer in selection["layers"]:
        layer["name"] = word()
    selection["layers"][1]["kind"] = word()
    del metrics["target_bops"]
    selection["target_bops"] = None
    metrics["cost"] = {"unit": word(), "value": 1.0, "target": 2.0}
    metrics["seconds"] = {word(): 1.0}
    metrics["versions"] = {word(): word()}
    metrics["average_bits"] = {word(): 4.0}
    parity["runtimes"] = {word(): parity["runtimes"]["xnnpack"]}
    for runtime in parity["runtimes"].values():
        for operator in runtime["operators"]:
            operator |= {"name": word(), "kind": word()}
    parity |= {"unable": {"builtin": word()}, "unpacked": {"reference": word()}, "sha256": word()}
    metrics["baselines"] = {
        "int8": {"quality": {"accuracy": 0.9}, "bops": 1, "file_bytes": 1},
        "uniform": {"refused": f"there is no uniform baseline: {word()}"},
    }
    metrics["latency"] = {
        "threads": 1, "runs": 9, "cpu_model": word(), "median_ms": {"tflite": 1.0, "int8": 2.0}
    }  # fmt: skip
    choice = {"bits": 4, "lower": {"bits": 3, "change": 0.1, "standard_error": None}, "higher": None}
    choice |= {"probabilities": {"4": 0.51, "3": 0.49}, "margin": 0.02}
    reasons = {"near_tie": 0.05, "images": 8, "loss": 1.0}
    reasons["layers"] = [{"name": word(), "activation": choice, "weights": choice} for _ in range(3)]
    history = {phase: {word(): [2.0, 1.0]} for phase in ("float", "select", "train")}
    report.write_report(
        path,
        selection=selection,
        metrics=metrics,
        parity=parity,
        reasons=reasons,
        history=history,
        settings=settings_of(word),
    )
    return path.read_text(encoding="utf-8"), word.given


def page_of_the_front(path, form):
    """The same of the page of a run with several targets."""
    word = Words(form)
    document = front.document({word(): quick("metrics"), word(): quick("metrics")}, seconds={word(): 1.0})
    report.write_front_report(path, document, settings=settings_of(word))
    return path.read_text(encoding="utf-8"), word.given


@pytest.mark.parametrize("written", [page_of_a_run, page_of_the_front])
def test_every_text_of_a_run_is_escaped(tmp_path, written):
    text, names = written(tmp_path / "report.html", HOSTILE)
    plain = Page(written(tmp_path / "plain.html", PLAIN)[0])
    page = Page(text)
    # The names make neither tags nor attributes: the page is built as one with harmless names is.
    assert page.shape == plain.shape and "script" not in text.replace("&lt;script&gt;", "")
    assert "&amp;lt;" not in text  # nothing is escaped twice
    shown = "\n".join([page.text, *page.alts, *page.links])
    assert len(names) > 5
    for name in names:
        assert name in shown and name not in text, name
    for link in page.links:
        if link.startswith("data:image/svg+xml;base64,"):
            svg = ElementTree.fromstring(base64.b64decode(link.split(",")[1]))
            assert not [element for element in svg.iter() if "script" in element.tag]
        else:
            assert link.removesuffix("/report.html") in names


def test_network_and_dataset_stand_in_title_heading_and_summary(tmp_path):
    for written, count in ((page_of_a_run, 4), (page_of_the_front, 3)):
        text, names = written(tmp_path / "report.html", HOSTILE)
        model = next(name for name in names if f"MetaMix report: {name}" in Page(text).text)
        # Also in the table of settings.
        assert Page(text).text.count(model) == count


def test_a_template_refuses_a_value_that_it_was_not_given():
    with pytest.raises(jinja2.UndefinedError, match="title"):
        rendering.rendered("page.html.jinja")
    with pytest.raises(jinja2.UndefinedError, match="command"):
        rendering.rendered("run.html.jinja", run={"times": None})


@pytest.mark.parametrize("path", sorted(TEMPLATES.glob("*.jinja")), ids=lambda path: path.name)
def test_no_template_turns_escaping_off(path):
    syntax = jinja2.Environment().parse(path.read_text())
    filters = {node.name for node in syntax.find_all(jinja2.nodes.Filter)}
    assert filters <= {"length", "percent", "si", "thousands"}
    assert not list(syntax.find_all(jinja2.nodes.ScopedEvalContextModifier))


def test_the_style_is_in_both_pages_as_it_is_in_its_file(tmp_path):
    style = (TEMPLATES / "report.css").read_text()
    assert "prefers-color-scheme: dark" in style and "max-width: 36rem" in style
    for written in (page_of_a_run, page_of_the_front):
        assert f"<style>{style}</style>" in written(tmp_path / "report.html", PLAIN)[0]
