"""The report's curves: a unit at every axis, each budget in its own, and its line across."""

import pytest
from comparison_test import SELECTION, metrics_of

from mmx_tf.report import themes
from mmx_tf.report.curves import _figure, _panels
from mmx_tf.report.facts import run_facts

HISTORY = {
    "bops": [9000.0, 8000.0],
    "loss": [0.5, 0.25],
    "sparse_categorical_accuracy": [0.5, 0.75],
    "cost": [14_000.0, 12_000.0],
    "cost_2": [2.5, 2.25],
    "alpha_entropy": [1.0, 0.5],
}


@pytest.fixture
def panels():
    costs = [
        {"unit": "bytes of RAM", "value": 12_000, "target": 12_500},
        {"unit": "us", "value": 2.25, "target": None},
    ]
    facts = run_facts(SELECTION | {"target_bops": 9500}, metrics_of(costs=costs))
    return {panel.title: panel for panel in _panels(facts, HISTORY, 10)}


def test_costs_have_their_units_and_budgets(panels):
    assert [title for title in panels if "of the most probable bits" in title] == [
        f"{unit} of the most probable bits" for unit in ("BOPs", "kB of RAM", "us")
    ]
    ram = panels["kB of RAM of the most probable bits"]
    assert (ram.curves["cost"], ram.unit, ram.level) == ([14.0, 12.0], "kB of RAM", ("budget", 12.5))
    other = panels["us of the most probable bits"]
    assert (other.curves["cost_2"], other.unit, other.level) == ([2.5, 2.25], "us", None)
    bops = panels["BOPs of the most probable bits"]
    assert (bops.curves["bops"], bops.unit, bops.level) == ([9000, 8000], "BOPs", ("budget", 9500))


def test_every_axis_has_a_unit(panels):
    assert panels["accuracy"].curves["sparse_categorical_accuracy"] == [50, 75]
    figure = _figure(list(panels.values()), theme=themes.LIGHT)
    labels = {axes.get_title(loc="left"): axes.get_ylabel() for axes in figure.axes if axes.get_visible()}
    assert labels["accuracy"] == "accuracy, %" and labels["entropy of alpha"] == "entropy, nats"
    assert len(labels) == len(HISTORY) and all(labels.values())
    assert {axes.get_xlabel() for axes in figure.axes if axes.get_visible()} == {"step"}
