"""Training with convolutions in bfloat16, and with the whole step compiled by XLA."""

import networks
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

import mmx_tf
from mmx_tf.training.compute_dtype import convolutions_in


def rounded(values) -> np.ndarray:
    """float32 rounded half to even to the 8 significant bits of bfloat16, by its bit pattern."""
    bits = np.asarray(values, np.float32).view(np.uint32).astype(np.uint64)
    bits = (bits + 0x7FFF + ((bits >> np.uint64(16)) & np.uint64(1))) & np.uint64(0xFFFF0000)
    return bits.astype(np.uint32).view(np.float32)


def test_a_convolution_multiplies_rounded_numbers():
    layer = keras.layers.Conv2D(4, 1, use_bias=False)
    network = keras.Sequential([keras.Input((1, 1, 1)), layer])
    x = np.float32([0.3, 1.00390625, 3.0, -7.77]).reshape(4, 1, 1, 1)
    kernel = layer.kernel.numpy().ravel()
    exact = network(x).numpy().reshape(4, 4)
    np.testing.assert_array_equal(exact, x.reshape(4, 1) * kernel)
    with convolutions_in("bfloat16", network):
        got = network(x)
    assert got.dtype == tf.float32
    want = rounded(rounded(x.reshape(4, 1)) * rounded(kernel))
    np.testing.assert_array_equal(got.numpy().reshape(4, 4), want)
    assert np.any(want != exact)
    np.testing.assert_array_equal(network(x).numpy().reshape(4, 4), exact)


def test_depthwise_and_dense_layers_and_batch_norm_keep_float32():
    network = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.DepthwiseConv2D(3),
            keras.layers.BatchNormalization(),
            keras.layers.Flatten(),
            keras.layers.Dense(2),
        ]
    )
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
    want = network(x).numpy()
    with convolutions_in("bfloat16", network):
        np.testing.assert_array_equal(network(x), want)


def fixed_network():
    search = mmx_tf.augment(networks.small_network(), weight_bits=4)
    search(digits(16)[0], branch=0)
    return mmx_tf.rebuild(search, search.selection_of([1] * len(search.quantizers)))


def digits(count):
    data = mmx_tf.data.load("digits", image_size=16)
    return next(iter(data.evaluation(batch_size=count)))


def trained(network, *, steps, **options):
    network.compile(
        "sgd",
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        **options,
    )
    images, labels = digits(32)
    losses = [network.train_on_batch(images, labels)[0] for _ in range(steps)]
    return losses, [value.numpy() for value in network.trainable_variables]


@pytest.mark.slow
def test_quantized_training_in_bfloat16_follows_float32():
    one, two = fixed_network(), fixed_network()
    two.set_weights(one.get_weights())
    before = [value.numpy() for value in one.trainable_variables]
    losses, exact = trained(one, steps=3)
    with convolutions_in("bfloat16", two):
        rounded_losses, near = trained(two, steps=3)
    assert losses != rounded_losses
    np.testing.assert_allclose(rounded_losses, losses, rtol=0.1)
    moved = np.concatenate([np.ravel(e - b) for e, b in zip(exact, before, strict=True)])
    moved_too = np.concatenate([np.ravel(n - b) for n, b in zip(near, before, strict=True)])
    assert np.dot(moved, moved_too) > 0.9 * np.linalg.norm(moved) * np.linalg.norm(moved_too)
    images = digits(8)[0]
    one.set_weights(two.get_weights())
    np.testing.assert_array_equal(two(images), one(images))  # in float32 again


@pytest.mark.slow
@pytest.mark.parametrize(
    ("searching", "options"),
    [
        (False, {"target_average_bits": 4.0}),
        (True, {"target_average_bits": 4.0}),
        (True, {"weight_bits": (8, 4, 2), "target_bops": 400_000}),
    ],
    ids=["meta", "search", "search of weight bits"],
)
def test_a_compiled_search_step_gives_the_same_numbers(searching, options):
    results = []
    for jit_compile in (False, True):
        keras.utils.set_random_seed(0)
        search = mmx_tf.augment(networks.small_network(), **options)
        images, _ = digits(32)
        search(images, branch=0)  # sets the step sizes
        search.searching.assign(searching)
        losses, variables = trained(search, steps=2, jit_compile=jit_compile)
        results.append([losses, *variables, search.alpha.numpy()])
    for plain, compiled in zip(*results, strict=True):
        np.testing.assert_allclose(compiled, plain, rtol=2e-3, atol=2e-4)


@pytest.mark.slow
def test_a_compiled_fixed_step_gives_the_same_numbers():
    one, two = fixed_network(), fixed_network()
    two.set_weights(one.get_weights())
    for plain, compiled in zip(trained(one, steps=2), trained(two, steps=2, jit_compile=True), strict=True):
        for mine, theirs in zip(compiled, plain, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=2e-3, atol=2e-4)
