"""Narrow built-in networks from a trained float network to a file of equal codes, on real digits."""

import numpy as np
import pytest
import tf_keras as keras

import mmx_tf
from mmx_tf import models
from mmx_tf.layers.integer.weighted import IntegerAffine, WeightedLayer
from mmx_tf.metamix.search import quantizer_name

pytestmark = pytest.mark.slow

BIT_WIDTHS = (8, 4, 3)
SHAPE = (16, 16, 1)


def trained(digits, name, *, width, epochs, imagenet_stem=False):
    """A built-in network that tells digits apart."""
    keras.utils.set_random_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        if imagenet_stem:
            patch.setattr("mmx_tf.models.rules.SMALL_IMAGE_BELOW", 0)
        network = models.build(name, input_shape=SHAPE, num_classes=10, width=width)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(keras.optimizers.Adam(0.005), loss, metrics=["accuracy"])
    network.fit(digits.train(batch_size=64, seed=0), epochs=epochs, verbose=0)
    assert network.evaluate(digits.evaluation(batch_size=90), verbose=0)[1] > 0.5
    return network


def selected(network, digits, *, choice):
    """Search network and fixed network, after one step of bit selection and two of weight training."""
    search = mmx_tf.augment(network, bit_widths=BIT_WIDTHS, weight_bits=4, target_average_bits=6)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # Tracing would take longer than these few steps.
    search.compile(optimizer=keras.optimizers.SGD(1e-3), loss=loss, run_eagerly=True)
    batches = digits.train(batch_size=64, seed=0)
    search.fit(batches.take(1), epochs=1, verbose=0)
    fixed = mmx_tf.rebuild(search, search.selection_of([choice(i) for i in range(len(search.quantizers))]))
    fixed.compile(optimizer=keras.optimizers.SGD(1e-3), loss=loss, run_eagerly=True)
    fixed.fit(batches.take(2), epochs=1, verbose=0)
    return search, fixed


def exact(fixed, digits, **options):
    """Folds and converts; every code of every tensor and logit must be equal, in one partition."""
    folded = mmx_tf.fold(fixed, **options)
    data = mmx_tf.convert(folded, input_type="int8", **options)
    report = mmx_tf.verify(folded, data, digits.evaluation(batch_size=90))
    assert [tensor.name for tensor in report.tensors if tensor.differing] == []
    assert (report.code_disagreement, report.top1_agreement, report.eval_images) == (0.0, 1.0, 360)
    assert (report.partitions, report.left_outside) == (1, ())
    return folded, report


@pytest.fixture(scope="module")
def mobilenet_v3(digits):
    network = trained(digits, "mobilenet_v3_large", width=0.25, epochs=6)
    # Neighbours differ, so that most tensors with two consumers are requantized.
    return selected(network, digits, choice=lambda i: i % 3)


def test_mobilenet_v3_is_exact(mobilenet_v3, digits):
    _, fixed = mobilenet_v3
    folded, report = exact(fixed, digits)
    bits = {
        layer.name: layer.activation_bits
        for layer in folded.layers
        if isinstance(layer, WeightedLayer) and not isinstance(layer, IntegerAffine)
    }
    assert len(bits) == 64 and set(bits.values()) == {8, 4, 3}
    distinct = {tensor.name: tensor.distinct for tensor in report.tensors}
    del bits["Conv"]  # it takes the file's input
    for name, width in bits.items():
        source = folded.get_layer(name).input.node.layer.name
        assert 0 < distinct[source] <= 2**width, name


def test_mobilenet_v3_is_exact_with_packed_weights(mobilenet_v3, digits):
    exact(mobilenet_v3[1], digits, weight_storage="int4_xnnpack")


def test_what_is_behind_a_hard_swish_has_its_codes(mobilenet_v3):
    search, fixed = mobilenet_v3
    floors = {name: quantizer.floor for name, quantizer in search.quantizers.items()}
    expected = {"expanded_conv/depthwise", "Conv_2"}
    for block in range(6, 15):
        expected |= {f"expanded_conv_{block}/{layer}" for layer in ("depthwise", "project")}
        expected |= {f"expanded_conv_{block}/squeeze_excite/Conv"} if block > 9 else set()
    assert {name for name, floor in floors.items() if floor} == expected
    assert all(floors[name] == pytest.approx(-0.375) for name in expected)
    assert search.end_quantizers["Logits"].floor == pytest.approx(-0.375)
    for name in expected:
        quantizer = fixed.get_layer(quantizer_name(name))
        z = min(np.rint(0.375 / float(quantizer.step_size)), 2 ** (quantizer.bits - 1) - 1)
        assert (quantizer.low, quantizer.high) == (-z, 2**quantizer.bits - 1 - z)


def test_low_bit_codes_behind_a_hard_swish_are_on_both_sides_of_zero(mobilenet_v3, digits):
    """In the file's own tensors: z codes below the zero point, more above it, none outside."""
    fixed = mobilenet_v3[1]
    folded = mmx_tf.fold(fixed)
    name = "expanded_conv_6/project"
    quantizer, source = fixed.get_layer(quantizer_name(name)), folded.get_layer(name).input
    assert quantizer.bits < 8
    images = np.concatenate([images for images, _ in digits.evaluation(batch_size=90)])
    codes = keras.Model(folded.input, source).predict(images, verbose=0)
    codes = codes - folded.get_layer(name).input_grid.zero_point
    assert (codes.min(), codes.max()) == (quantizer.low, quantizer.high)
    assert quantizer.low < 0 < -quantizer.low < quantizer.high


@pytest.mark.parametrize("imagenet_stem", [False, True])
def test_resnet18_is_exact(digits, imagenet_stem):
    network = trained(digits, "resnet18", width=0.125, epochs=2, imagenet_stem=imagenet_stem)
    kinds = {type(layer).__name__ for layer in network.layers}
    assert ("MaxPooling2D" in kinds) is imagenet_stem
    search, fixed = selected(network, digits, choice=lambda i: i % 3)
    # The convolution and the shortcut of a block read one tensor, each on a grid of its own.
    for stage in (3, 4, 5):
        names = [quantizer_name(f"conv{stage}_block1_{i}_conv") for i in (0, 1)]
        shortcut, first = (fixed.get_layer(name) for name in names)
        assert shortcut is not first and shortcut.bits != first.bits
    exact(fixed, digits)
    if not imagenet_stem:
        exact(fixed, digits, weight_storage="int4_xnnpack")


@pytest.mark.parametrize(("name", "width", "epochs"), [("resnet8", 0.5, 3), ("mobilenet_v1", 0.25, 8)])
def test_the_networks_of_mlperf_tiny_are_exact(digits, name, width, epochs):
    network = trained(digits, name, width=width, epochs=epochs)
    _, fixed = selected(network, digits, choice=lambda i: i % 3)
    for weight_storage in ("int8", "int4_xnnpack"):
        exact(fixed, digits, weight_storage=weight_storage)
