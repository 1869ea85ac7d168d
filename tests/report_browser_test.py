"""The report in a real browser: nothing sticks out, every text can be read, and the first screen answers."""

import io
import json
import pathlib
import re

import pytest
from browser import HEIGHTS
from matplotlib import image

from mmx_tf import report
from mmx_tf.report import front

RESULTS = pathlib.Path(__file__).resolve().parents[1] / "results"
QUESTIONS = ["What was chosen", "What it gains over", "Can it be trusted"]
# The curves of a run are in its logs, which are not recorded.
HISTORY = {
    "select": {"meta_loss": [2.0, 1.5, 1.2], "bops": [9e8, 7e8, 5e8]},
    "train": {
        "loss": [1.0, 0.5, 0.4, 0.3],
        "accuracy": [0.6, 0.7, 0.8, 0.8],
        "learning_rate": [0.1, 0.1, 0.0, 0.0],
    },
    "float": {"loss": [1.0, 0.5]},
}


def recorded(folder, name):
    return json.loads((RESULTS / folder / f"{name}.json").read_text())


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Pages of recorded runs: one of 53 layers, and one that compares two targets."""
    folder = tmp_path_factory.mktemp("pages")
    names = ("bit_selection", "metrics", "parity")
    selection, metrics, parity = (recorded("cifar10_mbv2", name) for name in names)
    settings = {
        "dataset": "cifar10",
        "command": f"python -m mmx_tf.train --workdir={'folder/' * 30}",
        "seed": "0",
    }
    report.write_report(
        folder / "run.html",
        selection=selection,
        metrics=metrics,
        parity=parity,
        history=HISTORY,
        settings=settings,
    )
    targets = {"target_a": recorded("quick", "metrics"), "target_b": metrics}
    document = front.document(targets, seconds={"select": 100.0})
    report.write_front_report(folder / "front.html", document, settings=settings)
    return {path.stem: path for path in folder.iterdir()}


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("page", ["run", "front"])
def test_nothing_sticks_out_and_every_text_can_be_read(browser, pages, page, width, dark, tmp_path):
    browser.open(pages[page], width, dark=dark)
    picture = browser.screenshot()
    (tmp_path / f"{page}_{width}.png").write_bytes(picture)
    pixels = image.imread(io.BytesIO(picture))
    assert pixels.shape[1] == width and pixels.shape[0] > HEIGHTS[width]
    # The corner is paper, and the scheme was heard.
    assert (pixels[0, 0, :3].mean() < 0.2) == dark
    assert browser.problems(figures=width == 1280) == []


def test_print_is_black_on_white_whole_and_within_the_paper(browser, pages):
    browser.open(pages["run"], 718, dark=True, printed=True)  # A4 with margins of 1 cm
    assert browser.problems() == []
    # What is collapsed on screen is printed, and no chart is cut or says that it scrolls.
    closed = """
        for (const part of document.querySelectorAll('details')) part.open = false;
        const rows = [...document.querySelectorAll('details td')];
        return [rows.length, rows.filter((row) => row.checkVisibility({contentVisibilityAuto: true})).length];
    """
    rows, visible = browser.ask(closed)
    assert rows == visible > 50
    assert browser.ask("return getComputedStyle(document.querySelector('.hint')).display") == "none"
    pages_of_pdf = re.findall(rb"/Type\s*/Page\b", browser.pdf())
    assert 3 <= len(pages_of_pdf) <= 15


@pytest.mark.parametrize("width", [1280, 390])
def test_the_first_screen_answers(browser, pages, width):
    browser.open(pages["run"], width)
    answers = browser.ask(
        "return [...document.querySelectorAll('.answers section')].map((one) =>"
        " [one.querySelector('h2').textContent, one.getBoundingClientRect().bottom])"
    )
    assert [
        name[: len(question)] for (name, _), question in zip(answers, QUESTIONS, strict=True)
    ] == QUESTIONS
    assert max(bottom for _, bottom in answers) <= HEIGHTS[width]


def test_a_chart_that_scrolls_says_so_and_can_be_scrolled_by_keys(browser, pages):
    seen = """
        return [...document.querySelectorAll('figure')].map((figure) => {
          const box = figure.querySelector('.scroll');
          return [figure.querySelector('.hint').checkVisibility(), box.scrollWidth > box.clientWidth,
                  box.tabIndex, getComputedStyle(box).getPropertyValue('--fade')];
        });
    """
    for width in (1280, 780, 600, 390):
        browser.open(pages["run"], width)
        found = browser.ask(seen)
        assert len(found) == 4 and all(index == 0 for *_, index, _ in found)
        for hint, scrolls, _, fade in found:
            assert hint == scrolls == (fade not in ("", "0px")), (width, found)
        # The chart of all layers is wider than a phone, and narrower than a desk.
        assert found[0][0] == (width < 780)


@pytest.mark.parametrize("page", ["run", "front"])
def test_every_chart_says_what_to_look_for(browser, pages, page):
    browser.open(pages[page], 1280)
    under = browser.ask(
        "const all = (found) => [...document.querySelectorAll(found)];"
        "const texts = (found, of) => all(found).map((one) => of(one).textContent);"
        "return texts('figure', (one) => one.querySelector('figcaption'))"
        ".concat(texts('.wide', (one) => one.nextElementSibling))"
    )
    assert len(under) >= (2 if page == "front" else 7)
    assert all(re.match(r"Look (for|in) .*\.$", text.strip(), re.DOTALL) for text in under), under
    assert len(set(under)) >= len(under) - 1  # both trainings look for the same


BROKEN = """<!doctype html><style>body { margin: 0; background: #fff }</style>
<p style="color: #777; background: #eee">grey on grey</p><p style="opacity: .5">half gone</p>
<div style="background: rgba(0, 0, 0, .6)"><p>dark on darkened</p></div>
<div style="width: 2000px">wide</div>
<div style="overflow-x: auto"><div style="width: 2000px">scrolls</div></div>
<p style="visibility: hidden; color: #fff">not shown</p><p style="color: #767676">just enough</p>
"""


def test_the_checks_find_what_they_are_for(browser, tmp_path):
    """By hand: #777 on #eee 3.86; black on white at half 1.05 / (0.214 + 0.05); black on #666 3.66."""
    path = tmp_path / "broken.html"
    path.write_text(BROKEN)
    browser.open(path, 800)
    assert browser.problems() == [
        "the page is 2000 pixels wide in a window of 800",
        "<div> reaches to 2000: wide",
        'contrast 3.86 of "grey on grey"',
        'contrast 3.98 of "half gone"',
        'contrast 3.66 of "dark on darkened"',
    ]
