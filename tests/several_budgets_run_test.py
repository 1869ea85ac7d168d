"""A whole run with budgets of RAM and flash, whose file is within both."""

import json

import pytest
from networks import pretrained, small_network

import mmx_tf
from mmx_tf.export.c_source import c_source
from mmx_tf.metamix.flash import costs_in_flash
from mmx_tf.metamix.ram import costs_in_ram
from tests.commands import train_main

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def limits():
    """Bytes of RAM and flash halfway between the fewest and the most."""
    free = mmx_tf.augment(small_network(), bit_widths=(8, 4, 2), weight_bits=(8, 4, 2))
    return [int(sum(of(free, {}).reachable)) // 2 for of in (costs_in_ram, costs_in_flash)]


@pytest.fixture(scope="module")
def workdir(digits, tmp_path_factory, limits):
    folder = tmp_path_factory.mktemp("both")
    pretrained(digits).save(folder / "float.keras")
    ram, flash = limits
    train_main([
        f"--float_model={folder / 'float.keras'}", "--image_size=16", "--batch_size=64",
        "--steps_per_epoch=3", "--train_epochs=1", "--eval_images=64", "--parity_images=8",
        "--candidate_bits=8,4,2", "--weight_bits=8,4,2", f"--target_ram={ram}", f"--target_flash={flash}",
        f"--workdir={folder / 'run'}",
    ])  # fmt: skip
    return folder / "run"


def test_the_file_is_within_both(workdir, limits):
    made = c_source((workdir / "model.tflite").read_bytes())
    assert made.ram_bytes <= limits[0] and made.flash_bytes <= limits[1]
    # The most bits everywhere are beyond both.
    layers = json.loads((workdir / "bit_selection.json").read_text())["layers"][1:-1]
    assert min(layer["weight_bits"] for layer in layers) < 8
    assert min(layer["activation_bits"] for layer in layers) < 8


def test_selection_metrics_and_report_have_both(workdir, limits):
    selection, metrics = (
        json.loads((workdir / name).read_text()) for name in ("bit_selection.json", "metrics.json")
    )
    units = ["bytes of RAM", "bytes of flash"]
    assert metrics["costs"] == selection["costs"] and metrics["cost"] == metrics["costs"][0]
    assert [cost["unit"] for cost in metrics["costs"]] == units
    assert [cost["target"] for cost in metrics["costs"]] == limits
    assert all(cost["value"] <= cost["target"] for cost in metrics["costs"])
    assert metrics["costs"][1]["value"] >= metrics["microcontroller"]["packed"]["flash_bytes"]
    page = (workdir / "report.html").read_text()
    assert all(f"{cost['value']:,.0f} {cost['unit']} of a budget of" in page for cost in metrics["costs"])
