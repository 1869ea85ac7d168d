"""A whole run with a budget of RAM, on the network and image size of MLPerf Tiny's visual wake words."""

import json
import re

import pytest

from mmx_tf.export.c_source import c_source
from tests.commands import train_main

pytestmark = pytest.mark.slow
LIMIT = 32_000


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """That of a run on digits, 96 pixels wide, with --target_ram=32K."""
    folder = tmp_path_factory.mktemp("ram")
    train_main([
        "--model=mobilenet_v1", "--width=0.25", "--dataset=digits", "--image_size=96", "--batch_size=4",
        "--steps_per_epoch=2", "--float_epochs=1", "--train_epochs=1", "--eval_images=8", "--parity_images=2",
        "--candidate_bits=8,4,3,2", "--target_ram=32K", f"--workdir={folder}",
    ])  # fmt: skip
    return folder


def test_the_file_takes_less_ram_than_its_budget_and_8_bits_take_more(workdir):
    data = (workdir / "model.tflite").read_bytes()
    (defined,) = re.findall(r"#define NET_RAM_BYTES (\d+)u", c_source(data).files["net.h"])
    assert int(defined) <= LIMIT < c_source(data, activations="int8").ram_bytes
    metrics = json.loads((workdir / "metrics.json").read_text())
    assert metrics["cost"]["value"] >= metrics["microcontroller"]["packed"]["ram_bytes"] == int(defined)


def test_one_layer_alone_has_less_than_8_bits(workdir):
    """At 8 bits the fullest step has both of these; either one at 4 bits fits, and others take no part."""
    metrics = json.loads((workdir / "metrics.json").read_text())
    layers = json.loads((workdir / "bit_selection.json").read_text())["layers"]
    lowered = {layer["name"]: layer["activation_bits"] for layer in layers if layer["activation_bits"] != 8}
    assert lowered in ({"conv_dw_2": 4}, {"conv_pw_1": 4})
    # 8 - 4 * 82,944 / 6,991,488 MACs, or with 294,912 of them.
    assert metrics["average_bits"]["by_ops"] >= (7.9 if "conv_dw_2" in lowered else 7.8)
