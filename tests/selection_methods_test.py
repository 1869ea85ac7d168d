"""Comparisons of what chooses the bits: the plan, the summary, and runs of a small network on digits."""

import json

import numpy as np
import pytest
import tf_keras as keras

from benchmarks import (
    meta_state,
    random_selections,
    reliability,
    runs,
    search_length,
    selection_methods,
    selection_summary,
)
from benchmarks.selection_methods import Run
from mmx_tf.metamix.selection import BitSelection
from tests import alphas


def test_one_bit_width_is_planned_where_the_budget_is_one():
    plan = selection_methods.planned(["metamix", "single", "meta_single"], [4.0, 3.5, 4.0], [0, 1, 0])
    assert [run.folder for run in plan] == [
        "metamix_4_seed0", "single_4_seed0", "meta_single_4_seed0", "metamix_3.5_seed0",
        "metamix_4_seed1", "single_4_seed1", "meta_single_4_seed1", "metamix_3.5_seed1",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "flags"),
    [
        ("metamix", []),
        ("single", ["--selection=uniform", "--uniform_bits=4", "--candidate_bits=4"]),
        ("meta_single", ["--selection=uniform", "--uniform_bits=4"]),
        ("random", ["--selection=random"]),
        ("joint", ["--nometa_training"]),
        ("trained_weights", ["--train_weights_in_search"]),
    ],
)
def test_the_flags_of_a_method(method, flags):
    assert Run(method, 4.0, 7).flags() == ["--seed=7", "--target_average_bits=4", *flags]


@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_every_job_has_cores_of_its_own(jobs, monkeypatch):
    monkeypatch.setattr(runs.os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    dealt = runs.cores_of(jobs)
    expected = {1: [[0, 1, 2, 3]], 2: [[0, 1], [2, 3]], 5: [[0], [1], [2], [3], [0]]}
    assert dealt == expected[jobs]


def test_methods_are_compared_seed_by_seed():
    def row(method, bits, seed, top1):
        return {"method": method, "target_average_bits": bits, "seed": seed, "fixed_top1": top1}

    rows = [
        row("metamix", 4.0, 0, 0.75), row("metamix", 4.0, 1, 0.5), row("random", 4.0, 0, 0.5),
        row("random", 4.0, 1, 0.25), row("random", 4.0, 2, 0.0), row("joint", 3.5, 0, 0.5),
    ]  # fmt: skip
    summary = {(r["method"], r["target_average_bits"]): r for r in selection_summary.summarized(rows)}
    assert summary["metamix", 4.0]["mean"] == 0.625
    random = summary["random", 4.0]
    assert (random["mean"], random["smallest"], random["largest"]) == (0.25, 0.0, 0.5)
    assert random["ahead"] == [0.25, 0.25]  # seed 2 has no run of MetaMix
    assert summary["joint", 3.5]["ahead"] == []
    table = selection_summary.table(list(summary.values()))
    assert "random bits, from a meta-state    25.00    0.00 .. 50.00  +25.00 +25.00" in table


@pytest.mark.parametrize("joined", [True, False])
def test_the_command_has_no_path_of_this_machine(joined):
    flags = ["--data_dir=/a/data", "--nesterov", "--flagfile=/a/quick.flags", "--seed=3"]
    words = flags if joined else [part for flag in flags for part in flag.split("=")]
    options, words = selection_methods.parsed(["--workdir=/a/w", "--", *words])
    shown = "--data_dir=DIR --nesterov --flagfile=quick.flags --seed=3"
    command = selection_methods._command(options, words)
    assert command.endswith(" --workdir=W -- " + (shown if joined else shown.replace("=", " ")))


def test_nothing_to_run_is_told(capsys):
    with pytest.raises(SystemExit, match="2"):
        selection_methods.parsed(["--workdir=w", "--methods=single,meta_single", "--average_bits=3.5"])
    assert "--average_bits=3.5: one bit-width everywhere needs a whole number" in capsys.readouterr().err


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """What the command wrote for MetaMix and one bit-width on digits, and its folder."""
    folder = tmp_path_factory.mktemp("compared")
    reliability.save_float_network(folder / "float.keras")
    words = [
        f"--workdir={folder / 'runs'}", "--methods=metamix,single", "--seeds=3", "--jobs=2",
        f"--json={folder / 'out.json'}", f"--png={folder / 'out.png'}", "--",
        f"--float_model={folder / 'float.keras'}", "--image_size=16", "--batch_size=32",
        "--steps_per_epoch=3", "--train_epochs=1", "--learning_rate=0.002", "--eval_images=64",
        "--parity_images=8",
    ]  # fmt: skip
    assert selection_methods.main(words) == 0
    return folder, words


@pytest.mark.slow
def test_runs_are_made_once_and_told(compared, capsys):
    folder, words = compared
    written = json.loads((folder / "out.json").read_text())
    assert [row["method"] for row in written["runs"]] == ["metamix", "single"]
    for row in written["runs"]:
        metrics = json.loads((folder / "runs" / f"{row['method']}_4_seed3" / "metrics.json").read_text())
        assert row["fixed_top1"] == metrics["fixed_top1"] and row["bops"] == metrics["bops"]
    assert set(written["runs"][1]["bits"].values()) == {8, 4}
    assert str(folder) not in json.dumps(written)
    assert (folder / "out.png").read_bytes().startswith(b"\x89PNG")
    # A second call finds all of it.
    before = {path: path.stat().st_mtime_ns for path in (folder / "runs").rglob("metrics.json")}
    assert selection_methods.main(words) == 0
    assert before == {path: path.stat().st_mtime_ns for path in (folder / "runs").rglob("metrics.json")}
    assert "one bit-width" in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_that_fails_is_told(compared, tmp_path, capsys):
    folder, words = compared
    words = [f"--workdir={tmp_path}", *words[1:4], "--", "--float_model=none.keras"]
    assert selection_methods.main(words) == 1
    said = capsys.readouterr()
    assert "metamix_4_seed3: exit code 2" in said.out
    assert f"metamix_4_seed3 is not finished: see {tmp_path / 'metamix_4_seed3'}.log" in said.err
    assert "none.keras" in (tmp_path / "metamix_4_seed3.log").read_text()


@pytest.mark.slow
def test_a_selection_stands_among_random_ones(compared, tmp_path):
    run = compared[0] / "runs" / "metamix_4_seed3"
    other = compared[0] / "runs" / "single_4_seed3"
    words = [f"--workdir={run}", "--draws=5", "--eval_images=64", f"--json={tmp_path / 'out.json'}"]
    assert random_selections.main([*words, f"--png={tmp_path / 'out.png'}"]) == 0
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["command"].endswith(
        " --workdir=metamix_4_seed3 --draws=5 --eval_images=64 --statistics=batch"
    )
    row = written["selections"]["metamix_4_seed3"]
    losses = [draw["loss"] for draw in written["random"]]
    assert row["better_than"] == np.mean(np.array(losses) > row["loss"])
    assert len(losses) == 5 and all(draw["bops"] <= written["target_bops"] for draw in written["random"])
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    assert BitSelection.load(other / "bit_selection.json").bops == written["target_bops"]


@pytest.mark.slow
def test_losses_are_those_of_keras(compared):
    search, data, recipe = meta_state.restored(compared[0] / "runs" / "metamix_4_seed3")
    batches = data.evaluation(batch_size=recipe.batch_size, limit=64)
    choice = [1] * len(search.quantizers)
    before = [variable.numpy() for variable in search.variables]
    found = meta_state.Evaluation(search, batches, statistics="running")(choice)
    by_batch = meta_state.Evaluation(search, batches)(choice)
    np.testing.assert_equal([variable.numpy() for variable in search.variables], before)
    alphas.set_rows(search, [0.0, 1.0, 0.0])
    loss, top1 = search.evaluate(batches, verbose=0)[:2]
    np.testing.assert_allclose([found["loss"], found["top1"]], [loss, top1], rtol=1e-5)
    # A running statistic is the batch's where momentum is 0.
    for norm in search.network.layers:
        if isinstance(norm, keras.layers.BatchNormalization):
            norm.momentum = 0.0
    losses = []
    for images, labels in batches:
        search(images, training=True, branch=1)  # Dropout stands behind all batch norms
        losses.append(keras.losses.sparse_categorical_crossentropy(labels, search(images), from_logits=True))
    np.testing.assert_allclose(by_batch["loss"], np.mean(np.concatenate(losses)), rtol=1e-3)


@pytest.mark.slow
def test_searches_of_several_lengths_on_one_meta_state(compared, tmp_path):
    run = compared[0] / "runs" / "metamix_4_seed3"
    words = [
        f"--workdir={run}", "--steps=4,2", "--alpha_learning_rates=0.1,0.5", "--draws=3", "--eval_images=64",
        f"--json={tmp_path / 'out.json'}", f"--png={tmp_path / 'out.png'}",
    ]  # fmt: skip
    assert search_length.main(words) == 0
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["command"] == (
        "python -m benchmarks.search_length --workdir=metamix_4_seed3 --steps=2,4 "
        "--alpha_learning_rates=0.1,0.5 --draws=3 --eval_images=64"
    )
    rows = written["searches"]
    settings = [(row["alpha_learning_rate"], row["steps"]) for row in rows]
    assert settings == [(0.1, 2), (0.1, 4), (0.5, 2), (0.5, 4)]
    losses = np.array([draw["loss"] for draw in written["random"]])
    for row in rows:
        assert row["bops"] <= written["target_bops"]
        assert row["better_than"] == np.mean(losses > row["loss"])
        assert 0 < row["alpha_entropy"] < np.log(3)
    assert rows[3]["alpha_entropy"] < rows[0]["alpha_entropy"]
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_search_anew_leaves_the_meta_state_alone_and_begins_at_equal_alphas(compared):
    search, data, recipe = meta_state.restored(compared[0] / "runs" / "metamix_4_seed3")
    search.network.get_layer("dropout").rate = 0.0  # its noise goes on where the search before ended
    others = search.network.variables
    before = [variable.numpy() for variable in others]
    first = search_length.searched(search, data, recipe, steps=3, rate=0.5, regularizer_weight=1.0)
    found = search.alpha.numpy()
    second = search_length.searched(search, data, recipe, steps=3, rate=0.5, regularizer_weight=1.0)
    assert second["choice"] == first["choice"]
    np.testing.assert_allclose(search.alpha, found, atol=1e-5)
    np.testing.assert_equal([variable.numpy() for variable in others], before)
    # One step of Adam moves by the learning rate, whatever the gradient.
    search_length.searched(search, data, recipe, steps=1, rate=0.5, regularizer_weight=1.0)
    moved = np.abs(search.alpha.numpy()[0])
    np.testing.assert_allclose(moved.max(axis=1), 0.5, rtol=0.01)


def test_steps_below_one_are_refused(capsys):
    with pytest.raises(SystemExit, match="2"):
        search_length.parsed(["--workdir=w", "--steps=10,0"])
    assert "--steps=10,0: numbers of 1 or more" in capsys.readouterr().err


def test_a_workdir_without_a_search_is_refused(tmp_path):
    with pytest.raises(SystemExit, match=r"has no bit_selection.json"):
        random_selections.main([f"--workdir={tmp_path}"])


@pytest.mark.slow
def test_workdirs_of_one_name_are_refused(compared, tmp_path):
    run = compared[0] / "runs" / "metamix_4_seed3"
    other = tmp_path / run.name
    other.mkdir()
    (other / "bit_selection.json").write_bytes((run / "bit_selection.json").read_bytes())
    with pytest.raises(SystemExit, match="two workdirs have one name"):
        random_selections.main([f"--workdir={run}", "--also", str(other)])
    with pytest.raises(SystemExit, match="has no bit_selection.json"):
        random_selections.main([f"--workdir={run}", "--also", str(tmp_path)])


@pytest.mark.slow
def test_a_workdir_without_a_meta_state_is_refused_and_left_alone(compared, tmp_path):
    run = compared[0] / "runs" / "metamix_4_seed3"
    for name in ("bit_selection.json", "run.flags"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    with pytest.raises(SystemExit, match="no checkpoints of bit selection"):
        random_selections.main([f"--workdir={tmp_path}"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bit_selection.json", "run.flags"]
