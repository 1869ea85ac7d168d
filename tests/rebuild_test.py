"""The fixed network: equal to the search network on the selected branches, saved, loaded, trained."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from networks import small_network

import mmx_tf
from mmx_tf.layers.quantizers.activation import ActivationQuantizer
from mmx_tf.layers.quantizers.weights import QuantizeWrapper
from mmx_tf.metamix.selection import SelectionMismatchError

CHOICE = [1, 2, 0]  # depthwise 4 bits, project 3 bits, expand 8 bits


@pytest.fixture(scope="module")
def search(digits):
    keras.utils.set_random_seed(5)
    search = mmx_tf.augment(small_network(), bit_widths=(8, 4, 3))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    search.compile(optimizer=keras.optimizers.SGD(0.05, momentum=0.9), loss=loss)
    search.fit(digits.train(batch_size=64, seed=0).take(4), epochs=2, verbose=0)
    search.alpha.assign(10.0 * np.eye(3)[np.newaxis, CHOICE])
    return search


@pytest.fixture(scope="module")
def images(digits):
    return next(iter(digits.evaluation(batch_size=32)))[0]


def test_full_precision_rebuild_equals_the_search_network(search, images):
    fixed = mmx_tf.rebuild(search, search.bit_selection(), quantized_weights=False, carriers=False)
    np.testing.assert_array_equal(fixed(images).numpy(), search(images).numpy())
    bits = [layer.bits for layer in fixed.layers if isinstance(layer, ActivationQuantizer)]
    assert sorted(bits) == [3, 4, 8, 8, 8]


def test_chosen_step_sizes_and_meta_weights_are_carried_over(search):
    fixed = mmx_tf.rebuild(search, search.bit_selection())
    assert fixed.get_layer("project_input_quantizer").step_size == search.quantizers["project"].step_sizes[2]
    kernel = search.network.get_layer("project").kernel
    wrapper = fixed.get_layer("quant_project")
    np.testing.assert_array_equal(wrapper.quantize_config.kernel.numpy(), kernel.numpy())
    # LSQ's initial step, per output channel: 2 * mean|w| / sqrt(7).
    expected = 2 * np.abs(kernel.numpy()).mean(axis=(0, 1, 2)) / np.sqrt(7)
    np.testing.assert_allclose(
        wrapper.quantize_config.quantizer.step_size.numpy().ravel(), expected, rtol=1e-5
    )
    statistics = fixed.get_layer("stem_bn").moving_variance
    np.testing.assert_array_equal(
        statistics.numpy(), search.network.get_layer("stem_bn").moving_variance.numpy()
    )


def test_weights_have_the_selected_bits(search, images):
    fixed = mmx_tf.rebuild(search, search.bit_selection())
    bits = {w.layer.name: w.quantize_config.bits for w in fixed.layers if isinstance(w, QuantizeWrapper)}
    assert bits == {"stem": 8, "depthwise": 4, "project": 4, "expand": 4, "logits": 8}
    fixed(images)
    config = fixed.get_layer("quant_project").quantize_config
    codes = fixed.get_layer("quant_project").layer.kernel / config.quantizer.step_size
    np.testing.assert_allclose(codes, np.rint(codes), atol=1e-4)
    assert np.abs(codes).max() <= 7.001


def test_search_network_is_left_untouched(search, images):
    before = [value.copy() for value in search.get_weights()]
    mmx_tf.rebuild(search, search.bit_selection())(images)
    assert all(np.array_equal(old, new) for old, new in zip(before, search.get_weights(), strict=True))


def test_trains_with_plain_fit_and_saves_as_keras(search, digits, images, tmp_path):
    fixed = mmx_tf.rebuild(search, search.bit_selection())
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    fixed.compile(optimizer=keras.optimizers.Adam(0.005), loss=loss, metrics=["accuracy"])
    before = {id(v): v.numpy().copy() for v in fixed.trainable_variables}
    history = fixed.fit(digits.train(batch_size=64, seed=0).take(12), epochs=3, verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0]
    still = [v.name for v in fixed.trainable_variables if np.array_equal(before[id(v)], v.numpy())]
    assert still == []

    fixed.save(tmp_path / "fixed.keras")
    loaded = mmx_tf.load_model(tmp_path / "fixed.keras")
    np.testing.assert_array_equal(loaded.predict(images, verbose=0), fixed.predict(images, verbose=0))
    loaded.compile(optimizer="sgd", loss=loss)
    loaded.fit(digits.train(batch_size=64, seed=0).take(1), verbose=0)


def test_carriers_cover_the_first_batch(search, images):
    fixed = mmx_tf.rebuild(search, search.bit_selection())
    carrier = fixed.get_layer("logits_carrier")
    assert not bool(carrier.initialized)
    unquantized = keras.Model(fixed.inputs, fixed.get_layer("quant_logits").output)(images)
    fixed = mmx_tf.rebuild(search, search.bit_selection())
    fixed(images)
    expected = tf.reduce_max(tf.abs(unquantized)) / 127
    np.testing.assert_allclose(fixed.get_layer("logits_carrier").step_size, expected, rtol=1e-4)


def test_foreign_selection_is_refused_with_every_layer(search):
    other = mmx_tf.augment(small_network(), bit_widths=(8, 4, 2), signed={"expand": False})
    with pytest.raises(SelectionMismatchError) as error:
        mmx_tf.rebuild(search, other.selection_of([2, 2, 2]))
    for name in ("depthwise", "project", "expand"):
        assert f"{name}: activation_bits 2 is not among (8, 4, 3)" in str(error.value)
    assert "expand: signed is False, the network has True" in str(error.value)
