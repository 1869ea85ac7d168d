"""BatchNormalization against Keras's own layer and float64, alone and taken over by a quantizer."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

import mmx_tf
from mmx_tf.layers import fusion
from mmx_tf.layers.batch_norm import BatchNormalization
from mmx_tf.layers.branches import MIXED
from mmx_tf.layers.quantizers.activation import ActivationQuantizer
from mmx_tf.layers.quantizers.multi_branch import MultiBranchQuantizer
from mmx_tf.layers.unrolled_sums import SLICES, partial_sums, slices_of, totals

SHAPES = [(3, 16, 16, 12), (2, 7, 7, 45), (4, 1, 1, 2048), (5, 9, 11, 24)]


def pair(shape, **options):
    """(Keras's layer, ours) with the same random variables."""
    layers = [kind(**options) for kind in (keras.layers.BatchNormalization, BatchNormalization)]
    rng = np.random.default_rng(0)
    layers[0].build(shape)
    values = [rng.uniform(0.5, 2, variable.shape) for variable in layers[0].weights]
    for layer in layers:
        layer.build(shape)
        layer.set_weights(values)
    return layers


def run(layer, x, upstream):
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(upstream * layer(x, training=True))
    return tape.gradient(total, [x, *layer.trainable_variables])


def images(shape, mean=3.0):
    rng = np.random.default_rng(1)
    channels = rng.uniform(0.1, 2, shape[-1])
    return tf.constant(mean + channels * rng.normal(size=shape), tf.float32)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    "options", [{}, {"center": False}, {"scale": False}, {"momentum": 0.5, "epsilon": 0.1}]
)
def test_output_gradients_and_running_statistics_are_keras(shape, options):
    x, upstream = images(shape), tf.random.stateless_normal(shape, (1, 2))
    theirs, ours = pair(shape, **options)
    np.testing.assert_allclose(ours(x, training=True), theirs(x, training=True), rtol=1e-4, atol=1e-4)
    for moving in ("moving_mean", "moving_variance"):
        np.testing.assert_allclose(getattr(ours, moving), getattr(theirs, moving), rtol=1e-5)
    for got, want in zip(run(ours, x, upstream), run(theirs, x, upstream), strict=True):
        scale = np.max(np.abs(want))
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4 * scale)


def test_statistics_keep_their_digits_far_from_zero():
    x = images((4, 32, 32, 8), mean=1000.0)
    ours = pair(x.shape)[1]
    got = ours(x, training=True).numpy()
    exact = np.asarray(x, np.float64)
    mean, variance = exact.mean((0, 1, 2)), exact.var((0, 1, 2))
    want = (exact - mean) / np.sqrt(variance + 1e-3) * ours.gamma.numpy() + ours.beta.numpy()
    # x itself has a spacing of 6e-5 there, the product x * slope one of 1e-3.
    np.testing.assert_allclose(got, want, atol=0.02)


def test_a_constant_image_has_no_negative_variance():
    ours = BatchNormalization()
    x = tf.fill((2, 16, 16, 8), 0.1)
    np.testing.assert_allclose(ours(x, training=True), np.zeros(x.shape), atol=1e-5)
    assert np.all(ours.moving_variance.numpy() >= 0)


def test_a_frozen_layer_and_inference_use_running_statistics():
    x = images((2, 16, 16, 8))
    theirs, ours = pair(x.shape)
    np.testing.assert_array_equal(ours(x, training=False), theirs(x, training=False))
    ours.trainable = theirs.trainable = False
    np.testing.assert_array_equal(ours(x, training=True), theirs(x, training=True))


def padded_relu(x):
    return tf.pad(tf.nn.relu(x), [[0, 0], [0, 1], [2, 1], [0, 0]])


RECTIFIERS = [tf.identity, tf.nn.relu, tf.nn.relu6, padded_relu]


@pytest.mark.parametrize("rectifier", RECTIFIERS, ids=["none", "relu", "relu6", "padded"])
@pytest.mark.parametrize("branch", [0, 2, MIXED])
def test_a_quantizer_takes_over_batch_norm_and_rectifier(rectifier, branch):
    # Behind tf.identity nothing is recognised: there batch norm, ReLU and quantizer run one by one.
    x = images((3, 16, 16, 12))
    norm = pair(x.shape)[1]
    upstream = tf.random.stateless_normal(rectifier(x).shape, (1, 2))
    quantizer = MultiBranchQuantizer(bit_widths=(8, 4, 3), signed=rectifier is tf.identity)
    quantizer(rectifier(norm(x, training=True)))
    alpha = tf.Variable([0.3, 0.1, -0.2])
    variables = [*norm.trainable_variables, alpha if branch == MIXED else quantizer.step_sizes]

    def gradients(hide):
        @tf.function
        def traced(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = norm(x, training=True)
                y = hide(rectifier(y)) if rectifier is not tf.identity else hide(y)
                q = quantizer(y, branch=branch, alpha=alpha)
                total = tf.reduce_sum(upstream * q)
            return q, tape.gradient(total, [x, *variables])

        return traced(x)

    (got, got_gradients), (want, want_gradients) = gradients(lambda y: y), gradients(lambda y: y + 0.0)
    # A number beside a rounding border may fall on its other side.
    assert np.mean(~np.isclose(got, want, atol=1e-5)) < 1e-3
    for mine, theirs in zip(got_gradients, want_gradients, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=5e-4 * np.max(np.abs(theirs)))


def test_what_a_quantizer_takes_over_is_not_computed_for_it():
    norm, quantizer = BatchNormalization(), ActivationQuantizer(bits=4, signed=False)
    x = images((2, 16, 16, 8))
    quantizer(tf.nn.relu(norm(x)))
    found = []

    @tf.function
    def traced(x):
        y = norm(x, training=True)
        found.append((fusion.source_of(tf.nn.relu6(y)), fusion.source_of(y + 1.0), x))
        return quantizer(tf.nn.relu6(y))

    traced(x)
    known, unknown, image = found[0]
    assert known.bounds == (0.0, 6.0) and known.normalized.x is image and known.paddings is None
    assert unknown.bounds == fusion.UNBOUNDED and unknown.normalized is None
    eager = fusion.source_of(tf.nn.relu6(x))
    assert eager.bounds == fusion.UNBOUNDED and eager.normalized is None


@pytest.mark.parametrize("positions, count", [(1, 1), (49, 7), (64, 8), (22, 2), (13, 1), (60, 6)])
def test_slices_divide_positions(positions, count):
    assert slices_of(positions) == count <= SLICES


def test_partial_sums_by_hand():
    x = tf.reshape(tf.range(24.0), (1, 4, 3, 2))
    sums = totals(partial_sums(lambda x: [x, tf.square(x)], x))
    assert sums.numpy().tolist() == [[sum(range(24))], [sum(i * i for i in range(24))]]
    by_channel = totals(partial_sums(lambda x: [x, -x], x, channels=2))
    even, odd = sum(range(0, 24, 2)), sum(range(1, 24, 2))
    assert by_channel.numpy().tolist() == [[even, odd], [-even, -odd]]


@pytest.mark.parametrize("shape", [(2, 64, 3), (3, 49, 2), (1, 13, 5), (2, 6, 6, 4)], ids=str)
def test_totals_are_numpys(shape):
    x, y = np.random.default_rng(0).integers(-9, 9, (2, *shape)).astype(np.float32)
    products = lambda x, y: [x * y, x, y * y]  # noqa: E731
    found = totals(partial_sums(products, tf.constant(x), tf.constant(y), channels=shape[-1]))
    axes = tuple(range(len(shape) - 1))
    np.testing.assert_array_equal(found, [term.sum(axes) for term in products(x, y)])


def test_is_saved_and_loaded_with_its_statistics(tmp_path):
    inputs = keras.Input((16, 16, 8))
    network = keras.Model(inputs, BatchNormalization(name="norm")(inputs))
    x = images((4, 16, 16, 8))
    network(x, training=True)
    network.save(tmp_path / "network.keras")
    loaded = mmx_tf.load_model(tmp_path / "network.keras")
    assert type(loaded.get_layer("norm")) is BatchNormalization
    np.testing.assert_array_equal(loaded(x), network(x))
