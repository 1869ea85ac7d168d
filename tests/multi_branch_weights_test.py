"""MultiBranchWeightQuantizer: branches on one kernel, their mix, and where it stands in for the kernel."""

import json

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from quantize_configs_test import LAYERS, inputs_of, plain_layer, wrapped

from mmx_tf.layers.branches import JOINT, MIXED
from mmx_tf.layers.quantizers.multi_branch_weights import (
    MultiBranchWeightQuantizer,
    computing_with,
    kernel_of,
)

# Steps .25 and .5: 4 bits give codes -4, 1, 2, 8 -> 7; 2 bits -2 -> -1, .6 -> 1, 1.2 -> 1, 4 -> 1.
KERNEL = np.float32([[-1.0, 0.3], [0.6, 2.0]])
BRANCHES = np.float32([[[-1.0, 0.25], [0.5, 1.75]], [[-0.5, 0.5], [0.5, 0.5]]])
UPSTREAM = np.float32([[1.0, 2.0], [3.0, 4.0]])
ALPHA = tf.constant(np.log(np.float32([1.0, 3.0])))  # softmax 1/4, 3/4


@pytest.fixture
def quantizer():
    """Of a dense kernel, 4 and 2 bits."""
    made = MultiBranchWeightQuantizer(bit_widths=(4, 2))
    made.build((2, 2))
    made.step_sizes.assign([0.25, 0.5])
    return made


def gradients(quantizer, branch):
    """(d kernel, d step sizes, d alpha) of sum(quantizer(kernel) * UPSTREAM)."""
    kernel = tf.constant(KERNEL)
    with tf.GradientTape() as tape:
        tape.watch([kernel, ALPHA])
        total = tf.reduce_sum(quantizer(kernel, branch=branch, alpha=ALPHA) * UPSTREAM)
    return tape.gradient(total, [kernel, quantizer.step_sizes, ALPHA])


@pytest.mark.parametrize("index", [int, tf.constant], ids=["integer", "tensor"])
def test_single_branches_by_hand(quantizer, index):
    for branch, expected in enumerate(BRANCHES):
        np.testing.assert_array_equal(quantizer(KERNEL, branch=index(branch)), expected)
    dkernel, dsteps, dalpha = gradients(quantizer, index(0))
    np.testing.assert_array_equal(dkernel, [[1, 2], [3, 0]])
    # round(v) - v: 0, -.2, -.4, then the high code 7; times 1, 2, 3, 4 and 1 / sqrt(4 * 7).
    slope = (-0.2 * 2 - 0.4 * 3 + 7 * 4) / np.sqrt(28)
    np.testing.assert_allclose(tf.convert_to_tensor(dsteps), [slope, 0], rtol=1e-5)
    assert dalpha is None
    # Low code, .4, high code, high code; 1 / sqrt(4 * 1).
    dsteps = gradients(quantizer, index(1))[1]
    np.testing.assert_allclose(tf.convert_to_tensor(dsteps), [0, (-1 + 0.8 + 3 + 4) / 2], rtol=1e-5)


def test_the_mix_by_hand(quantizer):
    expected = [[-0.625, 0.4375], [0.5, 0.8125]]
    np.testing.assert_allclose(quantizer(KERNEL, branch=MIXED, alpha=ALPHA), expected, rtol=1e-6)
    _, dsteps, dalpha = gradients(quantizer, MIXED)
    assert dsteps is None  # the bit-search step holds the step sizes fixed
    # Branch sums -1 + .5 + 1.5 + 7 = 8 and -.5 + 1 + 1.5 + 2 = 4, whose mean is 5.
    np.testing.assert_allclose(dalpha, [3 / 4, -3 / 4], rtol=1e-5)


def test_the_joint_mix_has_gradients_of_step_sizes_too(quantizer):
    joint, mixed = (quantizer(KERNEL, branch=branch, alpha=ALPHA) for branch in (JOINT, MIXED))
    np.testing.assert_allclose(joint, mixed, rtol=1e-6)
    _, dsteps, dalpha = gradients(quantizer, JOINT)
    single = [tf.convert_to_tensor(gradients(quantizer, branch)[1])[branch] for branch in (0, 1)]
    np.testing.assert_allclose(tf.convert_to_tensor(dsteps), np.multiply(single, [0.25, 0.75]), rtol=1e-5)
    np.testing.assert_allclose(dalpha, [3 / 4, -3 / 4], rtol=1e-5)


@pytest.mark.parametrize("best", [0, 1])
def test_without_a_branch_the_largest_alpha_decides(quantizer, best):
    found = quantizer(KERNEL, branch=None, alpha=tf.one_hot(best, 2))
    np.testing.assert_array_equal(found, BRANCHES[best])


@pytest.mark.parametrize("kind", LAYERS)
def test_branches_are_the_quantizers_of_weight_training(kind):
    """Step sizes, where they begin, values and gradients, for every kind of layer."""
    pairs = [wrapped(kind, bits=bits, per_channel=kind != "dense") for bits in (8, 4, 2)]
    kernel = pairs[0][1].kernel
    layer = plain_layer(kind, kernel)
    made = MultiBranchWeightQuantizer.of_layer(layer, bit_widths=(8, 4, 2), name="w")
    for branch, (wrapper, config) in enumerate(pairs):
        step_size = config.quantizer.step_size
        np.testing.assert_array_equal(made.step_sizes[branch], step_size)
        with tf.GradientTape() as tape:
            weights = {"step_size": step_size}
            fixed = tf.reduce_sum(tf.cos(config.quantizer(config.kernel, True, weights)))
        expected = tape.gradient(fixed, [config.kernel, step_size])
        with tf.GradientTape() as tape:
            searched = tf.reduce_sum(tf.cos(made(kernel_of(layer), branch=branch)))
        found = tape.gradient(searched, [kernel_of(layer), made.step_sizes])
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(tf.convert_to_tensor(found[1])[branch], expected[1])
        x = inputs_of(kind)
        with computing_with(made(kernel_of(layer), branch=branch), layer):
            np.testing.assert_array_equal(layer(x), wrapper(x))


def test_a_layer_computes_with_another_kernel_and_keeps_its_variables():
    layer = keras.layers.DepthwiseConv2D(3, bias_initializer="ones")
    layer.build((None, 6, 6, 3))
    x, kernel, variables = inputs_of("conv"), layer.depthwise_kernel, list(layer.weights)
    before = layer(x)
    with pytest.raises(ZeroDivisionError):
        with computing_with(tf.zeros_like(kernel), layer):
            np.testing.assert_array_equal(layer(x), tf.ones_like(before))
            raise ZeroDivisionError
    assert layer.depthwise_kernel is kernel
    assert all(one is other for one, other in zip(layer.weights, variables, strict=True))
    np.testing.assert_array_equal(layer(x), before)


def test_a_mix_of_kernels_is_the_mix_of_the_convolutions():
    layer = plain_layer("conv", wrapped("conv")[1].kernel)
    made = MultiBranchWeightQuantizer.of_layer(layer, bit_widths=(8, 3, 2), name="w")
    alpha = np.log(np.float32([1.0, 2.0, 5.0]))
    outputs = []
    for branch in (MIXED, 0, 1, 2):
        with computing_with(made(layer.kernel, branch=branch, alpha=alpha), layer):
            outputs.append(layer(inputs_of("conv")))
    mixed, *single = outputs
    np.testing.assert_allclose(mixed, (single[0] + 2 * single[1] + 5 * single[2]) / 8, rtol=1e-4, atol=1e-6)


def test_its_config_rebuilds_it(quantizer):
    saved = json.loads(json.dumps(keras.saving.serialize_keras_object(quantizer)))
    twin = keras.saving.deserialize_keras_object(saved)
    twin.build((2, 2))
    assert twin.get_config() == quantizer.get_config()
    assert [w.shape for w in twin.weights] == [w.shape for w in quantizer.weights]


@pytest.mark.parametrize("branch", [2, -1, "other"])
def test_other_branches_are_refused(quantizer, branch):
    with pytest.raises(ValueError, match="give an index in 0..1, 'mixed', 'joint', or None"):
        quantizer(KERNEL, branch=branch)


@pytest.mark.parametrize("bits", [1, 9, 2.5])
def test_bits_outside_the_range_are_refused(bits):
    with pytest.raises(ValueError, match="a weight bit-width is an integer in 2..8"):
        MultiBranchWeightQuantizer(bit_widths=(8, bits))
