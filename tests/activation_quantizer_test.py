"""ActivationQuantizer: initialised from the first batch before use, trained, and never without a grid."""

import lsq_reference as reference
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from layer_contract import LayerContract, examples, one_layer_model

from mmx_tf.layers.lsq import lsq
from mmx_tf.layers.quantizers.activation import FUSED_FROM_ELEMENTS, ActivationQuantizer

SMALL, LARGE = (4, 4, 3), (32, 32, 4)  # below and from FUSED_FROM_ELEMENTS on


def normal(shape, *, scale=1.0, seed=0):
    return np.random.default_rng(seed).normal(0, scale, shape).astype(np.float32)


def expected_step(x, high):
    return 2 * np.mean(np.abs(x), dtype=np.float64) / np.sqrt(high)


@pytest.fixture(
    params=[
        (8, True, None, SMALL),
        (4, False, None, SMALL),
        (3, True, None, LARGE),
        (4, True, -0.375, SMALL),
    ],
    ids=str,
)
def model(request):
    bits, signed, floor, shape = request.param
    return one_layer_model(ActivationQuantizer(bits=bits, signed=signed, floor=floor), shape)


class TestContract(LayerContract):
    pass


@pytest.mark.parametrize("shape", [SMALL, LARGE], ids=["plain", "fused"])
@pytest.mark.parametrize("bits, signed, high", [(4, False, 15), (3, True, 3), (8, True, 127)])
def test_first_batch_sets_the_step_size_before_it_is_used(shape, bits, signed, high):
    assert np.prod(SMALL) < FUSED_FROM_ELEMENTS <= np.prod(LARGE)
    quantizer = ActivationQuantizer(bits=bits, signed=signed)
    first, second = normal((2, *shape)), normal((2, *shape), scale=9, seed=1)
    got = quantizer(first)
    step_size = float(quantizer.step_size)
    assert step_size == pytest.approx(expected_step(first, high), rel=1e-5)
    low = {15: 0, 3: -3, 127: -128}[high]
    assert (quantizer.low, quantizer.high) == (low, high)
    np.testing.assert_array_equal(
        got, lsq.fake_quantize(first, step_size, low=low, high=high, gradient_scale=1.0)
    )
    quantizer(second)
    assert float(quantizer.step_size) == step_size


def test_hand_computed_first_pass():
    # mean|x| = 3, sqrt(2^2 - 1 = 3): s = 2 sqrt(3) = 3.46; x / s = (.29, 1.15, 2.02, -): codes 0, 1, 2, 0.
    quantizer = ActivationQuantizer(bits=2, signed=False)
    got = quantizer(np.float32([[1.0, 4.0, 7.0, 0.0]]))
    np.testing.assert_allclose(got, [[0, 2 * 3**0.5, 4 * 3**0.5, 0]], rtol=1e-6)


def test_first_batch_sets_the_step_size_inside_a_traced_function():
    quantizer = ActivationQuantizer(bits=4, signed=False)
    quantizer.build((None, *SMALL))
    traced = tf.function(quantizer)
    first = normal((2, *SMALL))
    got = traced(first)
    assert bool(quantizer.initialized)
    step_size = float(quantizer.step_size)
    assert step_size == pytest.approx(expected_step(first, 15), rel=1e-5)
    np.testing.assert_allclose(got, reference.quantize(first, step_size, 0, 15), atol=1e-6)
    traced(normal((2, *SMALL), scale=9))
    assert float(quantizer.step_size) == step_size


def test_fit_sets_the_step_size_from_its_first_batch_before_use():
    quantizer = ActivationQuantizer(bits=4, signed=True)
    inputs = keras.Input(SMALL)
    model = keras.Model(inputs, quantizer(inputs))
    assert not bool(quantizer.initialized)  # building the graph shows no data
    images = np.concatenate([normal((4, *SMALL)), normal((4, *SMALL), scale=9)])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    loss = model.fit(images, images * 0, batch_size=4, shuffle=False, verbose=0).history["loss"][0]
    step_size = expected_step(images[:4], 7)
    assert float(quantizer.step_size) == pytest.approx(step_size, rel=1e-5)
    assert loss == pytest.approx(np.mean(reference.quantize(images, step_size, -7, 7) ** 2), rel=1e-3)


def test_a_step_size_that_was_set_is_kept():
    quantizer = ActivationQuantizer(bits=3, signed=False)
    quantizer.build((None, 5))
    quantizer.set_step_size(0.5)
    got = quantizer(np.float32([[-1.0, 0.2, 0.5, 2.6, 100.0]]))
    assert got.numpy().tolist() == [[0.0, 0.0, 0.5, 2.5, 3.5]]
    assert float(quantizer.step_size) == 0.5
    assert [v.name.split("/")[-1] for v in quantizer.trainable_variables] == ["step_size:0"]


@pytest.mark.parametrize("shape", [SMALL, LARGE], ids=["plain", "fused"])
def test_gradients_use_the_elements_of_one_example(shape):
    quantizer = ActivationQuantizer(bits=4, signed=True)
    quantizer.build((None, *shape))
    quantizer.set_step_size(0.25)
    x = tf.constant(np.rint(normal((3, *shape)) * 64) / 64, tf.float32)
    # Powers of two, so that dx is exact; small, so that the limit of the step size's gradient stays away.
    upstream = np.rint(normal((3, *shape), seed=2) * 4).astype(np.float32) / 64
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(quantizer(x) * upstream)
    dx, ds = tape.gradient(total, [x, quantizer.step_size])
    scale = 1 / np.sqrt(np.prod(shape) * 7)  # the batch of 3 is not in it
    want = reference.gradients(x, 0.25, upstream, low=-7, high=7, gradient_scale=scale)
    np.testing.assert_array_equal(dx, want[0])
    assert float(ds) == pytest.approx(float(want[1]), rel=1e-4)


@pytest.mark.parametrize(
    "optimizer", [keras.optimizers.SGD(1e6), keras.optimizers.Adam(1e3)], ids=["sgd", "adam"]
)
def test_a_huge_update_leaves_a_positive_step_size(optimizer):
    quantizer = ActivationQuantizer(bits=4, signed=False)
    x = np.full((2, *SMALL), 3.0, np.float32)
    quantizer(x)
    optimizer.build(quantizer.trainable_variables)

    def update(sign):
        with tf.GradientTape() as tape:
            loss = sign * tf.reduce_sum(quantizer(10 * x))  # clipped: d loss / d s = sign * 15 per element
        gradients = tape.gradient(loss, quantizer.trainable_variables)
        assert np.sign(gradients[0].numpy()) == sign
        optimizer.apply_gradients(zip(gradients, quantizer.trainable_variables, strict=True))
        return float(quantizer.step_size)

    floor = float(np.float32(lsq.STEP_SIZE_FLOOR))
    assert update(1.0) == floor
    np.testing.assert_allclose(quantizer(x), np.full(x.shape, 15 * floor), rtol=1e-6)
    assert update(-1.0) > 1.0  # and it is not stuck there


def test_an_image_without_signal_still_has_a_grid():
    quantizer = ActivationQuantizer(bits=4, signed=False)
    np.testing.assert_array_equal(quantizer(np.zeros((2, *SMALL), np.float32)), np.zeros((2, *SMALL)))
    assert 0 < float(quantizer.step_size) <= 1e-6


@pytest.mark.parametrize("bits", [1, 9, 4.5])
def test_refuses_bits_outside_2_to_8(bits):
    with pytest.raises(ValueError, match=f"bits={bits}: an activation bit-width is an integer in 2..8"):
        ActivationQuantizer(bits=bits, signed=False)


def test_a_shared_grid_covers_the_largest_of_its_tensors():
    quantizer = ActivationQuantizer(bits=8, signed=False, covering=True, uses=3)
    for largest, expected in ((2.0, 2.0), (51.0, 51.0), (10.0, 51.0)):
        assert not quantizer.built or not bool(quantizer.initialized)
        quantizer(tf.constant([[0.5, largest]]))
        np.testing.assert_allclose(float(quantizer.step_size), expected / 255, rtol=1e-6)
    assert bool(quantizer.initialized)
    quantizer(tf.constant([[999.0]]))
    np.testing.assert_allclose(float(quantizer.step_size), 0.2, rtol=1e-6)


def test_refuses_an_unknown_image_size():
    with pytest.raises(ValueError, match="build the model with a fixed image size"):
        ActivationQuantizer(bits=4, signed=True)(keras.Input((None, None, 3)))


def test_predicts_alike_on_any_batch_size(model):
    images, _ = examples(model)
    whole = model(images).numpy()
    np.testing.assert_allclose(model.predict(images, batch_size=3, verbose=0), whole, rtol=1e-5, atol=1e-5)
