"""Convolutions and dense layers of the reference interpreter against LiteRT's three sets of kernels."""

import numpy as np
import pytest
from small_files import (
    NONE,
    RELU,
    RELU6,
    SAME,
    VALID,
    Net,
    TensorType,
    assert_equal_to_litert,
    options,
    random_codes,
)

from mmx_tf.export import reference

WINDOWS = [
    {},
    {"kernel": (1, 1)},
    {"padding": VALID, "strideH": 2, "strideW": 3},
    {"strideH": 2, "strideW": 2, "activation": RELU6},
    {"dilationHFactor": 2, "dilationWFactor": 3, "activation": RELU},
    {"kernel": (2, 5), "activation": RELU},
]


def weighted(kind, seed, *, bits, activation=NONE, dtype=TensorType.INT8, per_channel=True, **window):
    """(data, inputs) of a convolution whose accumulators spread over the output grid."""
    net = Net(seed)
    height, width, channels, filters = 9, 7, 6, 8
    source_scale = net.scale(0.01, 0.1)
    source = net.input("image", (height, width, channels), scale=source_scale)
    kernel = window.pop("kernel", (3, 3))
    multiplier = window.pop("multiplier", 1)
    if kind == "CONV_2D":
        shape, axis = (filters, *kernel, channels), 0
    else:
        shape, axis, filters = (1, *kernel, channels * multiplier), 3, channels * multiplier
    weights, bias, scales = net.weights(
        "w", shape, axis=axis, source_scale=source_scale, bits=bits, dtype=dtype, per_channel=per_channel
    )
    spread = np.sqrt(np.prod(shape) / filters) * 74 * 2 ** (bits - 1) / np.sqrt(3)
    target_scale = source_scale * float(np.mean(scales)) * spread / net.rng.uniform(30, 60)
    fields = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1, "padding": SAME}
    fields |= window | {"fusedActivationFunction": activation}
    name = "Conv2D"
    if kind != "CONV_2D":
        name, fields["depthMultiplier"] = "DepthwiseConv2D", multiplier
    # LiteRT works the output's shape out by itself.
    target = net.tensor("codes", (1, 1, filters), scale=target_scale)
    version = 7 if dtype == TensorType.INT4 else 3
    data = net.file_of(
        kind,
        [source, weights, bias],
        target,
        options=options(name, **fields),
        version=version,
    )
    return data, {"image": random_codes(net.rng, (5, height, width, channels))}


@pytest.mark.parametrize("bits", [8, 3])
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("kind", ["CONV_2D", "DEPTHWISE_CONV_2D"])
def test_convolutions(kind, window, bits):
    assert_equal_to_litert(*weighted(kind, bits, bits=bits, **window))


@pytest.mark.parametrize("window", [{}, {"strideH": 2, "strideW": 2, "activation": RELU6}])
@pytest.mark.parametrize("kind", ["CONV_2D", "DEPTHWISE_CONV_2D"])
def test_convolutions_with_int4_weights(kind, window):
    # LiteRT has no reference kernel for depthwise convolutions with INT4 weights.
    compared = reference.RULES if kind == "CONV_2D" else ("xnnpack", "builtin")
    assert_equal_to_litert(*weighted(kind, 5, bits=4, dtype=TensorType.INT4, **window), compared)


@pytest.mark.parametrize("kind", ["CONV_2D", "DEPTHWISE_CONV_2D"])
def test_convolutions_with_one_scale_for_all_channels(kind):
    assert_equal_to_litert(*weighted(kind, 6, bits=4, per_channel=False))


@pytest.mark.parametrize("multiplier", [2, 3])
def test_depth_multiplier(multiplier):
    assert_equal_to_litert(*weighted("DEPTHWISE_CONV_2D", 7, bits=4, multiplier=multiplier, strideH=2))


def dense(
    seed, *, bits, activation=NONE, dtype=TensorType.INT8, per_channel=False, units=12, count=64, keep=False
):
    net = Net(seed)
    source_scale = net.scale(0.01, 0.1)
    shape = (3, count) if keep else (count,)
    source = net.input("features", shape, scale=source_scale)
    weights, bias, scales = net.weights(
        "w",
        (units, count),
        axis=0,
        source_scale=source_scale,
        bits=bits,
        dtype=dtype,
        per_channel=per_channel,
    )
    target_scale = source_scale * float(np.mean(scales)) * np.sqrt(count) * 74 * 2 ** (bits - 1) / 60
    target = net.tensor("codes", (*shape[:-1], units), scale=target_scale)
    fields = options("FullyConnected", fusedActivationFunction=activation, keepNumDims=keep)
    data = net.file_of("FULLY_CONNECTED", [source, weights, bias], target, options=fields, version=12)
    return data, {"features": random_codes(net.rng, (300, *shape))}


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("bits", [8, 3])
@pytest.mark.parametrize("activation", [NONE, RELU, RELU6])
def test_fully_connected(activation, bits, per_channel):
    assert_equal_to_litert(
        *dense(activation + bits, bits=bits, activation=activation, per_channel=per_channel)
    )


def test_fully_connected_keeps_leading_dimensions():
    assert_equal_to_litert(*dense(1, bits=8, keep=True))


@pytest.mark.parametrize("per_channel", [False, True])
def test_fully_connected_with_int4_weights(per_channel):
    assert_equal_to_litert(*dense(2, bits=4, dtype=TensorType.INT4, per_channel=per_channel))


@pytest.mark.parametrize("kind", ["CONV_2D", "DEPTHWISE_CONV_2D"])
def test_the_rules_can_be_told_apart(kind):
    outputs = assert_equal_to_litert(*weighted(kind, 3, bits=3, multiplier=2))
    even, up, away = (outputs[rules]["codes"].astype(int) for rules in ("xnnpack", "builtin", "reference"))
    for left, right in ((even, up), (up, away), (even, away)):
        share = np.mean(left != right)
        assert 0 < share < 0.1 and np.abs(left - right).max() == 1


def test_dense_weights_with_a_zero_point():
    net = Net(3)
    source = net.input("features", (30,), scale=0.04)
    codes = net.rng.integers(-7, 8, (9, 30))
    weights = net.constant("w", codes, TensorType.INT8, scales=[0.021], zero_points=[3])
    bias = net.constant(
        "b", net.rng.integers(-99, 99, 9), TensorType.INT32, scales=[np.float32(0.04) * 0.021]
    )
    target = net.tensor("codes", (9,), scale=0.043, zero_point=0)
    fields = options("FullyConnected")
    data = net.file_of("FULLY_CONNECTED", [source, weights, bias], target, options=fields, version=4)
    assert_equal_to_litert(data, {"features": random_codes(net.rng, (200, 30))})


def next_to_ties(ratio):
    """Integers on both sides of every number that `ratio` takes next to a half, for results within int8."""
    halves = (np.arange(-120, 120) + 0.5) / ratio
    return (np.rint(halves)[:, None] + np.arange(-2, 3)).astype(np.int64).reshape(-1)


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("ratio", [3e-6, 1e-4, 0.02, 0.7, 1.9])
def test_accumulators_next_to_ties(ratio, per_channel):
    for seed in range(3):
        net = Net(seed)
        source_scale, weight_scale = (np.float32(net.scale(0.005, 0.05)) for _ in range(2))
        target_scale = float(np.float32(source_scale * weight_scale / ratio))
        accumulators = next_to_ties(float(source_scale) * float(weight_scale) / target_scale)
        units = len(accumulators)
        # The one input holds the zero point, so that the bias is the accumulator.
        source = net.input("features", (2,), scale=float(source_scale), zero_point=5)
        scales = np.full(units if per_channel else 1, weight_scale)
        codes = net.rng.integers(-127, 128, (units, 2))
        weights = net.constant("w", codes, TensorType.INT8, scales=scales, axis=0)
        bias = net.constant("b", accumulators, TensorType.INT32, scales=source_scale * scales)
        target = net.tensor("codes", (units,), scale=target_scale, zero_point=0)
        fields = options("FullyConnected")
        data = net.file_of("FULLY_CONNECTED", [source, weights, bias], target, options=fields, version=12)
        outputs = assert_equal_to_litert(data, {"features": np.full((1, 2), 5, np.int8)})
        assert len(np.unique(outputs["xnnpack"]["codes"])) > 120


def large_sums(*, offset, target_scale, units=6, count=1200):
    """A dense layer whose sums exceed 2^24; the bias takes their expectation off and adds `offset`."""
    net = Net(4)
    source = net.input("features", (count,), scale=0.013, zero_point=-128)
    codes = np.where(net.rng.random((units, count)) < 0.9, 127, -127)
    scales = np.array([net.scale(0.01, 0.02) for _ in range(units)], np.float32)
    weights = net.constant("w", codes, TensorType.INT8, scales=scales, axis=0)
    inputs = net.rng.integers(90, 128, (400, count)).astype(np.int8)
    expected = (inputs.mean() + 128) * codes.sum(axis=1)
    bias = net.constant("b", offset - expected, TensorType.INT32, scales=np.float32(0.013) * scales)
    target = net.tensor("codes", (units,), scale=target_scale, zero_point=0)
    fields = options("FullyConnected")
    data = net.file_of("FULLY_CONNECTED", [source, weights, bias], target, options=fields, version=12)
    return data, {"features": inputs}


def test_sums_beyond_the_exact_integers_of_float32():
    # One code is about 25 units of the accumulator, so that units that float32 loses would show.
    data, inputs = large_sums(offset=0, target_scale=0.005)
    weights = reference.load(data).operators[0].inputs[1].constant.astype(np.int64)
    assert np.abs((inputs["features"].astype(np.int64) + 128) @ weights.T).max() > 2**24
    assert_equal_to_litert(data, inputs)


def test_sums_beyond_int32_wrap():
    data, inputs = large_sums(offset=2**31 - 20_000, target_scale=2.0**31 * 0.013 * 0.015 / 100)
    codes = assert_equal_to_litert(data, inputs)["xnnpack"]["codes"]
    # Around the largest int32: some stay below, some wrap to the other end.
    assert (codes > 60).any() and (codes < -60).any()


def test_wrong_channels_are_named():
    data, inputs = weighted("CONV_2D", 0, bits=8)
    operator = reference.load(data).operators[0]
    with pytest.raises(ValueError, match="5 input channels and 8 filters of 6, which are no groups"):
        reference.step(data, 0, {operator.inputs[0].name: inputs["image"][..., :5]})
