"""Why a layer has its bits: losses at neighbouring candidates against numpy in float64, margins by hand."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from networks import small_network

import mmx_tf
from mmx_tf.metamix.sensitivity import sensitivities
from tests import alphas

BITS = (8, 4, 3)
MSE = keras.losses.MeanSquaredError()
CROSSENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def dense_network():
    layers = [
        keras.layers.Dense(n, activation="relu", name=name) for n, name in ((5, "a"), (4, "b"), (3, "c"))
    ]
    return keras.Sequential([keras.Input((6,)), *layers, keras.layers.Dense(2, name="d")])


def in_numpy(search, images, choice):
    """The outputs of the dense network with a choice of branches, in float64."""
    x = images.astype(np.float64)
    for name in "abcd":
        quantizer = search.network.get_layer(f"{name}_input_quantizer")
        if name in "bc":
            branch = choice["bc".index(name)]
            step, (low, high) = quantizer.step_sizes.numpy()[branch], quantizer.ranges[branch]
        else:
            step, signed = float(quantizer.step_size), quantizer.signed
            low, high = (-127, 127) if signed else (0, 255)
        x = np.clip(np.rint(x / np.float64(step)), low, high) * np.float64(step)
        kernel, bias = (value.astype(np.float64) for value in search.network.get_layer(name).get_weights())
        x = x @ kernel + bias
        x = x if name == "d" else np.maximum(x, 0)
    return x


def test_losses_are_those_of_the_network_with_one_layer_changed():
    keras.utils.set_random_seed(1)
    rng = np.random.default_rng(1)
    batches = [(rng.normal(size=(8, 6)).astype("f"), rng.normal(size=(8, 2)).astype("f")) for _ in range(2)]
    search = mmx_tf.augment(dense_network(), bit_widths=BITS, target_average_bits=4.0)
    search(batches[0][0], branch=0)
    found = sensitivities(search, [1, 2], batches, MSE)

    def losses(choice):
        return np.array([np.mean((in_numpy(search, x, choice) - y) ** 2) for x, y in batches])

    selected = losses([1, 2])
    assert found.loss == pytest.approx(selected.mean(), rel=1e-5)
    assert found.images == 16
    b, c = (layer.activation for layer in found.layers)
    for neighbour, choice in ((b.lower, [2, 2]), (b.higher, [0, 2]), (c.higher, [1, 1])):
        change = losses(choice) - selected
        assert abs(change.mean()) > 1e-4  # so that the comparison is one
        assert neighbour.change == pytest.approx(change.mean(), abs=2e-6)
        # Of two numbers the standard error is half their distance.
        assert neighbour.standard_error == pytest.approx(abs(change[0] - change[1]) / 2, abs=2e-6)
    assert (b.bits, b.lower.bits, b.higher.bits) == (4, 3, 8)
    assert (c.bits, c.lower, c.higher.bits) == (3, None, 4)


def test_batch_statistics_count_and_nothing_is_changed(digits):
    """With Dropout, whose masks would make noise of it: the same images give the same losses."""
    keras.utils.set_random_seed(2)
    network = small_network()
    image, *_, pooled = network.input, network.get_layer("pool").output
    dropped = keras.layers.Dropout(0.5)(pooled)
    network = keras.Model(image, keras.layers.Dense(10, name="logits")(dropped))
    search = mmx_tf.augment(network, bit_widths=BITS, target_average_bits=4.0)
    batches = list(digits.train(batch_size=32, seed=0, augment=False).take(2))
    search(batches[0][0], branch=0)
    before = [variable.numpy().copy() for variable in search.variables]
    first = sensitivities(search, [1, 1, 1], batches, CROSSENTROPY)
    assert first == sensitivities(search, [1, 1, 1], batches, CROSSENTROPY)
    assert all(np.array_equal(a, b.numpy()) for a, b in zip(before, search.variables, strict=True))
    # In inference batch norm takes running statistics, which are those of no image here.
    alphas.set_rows(search, [0, 1, 0])
    inference = np.mean([float(CROSSENTROPY(y, search(x))) for x, y in batches])
    assert abs(first.loss - inference) > 0.01


def test_margins_by_hand():
    search = mmx_tf.augment(dense_network(), bit_widths=BITS, target_average_bits=4.0)
    alphas.set_rows(search, [[0.0, np.log(2.0), np.log(3.0)], [1.0, 1.0, 1.0 + 0.1]])
    found = sensitivities(search, [2, 2], [], MSE)
    b, c = (layer.activation for layer in found.layers)
    assert b.probabilities == pytest.approx({8: 1 / 6, 4: 2 / 6, 3: 3 / 6})
    assert b.margin == pytest.approx(1 / 6)
    # exp(0.1) / (2 + exp(0.1)) - 1 / (2 + exp(0.1))
    assert c.margin == pytest.approx((np.exp(0.1) - 1) / (2 + np.exp(0.1)), rel=1e-5)
    assert found.near_ties == ["c"] and (found.images, found.loss) == (0, None)
    document = found.to_json()
    assert document["layers"][0]["activation"]["probabilities"]["3"] == pytest.approx(0.5)
    assert document["layers"][0]["weights"] is None
    given = sensitivities(search, [2, 2], [], MSE, searched=False)
    assert given.near_ties == [] and given.layers[0].activation.margin is None


def test_weight_bits_have_neighbours_of_their_own():
    keras.utils.set_random_seed(3)
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(16, 6)).astype("f"), rng.normal(size=(16, 2)).astype("f")
    search = mmx_tf.augment(dense_network(), bit_widths=(8, 4), weight_bits=(8, 4, 2), target_bops=3500)
    search(x, branch=0, weight_branch=0)
    # Pairs are weight branch * 2 + activation branch: 4-bit weights with 8 and with 4 bits.
    found = sensitivities(search, [2, 3], [(x, y)], MSE)
    weights = found.layers[0].weights
    assert (weights.bits, weights.lower.bits, weights.higher.bits) == (4, 2, 8)
    assert found.layers[0].activation.bits == 8 and found.layers[1].activation.bits == 4
    assert weights.lower.standard_error is None
    alpha = np.array([[1, 0, 0, 0, 1], [0, 1, 0, 1, 0]], np.float32)
    selected = np.array([[1, 0, 0, 1, 0], [0, 1, 0, 1, 0]], np.float32)
    at, own = (float(MSE(y, search(x, alpha=tf.constant(a)))) for a in (alpha, selected))
    assert weights.lower.change == pytest.approx(at - own, abs=2e-6)
    assert abs(at - own) > 1e-4


def test_a_choice_of_another_network_is_refused():
    search = mmx_tf.augment(dense_network(), bit_widths=BITS, target_average_bits=4.0)
    with pytest.raises(ValueError, match="2 integers in 0..2"):
        sensitivities(search, [0], [], MSE)
