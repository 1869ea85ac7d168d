"""--strategy: errors before any work, and runs that are the same whatever they are spread over."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from networks import pretrained

from mmx_tf.distribution import strategies
from mmx_tf.distribution.job import ALONE, Job
from mmx_tf.errors import RecipeError
from mmx_tf.metamix.selection import BitSelection
from mmx_tf.recipe.recipe import Recipe

ROOT = Path(__file__).parents[1]
PROGRAM = Path(__file__).with_name("strategy_run.py")
PATIENCE = 300
PHASES = {"float": 1e-5, "select": 1e-2, "train": 1e-2}
"""Phase -> largest difference, relative to the largest number of a variable. Float training differs by the
order of sums. Behind it that order decides codes of values at a border; oneDNN's kernels against others, on
one device, differ by more. Alphas differ most, since Adam divides gradients by their size."""
ALPHAS = 2e-2

pytestmark = pytest.mark.usefixtures("without_onednn")


@pytest.fixture(scope="module")
def root(tmp_path_factory, digits):
    folder = tmp_path_factory.mktemp("strategies")
    pretrained(digits).save(folder / "float.keras")
    return folder


def free_ports(count):
    """Ports of loopback that nobody has at the moment."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def start(words, tf_config=None):
    environment = os.environ if tf_config is None else {**os.environ, "TF_CONFIG": json.dumps(tf_config)}
    return subprocess.Popen(
        [sys.executable, *map(str, words)], cwd=ROOT, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def start_two(words):
    """Two processes of one job on loopback, the chief first."""
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(2)]}
    return [start(words, {"cluster": cluster, "task": {"type": "worker", "index": i}}) for i in range(2)]


def ends(processes):
    """(exit code, what was said on standard error) of each."""
    said = [process.communicate(timeout=PATIENCE)[1] for process in processes]
    return [(process.returncode, errors) for process, errors in zip(processes, said, strict=True)]


@pytest.fixture(scope="module")
def single(root):
    """What the phases leave in one process on one device."""
    ((code, said),) = ends([start([PROGRAM, 1, root / "float.keras", f"--workdir={root / 'none'}"])])
    assert code == 0, said
    return root / "none"


def check_equal(found, expected):
    """Variables of all phases, and the selection."""
    ours, theirs = np.load(f"{found}.npz"), np.load(f"{expected}.npz")
    assert ours.files == theirs.files
    alphas = 0
    for name in theirs.files:
        phase, what = name.split("/", 2)[0], name.rsplit("/", 1)[-1]
        if what in ("total:0", "count:0"):  # of running metrics, which replicas add up
            continue
        if what == "alpha:0":
            alphas += np.any(theirs[name], axis=-1).sum()
        size = np.abs(theirs[name].astype(float)).max()
        tolerance = ALPHAS if what == "alpha:0" else PHASES[phase]
        np.testing.assert_allclose(
            ours[name].astype(float),
            theirs[name].astype(float),
            rtol=0,
            atol=tolerance * size,
            err_msg=name,
        )
    assert alphas == len(BitSelection.load(f"{expected}.json").layers) - 2  # all were searched
    assert BitSelection.load(f"{found}.json") == BitSelection.load(f"{expected}.json")


@pytest.mark.slow
def test_two_devices_do_what_one_does(root, single):
    workdir = root / "mirrored"
    words = [PROGRAM, 2, root / "float.keras", f"--workdir={workdir}", "--strategy=mirrored"]
    ((code, said),) = ends([start(words)])
    assert code == 0, said
    check_equal(workdir, single)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["mirrored", "multi_worker"])
def test_one_device_does_what_it_does_without_a_strategy(root, single, strategy):
    workdir = root / f"{strategy}_alone"
    words = [PROGRAM, 1, root / "float.keras", f"--workdir={workdir}", f"--strategy={strategy}"]
    cluster = {"worker": [f"127.0.0.1:{free_ports(1)[0]}"]}
    ((code, said),) = ends([start(words, {"cluster": cluster, "task": {"type": "worker", "index": 0}})])
    assert code == 0, said
    check_equal(workdir, single)


@pytest.mark.slow
def test_processes_that_cannot_be_connected_are_told():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        cluster = {"worker": [f"127.0.0.1:{taken.getsockname()[1]}", f"127.0.0.1:{free_ports(1)[0]}"]}
        words = ["-m", "mmx_tf.train", "--float_epochs=1", "--workdir=nowhere", "--strategy=multi_worker"]
        ((code, said),) = ends([start(words, {"cluster": cluster, "task": {"type": "worker", "index": 0}})])
    assert code == 2, said
    assert "--strategy=multi_worker: the processes that TF_CONFIG names cannot be connected" in said
    assert "Traceback" not in said


@pytest.mark.slow
def test_two_processes_do_what_one_does_and_one_of_them_writes(root, single):
    workdir = root / "multi_worker"
    words = [PROGRAM, 1, root / "float.keras", f"--workdir={workdir}", "--strategy=multi_worker"]
    for code, said in ends(start_two(words)):
        assert code == 0, said
    check_equal(workdir, single)
    # TensorBoard's files have their writer's process id: events.out.tfevents.<time>.<host>.<id>.<number>.v2
    writers = {path.name.split(".")[-3] for path in (workdir / "logs").rglob("events.out.*")}
    assert len(writers) == 1


COMMAND = """
--dataset=digits --image_size=16 --batch_size=64 --steps_per_epoch=3 --select_epochs=2 --train_epochs=8
--eval_images=64 --parity_images=4 --checkpoint_minutes=0 --learning_rate=0.01
"""


@pytest.mark.slow
def test_a_killed_process_brings_the_job_down_and_a_restart_goes_on(root):
    workdir, killed = root / "killed", 1
    words = ["-m", "mmx_tf.train", *COMMAND.split(), f"--float_model={root / 'float.keras'}"]
    words += [f"--workdir={workdir}", "--strategy=multi_worker"]
    processes = start_two(words)
    end = time.monotonic() + PATIENCE
    while not any((workdir / "checkpoints" / "train").glob("ckpt-[1-9]*")):
        assert all(process.poll() is None for process in processes), ends(processes)
        assert time.monotonic() < end
        time.sleep(0.01)
    processes[killed].kill()
    found = ends(processes)
    assert found[killed][0] == -signal.SIGKILL
    code, said = found[1 - killed]
    assert code == 7, said
    assert "another process of the job is gone" in said
    assert f"task:{killed}" in said
    assert not (workdir / "metrics.json").exists()
    found = ends(start_two(words))
    assert [code for code, _ in found] == [0, 0], found
    assert re.search(r"train: epochs [2-8] to 8", found[0][1]), found[0][1]
    assert json.loads((workdir / "metrics.json").read_text())["code_disagreement"] == 0
    assert (workdir / "run.lock").read_text() == ""


def recipe(**changes):
    flags = {"float_epochs": 1, "workdir": "nowhere", **changes}
    return Recipe.from_flagfile("".join(f"--{name}={value}\n" for name, value in flags.items()))


WORKERS = {"worker": ["host0:2222", "host1:2222"]}
BAD = {
    "missing": (None, "is not set"),
    "no JSON": ("{worker}", "no JSON"),
    "no object": ("[1]", "the objects 'cluster' and 'task'"),
    "no task": (json.dumps({"cluster": WORKERS}), "the objects 'cluster' and 'task'"),
    "parameter server": (
        json.dumps({"cluster": {**WORKERS, "ps": ["h:1"]}, "task": {"type": "ps", "index": 0}}), "'ps'",
    ),
    "no list": (json.dumps({"cluster": {"worker": "h:1"}, "task": {}}), "'h:1' as worker"),
    "no port": (json.dumps({"cluster": {"worker": ["host0"]}, "task": {}}), "'host0'"),
    "a URL": (json.dumps({"cluster": {"worker": ["http://host0:1"]}, "task": {}}), "'http://host0:1'"),
    "no such port": (json.dumps({"cluster": {"worker": ["host0:65536"]}, "task": {}}), "1 to 65535"),
    "another type": (json.dumps({"cluster": WORKERS, "task": {"type": "chief", "index": 0}}), "'chief'"),
    "no name of a type": (
        json.dumps({"cluster": WORKERS, "task": {"type": ["worker"], "index": 0}}), "type ['worker']",
    ),
    "too large an index": (
        json.dumps({"cluster": WORKERS, "task": {"type": "worker", "index": 2}}), "worker 0 to 1",
    ),
    "no index": (json.dumps({"cluster": WORKERS, "task": {"type": "worker", "index": "0"}}), "index '0'"),
    "twice": (
        json.dumps({"cluster": {"worker": ["h:1", "h:1"]}, "task": {"type": "worker", "index": 0}}), "twice",
    ),
}  # fmt: skip


@pytest.mark.parametrize("text, said", BAD.values(), ids=BAD)
def test_a_bad_tf_config_is_refused_with_an_example(text, said, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if text is not None:
        monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(RecipeError) as caught:
        strategies.start(recipe(strategy="multi_worker"))
    assert said in str(caught.value)
    assert strategies.EXAMPLE in str(caught.value)


def test_a_chief_of_its_own_comes_before_the_workers():
    cluster = {"worker": ["b:1", "c:1"], "chief": ["a:1"]}
    for kind, index, expected in (("chief", 0, 0), ("worker", 0, 1), ("worker", 1, 2)):
        text = json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})
        task = strategies.task_of({"TF_CONFIG": text})
        assert (task.addresses, task.index) == (("a:1", "b:1", "c:1"), expected)
    assert strategies.task_of({"TF_CONFIG": strategies.EXAMPLE}).index == 0


def test_a_batch_that_cannot_be_shared_out_is_refused_by_both_numbers():
    job = Job()
    job.replicas = 3
    strategies.check_batch(recipe(batch_size=96), 96, job)
    with pytest.raises(RecipeError, match=r"--batch_size=128.*among the 3 replicas"):
        strategies.check_batch(recipe(batch_size=128), 128, job)
    with pytest.raises(RecipeError, match="100 images .the data set has no more."):
        strategies.check_batch(recipe(batch_size=129), 100, job)


def test_one_device_is_told_of_and_works(caplog):
    job = strategies.start(recipe(strategy="mirrored"))
    found = len(tf.config.list_logical_devices("GPU")) or len(tf.config.list_logical_devices("CPU"))
    assert job.replicas == found
    assert job.is_chief and job.part == (0, 1)
    assert strategies.start(recipe()) is ALONE


def test_no_tpu_is_said_so():
    with pytest.raises(RecipeError, match="--strategy=tpu --tpu=: no TPU can be used: .*--tpu=NAME"):
        strategies.start(recipe(strategy="tpu"))


@pytest.mark.parametrize("strategy", ["mirrored", "multi_worker"])
def test_flags_that_do_not_go_together_are_refused(strategy):
    with pytest.raises(RecipeError, match=f"--jit_compile=true .*false with --strategy={strategy}"):
        recipe(strategy=strategy, jit_compile="true").validate()
    with pytest.raises(RecipeError, match=f"--tpu=x .*empty with --strategy={strategy}"):
        recipe(strategy=strategy, tpu="x").validate()
