"""LSQ weights through tfmot's QuantizeWrapperV2: the kernel on its grid, its gradients, training, files."""

import lsq_reference as reference
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from layer_contract import LayerContract, one_layer_model

import mmx_tf
from mmx_tf.layers.quantizers.weights import (
    LsqWeightConfig,
    LsqWeightQuantizer,
    QuantizeWrapper,
    kernel_attribute,
    quantize_weights,
)

IMAGE, FEATURES = (6, 6, 3), (7,)
LAYERS = {
    "conv": (lambda **kw: keras.layers.Conv2D(5, 3, strides=2, padding="same", **kw), IMAGE),
    "pointwise": (lambda **kw: keras.layers.Conv2D(4, 1, use_bias=False, **kw), IMAGE),
    "depthwise": (lambda **kw: keras.layers.DepthwiseConv2D(3, **kw), IMAGE),
    "depthwise_x2": (lambda **kw: keras.layers.DepthwiseConv2D(3, depth_multiplier=2, **kw), IMAGE),
    "dense": (lambda **kw: keras.layers.Dense(4, **kw), FEATURES),
}
STEP_SHAPES = {
    "conv": (1, 1, 1, 5),
    "pointwise": (1, 1, 1, 4),
    "depthwise": (1, 1, 3, 1),
    "depthwise_x2": (1, 1, 3, 2),
    "dense": (1, 4),
}
HIGH = {2: 1, 3: 3, 4: 7, 5: 15, 6: 31, 7: 63, 8: 127}


def wrapped(kind, *, bits=4, per_channel=True, seed=0):
    """(wrapper, its config): built, a normal kernel whose channels differ in size, steps set from it."""
    make, shape = LAYERS[kind]
    config = LsqWeightConfig(bits=bits, per_channel=per_channel)
    wrapper = quantize_weights(make(name=kind), config)
    wrapper.build((None, *shape))
    rng = np.random.default_rng(seed)
    channel_sizes = np.exp(rng.uniform(-2, 2, STEP_SHAPES[kind]))
    config.kernel.assign(rng.normal(0, 0.2, config.kernel.shape) * channel_sizes)
    config.quantizer.initialize(config.kernel)
    return wrapper, config


def plain_layer(kind, kernel):
    """The same layer, not quantized, with `kernel` and no bias."""
    make, shape = LAYERS[kind]
    layer = make()
    layer.build((None, *shape))
    getattr(layer, kernel_attribute(layer)).assign(kernel)
    return layer


def inputs_of(kind, seed=1):
    return np.random.default_rng(seed).normal(0, 1, (2, *LAYERS[kind][1])).astype(np.float32)


@pytest.fixture(params=[*LAYERS, "dense_per_tensor", "conv_relu_per_tensor"])
def model(request):
    kind = request.param.split("_per_tensor")[0].removesuffix("_relu")
    make, shape = LAYERS[kind]
    config = LsqWeightConfig(bits=4, per_channel="per_tensor" not in request.param)
    extra = {"activation": "relu"} if "relu" in request.param else {}
    keras.utils.set_random_seed(3)
    model = one_layer_model(quantize_weights(make(name=kind, **extra), config), shape)
    config.quantizer.initialize(config.kernel)
    return model


class TestContract(LayerContract):
    pass


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("per_channel", [True, False], ids=["per_channel", "per_tensor"])
def test_computes_with_the_kernel_on_its_grid(kind, per_channel):
    wrapper, config = wrapped(kind, per_channel=per_channel)
    full, steps = config.kernel.numpy(), config.quantizer.step_size.numpy()
    assert steps.shape == (STEP_SHAPES[kind] if per_channel else ())
    assert len(np.unique(steps)) == steps.size
    on_grid = reference.quantize(full, steps, -7, 7)
    assert np.abs(on_grid - full).max() > 0.01  # 4 bits do cost something here
    x = inputs_of(kind)
    np.testing.assert_allclose(wrapper(x), plain_layer(kind, on_grid)(x), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(config.kernel, full)  # the full-precision kernel stays


@pytest.mark.parametrize("bits", HIGH)
def test_every_bit_width_keeps_to_its_codes(bits):
    wrapper, config = wrapped("conv", bits=bits)
    config.kernel.assign(3 * config.kernel)  # so that both ends clip
    wrapper(inputs_of("conv"))
    codes = wrapper.layer.kernel.numpy() / config.quantizer.step_size.numpy()
    np.testing.assert_allclose(codes, np.rint(codes), atol=1e-4)
    high = HIGH[bits]
    assert (config.quantizer.low, config.quantizer.high) == (-high, high)
    assert np.abs(codes).max() == pytest.approx(high) if bits < 6 else np.abs(codes).max() < high + 0.01


def test_initial_step_sizes_by_hand():
    # Depthwise (2, 1, 1, 2): channels (1, -3) and (2, 8): mean|w| 2 and 5; s = 2 mean / sqrt(1) at 2 bits.
    config = LsqWeightConfig(bits=2, per_channel=True)
    wrapper = quantize_weights(keras.layers.DepthwiseConv2D((2, 1), depth_multiplier=2), config)
    wrapper.build((None, 4, 4, 1))
    kernel = np.float32([[[[1, 2]]], [[[-3, 8]]]])
    config.quantizer.initialize(kernel)
    assert config.quantizer.step_size.numpy().tolist() == [[[[4.0, 10.0]]]]
    config = LsqWeightConfig(bits=3, per_channel=False)
    quantize_weights(keras.layers.Dense(2), config).build((None, 2))
    config.quantizer.initialize(np.float32([[1, -3], [2, 6]]))
    assert float(config.quantizer.step_size) == pytest.approx(2 * 3 / 3**0.5)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("per_channel", [True, False], ids=["per_channel", "per_tensor"])
@pytest.mark.parametrize("training", [True, False])
def test_gradients_of_kernel_and_steps(kind, per_channel, training):
    wrapper, config = wrapped(kind, bits=3, per_channel=per_channel)
    x, kernel, steps = inputs_of(kind), config.kernel, config.quantizer.step_size
    steps.assign(steps / 2)  # so that some weights are clipped
    kernel.assign(reference.away_from_decisions(kernel.numpy(), steps.numpy(), -3, 3))
    plain = plain_layer(kind, reference.quantize(kernel, steps, -3, 3))
    plain_kernel = getattr(plain, kernel_attribute(plain))
    with tf.GradientTape(persistent=True) as tape:
        loss = tf.reduce_sum(wrapper(x, training=training) ** 2)
        plain_loss = tf.reduce_sum(plain(x) ** 2)
    upstream = tape.gradient(plain_loss, plain_kernel).numpy()
    scale = 1 / np.sqrt(upstream.size * 3)  # all elements of the kernel, per channel too
    want = reference.gradients(kernel, steps, upstream, low=-3, high=3, gradient_scale=scale)
    dkernel, dsteps = tape.gradient(loss, [kernel, steps])
    assert 0 < np.count_nonzero(want[0]) < want[0].size
    largest = np.abs(upstream).max()
    np.testing.assert_allclose(dkernel, want[0], rtol=1e-4, atol=1e-5 * largest)
    np.testing.assert_allclose(dsteps, want[1], rtol=1e-3, atol=1e-4 * largest)


@pytest.mark.parametrize("kind", LAYERS)
def test_kernel_bias_and_steps_are_trained_once_each(kind):
    wrapper, config = wrapped(kind)
    names = sorted(v.name.split("/")[-1].split(":")[0] for v in wrapper.trainable_variables)
    kernel = "depthwise_kernel" if kind.startswith("depthwise") else "kernel"
    assert names == sorted([kernel, f"{kernel}_step_size"] + ["bias"] * (kind != "pointwise"))
    assert any(v is config.kernel for v in wrapper.trainable_variables)


@pytest.mark.parametrize("kind", LAYERS)
def test_a_trained_file_keeps_the_full_precision_kernel(kind, tmp_path):
    wrapper, config = wrapped(kind)
    inputs = keras.Input(LAYERS[kind][1])
    model = keras.Model(inputs, wrapper(inputs))
    x = inputs_of(kind)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "mse", run_eagerly=True)
    before = config.kernel.numpy(), config.quantizer.step_size.numpy()
    model.fit(x, np.ones_like(model(x)), epochs=3, verbose=0)
    assert np.all(config.quantizer.step_size.numpy() != before[1])  # every channel's step
    assert np.mean(config.kernel.numpy() != before[0]) > 0.5
    model.save(tmp_path / "w.keras")
    loaded = mmx_tf.load_model(tmp_path / "w.keras")
    np.testing.assert_array_equal(loaded(x), model(x))
    config_again = loaded.layers[1].quantize_config
    np.testing.assert_array_equal(config_again.kernel, config.kernel)
    np.testing.assert_array_equal(config_again.quantizer.step_size, config.quantizer.step_size)
    assert (config_again.bits, config_again.per_channel) == (4, True)


@pytest.mark.parametrize(
    "optimizer", [keras.optimizers.SGD(1e6), keras.optimizers.Adam(1e3)], ids=["sgd", "adam"]
)
def test_a_huge_update_leaves_positive_step_sizes(optimizer):
    wrapper, config = wrapped("conv")
    x = inputs_of("conv")
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(wrapper(x) ** 2)
    steps = config.quantizer.step_size
    optimizer.apply_gradients([(tape.gradient(loss, steps), steps)])
    assert np.any(steps.numpy() == np.float32(1e-6))
    assert np.all(steps.numpy() >= np.float32(1e-6))
    assert np.all(np.isfinite(wrapper(x)))


@pytest.mark.parametrize("layer", [keras.layers.ReLU(), keras.layers.Conv1D(2, 3), keras.layers.Add()])
def test_refuses_layers_without_a_kernel_it_knows(layer):
    name = type(layer).__name__
    message = f"layer {layer.name!r} of class {name} has no kernel .* Conv2DTranspose, DepthwiseConv2D, Dense"
    with pytest.raises(ValueError, match=message):
        quantize_weights(layer, LsqWeightConfig(bits=4, per_channel=True))
    assert kernel_attribute(layer) is None


@pytest.mark.parametrize("bits", [1, 9, 4.5])
def test_refuses_bits_outside_2_to_8(bits):
    with pytest.raises(ValueError, match=f"bits={bits}: a weight bit-width is an integer in 2..8"):
        LsqWeightConfig(bits=bits, per_channel=True)
    with pytest.raises(ValueError, match=f"bits={bits}: a weight bit-width is an integer in 2..8"):
        LsqWeightQuantizer(bits=bits)


def test_the_wrapper_quantizes_no_activation():
    wrapper, config = wrapped("conv")
    assert isinstance(wrapper, QuantizeWrapper)
    assert config.get_activations_and_quantizers(wrapper.layer) == []
    assert config.get_output_quantizers(wrapper.layer) == []
