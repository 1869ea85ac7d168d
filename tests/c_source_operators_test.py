"""Single operators as C source, compiled with sanitizers, against the reference interpreter.

Each file has the operator on tensors of several ranges, which elementwise operators make of one image: codes
of 2, 3, 4 and 8 bits, with real 0 at the lowest code and elsewhere.
"""

import re

import compiled_network
import numpy as np
import pytest
from small_files import NONE, RELU, RELU6, SAME, VALID, Net, TensorType, options, random_codes

pytestmark = compiled_network.needed
# Bits of a tensor's codes, and which of them is real 0.
RANGES = [(2, 0), (3, 3), (4, 0), (4, 7), (8, 100)]
GRID = {"scale": 0.05, "zero_point": 0}


class Branches(Net):
    """A file with an operator on each of `RANGES`: `branch` gives (tensor, its scale)."""

    def __init__(self, seed, shape):
        super().__init__(seed)
        self.image, self.shape, self.made = self.input("image", shape, **GRID), shape, []
        self.one = self.constant("one", np.array([1]), TensorType.INT8, scales=[1.0])

    def branch(self, bits, zero, *, name=""):
        """Two operators clip the image to codes of `bits`, as in our files."""
        # Spreads over all codes.
        name, scale = f"{name}{bits}_{zero}", GRID["scale"] * 256 / 2**bits
        upper = self.tensor(f"{name}/upper", self.shape, scale=scale, zero_point=128 - 2**bits + zero)
        self.operator("MUL", [self.image, self.one], upper, options=options("Mul"), version=2)
        lower = self.tensor(f"{name}/lower", self.shape, scale=scale, zero_point=-128 + zero)
        return self.operator("QUANTIZE", [upper], lower, options=options("Quantize"), version=2), scale

    def file(self):
        return self.finish(*self.made)

    def images(self, count=3):
        return {"image": random_codes(self.rng, (count, *self.shape))}


def convolved(kind, shape, taps, out, *, weight_bits=4, **fields):
    """(net, data) with a convolution of random weights on each range; fields: of its options."""
    net, axis = Branches(weight_bits, shape), 3 if kind == "DEPTHWISE_CONV_2D" else 0
    name = {"CONV_2D": "Conv2D", "DEPTHWISE_CONV_2D": "DepthwiseConv2D"}[kind]
    given = {"padding": SAME, "strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
    given |= {"fusedActivationFunction": NONE} | fields
    for bits, zero in RANGES:
        source, scale = net.branch(bits, zero)
        weights, bias, scales = net.weights(
            f"{bits}_{zero}", taps, axis=axis, source_scale=scale, bits=weight_bits
        )
        spread = 2 ** (bits + weight_bits) * np.sqrt(np.prod(taps) / taps[axis])
        target = net.tensor(f"{bits}_{zero}/codes", out, scale=scale * float(np.mean(scales)) * spread / 800)
        net.made.append(
            net.operator(kind, [source, weights, bias], target, options=options(name, **given), version=3)
        )
    return net, net.file()


@pytest.mark.parametrize("activations", ["packed", "int8"])
@pytest.mark.parametrize("weight_bits", [2, 4, 8])
def test_convolutions_in_all_widths(tmp_path, weight_bits, activations):
    net, data = convolved("CONV_2D", (5, 6, 3), (7, 3, 3, 3), (5, 6, 7), weight_bits=weight_bits)
    options = {"activations": activations, "weights": activations}
    made = compiled_network.assert_exact(tmp_path, data, net.images(), **options)
    steps = [step for step in made.program.steps if step.kind == "conv"]
    packed = activations == "packed"
    assert [step.reads[0].stored.bits for step in steps] == ([2, 4, 4, 4, 8] if packed else [8] * 5)
    assert made.files["net.c"].count(f".weight_bits = {weight_bits if packed else 8}") == len(steps)


WINDOWS = {
    "pointwise": ((8, 1, 1, 16), (5, 6, 8), {}),
    "strides": ((6, 1, 1, 16), (3, 3, 6), {"strideH": 2, "strideW": 2, "fusedActivationFunction": RELU}),
    "valid": ((4, 3, 2, 16), (2, 3, 4), {"padding": VALID, "strideH": 2, "strideW": 2}),
    "dilation": ((4, 3, 3, 16), (5, 6, 4), {"dilationHFactor": 2, "dilationWFactor": 2}),
    "groups": ((6, 3, 3, 8), (5, 6, 6), {"fusedActivationFunction": RELU6}),
}


@pytest.mark.parametrize("window", WINDOWS)
def test_convolutions_of_all_windows(tmp_path, window):
    taps, out, fields = WINDOWS[window]
    net, data = convolved("CONV_2D", (5, 6, 16), taps, out, **fields)
    compiled_network.assert_exact(tmp_path, data, net.images())


@pytest.mark.parametrize("filters", [8, 12, 6, 7])
@pytest.mark.parametrize("highest", [3, 2])
def test_convolutions_to_two_bits(tmp_path, filters, highest):
    """Four filters fill a byte; those with a scale of 0.5 need float32, and 25 places leave one over."""
    net = Branches(filters, (5, 5, 8))
    weight_scales = np.where(np.arange(filters) % 3 == 1, 0.5, net.rng.uniform(0.03, 0.1, filters))
    for bits, zero in RANGES:
        source, scale = net.branch(bits, zero)
        name, codes = f"{bits}_{zero}", net.rng.integers(-7, 8, (filters, 1, 1, 8))
        weights = net.constant(f"{name}/w", codes, TensorType.INT8, scales=weight_scales, axis=0)
        grid = {"scales": scale * weight_scales}
        bias = net.constant(f"{name}/b", net.rng.integers(0, 20, filters), TensorType.INT32, **grid)
        target = net.tensor(f"{name}/codes", (5, 5, filters), scale=scale, zero_point=127 - highest)
        fields = {"padding": SAME, "strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
        fields = options("Conv2D", fusedActivationFunction=RELU, **fields)
        inputs = [source, weights, bias]
        net.made.append(net.operator("CONV_2D", inputs, target, options=fields, version=3))
    made = compiled_network.assert_exact(tmp_path, net.file(), net.images())
    steps = [step for step in made.program.steps if step.kind == "conv"]
    assert [step.output.bits for step in steps] == [2] * len(RANGES)
    assert made.files["net.c"].count(f".low = 0, .high = {highest}, ") == len(RANGES)
    numbers = re.findall(r"int32_t multipliers_\d+\[\d+\] = \{([^}]*)\}", made.files["net.c"])
    assert any("-" in text for text in numbers) and not all(text.count("-") == filters for text in numbers)


DEPTHWISE = {
    "plain": (16, 1, 4, {}),
    "strides": (24, 1, 8, {"strideH": 2, "strideW": 2, "fusedActivationFunction": RELU}),
    "dilation": (8, 1, 4, {"dilationHFactor": 2, "dilationWFactor": 2}),
    "multiplier": (5, 2, 4, {"fusedActivationFunction": RELU6}),
}


@pytest.mark.parametrize("case", DEPTHWISE)
def test_depthwise_convolutions(tmp_path, case):
    channels, multiplier, weight_bits, fields = DEPTHWISE[case]
    stride, filters = fields.get("strideH", 1), channels * multiplier
    net, data = convolved(
        "DEPTHWISE_CONV_2D",
        (7, 6, channels),
        (1, 3, 3, filters),
        (-(-7 // stride), -(-6 // stride), filters),
        weight_bits=weight_bits,
        depthMultiplier=multiplier,
        **fields,
    )
    compiled_network.assert_exact(tmp_path, data, net.images())


@pytest.mark.parametrize("kind", ["MAX_POOL_2D", "AVERAGE_POOL_2D"])
def test_pooling(tmp_path, kind):
    net = Branches(0, (7, 5, 9))
    fields = {"padding": SAME, "filterHeight": 3, "filterWidth": 2, "strideH": 2, "strideW": 2}
    fields |= {"fusedActivationFunction": RELU}
    for bits, zero in RANGES:
        source, scale = net.branch(bits, zero)
        target = net.tensor(f"{bits}_{zero}/codes", (4, 3, 9), scale=scale, zero_point=-128 + zero)
        net.made.append(net.operator(kind, [source], target, options=options("Pool2D", **fields), version=2))
    compiled_network.assert_exact(tmp_path, net.file(), net.images())


def test_means(tmp_path):
    net = Branches(0, (6, 5, 9))
    axes = net.constant("axes", np.array([1, 2]), TensorType.INT32)
    for keep, (bits, zero) in enumerate(RANGES):
        source, scale = net.branch(bits, zero)
        shape = (1, 1, 9) if keep % 2 else (9,)
        target = net.tensor(f"{bits}_{zero}/codes", shape, scale=scale * 0.11, zero_point=3)
        fields = options("Reducer", keepDims=bool(keep % 2))
        net.made.append(net.operator("MEAN", [source, axes], target, options=fields, version=2))
    compiled_network.assert_exact(tmp_path, net.file(), net.images(20))


def test_means_that_no_integer_multiplier_rounds(tmp_path):
    """Four codes on one grid: XNNPACK rounds halves to even."""
    net = Net(0)
    source = net.input("image", (2, 2, 40), scale=0.5, zero_point=0)
    target = net.tensor("codes", (40,), scale=0.5, zero_point=0)
    axes = net.constant("axes", np.array([1, 2]), TensorType.INT32)
    data = net.file_of("MEAN", [source, axes], target, options=options("Reducer", keepDims=False), version=2)
    made = compiled_network.assert_exact(tmp_path, data, {"image": random_codes(net.rng, (20, 2, 2, 40))})
    assert "static const float real" in made.files["net.c"]


def test_convolutions_that_no_integer_multiplier_rounds(tmp_path):
    """Of the channels with a scale of 0.5 every second sum is a half: these alone have floats."""
    net = Net(0)
    source = net.input("image", (3, 3, 4), scale=0.5, zero_point=0)
    scales = np.array([0.5, 0.3137, 0.5, 0.5, 0.3137, 0.3137])
    codes = net.rng.integers(-7, 8, (6, 1, 1, 4))
    weights = net.constant("w", codes, TensorType.INT8, scales=scales, axis=0)
    bias = net.constant("b", np.arange(6), TensorType.INT32, scales=scales / 2)
    target = net.tensor("codes", (3, 3, 6), scale=0.5, zero_point=0)
    fields = {"padding": SAME, "strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
    data = net.file_of(
        "CONV_2D", [source, weights, bias], target, options=options("Conv2D", **fields), version=3
    )
    made = compiled_network.assert_exact(tmp_path, data, {"image": random_codes(net.rng, (9, 3, 3, 4))})
    (numbers,) = re.findall(r"int32_t multipliers_\d+\[6\] = \{([^}]*)\}", made.files["net.c"])
    assert [int(number) < 0 for number in numbers.split(",")] == list(scales == 0.5)


@pytest.mark.parametrize("kind", ["ADD", "SUB", "MUL"])
def test_elementwise_operators(tmp_path, kind):
    shape = (4, 5, 6)
    net = Branches(0, shape)
    name = {"ADD": "Add", "SUB": "Sub", "MUL": "Mul"}[kind]
    for (bits, zero), second in zip(RANGES, [shape, (1, 1, 6), (1,), shape, (1, 5, 1)], strict=True):
        source, scale = net.branch(bits, zero)
        # A constant, so that the sum is no function of single codes.
        codes = net.rng.integers(-100, 100, (1, *second))
        grid = {"scales": [scale / 3], "zero_points": [4]}
        other = net.constant(f"{bits}_{zero}/constant", codes, TensorType.INT8, **grid)
        target = net.tensor(f"{bits}_{zero}/codes", shape, scale=scale * (9 if kind == "MUL" else 1.3))
        net.made.append(net.operator(kind, [source, other], target, options=options(name), version=2))
    compiled_network.assert_exact(tmp_path, net.file(), net.images(5))


def test_what_moves_codes(tmp_path):
    shape = (4, 6, 5)
    net = Branches(0, shape)
    (one, scale), (other, _), (byte, byte_scale) = (
        net.branch(4, 7), net.branch(4, 7, name="other"), net.branch(8, 100)
    )  # fmt: skip
    grid = {"scale": scale, "zero_point": -121}

    def constant(name, values):
        return net.constant(name, np.array(values), TensorType.INT32)

    def moved(kind, inputs, name, out, grid=grid, **kwargs):
        net.made.append(net.operator(kind, inputs, net.tensor(name, out, **grid), version=2, **kwargs))

    amounts = constant("amounts", [(0, 0), (1, 2), (0, 1), (1, 0)])
    moved("PAD", [one, amounts], "padded", (7, 7, 6))
    moved("CONCATENATION", [one, other, one], "joined", (4, 6, 15), options=options("Concatenation", axis=3))
    moved("CONCATENATION", [one, other], "rows", (8, 6, 5), options=options("Concatenation", axis=1))
    bounds = [constant(*pair) for pair in (("b", [0, 1, 0, 1]), ("e", [1, 4, 6, 4]), ("s", [1, 2, 1, 1]))]
    moved(
        "STRIDED_SLICE",
        [one, *bounds],
        "cut",
        (2, 6, 3),
        options=options("StridedSlice", beginMask=1, endMask=1),
    )
    moved(
        "TRANSPOSE", [one, constant("axes", [0, 3, 1, 2])], "turned", (5, 4, 6), options=options("Transpose")
    )
    size, byte_grid = constant("size", [8, 9]), {"scale": byte_scale, "zero_point": -28}
    fields = options("ResizeNearestNeighbor", halfPixelCenters=True)
    moved("RESIZE_NEAREST_NEIGHBOR", [one, size], "near", (8, 9, 5), options=fields)
    for half in (False, True):
        fields = options("ResizeBilinear", halfPixelCenters=half)
        moved("RESIZE_BILINEAR", [byte, size], f"mixed_{half}", (8, 9, 5), byte_grid, options=fields)
    compiled_network.assert_exact(tmp_path, net.file(), net.images())


def test_transposed_convolutions(tmp_path):
    net = Branches(0, (5, 4, 6))
    for number, (bits, zero) in enumerate(RANGES):
        window, strides, size = [((3, 3), (2, 2), (10, 8)), ((2, 3), (1, 3), (5, 12))][number % 2]
        source, scale = net.branch(bits, zero)
        name = f"{bits}_{zero}"
        weights, bias, scales = net.weights(name, (7, *window, 6), axis=0, source_scale=scale, bits=4)
        shape = net.constant(f"{name}/shape", np.array([1, *size, 7]), TensorType.INT32)
        target = net.tensor(f"{name}/codes", (*size, 7), scale=scale * float(np.mean(scales)) * 2**bits / 8)
        fields = options("TransposeConv", padding=SAME, strideH=strides[0], strideW=strides[1])
        inputs = [shape, weights, source, bias]
        net.made.append(net.operator("TRANSPOSE_CONV", inputs, target, options=fields, version=4))
    compiled_network.assert_exact(tmp_path, net.file(), net.images())


def test_class_and_probabilities(tmp_path):
    net = Net(0)
    source = net.input("image", (3, 4, 7), scale=0.04, zero_point=-3)
    probabilities = net.tensor("probabilities", (3, 4, 7), scale=1 / 256, zero_point=-128)
    net.operator("SOFTMAX", [source], probabilities, options=options("Softmax", beta=1.0), version=2)
    index = net.writer.tensor("class", (1, 3, 4), TensorType.INT32, dynamic_batch=True)
    axis = net.constant("axis", np.array(3), TensorType.INT32)
    net.operator("ARG_MAX", [source, axis], index, options=options("ArgMax", outputType=TensorType.INT32))
    images = {"image": random_codes(net.rng, (50, 3, 4, 7))}
    compiled_network.assert_exact(tmp_path, net.finish(probabilities, index), images)
