"""Costs of the built-in networks against the golden file that lies beside a checkout of the project.

The file gives multiply-accumulates, weights and input elements of every layer and totals at many bits. Where
it is missing these tests are skipped; the figures that matter are in `bops_test.py` and
`network_bops_test.py` with their arithmetic.
"""

import json
import pathlib

import network_bops_test
import pytest

from mmx_tf import models
from mmx_tf.budget.bops import uniform_bops

pytestmark = pytest.mark.broad

GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "shared" / "golden_bops.json"
KINDS = {"conv": "conv", "se": "conv", "down": "conv", "dw": "depthwise", "fc": "dense"}


@pytest.fixture(scope="module")
def golden(network):
    if not GOLDEN.exists():
        pytest.skip(f"SKIPPED, NOT PASSED: {GOLDEN} is not there, so no golden figure was compared.")
    networks = json.loads(GOLDEN.read_text())["networks"]
    if network[0] not in networks:
        pytest.skip(f"SKIPPED, NOT PASSED: {GOLDEN} has no {network[0]}; network_bops_test has its figures.")
    return networks


@pytest.fixture(scope="module", params=models.NAMES)
def network(request):
    return request.param, network_bops_test.costs_of(request.param)


def test_every_layer(golden, network):
    name, costs = network
    expected = golden[name]["layers"]
    assert len(costs) == golden[name]["weighted_layers"] == len(expected)
    for cost, layer in zip(costs, expected, strict=True):
        found = {"macs": cost.macs, "weights": cost.weights, "input_elements": cost.input_elements}
        assert found == {key: layer[key] for key in found}, (cost.name, layer["paper_name"])
        # The last layers of MobileNet-v3 are called fully connected; Keras has them as 1x1 convolutions.
        kinds = {KINDS[layer["kind"]], "conv"} if layer["kind"] == "fc" else {KINDS[layer["kind"]]}
        assert cost.kind in kinds, cost.name


def test_totals(golden, network):
    name, costs = network
    expected = golden[name]
    assert sum(cost.macs for cost in costs) == expected["macs"]
    assert sum(cost.weights for cost in costs) == expected["weights"]
    ends = [cost for cost in costs if cost.end]
    assert [costs[0], costs[-1]] == ends
    assert sum(cost.macs * 64 for cost in ends) == expected["ends_bops"]


def test_bops_at_every_bit_width(golden, network):
    name, costs = network
    uniform = dict(golden[name]["uniform_bops"])
    assert uniform_bops(costs, 32, 32, 32) == uniform.pop("fp32")
    assert len(uniform) == 9
    for bits, expected in uniform.items():
        weight_bits, activation_bits = map(int, bits[1:].split("a"))
        assert uniform_bops(costs, weight_bits, activation_bits) == expected, bits


def test_the_papers_figures(golden):
    """What network_bops_test.py asserts by its own arithmetic is what the file says."""
    figures = json.loads(GOLDEN.read_text())["paper_figures_reproduced"]
    assert set(figures.values()) == set(network_bops_test.PAPER_FIGURES.values())
