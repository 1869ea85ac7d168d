"""A run with every option of training practice, killed in each phase, has the bytes of one left alone."""

import json

import pytest
import warm_starts

from benchmarks import reliability
from mmx_tf.workdir import checkpoints

# Where oneDNN is on, --deterministic starts the program anew.
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("without_onednn")]

EVERY_OPTION = (
    "--validation_images=100", "--teacher=float", "--distill_selection", "--distillation_weight=0.5",
    "--select_optimizer=adam", "--select_learning_rate=0.001", "--step_learning_rate=0.001",
    "--select_global_clipnorm=1", "--alpha_beta_1=0.5", "--alpha_weight_decay=0.001",
    "--alpha_initial_stddev=0.001", "--alpha_schedule=constant", "--activation_epochs=1",
    "--optimizer=adam", "--learning_rate=0.0003", "--weight_decay_kind=l2", "--weight_decay=5e-6",
    "--global_clipnorm=1", "--step_size_learning_rate_factor=3", "--oscillation_dampening=0.01",
    "--batch_norm_images=128", "--share_step_sizes",
)  # fmt: skip
POINTS = (("select", 2), ("select", reliability.STEPS + 2), ("activation", 3), ("train", 4))


def test_a_run_that_is_killed_in_every_phase_ends_as_if_it_had_not_been(tmp_path):
    reliability.save_float_network(tmp_path / "float.keras")
    words = {
        name: [*reliability.arguments(tmp_path / "float.keras", tmp_path / name), *EVERY_OPTION]
        for name in ("reference", "killed")
    }
    reliability.finish(words["reference"])
    every_step = [*words["killed"], reliability.EVERY_STEP]
    for phase, steps in POINTS:
        point = reliability.Point(phase, (phase, steps), 0.0)
        killed = reliability.kill_at(point, every_step, tmp_path / "killed", start=warm_starts.Program)
        assert killed, point
    done = warm_starts.finished(every_step)
    assert done.returncode == 0, done.stderr
    assert reliability.differing(tmp_path / "killed", tmp_path / "reference") == []
    for phase in ("select", "activation", "train"):
        ends = [tmp_path / run / "checkpoints" / phase for run in words]
        assert checkpoints.newest_facts(ends[0]) == checkpoints.newest_facts(ends[1]), phase
    metrics = json.loads((tmp_path / "reference" / "metrics.json").read_text())
    assert metrics["code_disagreement"] == 0.0
    assert metrics["search"]["last_steps"] == 1 and "The search is" in metrics["search"]["sentence"]
    # Epochs are judged on the images held out, the file on those of evaluation.
    state = json.loads((tmp_path / "reference" / "checkpoints" / "state.json").read_text())
    assert state["inputs"]["dataset"]["validation"]["images"] == 100 and metrics["eval_images"] == 64
    assert {"select", "activation", "train"} <= state["seconds"].keys()
