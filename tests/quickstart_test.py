import json
from pathlib import Path

import nbclient
import nbformat
import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "notebooks" / "quickstart.ipynb"
# Values of the executed notebook that the test asks for, beside those it shows.
RESULTS = """
import json
print(json.dumps({
    "images": report.eval_images, "folded": report.folded_top1, "file": report.tflite_top1,
    "agreement": report.top1_agreement, "disagreement": report.code_disagreement,
    "float": float_top1, "fixed": fixed_top1, "bytes": len(result),
    "bops": selection.bops, "budget": budget, "bits": [layer.activation_bits for layer in selection.layers],
}))
"""


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The notebook after it ran in a checkout, with one cell more that prints `RESULTS`; and its folder."""
    checkout = tmp_path_factory.mktemp("checkout")
    for package in ("mmx_tf", "layers", "export"):
        (checkout / package).symlink_to(ROOT / package)
    folder = checkout / "notebooks"
    folder.mkdir()
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(RESULTS))
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}}).execute()
    return notebook, folder


def printed(cell) -> str:
    return "".join(output.text for output in cell.outputs if output.get("name") == "stdout")


def test_the_file_computes_what_was_trained(executed):
    notebook, folder = executed
    results = json.loads(printed(notebook.cells[-1]))
    assert results["images"] == 360
    assert results["agreement"] == 1.0
    assert results["disagreement"] == 0.0
    assert results["file"] == results["folded"]
    assert min(results["float"], results["fixed"], results["file"]) > 0.85
    assert abs(results["fixed"] - results["folded"]) < 0.05
    assert (folder / "digits.tflite").stat().st_size == results["bytes"]


def test_the_bits_meet_the_budget(executed):
    notebook, _ = executed
    results = json.loads(printed(notebook.cells[-1]))
    # MACs by hand: stem 64*12*9 = 6912, depthwise 6912, project 64*144 = 9216, expand 16*32*108 = 55296,
    # logits 320. Ends at 8x8 bits; the rest at 4 bits times 4 on average is the budget.
    macs = [6912, 6912, 9216, 55296, 320]
    assert results["budget"] == (6912 + 320) * 64 + (6912 + 9216 + 55296) * 16
    first, *searched, last = results["bits"]
    assert (first, last) == (8, 8)
    assert set(searched) <= {8, 4, 3}
    expected = (6912 + 320) * 64 + sum(m * 4 * b for m, b in zip(macs[1:-1], searched, strict=True))
    assert results["bops"] == expected <= results["budget"]


def test_every_step_is_shown_and_nothing_else_is(executed):
    notebook, folder = executed
    *_, plot, summary, _ = notebook.cells
    (image,) = [output.data["image/png"] for output in plot.outputs]
    assert len(image) > 10_000
    assert (folder / "bits.png").stat().st_size > 10_000
    assert "file and folded agree" in printed(summary)
    errors = [
        output.text
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.get("name") == "stderr"
    ]
    assert errors == []


def test_the_notebook_is_stored_without_outputs_and_explains_itself():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert len(notebook.cells) - len(code) >= 6
