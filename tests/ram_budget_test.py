"""--target_ram and augment(target_ram=...): what is counted is what the C source of the file takes."""

import random

import numpy as np
import pytest
import tf_keras as keras
from networks import small_network

import mmx_tf
from mmx_tf.export.c_source import c_source, storing
from mmx_tf.export.c_source.lowering import Lowering
from mmx_tf.export.c_source.planning import plan_of
from mmx_tf.export.c_source.unpacked_graph import unpacked_graph
from mmx_tf.metamix.file_bytes import TrialFiles
from mmx_tf.metamix.ram import costs_in_ram

pytestmark = pytest.mark.broad

BITS = (8, 4, 2)


def searched(**options):
    return mmx_tf.augment(small_network(), bit_widths=BITS, **options)


@pytest.fixture(scope="module")
def free():
    return searched(target_average_bits=8)


@pytest.fixture(scope="module")
def costs(free):
    return costs_in_ram(free, {})


def residual_network():
    """Two sums, of which one feeds two layers, and a pooling of codes."""
    layers = keras.layers
    image = keras.Input((12, 12, 1))
    stem = layers.Conv2D(8, 3, padding="same", activation="relu")(image)
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(stem)
    x = layers.Conv2D(8, 3, padding="same")(x)
    x = layers.ReLU()(layers.Add()([stem, x]))
    narrow = layers.Conv2D(8, 1, strides=2, activation="relu")(x)
    y = layers.MaxPooling2D(2)(layers.Conv2D(8, 3, padding="same", activation="relu")(x))
    x = layers.Add()([narrow, layers.Conv2D(8, 1)(y)])
    return keras.Model(image, layers.Dense(4)(layers.GlobalAveragePooling2D()(x)))


def file_of(search, choice):
    return TrialFiles(search, choice, {}).with_activation_bits([BITS[branch] for branch in choice])


def arena(search, choice):
    return c_source(file_of(search, choice)).ram_bytes


def usual_arena(data):
    return plan_of(storing.usual(Lowering(unpacked_graph(data)), (2, 4, 8))).bytes


@pytest.mark.slow
def test_every_choice_takes_the_usual_arena_of_its_own_file(free, costs):
    generator = random.Random(3)
    choices = [[generator.randrange(3) for _ in range(costs.layers)] for _ in range(6)]
    for choice in [[0] * costs.layers, [2] * costs.layers, *choices]:
        data = file_of(free, choice)
        # The file's program may be stored in a way that takes less.
        assert costs.of(choice) == usual_arena(data) >= c_source(data).ram_bytes


def test_no_arena_is_smaller_than_what_is_live_at_a_moment(costs):
    for choice in np.ndindex(*[3] * costs.layers):
        assert costs.of(choice) >= max(moment.of(choice) for moment in costs.moments)


@pytest.mark.slow
def test_blocks_of_residual_networks_are_never_counted_too_small():
    search = mmx_tf.augment(residual_network(), bit_widths=BITS, target_average_bits=8)
    costs, generator = costs_in_ram(search, {}), random.Random(0)
    assert costs.reachable[0] < costs.reachable[1]
    for _ in range(4):
        choice = [generator.randrange(3) for _ in range(costs.layers)]
        assert costs.of(choice) >= arena(search, choice)


def test_the_selection_is_within_the_budget_and_lowers_only_what_is_live_at_the_peak(costs):
    high = costs.reachable[1]
    search = searched(target_ram=high - 1)
    search.alpha.assign(np.random.default_rng(0).normal(size=search.alpha.shape))
    selection = search.bit_selection()
    assert selection.cost.value <= selection.cost.target == high - 1
    assert selection.cost.unit == "bytes of RAM"
    choice = [BITS.index(layer.activation_bits) for layer in selection.layers if layer.searched]
    assert arena(search, choice) <= selection.cost.value
    # One layer less at its bits of before would not fit.
    for layer, branch in enumerate(choice):
        for wider in range(branch):
            assert costs.of([*choice[:layer], wider, *choice[layer + 1 :]]) > high - 1


def test_beside_bops_both_are_met(costs, free):
    low, high = costs.reachable
    bops = free.budget.bops_at(5)
    search = searched(target_ram=(low + high) // 2, target_bops=bops)
    search.alpha.assign(np.random.default_rng(1).normal(size=search.alpha.shape))
    selection = search.bit_selection()
    assert selection.bops <= bops == selection.target_bops
    assert selection.cost.value <= (low + high) // 2


def test_the_search_survives_its_file(costs, tmp_path):
    search = searched(target_ram=costs.reachable[0] + 100)
    search.save(tmp_path / "search.keras")
    assert mmx_tf.load_model(tmp_path / "search.keras").budget == search.budget


def test_a_limit_that_changes_nothing_is_told(warnings, caplog):
    caplog.set_level("INFO", logger="absl")
    search = searched(target_ram=10**6)
    # 8, 4 and 2 bits everywhere, and the two digits of three layers' numbers, both ways.
    assert "it is measured on 7 trial files of 3 layers" in caplog.text
    assert any("8 bits everywhere take" in line for line in warnings)
    assert {layer.activation_bits for layer in search.bit_selection().layers} == {8}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"target_ram": 10},
            r"out of reach: with candidates of 8, 4, 2 bits this network .* bytes of RAM\. Ask for more\.$",
        ),
        ({"target_ram": 0}, "target_ram=0: a number above 0, for example 48e3"),
        ({"target_ram": True}, "target_ram=True: a number above 0"),
        ({"target_average_bits": True}, "target_average_bits=True: a number above 0"),
        ({"target_bops": [1e6, True]}, "target_bops=True: a number above 0"),
        ({"target_average_bits": 4, "regularizer_weight": True}, "regularizer_weight=True: a number"),
        ({"target_average_bits": 4, "meta_epochs": True}, "meta_epochs=True: an integer of 0 or more"),
        (
            {"target_ram": 1e3, "weight_bits": (8, 4)},
            "it counts activation bits alone.* target_flash or target_latency, or one",
        ),
        (
            {"target_ram": 1e3, "target_average_bits": 4, "weight_bits": (8, 4)},
            r"target_average_bits=4 and target_ram=1000.0 with weight_bits=\(8, 4\): they count activation",
        ),
    ],
)
def test_what_cannot_be_met_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        searched(**options)
