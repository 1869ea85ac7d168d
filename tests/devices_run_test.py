"""Whole runs on digits with --device: the file that a device takes, and a budget by the device's own tool."""

import importlib.util
import json
import sys

import pytest
from networks import of_long_sums
from qonnx_models import needed

from mmx_tf import reexport
from mmx_tf.devices import ethos_u
from mmx_tf.export import parity, vela
from mmx_tf.export.c_source import c_source
from mmx_tf.figures.make import make
from mmx_tf.figures.options import FigureOptions
from mmx_tf.recipe.recipe import Recipe
from mmx_tf.run import device_budget
from tests.commands import called, train_main

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
def test_flash_is_within_its_budget_by_velas_figure(float_file, tmp_path, capsys):
    folder, target = tmp_path / "run", 976
    flags = (f"--device={ETHOS_U}", "--weight_bits=8,2", f"--target_flash={target}")
    metrics = run(float_file, folder, *flags)
    data = (folder / "model.tflite").read_bytes()
    found = vela.estimate(data, accelerator=ETHOS_U)
    budget = metrics["device"]["budgets"]["target_flash"]
    assert budget["figure"] == found.off_chip_flash_bytes <= budget["target"] == target and budget["met"]
    assert metrics["device"]["figures"]["device_latency_ms"] == pytest.approx(1e3 * found.latency_seconds)
    # The bits were judged whole before they were trained, and the most bits everywhere would take more.
    assert metrics["cost"]["target"] == target
    assert metrics["cost"]["value"] <= target * (1 - device_budget.RESERVE)
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
    assert_opens_without_vela(float_file, folder, flags, capsys)


def assert_opens_without_vela(float_file, folder, flags, capsys):
    """All of a finished run but new figures of Vela's."""
    wrote = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "ethosu", None)
        with pytest.raises(vela.MissingVelaError):
            vela.estimate(wrote["model.tflite"], accelerator=ETHOS_U)
        run(float_file, folder, *flags)
        for name in ("report.html", "model.tflite", "fixed_model.keras"):
            (folder / name).unlink()
            run(float_file, folder, *flags)
            assert name == "fixed_model.keras" or (folder / name).read_bytes() == wrote[name]
        # What the trial files of the search would cost is no longer known, and nobody asks.
        (folder / "device_costs.json").unlink()
        run(float_file, folder, *flags)
        again = called(capsys, reexport.main, f"--workdir={folder}", f"--out={folder / 'again.tflite'}")
        assert again.returncode == 0 and (folder / "again.tflite").read_bytes() == wrote["model.tflite"]
        assert called(capsys, parity.main, f"--workdir={folder}", "--images=2").returncode == 0
        made = make(FigureOptions(which=("5",)), Recipe.from_flagfile((folder / "run.flags").read_text()))
        assert len(made["5"]["runs"]) == 1
        # New figures need it, and nothing is changed before that is told.
        (folder / "metrics.json").unlink()
        for more in ((), ("--baselines=int8",)):
            with pytest.raises(SystemExit):
                run(float_file, folder, *flags, *more)
            assert "pip install 'mmx_tf[ethos-u]'" in capsys.readouterr().err
            (folder / "metrics.json").write_bytes(wrote["metrics.json"])


@needed
def test_what_a_device_does_not_take_is_refused_before_training(tmp_path, capsys):
    of_long_sums().save(tmp_path / "long.keras")
    with pytest.raises(SystemExit) as end:
        run(tmp_path / "long.keras", tmp_path / "run", "--device=fpga")
    said = capsys.readouterr().err
    assert end.value.code == 2 and "--device=fpga: operator " in said and "has sums of up to" in said
    assert not (tmp_path / "run").exists()


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
