"""ADD, SUB, MUL, MEAN, QUANTIZE and DEQUANTIZE of the reference interpreter against LiteRT's kernels."""

import numpy as np
import pytest
from small_files import (
    NONE,
    RELU,
    RELU6,
    RELU_N1_TO_1,
    Net,
    TensorType,
    assert_equal_to_litert,
    options,
    random_codes,
)


def every_pair(net, scales=(None, None), **kwargs):
    """Two inputs that take every pair of codes."""
    first = net.input("first", (256, 1), scale=scales[0], **kwargs)
    second = net.input("second", (256, 1), scale=scales[1], **kwargs)
    codes = np.arange(-128, 128, dtype=np.int8)
    left, right = np.repeat(codes, 256), np.tile(codes, 256)
    return first, second, {"first": left.reshape(256, 256, 1), "second": right.reshape(256, 256, 1)}


@pytest.mark.parametrize("activation", [NONE, RELU, RELU6, RELU_N1_TO_1])
@pytest.mark.parametrize("kind", ["ADD", "SUB", "MUL"])
def test_binary_operators_on_every_pair_of_codes(kind, activation):
    for seed in range(3):
        net = Net(seed)
        first, second, inputs = every_pair(net)
        target = net.tensor("codes", (256, 1), scale=net.scale(0.02, 2.0))
        fields = options(kind.title(), fusedActivationFunction=activation)
        assert_equal_to_litert(net.file_of(kind, [first, second], target, options=fields, version=2), inputs)


@pytest.mark.parametrize("kind", ["ADD", "SUB", "MUL"])
@pytest.mark.parametrize("shapes", [((5, 4, 7), (1, 1, 7)), ((1, 1, 1), (5, 4, 7)), ((5, 1, 3), (1, 4, 3))])
def test_binary_operators_broadcast(kind, shapes):
    net = Net(8)
    inputs = {
        name: random_codes(net.rng, (9, *shape))
        for name, shape in zip(("first", "second"), shapes, strict=True)
    }
    first, second = (net.input(name, values.shape[1:]) for name, values in inputs.items())
    target = net.tensor("codes", (5, 4, shapes[0][-1]), scale=0.3)
    data = net.file_of(kind, [first, second], target, options=options(kind.title()), version=2)
    assert_equal_to_litert(data, inputs)


@pytest.mark.parametrize("kind", ["ADD", "MUL"])
def test_binary_operators_with_a_constant(kind):
    net = Net(9)
    source = net.input("first", (6, 5, 7))
    constant = net.constant(
        "c", random_codes(net.rng, (7,)), TensorType.INT8, scales=[0.037], zero_points=[5]
    )
    target = net.tensor("codes", (6, 5, 7), scale=0.21)
    data = net.file_of(kind, [source, constant], target, options=options(kind.title()), version=2)
    assert_equal_to_litert(data, {"first": random_codes(net.rng, (4, 6, 5, 7))})


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("size", [(7, 7), (4, 4), (1, 3), (24, 31)])
def test_mean(size, keep):
    net = Net(size[0])
    source = net.input("image", (*size, 37), scale=0.05)
    axes = net.constant("axes", [1, 2], TensorType.INT32)
    # A fine output grid, so that means take many codes.
    target = net.tensor("codes", (1, 1, 37) if keep else (37,), scale=0.05 / np.sqrt(size[0] * size[1]))
    data = net.file_of("MEAN", [source, axes], target, options=options("Reducer", keepDims=keep), version=2)
    assert_equal_to_litert(data, {"image": random_codes(net.rng, (40, *size, 37))})


@pytest.mark.parametrize("ratio", [0.02, 0.3, 1.0, 2.7, 60.0, 200.0])
@pytest.mark.parametrize("dtype, dtype_name", [(TensorType.INT8, np.int8), (TensorType.UINT8, np.uint8)])
def test_quantize_codes_to_codes(ratio, dtype, dtype_name):
    codes = np.tile(np.arange(256), 3)[:-5].astype(dtype_name)
    for seed in range(5):
        net = Net(seed)
        scale = net.scale(0.01, 0.1)
        zero_point = net.zero_point() + (128 if dtype == TensorType.UINT8 else 0)
        source = net.input("before", (763,), scale=scale, zero_point=zero_point, dtype=dtype)
        target = net.tensor("codes", (763,), scale=scale / ratio)
        data = net.file_of("QUANTIZE", [source], target, options=options("Quantize"), version=2)
        assert_equal_to_litert(data, {"before": codes[None]})


def test_quantize_floats():
    for seed in range(5):
        net = Net(seed)
        source = net.input("image", (1003,), dtype=TensorType.FLOAT32)
        scale = net.scale(0.01, 0.1)
        target = net.tensor("codes", (1003,), scale=scale)
        # Half of the numbers lie on or next to a half, where the rules differ.
        values = net.rng.normal(size=(7, 1003)) * scale * 60
        halves = (np.floor(values / scale) + 0.5) * np.float32(scale)
        values = np.where(net.rng.random(values.shape) < 0.5, halves, values).astype(np.float32)
        data = net.file_of("QUANTIZE", [source], target, options=options("Quantize"), version=1)
        assert_equal_to_litert(data, {"image": values})


@pytest.mark.parametrize("dtype, dtype_name", [(TensorType.INT8, np.int8), (TensorType.UINT8, np.uint8)])
def test_dequantize(dtype, dtype_name):
    for seed in range(3):
        net = Net(seed)
        source = net.input("before", (259,), zero_point=40, dtype=dtype)
        target = net.tensor("codes", (259,), dtype=TensorType.FLOAT32)
        data = net.file_of("DEQUANTIZE", [source], target, options=options("Dequantize"), version=2)
        assert_equal_to_litert(data, {"before": np.resize(np.arange(256), (1, 259)).astype(dtype_name)})


@pytest.mark.parametrize("kind", ["ADD", "MUL"])
@pytest.mark.parametrize("shapes", [((8, 21), (8, 21)), ((8, 21), (1, 21)), ((8, 37), (8, 1))])
def test_results_beyond_16_bits(kind, shapes):
    net = Net(11)
    inputs = {
        name: random_codes(net.rng, (40, *shape))
        for name, shape in zip(("first", "second"), shapes, strict=True)
    }
    first, second = (net.input(name, values.shape[1:], scale=0.6) for name, values in inputs.items())
    # 255 steps of 0.6 are 38000 steps of the output, more than int16 holds.
    target = net.tensor("codes", shapes[0], scale=0.004, zero_point=90)
    data = net.file_of(kind, [first, second], target, options=options(kind.title()), version=2)
    outputs = assert_equal_to_litert(data, inputs)
    assert (outputs["builtin"]["codes"] != outputs["reference"]["codes"]).any()


def test_mul_on_products_next_to_ties():
    for seed in range(15):
        net = Net(seed)
        scales = [net.scale(0.01, 0.1) for _ in range(2)]
        first, second, inputs = every_pair(net, scales, zero_point=0)
        # The whole range of products takes the whole range of codes.
        target = net.tensor("codes", (256, 1), scale=scales[0] * scales[1] * 2**14 / 120, zero_point=0)
        data = net.file_of("MUL", [first, second], target, options=options("Mul"), version=2)
        assert_equal_to_litert(data, inputs)


@pytest.mark.parametrize("keep", [False, True])
def test_mean_of_sums_next_to_ties(keep):
    for seed in range(4):
        net = Net(seed)
        scale, size = net.scale(0.02, 0.2), 61
        ratio = net.rng.uniform(0.9, 1.1)
        target_scale = float(np.float32(scale / ratio))
        count = size * size
        halves = (np.arange(-100, 100) + 0.5) / (np.float32(scale) / np.float32(target_scale)) * count
        sums = (np.rint(halves)[:, None] + np.arange(-1, 2)).astype(np.int64).reshape(-1)
        # Every code is the mean rounded down, and as many are one higher as the sum still needs.
        low, more = np.divmod(sums, count)
        codes = (low + (np.arange(count)[:, None] < more)).reshape(1, size, size, len(sums)).astype(np.int8)
        source = net.input("image", codes.shape[1:], scale=scale, zero_point=0)
        axes = net.constant("axes", [1, 2], TensorType.INT32)
        shape = (1, 1, len(sums)) if keep else (len(sums),)
        target = net.tensor("codes", shape, scale=target_scale, zero_point=0)
        fields = options("Reducer", keepDims=keep)
        assert_equal_to_litert(
            net.file_of("MEAN", [source, axes], target, options=fields, version=2), {"image": codes}
        )
