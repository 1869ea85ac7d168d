"""Top-1 over RAM: the plan, the summary, and the runs of a small network on digits."""

import json

import pytest

from benchmarks import ram_budgets, ram_summary
from benchmarks.ram_budgets import Run
from mmx_tf.export.c_source import c_source


def row(arm, seed, ram, top1, float_top1=0.875):
    return {"arm": arm, "seed": seed, "ram_bytes": ram, "tflite_top1": top1, "float_top1": float_top1}


ROWS = [
    row("int8", 0, 4096, 0.75), row("ram_0.5", 0, 2048, 0.5), row("int8", 1, 4096, 0.875),
    row("ram_0.5", 1, 1024, 0.75, float_top1=0.625), row("uniform_4", 2, 3072, 0.25),
]  # fmt: skip


@pytest.fixture
def ended(tmp_path):
    """A workdir in which int8 of seed 1 has ended, with 1001 bytes of RAM."""
    folder = tmp_path / "int8_seed1"
    folder.mkdir()
    facts = {"ram_bytes": 1001, "flash_bytes": 5}
    metrics = dict.fromkeys(ram_budgets.REPORTED, 1) | {"microcontroller": {"packed": facts, "int8": facts}}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "bit_selection.json").write_text('{"layers": [{"name": "stem", "activation_bits": 8}]}')
    return tmp_path


def test_int8_is_the_first_run_of_each_seed():
    folders = [run.folder for run in ram_budgets.planned([0.75, 0.5, 0.75], [1, 0, 1])]
    assert folders == [
        f"{arm}_seed{seed}" for seed in (1, 0) for arm in ("int8", "ram_0.75", "ram_0.5", "uniform_4")
    ]


def test_a_budget_is_a_share_of_the_ram_of_int8_whose_float_network_is_taken(ended):
    flags = Run(1, share=0.5).flags(ended)
    assert flags == [
        "--seed=1", f"--workdir={ended}/ram_0.5_seed1",
        f"--float_model={ended}/int8_seed1/checkpoints/float.keras", "--target_average_bits=0",
        "--target_ram=500",
    ]  # fmt: skip


def test_a_float_network_that_is_given_is_that_of_all_runs(ended):
    for run in ram_budgets.planned([0.5], [1]):
        assert "--float_model=given.keras" in run.flags(ended, "given.keras")
    options, flags = ram_budgets.parsed(["--workdir=w", "--float_model=a/given.keras", "--", "--data_dir=d"])
    assert ram_budgets._command(options, flags) == (
        "python -m benchmarks.ram_budgets --shares=0.75,0.5 --seeds=0,1 --float_epochs=12 --train_epochs=5 "
        "--workdir=W --float_model=given.keras --data_dir=DIR -- --data_dir=DIR"
    )


def test_one_bit_width_is_the_only_candidate_of_its_run(ended):
    uniform = ["--selection=uniform", "--uniform_bits=8", "--candidate_bits=8", "--target_average_bits=8"]
    assert Run(1, bits=8).flags(ended) == ["--seed=1", f"--workdir={ended}/int8_seed1", *uniform]


def test_a_network_without_c_source_is_named(ended):
    path = ended / "int8_seed1" / "metrics.json"
    path.write_text(json.dumps({"microcontroller": {"refused": "There is no kernel of GATHER."}}))
    with pytest.raises(ValueError, match="int8_seed1 has no RAM on a microcontroller: There is no kernel"):
        ram_budgets.row_of(Run(1, bits=8), ended)


def test_arms_are_compared_seed_by_seed():
    summary = ram_summary.summarized(ROWS)
    half = summary["ram_0.5"]
    assert (half["mean"], half["smallest"], half["largest"]) == (0.625, 0.5, 0.75)
    assert (half["ram_bytes"], half["share"], half["behind_int8"]) == (1536, 0.375, [0.25, 0.125])
    assert (summary["uniform_4"]["share"], summary["uniform_4"]["behind_int8"]) == (None, [])
    table = ram_summary.table(summary).splitlines()
    assert table[2].split() == "ram_0.5 1536 37.5% 62.50 50.00 .. 75.00 +25.00 +12.50".split()


def test_the_figure_shows_every_run_and_each_arms_mean():
    axes = ram_summary.figure(ROWS, "$x").axes[0]
    dots = [tuple(map(list, line.get_data())) for line in axes.lines]
    assert dots[2] == ([2.0, 1.0], [50.0, 75.0])
    assert dots[3] == ([1.5], [62.5])
    # The float network's level is the mean over seeds, whose last rows are 0.875, 0.625 and 0.875.
    assert dots[-1][1] == pytest.approx([100 * 2.375 / 3] * 2)
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["int8", "ram_0.5", "uniform_4, one seed", "float network"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--shares=0.5,1.5"], "--shares=0.5,1.5: none may be above 1."),
        (["--shares=0"], "'0' is no list of numbers above 0"),
        (["--train_epochs=0"], "'0' is no integer of 1 or more"),
    ],
)
def test_wrong_options_are_refused(words, said, capsys):
    with pytest.raises(SystemExit, match="2"):
        ram_budgets.parsed(["--workdir=w", *words])
    assert said in capsys.readouterr().err


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """What the command wrote for ResNet-8 on digits, and its words."""
    folder = tmp_path_factory.mktemp("compared")
    words = [
        f"--workdir={folder / 'runs'}", "--shares=0.75", "--seeds=3", "--float_epochs=1", "--train_epochs=1",
        f"--json={folder / 'out.json'}", f"--png={folder / 'out.png'}", "--", "--dataset=digits",
        "--image_size=16", "--batch_size=16", "--steps_per_epoch=2", "--eval_images=32",
        "--parity_images=4",
    ]  # fmt: skip
    assert ram_budgets.main(words) == 0
    return folder, words


@pytest.mark.slow
def test_runs_are_made_once_and_keep_to_their_budget(compared, capsys):
    folder, words = compared
    written = json.loads((folder / "out.json").read_text())
    assert [row["arm"] for row in written["runs"]] == ["int8", "ram_0.75", "uniform_4"]
    assert written["unfinished"] == []
    int8, less, _ = written["runs"]
    assert less["target_ram"] == int8["ram_bytes"] * 3 // 4
    # Hardly trained, two readers of one tensor have equal grids, for which RAM was not measured.
    assert less["ram_bytes"] <= less["target_ram"]
    assert "more than the" not in (folder / "runs" / "ram_0.75_seed3.log").read_text()
    assert set(int8["bits"].values()) == {8} and len(set(less["bits"].values())) > 1
    assert len({row["float_top1"] for row in written["runs"]}) == 1
    for row in written["runs"]:
        file = folder / "runs" / f"{row['arm']}_seed3" / "model.tflite"
        assert c_source(file.read_bytes()).ram_bytes == row["ram_bytes"]
    assert str(folder) not in json.dumps(written)
    assert (folder / "out.png").read_bytes().startswith(b"\x89PNG")
    # A second call finds all of it.
    before = {path: path.stat().st_mtime_ns for path in (folder / "runs").rglob("metrics.json")}
    assert len(before) == 3 and ram_budgets.main(words) == 0
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert "ram_0.75" in capsys.readouterr().out


@pytest.mark.slow
def test_without_its_first_run_a_seed_has_no_others(tmp_path, capsys):
    words = [f"--workdir={tmp_path}", f"--json={tmp_path / 'out.json'}", "--seeds=3", "--", "--dataset=none"]
    assert ram_budgets.main(words) == 1
    said = capsys.readouterr()
    assert f"int8_seed3 failed: see {tmp_path / 'int8_seed3'}.log" in said.err
    assert said.out.count("exit code") == 1
    assert "none" in (tmp_path / "int8_seed3.log").read_text()
    assert not (tmp_path / "out.json").exists()
