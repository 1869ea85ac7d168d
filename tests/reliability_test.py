"""Real processes that are killed, terminated and resumed end with the bytes of one that was left alone."""

import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import warm_starts

from benchmarks import reliability
from mmx_tf.workdir import checkpoints

ROOT = Path(__file__).parents[1]
PATIENCE = 300

# Where oneDNN is on, --deterministic starts the program anew.
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("without_onednn")]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reliability")
    reliability.save_float_network(folder / "float.keras")
    return folder


@pytest.fixture(scope="module")
def reference(root):
    """The workdir of a run that nobody disturbed, and the seconds of its last phases.

    It is started by its command. Those that are compared with it are forked, for speed.
    """
    words = reliability.arguments(root / "float.keras", root / "reference")
    return root / "reference", reliability.timeline(words, root / "reference")


def by_command(words):
    return subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def start(words, workdir, sign, program=warm_starts.Program):
    """A running command that has come as far as a sign."""
    process = program(words)
    end = time.monotonic() + PATIENCE
    while not reliability.has(workdir, sign):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.002)
    return process


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)


def test_a_run_that_is_killed_in_every_phase_ends_as_if_it_had_not_been(root, reference):
    """Six kills at random moments, one after the other in one run; two also leave a damaged file behind."""
    undisturbed, seconds = reference
    workdir = root / "killed"
    words = [*reliability.arguments(root / "float.keras", workdir), reliability.EVERY_STEP]
    killed = []
    for point in reliability.points(6, seed=2, seconds=seconds):
        killed.append(reliability.kill_at(point, words, workdir, start=warm_starts.Program))
        if point.phase == "select, epoch 2" and not (workdir / "bit_selection.json").exists():
            folder = workdir / "checkpoints" / "select"
            newest = checkpoints.path_of(folder, checkpoints.numbers(folder)[-1])
            flip_a_bit(newest / "variables.data-00000-of-00001")
        if point.phase == "convert":
            flip_a_bit(workdir / "fixed_model.keras")
    done = warm_starts.finished(words)
    assert done.returncode == 0, done.stderr
    assert reliability.differing(workdir, undisturbed) == []
    # A process that is slowed down by others may have ended before its last kill.
    assert sum(where is not None for where in killed) >= 5, killed
    for phase in ("select", "train"):
        ends = [root / run / "checkpoints" / phase for run in ("killed", "reference")]
        assert checkpoints.newest_facts(ends[0]) == checkpoints.newest_facts(ends[1])


def test_a_terminated_run_saves_a_checkpoint_and_goes_on_from_it(root, reference):
    workdir = root / "terminated"
    # Its own checkpoints are those at an epoch's end; the second epoch's steps begin now.
    words = reliability.arguments(root / "float.keras", workdir)
    process = start(words, workdir, ("select", reliability.STEPS))
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 143, err
    assert err.endswith("terminated; the same command continues from the last checkpoint.\n")
    assert not (workdir / "fixed_model.keras").exists()
    assert checkpoints.numbers(workdir / "checkpoints" / "select")[-1] >= reliability.STEPS
    # The lock's note is gone, as after any orderly end.
    assert (workdir / "run.lock").read_text() == ""
    done = warm_starts.finished(words)
    assert done.returncode == 0, done.stderr
    assert reliability.differing(workdir, reference[0]) == []


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of 200 kB, with a way to make it larger."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", disk], check=False)
    if mounted.returncode:
        pytest.skip("mounting a disk takes a privileged user")
    yield disk, ["mount", "-o", "remount,size=50m", disk]
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_ends_the_run_by_a_code_of_its_own_and_the_run_goes_on(root, reference, small_disk):
    disk, make_room = small_disk
    words = reliability.arguments(root / "float.keras", disk / "run")
    full = warm_starts.finished(words)
    assert full.returncode == 5, full.stderr
    assert "No space left on device" in full.stderr
    assert "Make room; the same command continues from the last checkpoint." in full.stderr
    subprocess.run(make_room, check=True)
    done = warm_starts.finished(words)
    assert done.returncode == 0, done.stderr
    assert reliability.differing(disk / "run", reference[0]) == []


def test_float_training_is_resumed_after_the_step(root):
    """A built-in network, killed in float training; its search would take long and is not waited for."""
    ends = []
    for name, kills, program in (
        ("left alone", [], by_command),
        ("killed in float training", [5], warm_starts.Program),
    ):
        workdir = root / name
        words = [
            *reliability.arguments("", workdir), "--model=resnet8", "--width=0.25", "--float_epochs=2",
            "--steps_per_epoch=4", reliability.EVERY_STEP, "--keep_checkpoints=3",
        ]  # fmt: skip
        for sign in [*(("float", step) for step in kills), "checkpoints/float.keras"]:
            process = start(words, workdir, sign, program)
            process.kill()
            process.communicate()
        folder = workdir / "checkpoints" / "float"
        assert checkpoints.numbers(folder) == [6, 7, 8]
        facts = checkpoints.facts_of(folder / "ckpt-8")
        assert facts["epoch"] == 2 and len(facts["history"]["loss"]) == 2
        reader = tf.train.load_checkpoint(str(folder / "ckpt-8" / "variables"))
        names = sorted(reader.get_variable_to_shape_map())
        ends.append((facts, {name: reader.get_tensor(name) for name in names}))
    (facts, values), (facts_again, values_again) = ends
    assert facts == facts_again
    assert values.keys() == values_again.keys() and len(values) > 80
    for name, value in values.items():
        assert np.array_equal(value, values_again[name]), name
