"""What mixed bits can gain: the forecast against hand-computed values and scipy's optimum in float64."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from scipy import optimize

import mmx_tf
from benchmarks import sensitivity
from benchmarks.sensitivity_summary import additive_choice, figure, forecast, gain_in_bits
from mmx_tf.budget.bops import LayerCost
from mmx_tf.budget.budget import Budget

positive = st.floats(0.01, 100.0)


def test_the_gain_by_hand():
    # Per operation 1 and 4: arithmetic mean 2.5, geometric mean 2.
    assert gain_in_bits([1, 4], [1, 1]) == pytest.approx(np.log2(1.25) / 2)
    # 8 for two operations is 4 for each, with twice the weight: means 3 and 4^(2/3).
    assert gain_in_bits([1, 8], [1, 2]) == pytest.approx(np.log2(3 / 4 ** (2 / 3)) / 2)
    assert gain_in_bits([5, 10, 20], [1, 2, 4]) == pytest.approx(0, abs=1e-12)


@given(st.lists(st.tuples(positive, positive), min_size=1, max_size=6), positive)
def test_the_gain_is_never_below_0_and_has_no_unit(layers, factor):
    s, c = np.array(layers).T
    gain = gain_in_bits(s, c)
    assert gain >= -1e-12
    assert gain_in_bits(factor * s, c) == pytest.approx(gain, abs=1e-9)
    assert gain_in_bits(s, factor * c) == pytest.approx(gain, abs=1e-9)


def test_the_best_allocation_is_worth_the_gain():
    """Where the loss falls by a factor of 4 per bit, the optimum is as good as more bits everywhere."""
    s, c, bits = np.array([3.0, 0.2, 1.0, 8.0]), np.array([5.0, 1.0, 2.0, 4.0]), 4.0
    found = optimize.minimize(
        lambda b: np.log(s @ 4.0**-b),
        np.full(4, bits),
        constraints=[optimize.LinearConstraint(c, c.sum() * bits, c.sum() * bits)],
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    assert found.success and gain_in_bits(s, c) > 0.1
    assert np.exp(found.fun) == pytest.approx(s.sum() * 4.0 ** -(bits + gain_in_bits(s, c)), rel=1e-6)


def test_the_forecast_of_changes_by_hand():
    # Means 1 and 4, standard errors 0 and 1; without one of the batches 1 and 5, or 1 and 3.
    found = forecast(np.array([[1.0, 3.0], [1.0, 5.0]]), [1, 1])
    assert found["gain_bits"] == pytest.approx(np.log2(1.25) / 2)
    assert found["ratio"] == pytest.approx(1.25)
    parts = [np.log2(3 / np.sqrt(5)) / 2, np.log2(2 / np.sqrt(3)) / 2]
    assert found["standard_error"] == pytest.approx(abs(parts[0] - parts[1]) / 2)
    assert found["below_noise"] == 0
    # A mean of -1 with a standard error of 2 is taken to be 2: beside 2 there is nothing to gain.
    found = forecast(np.array([[2.0, 1.0], [2.0, -3.0]]), [1, 1])
    assert found["gain_bits"] == pytest.approx(0, abs=1e-12) and found["below_noise"] == 1


def budget_of(macs, target, bit_widths=(8, 4, 3, 2)):
    costs = tuple(LayerCost(f"layer{i}", "conv", m, 1, 1, False) for i, m in enumerate(macs))
    return Budget(costs, bit_widths, 4, 8, target_bops=target)


@given(
    st.lists(st.tuples(st.integers(1, 9), *[st.floats(0, 1)] * 3), min_size=1, max_size=4), st.floats(2, 8)
)
def test_the_additive_selection_is_the_best_of_all(layers, bits):
    """By every choice there is, with losses that no more bits make larger."""
    macs = [layer[0] for layer in layers]
    budget = budget_of(macs, int(4 * bits * sum(macs)))
    losses = np.cumsum([[0.0, *layer[1:]] for layer in layers], axis=1)
    choice = additive_choice(budget, losses)
    assert budget.meets(choice)
    rows = range(len(macs))
    best = min(
        losses[rows, other].sum()
        for other in itertools.product(range(4), repeat=len(macs))
        if budget.meets(other)
    )
    assert losses[rows, choice].sum() == pytest.approx(best, abs=1e-6)


def test_noise_gives_no_layer_fewer_bits_than_fit():
    # 3 bits seem better than 4 and 8 by chance: their mean says that all three are as good.
    assert additive_choice(budget_of([1, 1], 4 * 16), np.array([[0, 0, -0.3, 5.0]] * 2)) == [0, 0]
    # Of two layers with 4 bits on average, what is the more sensitive gets 8 only where that pays.
    losses = np.array([[0.0, 9.0, 9.5, 10.0], [0.0, 1.0, 1.5, 2.0]])
    assert additive_choice(budget_of([1, 1], 4 * 10), losses) == [0, 3]
    assert additive_choice(budget_of([1, 1], 4 * 8), losses) == [1, 1]


def test_each_layer_is_changed_alone():
    keras.utils.set_random_seed(4)
    layers = [
        keras.layers.Dense(n, activation="relu", name=name) for n, name in ((5, "a"), (4, "b"), (3, "c"))
    ]
    network = keras.Sequential([keras.Input((6,)), *layers, keras.layers.Dense(2, name="d")])
    search = mmx_tf.augment(network, bit_widths=(8, 4, 2), target_average_bits=4.0)
    rng = np.random.default_rng(4)
    batches = [(rng.normal(size=(8, 6)).astype("f"), rng.normal(size=(8, 2)).astype("f")) for _ in range(3)]
    search(batches[0][0], branch=0)
    mse = keras.losses.MeanSquaredError()
    changes, at_reference, images = sensitivity.layers_alone(search, batches, mse, reference=1)

    def losses(choice):
        alpha = tf.one_hot(choice, 3)
        return np.array([float(mse(y, search(x, alpha=alpha))) for x, y in batches])

    reference = losses([1, 1])
    assert (changes.shape, images) == ((3, 2, 3), 24)
    assert at_reference == pytest.approx(reference.mean(), rel=1e-5)
    np.testing.assert_array_equal(changes[:, :, 1], 0)
    for layer, branch in itertools.product((0, 1), (0, 2)):
        choice = [1, 1]
        choice[layer] = branch
        expected = losses(choice) - reference
        assert np.abs(expected).max() > 1e-4  # so that the comparison is one
        np.testing.assert_allclose(changes[:, layer, branch], expected, atol=2e-6)


def test_what_is_judged_begins_with_one_bit_width():
    budget = budget_of([1, 2, 3], int(4 * 3.5 * 6))
    changes = np.array([[0.0, 0.1, 0.2, 0.4]] * 3)
    found = sensitivity.candidates_of(budget, {"run": [2, 2, 2]}, changes, [7])
    assert list(found) == ["3 bits", "additive", "run", "random 7"]
    assert found["3 bits"] == [2, 2, 2] and all(budget.meets(choice) for choice in found.values())


def test_the_figure_has_every_layer_and_selection():
    def candidates(change):
        return {
            bits: {"change": change * k, "standard_error": 0.01} for bits, k in (("8", 0), ("4", 1), ("2", 9))
        }

    row = {"change": -0.1, "standard_error": 0.02, "predicted_change": -0.2}
    document = {
        "beside": "4 bits",
        "forecast": {"4": {"gain_bits": 0.1}, "2": {"gain_bits": 0.25}},
        "layers": [
            {"name": n, "macs": 1000, "candidates": candidates(c)} for n, c in (("a", 0.1), ("b", -0.01))
        ],
        "selections": {"4 bits": row, "additive": row, "random 0": row},
    }
    drawn = figure(document, "a network")
    assert isinstance(drawn, Figure)
    left, right = drawn.axes
    assert [label.get_text() for label in left.get_xticklabels()] == ["a", "b"]
    assert [label.get_text() for label in right.get_yticklabels()] == ["4 bits", "additive", "random 0"]
    assert "2 bits: 0.25 bits to gain" in [text.get_text() for text in left.get_legend().get_texts()]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--draw_seeds=-1"], "--draw_seeds=-1: numbers of 0 or more"),
        (["--images=0"], "integer of 1 or more"),
    ],
)
def test_wrong_options_are_refused(words, said, capsys):
    with pytest.raises(SystemExit, match="2"):
        sensitivity.parsed(["--workdir=w", *words])
    assert said in capsys.readouterr().err


def test_a_workdir_without_a_selection_is_refused(tmp_path):
    with pytest.raises(SystemExit, match=r"has no bit_selection.json"):
        sensitivity.main([f"--workdir={tmp_path}"])
