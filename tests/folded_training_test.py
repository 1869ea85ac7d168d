"""The folded graph in training: fold's numbers, the fixed network's variables, gradients of the plain map."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from fold_test import check_exact, other_layers
from networks import calibrated, fine_tuned, small_network

import mmx_tf
from mmx_tf.folding.bias import affine_bias, batch_norm_affine, weighted_bias
from mmx_tf.folding.fold import FoldError
from mmx_tf.folding.training_graph import BiasRounding
from mmx_tf.layers.integer.weighted import WeightedLayer
from mmx_tf.layers.quantizers.activation import ActivationQuantizer
from mmx_tf.layers.quantizers.weights import LsqWeightConfig, QuantizeWrapper, quantize_weights

pytestmark = pytest.mark.broad

STORAGES = ("int8", "int4")
FEW_CODES = 20
"""Of 360 images, 10 codes each: a float32 sum on the other side of a tie moves the codes of one image."""


@pytest.fixture(scope="module")
def images(digits):
    return np.concatenate([images for images, _ in digits.evaluation(batch_size=90)])


@pytest.fixture(scope="module")
def fixed(digits):
    """A network that has seen 44 steps; tests must leave its variables alone."""
    return fine_tuned(small_network(), digits, steps=22)


def with_loss(model, optimizer=None):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=optimizer or keras.optimizers.SGD(0.05, momentum=0.9), loss=loss)
    return model


def logit_codes(network, fixed, images):
    step = float(fixed.layers[-1].step_size)
    return np.rint(network.predict(images, verbose=0) / step)


def differing(networks, folded, fixed, images):
    """In how many logit codes each of the networks differs from the folded one."""
    expected = logit_codes(folded, fixed, images)
    return [int((logit_codes(network, fixed, images) != expected).sum()) for network in networks]


@pytest.mark.parametrize("weight_bits", [8, 4, 2])
def test_it_computes_what_the_folded_network_computes(digits, images, weight_bits):
    fixed = calibrated(small_network(), digits, weight_bits=weight_bits)
    counts = []
    for weight_storage in STORAGES:
        folded = mmx_tf.fold(fixed, weight_storage=weight_storage)
        on_folded_graph = mmx_tf.fold_for_training(fixed, weight_storage=weight_storage)
        counts.append(differing([fixed, on_folded_graph], folded, fixed, images))
    for of_fixed, of_training in counts:
        assert of_training <= FEW_CODES
        assert of_fixed > 10 * of_training and of_fixed > 2 * FEW_CODES
    finer, coarser = (of_fixed for of_fixed, _ in counts)
    # int4 storage has a coarser bias grid for the layers of at most 4 bits, so fixed is further from it.
    assert coarser > 2 * finer if weight_bits <= 4 else coarser == finer


KINDS = (
    "max_pooling_padding_flatten", "separable", "batch_norm_and_relu_alone", "multiply", "average_pooling",
    "dense_on_images_and_batch_norm_on_vectors",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_bias_has_the_codes_and_the_grid_of_the_file(digits, images, kind):
    fixed = calibrated(other_layers(kind), digits)
    rng = np.random.default_rng(1)
    for layer in fixed.layers:
        # Nothing here has trained long enough to be far from factor 1 and bias 0.
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([value + rng.uniform(0.0, 0.2, value.shape) for value in layer.get_weights()])
        elif isinstance(layer, QuantizeWrapper) and layer.layer.use_bias:
            layer.layer.bias.assign(rng.uniform(-0.1, 0.1, layer.layer.bias.shape))
    for weight_storage in STORAGES:
        folded = mmx_tf.fold(fixed, weight_storage=weight_storage)
        on_folded_graph = mmx_tf.fold_for_training(fixed, weight_storage=weight_storage)
        biased = {
            f"{layer.name}_bias_rounding": layer
            for layer in folded.layers
            if isinstance(layer, WeightedLayer) and np.any(layer.bias_codes)
        }
        roundings = {layer.name: layer for layer in on_folded_graph.layers if isinstance(layer, BiasRounding)}
        assert biased.keys() == roundings.keys() and len(biased) >= 3
        for name, layer in biased.items():
            bias = roundings[name].folded_bias()
            np.testing.assert_array_equal(bias.codes, layer.bias_codes)
            grid = np.float32(layer.input_grid.scale) * layer.weight_scales.numpy()
            # Where its input is in a unit the two scales are rounded to float32 apart (`folding.clips`).
            np.testing.assert_allclose(bias.steps, grid, rtol=2e-7)
        # The file rounds the exact halves of an average pooling away from zero, a quantizer to even.
        if kind != "average_pooling":
            assert differing([on_folded_graph], folded, fixed, images)[0] <= FEW_CODES


def test_a_bias_is_rounded_by_hand():
    """factor = -2 / sqrt(4) = -1, so the bias is 0.502 - (1 - 0.2) = -0.298 on the grid 0.05 * 0.1."""
    config = LsqWeightConfig(bits=4, per_channel=True)
    wrapper = quantize_weights(keras.layers.Conv2D(1, 1, name="conv"), config)
    wrapper.build((None, 4, 4, 1))
    config.quantizer.step_size.assign([[[[0.1]]]])
    wrapper.layer.bias.assign([1.0])
    norm = keras.layers.BatchNormalization(epsilon=0.0)
    norm.build((None, 4, 4, 1))
    norm.set_weights([np.array([value], np.float32) for value in (-2.0, 0.502, 0.2, 4.0)])

    def rounded(weight_storage):
        rounding = BiasRounding(lambda: weighted_bias(wrapper, norm, 0.05, weight_storage=weight_storage))
        return rounding(tf.constant([[[[-0.298]], [[3.0]]]])).numpy().reshape(-1)

    # -0.298 / 0.005 = -59.6 -> -60.
    np.testing.assert_allclose(rounded("int4"), [-0.3, 2.998], rtol=1e-6)
    # 4-bit codes in int8 are 18 times finer: -0.298 * 18 / 0.005 = -1072.8 -> -1073.
    np.testing.assert_allclose(rounded("int8"), [-1073 * 0.005 / 18, 3.298 - 1073 * 0.005 / 18], rtol=1e-6)
    # On its own the batch norm's factor is 127 codes: grid 0.05 * 1 / 127; bias 0.502 + 0.2 = 0.702.
    alone = affine_bias(*batch_norm_affine(norm), 0.05)
    assert float(alone.codes[0]) == round(0.702 * 127 / 0.05) == 1783
    np.testing.assert_allclose(alone.rounding_error, [1783 * 0.05 / 127 - 0.702], rtol=1e-3)


@pytest.mark.parametrize("weight_storage", STORAGES)
def test_gradients_are_those_of_the_map_without_rounding(fixed, images, weight_storage):
    """For a linear loss, where the rounding changes nothing behind the layer."""
    on_folded_graph = mmx_tf.fold_for_training(fixed, weight_storage=weight_storage)
    stem = fixed.get_layer("quant_stem")
    norm, quantizer = fixed.get_layer("stem_bn"), fixed.get_layer("stem_input_quantizer")
    variables = [*quantizer.trainable_variables, *stem.trainable_variables, *norm.trainable_variables]
    assert len(variables) == 5  # two step sizes, kernel, gamma, beta
    through = keras.Model(on_folded_graph.inputs, on_folded_graph.get_layer("stem_bias_rounding").output)
    weights = np.random.default_rng(2).normal(size=(64, 8, 8, 6)).astype(np.float32)
    with tf.GradientTape(persistent=True) as tape:
        rounded = through(images[:64], training=True)
        convolved = stem(quantizer(images[:64]))
        factor = norm.gamma / tf.sqrt(norm.moving_variance + norm.epsilon)
        plain = (convolved - norm.moving_mean) * factor + norm.beta
        losses = [tf.reduce_sum(value * weights) for value in (rounded, plain)]
    found, expected = (tape.gradient(loss, variables) for loss in losses)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4 * np.abs(theirs).max())
    # The rounding is there: one shift for each channel, half a step of its grid at most.
    shift = (rounded - plain).numpy().reshape(-1, 6)
    np.testing.assert_allclose(shift, np.broadcast_to(shift[0], shift.shape), atol=1e-5)
    grid = weighted_bias(stem, norm, quantizer.step_size, weight_storage=weight_storage)
    np.testing.assert_allclose(shift[0], grid.rounding_error, atol=1e-5)
    assert np.all(np.abs(grid.rounding_error) <= grid.steps / 2) and np.any(grid.rounding_error)


@pytest.mark.slow
def test_a_step_trains_everything_of_fixed_but_the_statistics(digits):
    fixed = fine_tuned(small_network(), digits)
    on_folded_graph = with_loss(mmx_tf.fold_for_training(fixed))
    shared = {id(variable) for variable in fixed.trainable_variables}
    assert {id(variable) for variable in on_folded_graph.trainable_variables} == shared
    before = {id(variable): variable.numpy() for variable in fixed.variables}
    on_folded_graph.fit(digits.train(batch_size=64, seed=0).take(1), verbose=0)
    same = [v.name for v in fixed.trainable_variables if np.array_equal(v.numpy(), before[id(v)])]
    assert same == []
    statistics = [v for v in fixed.non_trainable_variables if "moving" in v.name]
    assert len(statistics) == 4
    assert all(np.array_equal(v.numpy(), before[id(v)]) for v in statistics)
    # Trained by itself, fixed moves them as before.
    with_loss(fixed).fit(digits.train(batch_size=64, seed=0).take(1), verbose=0)
    assert not any(np.array_equal(v.numpy(), before[id(v)]) for v in statistics)


@pytest.mark.slow
def test_the_optimizer_goes_on_with_its_momentum_and_its_steps(digits):
    fixed = fine_tuned(small_network(), digits, steps=5)
    optimizer = fixed.optimizer  # SGD of rate 0.01, momentum 0.9, after two epochs of 5 steps
    on_folded_graph = with_loss(mmx_tf.fold_for_training(fixed), optimizer)
    batch = next(iter(digits.train(batch_size=64, seed=3)))
    beta = fixed.get_layer("stem_bn").beta
    (velocity,) = [v for v in optimizer.variables if v.name.endswith("stem_bn/beta:0")]
    with tf.GradientTape() as tape:
        loss = on_folded_graph.compiled_loss(batch[1], on_folded_graph(batch[0], training=True))
    expected = beta - 0.01 * tape.gradient(loss, beta) + 0.9 * velocity
    assert np.abs(velocity).max() > 1e-4
    on_folded_graph.train_on_batch(*batch)
    np.testing.assert_allclose(beta, expected, rtol=1e-4, atol=1e-6)
    assert int(optimizer.iterations) == 11


@pytest.mark.slow
def test_fixed_is_saved_folded_and_exported_as_ever(digits, images, tmp_path):
    fixed = fine_tuned(small_network(), digits, steps=3)
    on_folded_graph = with_loss(mmx_tf.fold_for_training(fixed))
    on_folded_graph.fit(digits.train(batch_size=64, seed=0).take(5), verbose=0)
    fixed.save(tmp_path / "fixed.keras")
    loaded = mmx_tf.load_model(tmp_path / "fixed.keras")
    np.testing.assert_array_equal(loaded.predict(images, verbose=0), fixed.predict(images, verbose=0))
    folded, _, _ = check_exact(loaded, digits)
    codes = [logit_codes(network, fixed, images) for network in (folded, on_folded_graph)]
    assert (codes[0] != codes[1]).sum() <= FEW_CODES
    with pytest.raises(NotImplementedError, match="fold_for_training is not saved itself.*Save that one"):
        on_folded_graph.save(tmp_path / "on_folded_graph.keras")


def test_a_network_that_has_seen_no_image_takes_its_grids_from_the_first_batch(digits):
    search = mmx_tf.augment(small_network(), bit_widths=(8, 4))
    fixed = mmx_tf.rebuild(search, search.selection_of([1, 1, 1]))
    on_folded_graph = with_loss(mmx_tf.fold_for_training(fixed), keras.optimizers.SGD(0.0))
    images, labels = next(iter(digits.train(batch_size=64, seed=0)))
    on_folded_graph.fit(images, labels, batch_size=64, verbose=0)
    quantizers = [layer for layer in fixed.layers if isinstance(layer, ActivationQuantizer)]
    assert len(quantizers) > 5 and all(bool(quantizer.initialized) for quantizer in quantizers)
    again = mmx_tf.rebuild(search, search.selection_of([1, 1, 1]))
    mmx_tf.fold_for_training(again)(images)
    for ours, theirs in zip(fixed.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_what_cannot_be_folded_is_refused_before_training(digits):
    search = mmx_tf.augment(small_network(), bit_widths=(8, 4))
    with pytest.raises(ValueError, match="got SearchModel .*made by mmx_tf.rebuild"):
        mmx_tf.fold_for_training(search)
    fixed = mmx_tf.rebuild(search, search.selection_of([0, 0, 0]))
    with pytest.raises(ValueError, match="weight_storage is 'int3'; use one of int8, int4, int4_xnnpack"):
        mmx_tf.fold_for_training(fixed, weight_storage="int3")
    with pytest.raises(FoldError, match="'add' .Add."):
        mmx_tf.fold_for_training(mmx_tf.rebuild(search, search.selection_of([0, 0, 0]), carriers=False))
