"""The notebooks run in any folder, show what they are to show, and are stored with it."""

import json
import re
from pathlib import Path

import nbformat
import pytest

from benchmarks import notebooks

ROOT = Path(__file__).parents[1]
NAMES = ("own_network", "quickstart", "reading_the_trade_off")
# Values that the tests ask for beside those that the notebooks show.
RESULTS = {
    "quickstart": """
import json
print(json.dumps({
    "images": report.eval_images, "folded": report.folded_top1, "file": report.tflite_top1,
    "agreement": report.top1_agreement, "disagreement": report.code_disagreement,
    "float": float_top1, "fixed": fixed_top1, "bytes": len(result),
    "bops": selection.bops, "budget": budget, "bits": [layer.activation_bits for layer in selection.layers],
}))
""",
    "own_network": """
import json
print(json.dumps({
    "float": float_top1, "fixed": fixed_top1, "file": report.tflite_top1, "bytes": len(data),
    "disagreement": report.code_disagreement, "average": selection.average_bits["by_ops"],
}))
""",
    "reading_the_trade_off": """
import json
print(json.dumps({
    "rows": {name: [float(value) for value in row] for name, row in rows.items()}, "budgets": budgets,
    "bits": {name: [layer.activation_bits for layer in s.layers] for name, s in selections.items()},
    "float": float_top1, "reasons": len(found.layers),
}))
""",
}


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Runs a notebook once, in a folder with nothing in it: name -> (notebook, its folder, values)."""
    found = {}

    def run(name):
        if name not in found:
            folder = tmp_path_factory.mktemp(name)
            notebook = notebooks.read(name)
            notebook.cells.append(nbformat.v4.new_code_cell(RESULTS[name]))
            notebooks.executed(notebook, folder)
            found[name] = notebook, folder, json.loads(printed(notebook.cells.pop()))
        return found[name]

    return run


def printed(cell) -> str:
    return "".join(output.text for output in cell.get("outputs", []) if output.get("name") == "stdout")


def test_there_are_three():
    assert tuple(notebooks.names()) == NAMES
    readme = (ROOT / "README.md").read_text()
    assert "make notebook" in readme and all(f"notebooks/{name}.ipynb" in readme for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_stored_with_what_it_shows_and_explains_itself(name):
    notebook = notebooks.read(name)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    # All cells ran in order, without an error, and most show something.
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert {output.output_type for output in outputs} <= {"stream", "display_data", "execute_result"}
    assert {output.name for output in outputs if output.output_type == "stream"} == {"stdout"}
    assert sum(bool(cell.outputs) for cell in code) >= len(code) / 2
    assert len(notebook.cells) - len(code) >= 6
    text = json.dumps(notebook)
    assert "make notebook" in text and "sys.path" not in text
    for link in re.findall(r"\]\(([^)]+)\)", text):
        assert "://" in link or (notebooks.FOLDER / link).exists(), link


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_what_is_stored_is_what_it_shows_today(name, ran):
    """Numbers differ from machine to machine, and so may the bits; the words around them do not."""
    notebook, _, _ = ran(name)

    def words(cell):
        text = re.sub(r"'|\d+ ?: |\d+/\d+ - .*", "", printed(cell))  # lists of candidates, and lines of Keras
        return re.findall(r"[a-z]{2,}", re.sub(r"near ties: .*", "near ties", text))

    for now, before in zip(notebook.cells, notebooks.read(name).cells, strict=True):
        assert words(now) == words(before)
        if now.cell_type == "code":
            assert [o for o in now.outputs if o.get("name") == "stderr"] == []


@pytest.mark.slow
def test_the_quickstart_file_computes_what_was_trained(ran):
    _, folder, results = ran("quickstart")
    assert results["images"] == 360
    assert results["agreement"] == 1.0
    assert results["disagreement"] == 0.0
    assert results["file"] == results["folded"]
    assert min(results["float"], results["fixed"], results["file"]) > 0.85
    assert abs(results["fixed"] - results["folded"]) < 0.05
    assert (folder / "digits.tflite").stat().st_size == results["bytes"]
    assert (folder / "bits.png").stat().st_size > 10_000


@pytest.mark.slow
def test_the_quickstart_bits_meet_the_budget(ran):
    _, _, results = ran("quickstart")
    # MACs by hand: stem 64*12*9 = 6912, depthwise 6912, project 64*144 = 9216, expand 16*32*108 = 55296,
    # logits 320. Ends at 8x8 bits; the rest at 4 bits times 4 on average is the budget.
    macs = [6912, 6912, 9216, 55296, 320]
    assert results["budget"] == (6912 + 320) * 64 + (6912 + 9216 + 55296) * 16
    first, *searched, last = results["bits"]
    assert (first, last) == (8, 8)
    assert set(searched) <= {8, 4, 3}
    expected = (6912 + 320) * 64 + sum(m * 4 * b for m, b in zip(macs[1:-1], searched, strict=True))
    assert results["bops"] == expected <= results["budget"]


@pytest.mark.slow
def test_the_quickstart_shows_its_picture(ran):
    notebook, _, _ = ran("quickstart")
    *_, plot, summary = notebook.cells
    (image,) = [output.data["image/png"] for output in plot.outputs]
    assert len(image) > 10_000
    assert "file and folded agree" in printed(summary)


@pytest.mark.slow
def test_a_network_of_ones_own_becomes_a_file_that_computes_what_was_trained(ran):
    _, folder, results = ran("own_network")
    assert results["disagreement"] == 0.0 and results["average"] <= 4.5
    assert min(results["float"], results["fixed"], results["file"]) > 0.85
    assert (folder / "network.tflite").stat().st_size == results["bytes"]


@pytest.mark.slow
def test_the_trade_off_has_a_mix_of_bits_and_its_points_in_order(ran):
    _, _, results = ran("reading_the_trade_off")
    rows, bits = results["rows"], results["bits"]
    assert set(rows) == {"3.5 bits", "4.5 bits", "6 bits", "4 bits everywhere", "plain int8"}
    # By hand as above: 3.5, 4.5 and 6 bits times 4 for the searched layers, the ends at 8x8.
    ends, searched = (6912 + 320) * 64, 6912 + 9216 + 55296
    assert results["budgets"] == [ends + searched * 4 * average for average in (3.5, 4.5, 6)]
    for name, budget in zip(("3.5 bits", "4.5 bits", "6 bits"), results["budgets"], strict=True):
        assert rows[name][1] <= budget < rows["plain int8"][1] == 64 * (searched + 6912 + 320)
    assert rows["4 bits everywhere"][1] == ends + searched * 16
    # Not all layers of all choices have the same bits.
    assert any(len(set(layers[1:-1])) > 1 for layers in bits.values())
    assert min(top1 for top1, *_ in rows.values()) > 0.8 and results["float"] > 0.85
    assert results["reasons"] == 3
