"""Accuracy over BOPs of several targets, on figures made up for the test."""

import json

import pytest
from matplotlib.image import imread

from mmx_tf import report
from mmx_tf.recipe.recipe import Recipe
from mmx_tf.report import front
from mmx_tf.run import stages
from mmx_tf.run.run import Run


def metrics(target, bops, top1, **changes):
    found = {
        "target_bops": target, "bops": bops, "fixed_top1": top1 + 0.01, "folded_top1": top1,
        "tflite_top1": top1, "code_disagreement": 0.0, "file_bytes": 12_345, "float_top1": 0.95,
        "eval_images": 360, "average_bits": {"plain": 4.0, "by_ops": 3.5, "by_elements": 4.5},
    }  # fmt: skip
    return found | changes


RESULTS = {
    "target_5G": metrics(5_000_000_000, 4_900_000_000, 0.90),
    "target_4G": metrics(4_000_000_000, 3_900_000_000, 0.85),
    # Dearer than the first and no better.
    "target_6G": metrics(6_000_000_000, 5_900_000_000, 0.90),
    "target_4.5G": metrics(4_500_000_000, 4_400_000_000, 0.84),
}
DOCUMENT = front.document(RESULTS, seconds={"select": 100.0})


def test_what_is_on_the_front():
    assert [(t["folder"], t["on_front"]) for t in DOCUMENT["targets"]] == [
        ("target_4G", True), ("target_4.5G", False), ("target_5G", True), ("target_6G", False),
    ]  # fmt: skip


def test_equal_results_are_both_on_the_front():
    same = {"target_1G": metrics(10**9, 9 * 10**8, 0.9), "target_2G": metrics(2 * 10**9, 9 * 10**8, 0.9)}
    assert [t["on_front"] for t in front.document(same, seconds={})["targets"]] == [True, True]


def test_the_document_is_json_of_what_was_measured():
    again = json.loads(json.dumps(DOCUMENT))
    assert again == DOCUMENT
    assert (again["schema"], again["float_top1"], again["eval_images"]) == (1, 0.95, 360)
    cheapest = again["targets"][0]
    assert (cheapest["target_bops"], cheapest["bops"], cheapest["tflite_top1"]) == (
        4_000_000_000, 3_900_000_000, 0.85,
    )  # fmt: skip


def test_the_plot_is_a_png_with_every_result(tmp_path):
    front.save_front_plot(tmp_path / "front.png", DOCUMENT)
    assert imread(tmp_path / "front.png").shape[:2] == (600, 1000)
    axes = front.front_figure(DOCUMENT).axes[0]
    line, every, fixed = axes.lines[:3]
    assert list(line.get_xdata()) == [3.9, 4.9] and list(line.get_ydata()) == pytest.approx([85.0, 90.0])
    assert list(every.get_xdata()) == [3.9, 4.4, 4.9, 5.9]
    assert list(fixed.get_ydata()) == pytest.approx([86.0, 85.0, 91.0, 91.0])


def test_the_report_links_to_every_target(tmp_path):
    path = tmp_path / "report.html"
    report.write_front_report(path, DOCUMENT, settings={"dataset": "a<b", "command": "python -m x"})
    page = path.read_text()
    for folder in RESULTS:
        assert f'<a href="{folder}/report.html">' in page
    assert "a&lt;b" in page and "a<b" not in page and "python -m x" in page
    assert "4 targets of one search of 1 min 40 s" in page and "data:image/svg+xml" in page


def test_targets_of_the_search_that_are_not_exported_are_told_of():
    """After --export_target there is one result of a search for several targets."""
    one = {folder: metrics for folder, metrics in list(RESULTS.items())[:1]}
    for searched, words in (
        (None, "1 target of one search of 1 min 40 s, whose bit-meta steps ran once for all targets."),
        (1, "1 target of one search of 1 min 40 s, whose bit-meta steps ran once for all targets."),
        (3, "1 of the 3 targets of one search of 1 min 40 s, whose bit-meta steps ran once for all targets; "
            "the others follow from the same search with --export_target."),
    ):  # fmt: skip
        found = front.document(one, seconds={"select": 100.0}, searched=searched)
        assert front.summary(found).startswith(words)
    assert found["searched"] == 3


def test_settings_name_no_built_in_network_beside_a_float_model():
    def told(*lines):
        return stages.settings(Run(None, Recipe.from_flagfile("\n".join(lines)), None, command="a command"))

    built, given = told("--float_epochs=9"), told("--float_model=n.h5")
    imagenet = told("--float_model=imagenet")
    assert (built["model"], built["width"], built["float_epochs"]) == ("mobilenet_v2", "1.0", "9")
    assert built.keys() - imagenet.keys() == {"float_epochs", "float_learning_rate", "float_global_clipnorm"}
    assert imagenet.keys() - given.keys() == {"model", "network_variant", "width"}
    assert given["float_model"] == "n.h5" and given["command"] == "a command"


def test_the_table_on_the_terminal(capsys):
    report.print_front(DOCUMENT, folder="runs/w")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 + 1 + 4 + 1
    first = DOCUMENT["targets"][0]["folder"]
    assert lines[6].split() == ["the", "file", "of", "4.000", "GBOPs", f"runs/w/{first}/model.tflite"]
    assert lines[-1].split() == ["the", "report", "runs/w/report.html"]
    assert lines[1].split() == "4.000 GBOPs 3.900 GBOPs 3.50 86.00% 85.00% 12.35 kB yes".split()
    assert lines[2].endswith("no")


def errors(target, bops, error):
    forms = {"float": 2.5, "fixed": error - 0.25, "folded": error, "tflite": error}
    found = {key: value for key, value in metrics(target, bops, 0.0).items() if not key.endswith("top1")} | {
        "task": "regression",
        "quality": {"mean_absolute_error": forms},
    }
    return found | {"agreement": 1.0}


def test_of_errors_the_smaller_one_is_on_the_front(tmp_path, capsys):
    """The dearest has the least error; the middle one has more than the cheapest."""
    results = {"a": errors(6 * 10**9, 5 * 10**9, 3.0), "b": errors(4 * 10**9, 3 * 10**9, 4.0)}
    results["c"] = errors(5 * 10**9, 4 * 10**9, 4.5)
    document = json.loads(json.dumps(front.document(results, seconds={})))
    assert document["task"] == "regression" and "float_top1" not in document
    assert [(t["folder"], t["on_front"]) for t in document["targets"]] == [
        ("b", True), ("c", False), ("a", True),
    ]  # fmt: skip
    axes = front.front_figure(document).axes[0]
    assert list(axes.lines[0].get_ydata()) == [4.0, 3.0] and list(axes.lines[2].get_ydata()) == [
        3.75,
        4.25,
        2.75,
    ]
    assert axes.get_ylabel() == "mean absolute error on 360 images"
    report.print_front(document)
    head, first, *_ = capsys.readouterr().out.splitlines()
    assert "file mean absolute error" in head and first.split()[5:7] == ["3.75", "4"]
    report.write_front_report(tmp_path / "report.html", document, settings={})
    page = (tmp_path / "report.html").read_text()
    assert "The float network has 2.5 as mean absolute error" in page and "top-1" not in page.lower()
