"""Single operators as C source, compiled with sanitizers, against the reference interpreter.

The input of each is a tensor of low bits, which an elementwise operator makes of the image: 2- and 4-bit slots as
well as 8-bit ones, with real 0 at the lowest code and elsewhere.
"""

import compiled_network
import numpy as np
import pytest
from small_files import NONE, RELU, RELU6, SAME, VALID, Net, TensorType, options, random_codes

pytestmark = compiled_network.needed
# Bits of a tensor's codes, and which of them is real 0.
RANGES = [(2, 0), (3, 3), (4, 0), (4, 7), (8, 100)]


def low(net, shape, bits, zero, *, name="image"):
    """(image, tensor of `bits` with code `zero` at real 0, its scale): two QUANTIZEs clip, as in our files."""
    scale = net.scale(0.02, 0.1) * 2 ** (8 - bits)
    source = net.input(name, shape, scale=scale / 2 ** (8 - bits), zero_point=0)
    upper = net.tensor(f"{name}/upper", shape, scale=scale, zero_point=127 - (2**bits - 1 - zero))
    one = net.constant(f"{name}/one", np.array([1]), TensorType.INT8, scales=[1.0])
    net.operator("MUL", [source, one], upper, options=options("Mul"), version=2)
    lower = net.tensor(f"{name}/lower", shape, scale=scale, zero_point=-128 + zero)
    net.operator("QUANTIZE", [upper], lower, options=options("Quantize"), version=2)
    return lower, scale


def window(net, kind, shape, taps, out, bits_zero, *, filters=None, weight_bits=4, **fields):
    """A file with one convolution of random weights; fields: of its options."""
    source, scale = low(net, shape, *bits_zero)
    axis = 3 if kind == "DEPTHWISE_CONV_2D" else 0
    weights, bias, scales = net.weights("w", taps, axis=axis, source_scale=scale, bits=weight_bits)
    reach = 2 ** bits_zero[0] * np.sqrt(np.prod(taps) / taps[axis]) * 2**weight_bits / 60
    target = net.tensor("codes", out, scale=scale * float(np.mean(scales)) * max(reach, 1))
    name = {"CONV_2D": "Conv2D", "DEPTHWISE_CONV_2D": "DepthwiseConv2D"}[kind]
    given = {"padding": SAME, "strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
    given |= {"fusedActivationFunction": NONE} | fields
    net.operator(kind, [source, weights, bias], target, options=options(name, **given), version=3)
    return net.finish(target)


@pytest.mark.parametrize("activations", ["packed", "int8"])
@pytest.mark.parametrize("bits, zero", RANGES)
@pytest.mark.parametrize("weight_bits", [2, 4, 8])
def test_convolutions(tmp_path, bits, zero, weight_bits, activations):
    net = Net(bits + zero + weight_bits)
    data = window(
        net, "CONV_2D", (5, 6, 3), (7, 3, 3, 3), (5, 6, 7), (bits, zero), weight_bits=weight_bits
    )
    images = {"image": random_codes(net.rng, (4, 5, 6, 3))}
    made = compiled_network.assert_exact(tmp_path, data, images, activations=activations, weights=activations)
    (step,) = [step for step in made.program.steps if step.kind == "conv"]
    held = {2: 2, 3: 4, 4: 4, 8: 8}[bits]
    assert step.reads[0].stored.bits == (held if activations == "packed" else 8)
    assert f".weight_bits = {weight_bits if activations == 'packed' else 8}" in made.files["net.c"]


@pytest.mark.parametrize("bits, zero", RANGES)
@pytest.mark.parametrize(
    "taps, out, fields",
    [
        ((8, 1, 1, 16), (5, 6, 8), {}),
        ((6, 1, 1, 16), (3, 3, 6), {"strideH": 2, "strideW": 2, "fusedActivationFunction": RELU}),
        ((4, 3, 2, 16), (2, 3, 4), {"padding": VALID, "strideH": 2, "strideW": 2}),
        ((4, 3, 3, 16), (5, 6, 4), {"dilationHFactor": 2, "dilationWFactor": 2}),
        ((6, 3, 3, 8), (5, 6, 6), {"fusedActivationFunction": RELU6}),
    ],
    ids=["pointwise", "strides", "valid", "dilation", "groups"],
)
def test_convolutions_of_all_windows(tmp_path, taps, out, fields, bits, zero):
    net = Net(zero)
    data = window(net, "CONV_2D", (5, 6, 16), taps, out, (bits, zero), **fields)
    compiled_network.assert_exact(tmp_path, data, {"image": random_codes(net.rng, (3, 5, 6, 16))})


@pytest.mark.parametrize("bits, zero", RANGES)
@pytest.mark.parametrize("weight_bits", [4, 8])
@pytest.mark.parametrize(
    "channels, multiplier, fields",
    [
        (16, 1, {}),
        (24, 1, {"strideH": 2, "strideW": 2, "fusedActivationFunction": RELU}),
        (16, 1, {"dilationHFactor": 2, "dilationWFactor": 2}),
        (5, 2, {"fusedActivationFunction": RELU6}),
    ],
    ids=["groups of 8", "strides", "dilation", "multiplier"],
)
def test_depthwise_convolutions(tmp_path, channels, multiplier, fields, bits, zero, weight_bits):
    net = Net(bits)
    out = (-(-7 // fields.get("strideH", 1)), -(-6 // fields.get("strideW", 1)), channels * multiplier)
    data = window(
        net,
        "DEPTHWISE_CONV_2D",
        (7, 6, channels),
        (1, 3, 3, channels * multiplier),
        out,
        (bits, zero),
        weight_bits=weight_bits,
        depthMultiplier=multiplier,
        **fields,
    )
    compiled_network.assert_exact(tmp_path, data, {"image": random_codes(net.rng, (3, 7, 6, channels))})


@pytest.mark.parametrize("bits, zero", RANGES)
@pytest.mark.parametrize("kind", ["MAX_POOL_2D", "AVERAGE_POOL_2D"])
def test_pooling(tmp_path, kind, bits, zero):
    net = Net(bits)
    source, scale = low(net, (7, 5, 9), bits, zero)
    target = net.tensor("codes", (4, 3, 9), scale=scale, zero_point=-128 + zero)
    fields = {"padding": SAME, "filterHeight": 3, "filterWidth": 2, "strideH": 2, "strideW": 2}
    fields |= {"fusedActivationFunction": RELU}
    data = net.file_of(kind, [source], target, options=options("Pool2D", **fields), version=2)
    compiled_network.assert_exact(tmp_path, data, {"image": random_codes(net.rng, (4, 7, 5, 9))})


@pytest.mark.parametrize("bits, zero", RANGES)
@pytest.mark.parametrize("keep", [False, True])
def test_means(tmp_path, bits, zero, keep):
    net = Net(bits)
    source, scale = low(net, (6, 5, 9), bits, zero)
    target = net.tensor("codes", (1, 1, 9) if keep else (9,), scale=scale * 0.37)
    axes = net.constant("axes", np.array([1, 2]), TensorType.INT32)
    data = net.file_of("MEAN", [source, axes], target, options=options("Reducer", keepDims=keep), version=2)
    compiled_network.assert_exact(tmp_path, data, {"image": random_codes(net.rng, (20, 6, 5, 9))})


def test_means_that_no_integer_multiplier_rounds(tmp_path):
    """Four codes of one grid: XNNPACK rounds halves to even."""
    net = Net(0)
    source = net.input("image", (2, 2, 40), scale=0.5, zero_point=0)
    target = net.tensor("codes", (40,), scale=0.5, zero_point=0)
    axes = net.constant("axes", np.array([1, 2]), TensorType.INT32)
    data = net.file_of("MEAN", [source, axes], target, options=options("Reducer", keepDims=False), version=2)
    made = compiled_network.assert_exact(
        tmp_path, data, {"image": random_codes(net.rng, (20, 2, 2, 40))}
    )
    assert "static const float multipliers" in made.files["net.c"]


@pytest.mark.parametrize("bits, zero", RANGES)
@pytest.mark.parametrize("kind", ["ADD", "SUB", "MUL"])
@pytest.mark.parametrize("second", [(4, 5, 6), (1, 1, 6), (1,)], ids=["whole", "channels", "one"])
def test_elementwise_operators(tmp_path, kind, second, bits, zero):
    net = Net(bits)
    source, scale = low(net, (4, 5, 6), bits, zero)
    if second == (4, 5, 6):
        other, _ = low(net, second, 4, 5, name="other")
        pair = net.tensor("both", second)
        net.operator("ADD", [source, other], pair, options=options("Add"), version=2)
        pytest.importorskip("numpy")
    codes = net.rng.integers(-100, 100, second)
    constant = net.constant("constant", codes, TensorType.INT8, scales=[scale / 3], zero_points=[4])
    target = net.tensor("codes", (4, 5, 6), scale=scale * 1.3 if kind != "MUL" else scale * scale * 9)
    name = {"ADD": "Add", "SUB": "Sub", "MUL": "Mul"}[kind]
    right = other if second == (4, 5, 6) else constant
    net.operator(kind, [source, right], target, options=options(name), version=2)
    data = net.finish(target)
    images = {name: random_codes(net.rng, (5, 4, 5, 6)) for name in net.inputs}
    compiled_network.assert_exact(tmp_path, data, images)
