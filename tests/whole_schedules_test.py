"""The comparison of whole schedules: its plan, its refusals, its summary, and one of small runs on digits."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest

from benchmarks import selection_methods, sensitivity, whole_schedules
from benchmarks.runs import Jobs, changed_file, refusal
from benchmarks.selection_summary import summarized, table
from benchmarks.shared_start import begin_from, other_start
from benchmarks.whole_schedules import BASE, Run, float_flags, planned, refusals
from mmx_tf.metamix.selection import BitSelection
from mmx_tf.recipe.recipe import Recipe

ROOT = pathlib.Path(__file__).resolve().parents[1]
W = pathlib.Path("/w")


def test_the_first_budget_comes_first_and_metamix_leads_every_seed():
    names = [run.folder for run in planned(list(whole_schedules.ARMS), [3.0, 3.5], [0, 1])]
    arms = ["metamix", "meta_single", "joint", "additive", "random", "random", "single", "trained_weights"]
    assert len(names) == 2 * 8 + 2 * 6  # no single bit-width has 3.5 bits
    assert [name.split("_3")[0] for name in names[:8]] == arms
    assert names[4:6] == ["random_3_seed0_draw0", "random_3_seed0_draw1"]
    assert names[8] == "metamix_3_seed1" and names[16] == "metamix_3.5_seed0"
    assert len(set(names)) == len(names)


def test_the_flags_of_an_arm():
    network = "--float_model=/w/float_seed1/checkpoints/float.keras"
    common = ["--seed=1", "--target_average_bits=3"]
    draw = Run("random", 3.0, 1, 1)
    assert draw.flags_in(W) == [*common, "--bit_selection=/w/gate_3_seed1/random_11.json", network]
    additive = Run("additive", 3.0, 1).flags_in(W)
    assert additive == [*common, "--bit_selection=/w/gate_3_seed1/additive.json", network]
    single = ["--selection=uniform", "--uniform_bits=3", "--candidate_bits=3"]
    assert Run("single", 3.0, 1).flags_in(W) == [*common, *single, network]
    assert Run("joint", 3.0, 1).flags_in(W) == [*common, "--nometa_training", network]
    for arm in whole_schedules.ARMS:
        recipe = Recipe.from_flagfile("\n".join([*BASE, *Run(arm, 3.0, 1).flags_in(W)]))
        assert (recipe.train_epochs, recipe.validation_images, recipe.weight_bits) == (40, 5000, 4)
    assert Recipe.from_flagfile("\n".join(float_flags(1, [*BASE]))).uniform_bits == 8


def finished(folder, flags):
    folder.mkdir(parents=True)
    (folder / "run.flags").write_text(Recipe.from_flagfile("\n".join(flags)).to_flagfile())
    (folder / "metrics.json").write_text("{}")


def test_a_finished_folder_of_other_flags_is_refused(tmp_path, capsys):
    run = Run("joint", 3.0, 0)
    flags = [*BASE, *run.flags_in(tmp_path)]
    finished(tmp_path / run.folder, [*flags, "--train_epochs=2"])
    (said,) = refusals([run], tmp_path, [*BASE])
    assert "--train_epochs is 40 here and 2 there" in said and run.folder in said
    assert (
        whole_schedules.main([f"--workdir={tmp_path}", "--arms=joint", "--average_bits=3", "--seeds=0"]) == 2
    )
    assert said in capsys.readouterr().err
    assert refusals([run], tmp_path, [*BASE, "--train_epochs=2"]) == []
    # The comparison of methods, whose code this shares, does the same.
    words = [f"--workdir={tmp_path}", "--methods=joint", "--average_bits=3", "--seeds=0", "--", *BASE]
    assert selection_methods.main(words) == 2
    assert "--train_epochs is 40 here and 2 there" in capsys.readouterr().err
    assert refusal(tmp_path / "new", flags) is None


def test_a_flag_that_is_none_is_refused_before_anything_runs(tmp_path, capsys):
    assert whole_schedules.main([f"--workdir={tmp_path / 'w'}", "--", "--trian_epochs=2"]) == 2
    assert "trian_epochs" in capsys.readouterr().err and not (tmp_path / "w").exists()


def test_another_float_network_is_refused(tmp_path):
    run = Run("metamix", 3.0, 0)
    finished(tmp_path / run.folder, [*BASE, *run.flags_in(tmp_path)])
    network = whole_schedules.float_network(0, tmp_path)
    network.parent.mkdir(parents=True)
    network.write_bytes(b"now")
    state = tmp_path / run.folder / "checkpoints" / "state.json"
    state.parent.mkdir()
    state.write_text(json.dumps({"inputs": {"float_model": {"sha256": "0123456789abcdef"}}}))
    (said,) = refusals([run], tmp_path, [*BASE])
    assert "another --float_model (SHA-256 0123456789ab..., now" in said
    assert changed_file(tmp_path / run.folder, "float_model", "0123456789abcdef") is None
    assert changed_file(tmp_path / "new", "float_model", "0123") is None


def test_a_run_is_given_a_meta_state_whenever_it_is_killed(tmp_path):
    source, folder, begun = tmp_path / "metamix", tmp_path / "random", []
    (source / "checkpoints" / "select" / "ckpt-4").mkdir(parents=True)
    (source / "checkpoints" / "select" / "ckpt-4" / "variables").write_text("theirs")

    def begin(state):
        begun.append(state)
        (state.parent / "select" / "ckpt-1").mkdir(parents=True)
        (state.parent / "select" / "ckpt-1" / "variables").write_text("own")
        state.write_text("{}")
        return True

    assert not begin_from(source, folder, lambda state: False) and not folder.exists()
    # Killed while it was copied.
    (folder / "checkpoints" / ".select.partial").mkdir(parents=True)
    (folder / "checkpoints" / ".select.partial" / "half").write_text("")
    assert begin_from(source, folder, begin)
    select = folder / "checkpoints" / "select"
    assert [path.name for path in select.rglob("*")] == ["ckpt-4", "variables"]
    assert sorted(path.name for path in select.parent.iterdir()) == ["select", "state.json"]
    # Killed between two folders.
    shutil.rmtree(select)
    assert begin_from(source, folder, begin) and begin_from(source, folder, begin)
    assert (select / "ckpt-4" / "variables").read_text() == "theirs" and len(begun) == 1
    # Once its weights are trained, another meta-state is refused.
    (folder / "checkpoints" / "train" / "ckpt-9").mkdir(parents=True)
    assert other_start(source, folder) is None
    (source / "checkpoints" / "select" / "ckpt-4" / "variables").write_text("anew")
    assert "random was trained from another meta-state" in other_start(source, folder)


def test_a_float_network_that_is_given_is_not_trained(tmp_path):
    (tmp_path / "float_seed1.keras").write_bytes(b"theirs")
    # Runs that are refused at once, so that it is seen which ones are begun.
    words = [f"--workdir={tmp_path / 'w'}", f"--float_networks={tmp_path}", "--", "--dataset=folder:nowhere"]
    options, flags = whole_schedules.parsed(words)
    options.workdir.mkdir()
    experiment = whole_schedules.Experiment(options, [*BASE, *flags])
    assert not experiment.prepare(Run("joint", 3.0, 1)) and not experiment.prepare(Run("joint", 3.0, 2))
    assert whole_schedules.float_network(1, options.workdir).read_bytes() == b"theirs"
    begun = {path.stem for path in options.workdir.glob("*.log")}
    assert begun == {"metamix_3_seed1", "float_seed2"}


def row(method, seed, top1, draw=0):
    return {
        "method": method, "target_average_bits": 3.0, "seed": seed, "fixed_top1": top1, "draw": draw,
        "float_top1": 0.9,
    }  # fmt: skip


def test_differences_are_paired_by_seed_and_draws_of_a_seed_are_one():
    rows = [
        *(row("metamix", seed, top1) for seed, top1 in enumerate((0.75, 0.5, 0.625))),
        *(row("joint", seed, top1) for seed, top1 in enumerate((0.5, 0.5, 0.5))),
        row("random", 0, 0.5), row("random", 0, 0.25, 1), row("random", 1, 0.5), row("random", 1, 0.25, 1),
        row("single", 2, 0.75),
    ]  # fmt: skip
    found = {r["method"]: r for r in summarized(rows)}
    joint = found["joint"]
    assert joint["ahead"] == [0.25, 0.0, 0.125] and joint["ahead_mean"] == 0.125
    # Deviations 1/8, -1/8, 0: variance 1/64 with two degrees of freedom, over three seeds.
    assert joint["ahead_error"] == pytest.approx((1 / 64 / 3) ** 0.5)
    random = found["random"]
    assert (random["mean"], random["smallest"], random["largest"]) == (0.375, 0.25, 0.5)
    # Two seeds, not four runs: 0.375 and 0.125 ahead.
    assert random["ahead"] == [0.375, 0.125] and random["ahead_mean"] == 0.25
    assert random["ahead_error"] == pytest.approx(0.125)
    assert found["single"]["ahead"] == [-0.125] and found["single"]["ahead_error"] is None
    said = table(list(found.values()))
    assert "+25.00 +0.00 +12.50, mean +12.50 (standard error 7.22)" in said


def test_a_command_is_stopped_when_a_file_is_there(tmp_path):
    code = (
        "import pathlib, signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(143)); "
        f"pathlib.Path({str(tmp_path / 'there')!r}).touch(); time.sleep(600)"
    )
    there = tmp_path / "there"
    assert Jobs(1).run([sys.executable, "-c", code], tmp_path / "log", until=there.exists) == 0
    failed = Jobs(1).run([sys.executable, "-c", "raise SystemExit(3)"], tmp_path / "log", until=lambda: False)
    assert failed == 3


def test_the_command_has_no_path_of_this_machine():
    options, own = whole_schedules.parsed(["--workdir=/a/w", "--seeds=0", "--", "--data_dir=/a/data"])
    assert whole_schedules._command(options, own) == (
        "python -m benchmarks.whole_schedules --arms=metamix,meta_single,joint,additive,random,single,"
        "trained_weights --average_bits=3.0,4.0 --seeds=0 --workdir=W -- --data_dir=DIR"
    )


SMALL = [
    "--arms=metamix,additive,meta_single", "--average_bits=3", "--seeds=1", "--title=digits", "--",
    "--dataset=digits", "--image_size=16", "--batch_size=32", "--validation_images=64", "--float_epochs=1",
    "--train_epochs=1", "--steps_per_epoch=2", "--eval_images=64", "--parity_images=8",
    "--sensitivity_images=32", "--model=resnet8", "--network_variant=auto", "--width=0.25",
]  # fmt: skip


@pytest.mark.slow
def test_small_runs_from_float_networks_to_differences_with_a_kill(tmp_path):
    folder, out = tmp_path / "runs", tmp_path / "out.json"
    words = [f"--workdir={folder}", f"--json={out}", f"--png={tmp_path / 'out.png'}", *SMALL]
    command = [sys.executable, "-m", "benchmarks.whole_schedules", *words]
    network = folder / "float_seed1" / "checkpoints" / "float.keras"
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
    while process.poll() is None and not network.exists():
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 143 and not (folder / "metamix_3_seed1" / "metrics.json").exists()
    before = network.stat().st_mtime_ns
    assert whole_schedules.main(words) == 0
    assert network.stat().st_mtime_ns == before
    written = json.loads(out.read_text())
    assert [r["method"] for r in written["runs"]] == ["metamix", "meta_single", "additive"]
    # One stamp, however often it was written.
    assert "earlier" not in written["provenance"]
    assert written["unfinished"] == []
    for r in written["runs"]:
        metrics = json.loads((folder / f"{r['method']}_3_seed1" / "metrics.json").read_text())
        assert r["fixed_top1"] == metrics["fixed_top1"] and metrics["float_top1"] == r["float_top1"]
        assert r["bops"] <= r["target_bops"]
    (gate,) = written["gates"]
    assert (
        set(gate["forecast"]) == {"4", "3", "2"}
        and gate["selections"]["additive"]["bops"] <= gate["target_bops"]
    )
    chosen = BitSelection.load(folder / "gate_3_seed1" / "additive.json")
    assert [layer.activation_bits for layer in chosen.layers][1:-1] == gate["selections"]["additive"]["bits"]
    taken = BitSelection.load(folder / "additive_3_seed1" / "bit_selection.json")
    assert [x.activation_bits for x in taken.layers] == [x.activation_bits for x in chosen.layers]
    assert other_start(folder / "metamix_3_seed1", folder / "additive_3_seed1") is None
    assert str(tmp_path) not in out.read_text()
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    # A second call finds all of it.
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("metrics.json")}
    assert whole_schedules.main(words) == 0
    assert (
        times == {path: path.stat().st_mtime_ns for path in folder.rglob("metrics.json")} and len(times) == 3
    )
    # More images than there are.
    with pytest.raises(SystemExit, match="half of the"):
        sensitivity.main([f"--workdir={folder / 'metamix_3_seed1'}", "--images=4096"])
