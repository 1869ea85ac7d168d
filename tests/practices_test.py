"""The comparison of training practices: its plan, its flags, its summary, and one of small runs on digits."""

import json
import pathlib

import pytest

from benchmarks import practices, whole_schedules
from benchmarks.practices import BASE, PRACTICES, Run, planned, refusals
from benchmarks.practices_summary import figure, summarized, table
from benchmarks.shared_start import other_start
from mmx_tf.recipe.recipe import Recipe

W = pathlib.Path("/w")


def test_plain_training_leads_every_seed_and_number_of_bits():
    runs = planned(["ema", "adam"], [3, 4], [0, 1])
    assert [run.folder for run in runs[:4]] == [
        "plain_3_seed0", "ema_3_seed0", "adam_3_seed0", "plain_4_seed0",
    ]  # fmt: skip
    assert len(runs) == 12 and runs[6] == Run("plain", 3, 1)
    assert planned(["plain"], [4], [0]) == [Run("plain", 4, 0)]


@pytest.mark.parametrize("name", PRACTICES)
def test_a_practice_differs_from_plain_training_in_its_own_flags(name):
    flags = [*BASE, "--train_epochs=5"]
    of_plain, of_run = (
        Recipe.from_flagfile("\n".join(Run(which, 3, 1).flags(flags, W))) for which in ("plain", name)
    )
    assert of_plain.candidate_bits == (3,) and of_plain.seed == 1 and of_plain.weight_bits == 4
    assert of_run.train_epochs + of_run.activation_epochs == 5 == of_plain.train_epochs
    # One sentence for every flag that is another one.
    own = {word.split("=")[0].strip("-") for word in PRACTICES[name]}
    own |= {"train_epochs"} if name == "two_stages" else set()
    differing = of_plain.differences(of_run)
    assert len(differing) == len(own)
    assert all(any(f"--{flag} " in sentence for sentence in differing) for flag in own)


def row(practice, seed, fixed, folded, bits=3):
    return {
        "practice": practice, "bits": bits, "seed": seed, "float_top1": 0.75, "fixed_top1": fixed,
        "folded_top1": folded,
    }  # fmt: skip


ROWS = [
    row("plain", 0, 0.5, 0.25), row("ema", 0, 0.625, 0.25), row("adam", 0, 0.5, 0.5),
    row("plain", 1, 0.25, 0.25), row("ema", 1, 0.25, 0.5), row("plain", 0, 0.75, 0.75, bits=4),
    row("ema", 2, 0.5, 0.5),
]  # fmt: skip


def test_gains_are_paired_by_seed():
    found = {(line["bits"], line["practice"]): line for line in summarized(ROWS)}
    ema = found[3, "ema"]
    assert ema["seeds"] == [0, 1, 2] and ema["fixed_top1"]["top1"] == [0.625, 0.25, 0.5]
    # Seed 2 has no plain run.
    assert ema["fixed_top1"]["gain"] == [0.125, 0.0] and ema["folded_top1"]["gain"] == [0.0, 0.25]
    # Deviations of 1/16 either way: variance 1/128 with one degree of freedom, over two seeds.
    assert ema["fixed_top1"]["gain_mean"] == 0.0625
    assert ema["fixed_top1"]["gain_error"] == pytest.approx((1 / 128 / 2) ** 0.5)
    assert found[3, "adam"]["folded_top1"]["gain"] == [0.25]
    assert found[3, "adam"]["folded_top1"]["gain_error"] is None
    assert found[4, "plain"]["fixed_top1"]["gain"] == [0.0]
    said = table(list(found.values()))
    assert "62.50 25.00 50.00" in said and "+6.25 ±6.25" in said and "+12.50 ±12.50" in said


def test_the_plot_has_a_panel_for_every_number_of_bits_and_a_dot_for_every_gain():
    panels = figure(ROWS, "digits").axes
    assert [axes.get_title() for axes in panels] == ["4-bit activations", "3-bit activations"]
    dots = [tuple(line.get_xdata()) for line in panels[1].get_lines() if line.get_marker() in "os"]
    assert dots == [(12.5, 0.0), (0.0, 25.0), (0.0,), (25.0,)]
    assert len(panels[0].get_legend().get_texts()) == 2


def test_a_finished_folder_of_other_flags_and_a_missing_float_network_are_refused(tmp_path, capsys):
    for seed in (0, 1):
        (tmp_path / f"float_seed{seed}.keras").write_bytes(b"a network")
    words = [f"--workdir={tmp_path / 'w'}", f"--float_networks={tmp_path}", "--practices=ema", "--bits=3"]
    folder = tmp_path / "w" / "ema_3_seed0"
    folder.mkdir(parents=True)
    theirs = Run("ema", 3, 0).flags([*BASE, "--train_epochs=2"], tmp_path / "w")
    (folder / "run.flags").write_text(Recipe.from_flagfile("\n".join(theirs)).to_flagfile())
    assert practices.main([*words, "--seeds=0"]) == 2
    assert "--train_epochs is 20 here and 2 there" in capsys.readouterr().err
    assert refusals([Run("ema", 3, 0)], tmp_path / "w", [*BASE, "--train_epochs=2"]) == []
    with pytest.raises(SystemExit):
        practices.main([*words, "--seeds=0,2"])
    assert "has no float_seed2.keras" in capsys.readouterr().err


def test_the_command_has_no_path_of_this_machine(tmp_path):
    (tmp_path / "float_seed0.keras").write_bytes(b"a network")
    words = [f"--workdir={tmp_path}", f"--float_networks={tmp_path}", "--practices=ema", "--seeds=0"]
    options, own = practices.parsed([*words, "--", f"--data_dir={tmp_path}"])
    assert practices._command(options, own) == (
        "python -m benchmarks.practices --practices=ema --bits=3,4 --seeds=0 --workdir=W "
        "--float_networks=DIR -- --data_dir=DIR"
    )


SMALL = [
    "--practices=two_stages", "--bits=3", "--seeds=1", "--title=digits", "--", "--dataset=digits",
    "--image_size=16", "--batch_size=32", "--validation_images=64", "--train_epochs=2", "--steps_per_epoch=2",
    "--eval_images=64", "--parity_images=8", "--sensitivity_images=32", "--model=resnet8",
    "--network_variant=auto", "--width=0.25",
]  # fmt: skip


@pytest.mark.slow
def test_small_runs_start_from_one_state(tmp_path):
    import mmx_tf

    folder, out = tmp_path / "runs", tmp_path / "out.json"
    network = mmx_tf.models.build("resnet8", input_shape=(16, 16, 1), num_classes=10, width=0.25)
    network.save(tmp_path / "float_seed1.keras")
    words = [f"--workdir={folder}", f"--float_networks={tmp_path}", f"--json={out}"]
    words += [f"--png={tmp_path / 'out.png'}", *SMALL]
    assert practices.main(words) == 0
    written = json.loads(out.read_text())
    assert [run["practice"] for run in written["runs"]] == ["plain", "two_stages"]
    # One stamp, however often it was written.
    assert "earlier" not in written["provenance"]
    assert written["unfinished"] == [] and str(tmp_path) not in out.read_text()
    for run in written["runs"]:
        metrics = json.loads((folder / f"{run['practice']}_3_seed1" / "metrics.json").read_text())
        assert run["fixed_top1"] == metrics["fixed_top1"] and run["folded_top1"] == metrics["folded_top1"]
    assert other_start(folder / "plain_3_seed1", folder / "two_stages_3_seed1") is None
    copied = whole_schedules.float_network(1, folder).read_bytes()
    assert copied == (tmp_path / "float_seed1.keras").read_bytes()
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    # A second call finds all of it.
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("metrics.json")}
    assert practices.main(words) == 0 and len(times) == 2
    assert times == {path: path.stat().st_mtime_ns for path in folder.rglob("metrics.json")}
