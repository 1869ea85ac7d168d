"""Every integer layer against its operator in LiteRT under XNNPACK, over all codes where possible."""

import numpy as np
import pytest
import tf_keras as keras

from mmx_tf.export.running.litert import run
from mmx_tf.export.running.partitions import delegated_ops
from mmx_tf.export.writing.tflite import convert
from mmx_tf.layers.grid import Grid
from mmx_tf.layers.integer.layers import (
    IntegerAdd,
    IntegerMean,
    IntegerMul,
    IntegerRequantize,
    IntegerRescale,
    QuantizeInput,
)
from mmx_tf.layers.integer.shapes import (
    IntegerAveragePool2D,
    IntegerConcatenate,
    IntegerMaxPool2D,
    IntegerPad,
    IntegerReshape,
)
from mmx_tf.layers.integer.storage import CONTAINERS
from mmx_tf.layers.integer.weighted import IntegerConv2D, IntegerDense, IntegerDepthwiseConv2D, finer_codes

ALL_CODES = np.arange(-128, 128, dtype=np.int8)
PAIRS = [np.repeat(ALL_CODES, 256).reshape(1, 256, 256, 1), np.tile(ALL_CODES, 256).reshape(1, 256, 256, 1)]
ZERO_POINTS = (0, 17, -3, 64, 112, 120, 124, -121, -125, -128)


def operator_model(layer, shapes, grids):
    """(model from codes-to-be to the layer's codes, the same without the input quantizers)."""
    images = [keras.Input(shape, name=f"x{i}") for i, shape in enumerate(shapes)]
    codes = [QuantizeInput(output_grid=grid)(image) for image, grid in zip(images, grids, strict=True)]
    output = layer(codes if len(codes) > 1 else codes[0])
    return keras.Model(images, output), keras.Model(codes, output)


def assert_equal_codes(layer, grids, arrays, *, partitions=1):
    """Convert the one-layer model, run it on int8 `arrays`, and compare every code with the Keras layer."""
    model, integer_part = operator_model(layer, [array.shape[1:] for array in arrays], grids)
    data = convert(model, input_type="int8")
    assert delegated_ops(data).partitions == partitions
    got = run(data, {f"x{i}": array for i, array in enumerate(arrays)})[layer.name]
    want = integer_part.predict([array.astype(np.float32) for array in arrays], verbose=0)
    assert np.count_nonzero(got != want) == 0, f"{np.count_nonzero(got != want)} of {got.size} codes differ"
    rebuilt = type(layer).from_config(layer.get_config())
    codes = [array[:1].astype(np.float32) for array in arrays]
    rebuilt(codes if len(codes) > 1 else codes[0])
    rebuilt.set_weights(layer.get_weights())
    np.testing.assert_array_equal(rebuilt(codes if len(codes) > 1 else codes[0]), want[:1])


def random_grid(rng):
    return Grid(np.exp(rng.uniform(-6, 1)), int(rng.choice(ZERO_POINTS)))


def random_weights(rng, shape, count):
    bits = int(rng.choice([2, 3, 4, 8]))
    highest = 2 ** (bits - 1) - 1
    codes = rng.integers(-highest, highest + 1, shape)
    scales = np.exp(rng.uniform(-5, -1, count)).astype(np.float32)
    return finer_codes(codes, scales, bits=bits) if rng.random() < 0.7 else (codes, scales)


@pytest.mark.parametrize("cls", [IntegerRequantize, IntegerRescale])
def test_requantization_of_all_codes(cls):
    rng = np.random.default_rng(1)
    for _ in range(12):
        source, target = random_grid(rng), random_grid(rng)
        if 2**-8 <= source.scale / target.scale < 2**7:
            layer = cls(input_grid=source, output_grid=target)
            assert_equal_codes(layer, [source], [ALL_CODES.reshape(1, 1, 256, 1)])


@pytest.mark.parametrize("activation", ["relu", "relu6"])
def test_rescaling_with_an_activation(activation):
    rng = np.random.default_rng(9)
    for _ in range(12):
        source = random_grid(rng)
        target = Grid(source.scale * rng.uniform(0.3, 3.0), int(rng.choice(ZERO_POINTS)))
        layer = IntegerRescale(input_grid=source, output_grid=target, activation=activation)
        assert_equal_codes(layer, [source], [ALL_CODES.reshape(1, 1, 256, 1)])


@pytest.mark.parametrize("cls", [IntegerAdd, IntegerMul])
@pytest.mark.parametrize("activation", ["linear", "relu", "relu6"])
def test_add_and_mul_of_all_pairs(cls, activation):
    rng = np.random.default_rng(2)
    for _ in range(5):
        first, second = random_grid(rng), random_grid(rng)
        scale = max(first.scale, second.scale) if cls is IntegerAdd else 100 * first.scale * second.scale
        target = Grid(scale * rng.uniform(0.3, 2.0), int(rng.choice(ZERO_POINTS)))
        layer = cls(input_grids=(first, second), output_grid=target, activation=activation)
        assert_equal_codes(layer, [first, second], PAIRS)


def test_mul_broadcasts_a_squeeze_excite_gate():
    rng = np.random.default_rng(3)
    grids = [Grid(0.0371, -5), Grid(1 / 256, -128)]
    arrays = [rng.integers(-128, 128, shape).astype(np.int8) for shape in ((8, 5, 7, 9), (8, 1, 1, 9))]
    assert_equal_codes(IntegerMul(input_grids=grids, output_grid=Grid(0.029, 3)), grids, arrays)


@pytest.mark.parametrize("height, width, channels", [(1, 1, 5), (7, 7, 33), (4, 9, 16), (3, 5, 1)])
def test_mean(height, width, channels):
    rng = np.random.default_rng(height)
    source, target = random_grid(rng), random_grid(rng)
    array = rng.integers(-128, 128, (64, height, width, channels)).astype(np.int8)
    layer = IntegerMean(input_grid=source, output_grid=target, keepdims=bool(height % 2))
    assert_equal_codes(layer, [source], [array])


@pytest.mark.parametrize("seed", range(8))
def test_convolutions(seed):
    rng = np.random.default_rng(seed)
    kernel, strides = (int(rng.choice([1, 3, 5])), int(rng.choice([1, 3]))), 1 + seed % 2
    window = {
        "strides": strides,
        "padding": ["same", "valid"][seed // 2 % 2],
        "dilation_rate": 1 + (seed == 4),
    }
    channels, filters = int(rng.integers(1, 20)), int(rng.integers(1, 30))
    height, width = (int(size) for size in rng.integers(9, 14, 2))
    array = rng.integers(-128, 128, (8, height, width, channels)).astype(np.int8)
    source = random_grid(rng)
    for cls, shape, count in (
        (IntegerConv2D, (*kernel, channels, filters), filters),
        (IntegerDepthwiseConv2D, (*kernel, channels, 1 + seed % 2), channels * (1 + seed % 2)),
    ):
        layer = random_weighted(rng, cls, shape, count, count, source, **window)
        assert_equal_codes(layer, [source], [array])


@pytest.mark.parametrize("inputs, outputs", [(7, 3), (64, 10), (1280, 10), (30000, 4)])
def test_dense_up_to_sums_beyond_float32(inputs, outputs):
    rng = np.random.default_rng(inputs)
    source = Grid(0.0123, -128)
    array = rng.integers(-128, 128, (32, inputs)).astype(np.int8)
    layer = random_weighted(
        rng, IntegerDense, (inputs, outputs), outputs, 1, source, bits=8 if inputs > 2000 else None
    )
    assert layer.accumulation == ("float64" if inputs > 2000 else layer.accumulation)
    assert_equal_codes(layer, [source], [array])


def random_weighted(rng, cls, shape, channels, scale_count, source, *, bits=None, **window):
    """A weighted layer whose output grid fits its accumulators, so that few codes saturate."""
    codes, scales = random_weights(rng, shape, scale_count)
    if bits is not None:
        codes = rng.integers(-127, 128, shape)
    fan_in = np.prod(shape) / channels
    spread = np.sqrt(fan_in) * np.abs(codes).mean() * 80 + 1
    target = Grid(
        source.scale * np.median(scales) * spread / rng.uniform(10, 80), int(rng.choice(ZERO_POINTS))
    )
    bias = np.rint(rng.normal(0, spread, channels)).astype(int)
    activation = str(rng.choice(["linear", "relu", "relu6"]))
    return cls(
        weight_codes=codes,
        weight_scales=scales,
        bias_codes=bias,
        input_grid=source,
        output_grid=target,
        activation=activation,
        **window,
    )


def test_float32_sum_path_takes_the_common_factor_out():
    rng = np.random.default_rng(5)
    codes, scales = finer_codes(rng.integers(-7, 8, (3, 3, 128, 8)), rng.uniform(0.01, 0.02, 8), bits=4)
    layer = IntegerConv2D(
        weight_codes=codes,
        weight_scales=scales,
        bias_codes=rng.integers(-(10**6), 10**6, 8),
        input_grid=Grid(0.1, -128),
        output_grid=Grid(0.9, 3),
    )
    assert (layer.accumulation, layer.code_factor) == ("float32_sum", 18)
    assert_equal_codes(layer, [layer.input_grid], [rng.integers(-128, 128, (4, 8, 8, 128)).astype(np.int8)])


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_pooling_and_shapes(padding):
    rng = np.random.default_rng(7)
    grid = Grid(0.077, -11)
    array = rng.integers(-128, 128, (6, 7, 9, 5)).astype(np.int8)
    pool = {"grid": grid, "pool_size": (3, 2), "strides": 2, "padding": padding}
    assert_equal_codes(IntegerMaxPool2D(**pool), [grid], [array])
    # XNNPACK has no int8 average pooling: the builtin kernel runs it.
    assert_equal_codes(IntegerAveragePool2D(**pool), [grid], [array], partitions=0)
    assert_equal_codes(IntegerPad(grid=grid, padding=((0, 1), (2, 3))), [grid], [array])
    assert_equal_codes(IntegerConcatenate(grid=grid), [grid, grid], [array, array[::-1].copy()])
    assert_equal_codes(IntegerReshape(grid=grid), [grid], [array])
    assert_equal_codes(IntegerReshape(grid=grid, target_shape=(9, -1)), [grid], [array])


def test_int4_storage_is_smaller_and_close():
    rng = np.random.default_rng(4)
    source, target = Grid(0.05, -3), Grid(0.9, 2)
    codes, scales = rng.integers(-8, 8, (3, 3, 9, 7)), rng.uniform(0.05, 0.1, 7)
    arguments = {"bias_codes": rng.integers(-99, 99, 7), "input_grid": source, "output_grid": target}
    array = rng.integers(-128, 128, (4, 6, 6, 9)).astype(np.int8)
    results, sizes = {}, {}
    for storage in ("int8", "int4"):
        layer = IntegerConv2D(
            weight_codes=codes, weight_scales=scales, container=storage, name="c", **arguments
        )
        model, _ = operator_model(layer, [array.shape[1:]], [source])
        data = convert(model, input_type="int8")
        results[storage], sizes[storage] = run(data, {"x0": array})["c"].astype(int), len(data)
    # The builtin int4 kernel rounds twice, so that a code may move by one.
    assert np.abs(results["int4"] - results["int8"]).max() <= 1
    assert sizes["int8"] - sizes["int4"] >= codes.size // 2 - 16


@pytest.mark.parametrize(
    ("container", "inputs", "taken"),
    [("int4", 6, True), ("int4", 7, False), ("int2", 8, True), ("int2", 6, False), ("int8", 7, True)],
)
@pytest.mark.parametrize("activation", ["linear", "relu6"])
def test_packed_pointwise_convolutions_are_exact_where_xnnpack_takes_them(
    container, inputs, taken, activation
):
    rng = np.random.default_rng(inputs)
    low, high = CONTAINERS[container]
    codes = rng.integers(low, high + 1, (1, 1, inputs, 5))
    layer = IntegerConv2D(
        weight_codes=codes, weight_scales=rng.uniform(0.02, 0.1, 5), bias_codes=rng.integers(-99, 99, 5),
        input_grid=Grid(0.051, -3), output_grid=Grid(0.083, -128 if activation == "relu6" else 2),
        activation=activation, container=container, name="c",
    )  # fmt: skip
    array = rng.integers(-128, 128, (3, 6, 5, inputs)).astype(np.int8)
    if taken:
        assert_equal_codes(layer, [Grid(0.051, -3)], [array])
    else:
        model, _ = operator_model(layer, [array.shape[1:]], [Grid(0.051, -3)])
        assert delegated_ops(convert(model, input_type="int8")).partitions == 0


def test_weighted_layers_refuse_impossible_weights():
    arguments = {"input_grid": Grid(0.1, -128), "output_grid": Grid(0.1, 0)}
    with pytest.raises(ValueError, match="-127..127"):
        IntegerDense(weight_codes=[[128]], weight_scales=[0.1], bias_codes=[0], **arguments)
    with pytest.raises(ValueError, match="shape"):
        IntegerDense(weight_codes=[[1]], weight_scales=[0.1], bias_codes=[0, 0], **arguments)
    with pytest.raises(ValueError, match="int32"):
        IntegerDense(weight_codes=[[1]], weight_scales=[0.1], bias_codes=[2**31 - 1], **arguments)
