"""BOPs of whole networks against the paper's figures, and the differentiable sum against hand arithmetic."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from mmx_tf.budget.bops import LayerCost, count_bops, layer_costs, selected_costs, uniform_bops
from mmx_tf.network.canonical import canonicalize

pytestmark = pytest.mark.heavy

layers = keras.layers

# MobileNet-v2, 224x224 images, 1000 classes, in graph order.
MACS = [
    10838016, 3612672, 6422528, 19267584, 2709504, 7225344, 10838016, 4064256, 10838016, 10838016, 1016064,
    3612672, 4816896, 1354752, 4816896, 4816896, 1354752, 4816896, 4816896, 338688, 2408448, 4816896,
    677376, 4816896, 4816896, 677376, 4816896, 4816896, 677376, 4816896, 4816896, 677376, 7225344, 10838016,
    1016064, 10838016, 10838016, 1016064, 10838016, 10838016, 254016, 4515840, 7526400, 423360, 7526400,
    7526400, 423360, 7526400, 7526400, 423360, 15052800, 20070400, 1280000,
]  # fmt: skip
INPUT_ELEMENTS = [
    150528, 401408, 401408, 200704, 1204224, 301056, 75264, 451584, 451584, 75264, 451584, 112896, 25088,
    150528, 150528, 25088, 150528, 150528, 25088, 150528, 37632, 12544, 75264, 75264, 12544, 75264, 75264,
    12544, 75264, 75264, 12544, 75264, 75264, 18816, 112896, 112896, 18816, 112896, 112896, 18816, 112896,
    28224, 7840, 47040, 47040, 7840, 47040, 47040, 7840, 47040, 47040, 15680, 1280,
]  # fmt: skip


@pytest.fixture(scope="module")
def mobilenet():
    return canonicalize(keras.applications.MobileNetV2(weights=None))


@pytest.fixture(scope="module")
def costs(mobilenet):
    return layer_costs(mobilenet)


def test_mobilenet_v2_layer_by_layer(costs):
    assert [cost.macs for cost in costs] == MACS
    assert [cost.input_elements for cost in costs] == INPUT_ELEMENTS
    assert sum(cost.weights for cost in costs) == 3469760
    # A convolution, the first block without its expansion, 16 blocks, a convolution and the classifier.
    block = ["conv", "depthwise", "conv"]
    assert [cost.kind for cost in costs] == block + block * 16 + ["conv", "dense"]
    assert [cost.name for cost in costs if cost.end] == [costs[0].name, costs[-1].name]


@pytest.mark.parametrize(
    ("weight_bits", "activation_bits", "bops"),
    [
        (8, 8, 19249553408),
        (4, 4, 5394053120),
        (4, 8, 10012553216),
        (4, 3, 4239428096),
        (3, 4, 4239428096),
    ],
)
def test_mobilenet_v2_totals(costs, weight_bits, activation_bits, bops):
    assert uniform_bops(costs, weight_bits, activation_bits) == bops


def test_mobilenet_v2_defaults_and_full_precision(mobilenet, costs):
    assert count_bops(mobilenet) == 5394053120
    assert uniform_bops(costs, 32, 32, 32) == 307992854528


def small(activation="relu"):
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, strides=2, activation=activation, padding="same", name="stem")(inputs)
    x = layers.SeparableConv2D(6, 3, depth_multiplier=2, name="separable")(x)
    x = layers.Conv2D(2, (1, 2), padding="same", name="wide")(layers.BatchNormalization()(x))
    return keras.Model(inputs, layers.Dense(5, name="logits")(layers.Flatten()(x)))


def test_costs_by_hand():
    assert layer_costs(canonicalize(small())) == [
        LayerCost("stem", "conv", macs=4 * 4 * 4 * 27, weights=108, input_elements=192, end=True),
        # valid padding takes 4x4 to 2x2; two filters of nine weights on each of four channels
        LayerCost("separable_depthwise", "depthwise", 2 * 2 * 72, 72, 4 * 4 * 4, False),
        LayerCost("separable_pointwise", "conv", 2 * 2 * 48, 48, 2 * 2 * 8, False),
        LayerCost("wide", "conv", 2 * 2 * 24, 24, 2 * 2 * 6, False),
        LayerCost("logits", "dense", 40, 40, 8, True),
    ]
    assert count_bops(small(), weight_bits=3, activation_bits=5) == (1728 + 40) * 64 + (288 + 192 + 96) * 15
    every_bits = count_bops(small(), weight_bits=3, activation_bits=5, first_last_bits=32)
    assert every_bits == (1728 + 40) * 1024 + (288 + 192 + 96) * 15


def test_the_zeros_of_a_padding_layer_are_no_input_elements():
    inputs = keras.Input((8, 8, 3))
    x = layers.ZeroPadding2D(2)(layers.ZeroPadding2D(1)(inputs))
    [cost] = layer_costs(canonicalize(keras.Model(inputs, layers.Conv2D(1, 3)(x))))
    assert (cost.input_elements, cost.macs) == (8 * 8 * 3, 12 * 12 * 27)


def test_a_dense_layer_on_an_image_counts_every_position():
    inputs = keras.Input((8, 8, 3))
    [cost] = layer_costs(canonicalize(keras.Model(inputs, layers.Dense(4)(inputs))))
    assert (cost.macs, cost.weights, cost.end) == (8 * 8 * 12, 12, True)


def test_every_layer_without_a_weighted_layer_before_or_behind_it_is_an_end():
    inputs = keras.Input((8, 8, 3))

    def conv(name):
        return layers.Conv2D(3, 1, name=name)

    stems = layers.Concatenate()([conv("stem_a")(inputs), conv("stem_b")(inputs)])
    x = tf.nn.relu(conv("middle")(stems))
    x = tf.math.add(conv("left")(x), y=conv("right")(x) * 2.0 + 1.0)
    model = keras.Model(inputs, [conv("head_a")(layers.ReLU()(x)), conv("head_b")(x)])
    ends = {cost.name: cost.end for cost in layer_costs(canonicalize(model))}
    assert {name for name, end in ends.items() if end} == {"stem_a", "stem_b", "head_a", "head_b"}
    assert {name for name, end in ends.items() if not end} == {"middle", "left", "right"}


def test_a_layer_reached_only_through_a_keyword_is_not_a_first_layer():
    inputs = keras.Input((8, 8, 3))
    stem = layers.Conv2D(3, 1, name="stem")(inputs)
    x = layers.Conv2D(3, 1, name="middle")(tf.math.subtract(inputs, y=stem))
    model = keras.Model(inputs, layers.Conv2D(3, 1, name="head")(x))
    assert [(c.name, c.end) for c in layer_costs(canonicalize(model))] == [
        ("stem", True), ("middle", False), ("head", True),
    ]  # fmt: skip


def select(alphas, *, macs=(10, 7), weight_bits=(4, 3)):
    table = [[m * w * bits for bits in (8, 4, 3)] for m, w in zip(macs, weight_bits, strict=True)]
    return selected_costs(alphas, table=[table], fixed=[1000])[0]


def test_selected_cost_takes_the_largest_alpha():
    alphas = [tf.constant([0.1, 0.3, 0.2]), tf.constant([-1.0, -3.0, 0.0])]
    bops = select(alphas)
    assert bops.dtype == tf.float64 and bops.shape == ()
    assert float(bops) == 10 * 4 * 4 + 7 * 3 * 3 + 1000


def test_selected_cost_takes_the_first_of_equal_alphas():
    assert float(select([tf.zeros(3), tf.zeros(3)])) == 10 * 4 * 8 + 7 * 3 * 8 + 1000


def test_selected_cost_counts_what_float32_cannot():
    bops = select([tf.zeros(3), tf.zeros(3)], macs=[2**40, 1], weight_bits=[8, 1])
    assert float(bops) == 2**46 + 8 + 1000


def test_the_gradient_at_equal_alpha():
    # Mean of 8, 4, 3 is 5: probability 1/3 times (8 - 5, 4 - 5, 3 - 5) = (1, -1/3, -2/3), times op * bw.
    alphas = [tf.Variable(tf.zeros(3)), tf.Variable(tf.zeros(3))]
    with tf.GradientTape() as tape:
        bops = select(alphas)
    first, second = tape.gradient(bops, alphas)
    np.testing.assert_allclose(first, np.array([1, -1 / 3, -2 / 3]) * 40, rtol=1e-6)
    np.testing.assert_allclose(second, np.array([1, -1 / 3, -2 / 3]) * 21, rtol=1e-6)


def test_the_gradient_is_that_of_the_softmax_and_not_of_the_hard_choice():
    # alpha = (ln 1, ln 2, ln 5): probabilities 1/8, 2/8, 5/8; mean bits (8 + 8 + 15) / 8 = 31/8.
    alphas = [tf.Variable(np.log([1.0, 2.0, 5.0]).astype(np.float32)), tf.Variable(tf.zeros(3))]
    with tf.GradientTape() as tape:
        gap = tf.abs(select(alphas) - 5000)
    expected = -np.array([1 / 8 * (8 - 31 / 8), 2 / 8 * (4 - 31 / 8), 5 / 8 * (3 - 31 / 8)]) * 40
    np.testing.assert_allclose(tape.gradient(gap, alphas)[0], expected, rtol=1e-5)


def test_lists_of_different_lengths_are_refused():
    with pytest.raises(ValueError):
        select([tf.zeros(3), tf.zeros(3)], weight_bits=[4])
