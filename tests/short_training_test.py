"""Short training runs: the networks are those of weight training, and every run has the same start."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from networks import small_network

import mmx_tf
from mmx_tf.budget import bops
from mmx_tf.errors import DivergenceError
from mmx_tf.figures.instability import default_layers
from mmx_tf.figures.quantized_search import batch_norm_behind, quantized_search
from mmx_tf.figures.short_training import ShortTraining
from mmx_tf.recipe.recipe import Recipe

pytestmark = pytest.mark.broad

RECIPE = Recipe.from_flagfile("--batch_size=64\n--weight_decay=0.0001")
MOMENTUM = 0.75


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    return small_network()


def training_of(network, digits, *, weight_bits=None, update="mean", recipe=RECIPE):
    search = quantized_search(recipe, network, weight_bits=weight_bits, momentum=MOMENTUM, update=update)
    return ShortTraining(search, recipe, digits, label="test", switched="depthwise")


@pytest.fixture(scope="module")
def full_precision(network, digits):
    return training_of(network, digits)


@pytest.fixture(scope="module")
def images(digits):
    return next(iter(digits.evaluation(batch_size=32)))[0]


@pytest.mark.parametrize("weight_bits", [None, 4])
def test_a_branch_is_the_fixed_network_of_its_bits(network, digits, images, weight_bits, full_precision):
    training = full_precision if weight_bits is None else training_of(network, digits, weight_bits=4)
    training.reset()
    search = quantized_search(RECIPE, network, weight_bits=None, momentum=MOMENTUM)
    for name, quantizer in {**search.quantizers, "logits": search.end_quantizers["logits"]}.items():
        own = {**training.search.quantizers, **training.search.end_quantizers}[name]
        quantizer.set_weights(own.get_weights())
    for branch in range(3):
        fixed = mmx_tf.rebuild(
            search,
            search.selection_of([branch] * 3),
            quantized_weights=weight_bits is not None,
            carriers=False,
        )
        outputs, taken = training.observe(images, branch=branch, layers=["expand"])
        np.testing.assert_allclose(outputs, fixed(images), atol=1e-5)
        before = fixed.get_layer("expand_input_quantizer").input
        expected = keras.Model(fixed.inputs, before)(images)
        np.testing.assert_allclose(taken["expand"], expected, atol=1e-5)


def test_quantized_weights_have_the_bits_of_their_layer(network, digits):
    search = quantized_search(RECIPE, network, weight_bits=4, momentum=MOMENTUM)
    wrapped = {layer.layer.name: layer for layer in search.network.layers if hasattr(layer, "layer")}
    bits = {name: layer.quantize_config.bits for name, layer in wrapped.items()}
    assert bits == {"stem": 8, "depthwise": 4, "project": 4, "expand": 4, "logits": 8}
    norms = [q for q in search.network.layers if isinstance(q, keras.layers.BatchNormalization)]
    assert [norm.momentum for norm in norms] == [MOMENTUM, MOMENTUM]
    assert network.get_layer("stem_bn").momentum == 0.8


def test_reset_goes_back_to_the_start_and_runs_repeat(full_precision, images):
    def outputs():
        return full_precision.observe(images, branch=1, layers=[])[0].numpy()

    full_precision.reset()
    start = outputs()
    full_precision.single_precision(steps=3, branch=1)
    once = outputs()
    full_precision.reset()
    np.testing.assert_array_equal(outputs(), start)
    full_precision.single_precision(steps=3, branch=1)
    np.testing.assert_allclose(outputs(), once, atol=1e-5)
    assert np.abs(once - start).max() > 1e-3


def test_bit_meta_steps_train_the_step_sizes_of_all_branches_and_single_precision_those_of_one(
    full_precision,
):
    quantizer = full_precision.search.quantizers["project"]
    full_precision.reset()
    start = quantizer.step_sizes.numpy()
    full_precision.single_precision(steps=2, branch=1)
    assert (quantizer.step_sizes.numpy() != start).tolist() == [False, True, False]
    full_precision.reset()
    full_precision.meta(steps=2)
    assert (quantizer.step_sizes.numpy() != start).tolist() == [True, True, True]
    assert not np.any(full_precision.search.alpha.numpy())


def test_looking_changes_nothing(full_precision, images):
    full_precision.reset()
    before = [v.numpy() for v in full_precision.search.network.variables]
    _, running = full_precision.observe(images, branch=0, layers=["project"])
    _, batch = full_precision.observe(images, branch=0, layers=["project"], batch_statistics=True)
    for variable, value in zip(full_precision.search.network.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)
    assert np.abs(running["project"] - batch["project"]).max() > 1e-3


@pytest.mark.parametrize("meta", [False, True])
def test_switched_bits_give_batch_norms_own_running_variance(network, digits, meta):
    training = training_of(network, digits, update="none" if meta else "mean")
    norm = batch_norm_behind(training.search.network, "depthwise")
    assert norm.name == "depthwise_bn"
    value = float(tf.reduce_mean(norm.moving_variance))
    curves = training.switched_bits([0, 2, 2, 1], meta=meta)
    elements = 64 * 8 * 8  # of a channel in a batch
    for variance, running in zip(curves["batch_variance"], curves["running_variance"], strict=True):
        value = MOMENTUM * value + (1 - MOMENTUM) * variance * elements / (elements - 1)
        assert running == pytest.approx(value, rel=1e-4)


def test_the_first_step_of_a_switched_layer_by_hand(network, digits):
    # The network has not been trained when its first batch variance is taken.
    training = training_of(network, digits)
    images, _ = next(iter(digits.train(batch_size=64, seed=RECIPE.seed)))
    search, branches = training.search, {"depthwise": 2, "project": 0, "expand": 0}
    inputs = search.end_quantizers["stem"](images)
    layers = {layer.name: layer for layer in search.network.layers}
    x = layers["stem_bn"](layers["stem"](inputs), training=True)
    x = search.quantizers["depthwise"](layers["stem_relu"](x), branch=branches["depthwise"])
    expected = np.var(layers["depthwise"](x), axis=(0, 1, 2)).mean()
    training.reset()
    assert training.switched_bits([2, 2], meta=False)["batch_variance"][0] == pytest.approx(
        expected, rel=1e-4
    )


def test_a_loss_that_is_no_number_ends_training(network, digits):
    recipe = Recipe.from_flagfile("--batch_size=64\n--select_learning_rate=1e30")
    training = training_of(network, digits, recipe=recipe)
    with pytest.raises(DivergenceError, match="lower --select_learning_rate"):
        training.single_precision(steps=5, branch=0)


def test_default_layers_are_the_papers():
    network = mmx_tf.models.build("mobilenet_v2", input_shape=(32, 32, 3), num_classes=10)
    costs = bops.layer_costs(network)
    assert default_layers(costs) == ("block_1_depthwise", "block_10_depthwise")
    # The paper counts them as 5th and 32nd layer, in the 2nd and the 11th block.
    assert [[cost.name for cost in costs].index(name) + 1 for name in default_layers(costs)] == [5, 32]
    small = bops.layer_costs(small_network())
    assert default_layers(small) == ("depthwise",)
    no_depthwise = [cost for cost in small if cost.kind != "depthwise"]
    assert default_layers(no_depthwise) == ("expand",)
