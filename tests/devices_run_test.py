"""Whole runs on digits with --device: the file that a device takes, and a budget by the device's own tool."""

import importlib.util
import json

import pytest

from mmx_tf.devices import ethos_u
from mmx_tf.export import vela
from mmx_tf.export.c_source import c_source
from tests.commands import train_main

pytestmark = pytest.mark.slow
TINY = (
    "--image_size=16", "--batch_size=64", "--steps_per_epoch=2", "--train_epochs=1", "--eval_images=32",
    "--parity_images=4", "--candidate_bits=8,4", "--sensitivity_images=0",
)  # fmt: skip
ETHOS_U = "ethos-u55-128"
with_vela = pytest.mark.skipif(
    importlib.util.find_spec("ethosu") is None,
    reason="NO PACKAGE ethos-u-vela (extra ethos-u): no run for an Ethos-U",
)


def run(float_file, folder, *flags):
    train_main([f"--float_model={float_file}", *TINY, *flags, f"--workdir={folder}"])
    return json.loads((folder / "metrics.json").read_text())


@with_vela
def test_flash_is_within_its_budget_by_velas_figure(float_file, tmp_path):
    folder, target = tmp_path / "run", 976
    flags = (f"--device={ETHOS_U}", "--weight_bits=8,2", f"--target_flash={target}")
    metrics = run(float_file, folder, *flags)
    data = (folder / "model.tflite").read_bytes()
    found = vela.estimate(data, accelerator=ETHOS_U)
    budget = metrics["device"]["budgets"]["target_flash"]
    assert budget["figure"] == found.off_chip_flash_bytes <= budget["target"] == target and budget["met"]
    assert metrics["device"]["figures"]["device_latency_ms"] == pytest.approx(1e3 * found.latency_seconds)
    # The bits were judged whole before they were trained, and the most bits everywhere would take more.
    assert metrics["cost"]["value"] <= metrics["cost"]["target"] == target
    costs = folder / "device_costs.json"
    assert max(said["off_chip_flash_bytes"] for said in json.loads(costs.read_text()).values()) > target
    layers = json.loads((folder / "bit_selection.json").read_text())["layers"]
    assert 2 in {layer["weight_bits"] for layer in layers}
    compiled = (folder / "device" / "model_vela.tflite").read_bytes()
    assert vela.estimates.left_on_cpu(compiled) == found.cpu_operators == ()
    # A run that goes on asks Vela about nothing that it was asked before.
    (folder / "metrics.json").unlink()
    before, asked = costs.read_text(), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ethos_u.EthosU, "_estimated", lambda self, data: asked.append(data))
        assert run(float_file, folder, *flags)["device"] == metrics["device"]
    assert asked == [] and costs.read_text() == before


def test_cortex_m4_gets_c_source_and_its_figures(float_file, tmp_path):
    metrics = run(float_file, tmp_path / "run", "--device=cortex-m4")
    made = c_source((tmp_path / "run" / "model.tflite").read_bytes(), source="model.tflite")
    assert metrics["device"]["figures"] == {"ram_bytes": made.ram_bytes, "flash_bytes": made.flash_bytes}
    folder = tmp_path / "run" / "device"
    assert {path.name: path.read_text() for path in folder.iterdir()} == dict(made.files)
    flags = (tmp_path / "run" / "run.flags").read_text()
    assert "--input_type=int8\n" in flags and "--weight_storage=int8\n" in flags


def test_fpga_gets_qonnx(float_file, tmp_path):
    onnx = pytest.importorskip("onnx", reason="NO PACKAGE onnx (extra fpga): no run for an FPGA")
    metrics = run(float_file, tmp_path / "run", "--device=fpga")
    path = tmp_path / "run" / "device" / "model.onnx"
    onnx.checker.check_model(onnx.load(path), full_check=False)
    figures = metrics["device"]["figures"]
    assert figures["bops"] == metrics["bops"] and figures["onnx_bytes"] == path.stat().st_size


def test_cpu_is_timed_within_a_loose_budget(float_file, tmp_path):
    metrics = run(float_file, tmp_path / "run", "--device=cpu", "--target_latency=1s")
    assert 0 < metrics["device"]["figures"]["latency_ms"] < 1000
    assert metrics["device"]["budgets"]["target_latency"]["met"]
    assert "--weight_storage=int4_xnnpack\n" in (tmp_path / "run" / "run.flags").read_text()
