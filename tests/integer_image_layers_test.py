"""Integer layers on images against their operators in LiteRT under XNNPACK, and on values by hand."""

import numpy as np
import pytest
import tensorflow as tf
from integer_layers_test import PAIRS, assert_equal_codes, random_grid, random_weighted

from mmx_tf.layers.grid import Grid
from mmx_tf.layers.integer.convolutions import IntegerConv2DTranspose, IntegerGroupedConv2D
from mmx_tf.layers.integer.differences import IntegerScale, IntegerSub
from mmx_tf.layers.integer.layers import IntegerAdd
from mmx_tf.layers.integer.moving import (
    IntegerResizeBilinear,
    IntegerResizeNearest,
    IntegerSlice,
    IntegerTranspose,
)
from mmx_tf.layers.integer.shapes import IntegerAveragePool2D
from mmx_tf.layers.integer.weighted import IntegerAffine, IntegerDepthwiseConv2D

pytestmark = pytest.mark.broad

GRID = Grid(0.077, -11)


def codes_of(rng, *shape):
    return rng.integers(-128, 128, shape).astype(np.int8)


@pytest.mark.parametrize(
    ("window", "strides", "padding", "size"),
    [
        ((3, 3), (2, 2), "same", (10, 8)),
        ((3, 3), (2, 2), "valid", (11, 9)),
        ((2, 2), (2, 2), "same", (10, 8)),
        ((5, 1), (2, 3), "valid", (13, 12)),
        ((4, 3), (1, 1), "same", (5, 4)),
        ((3, 3), (2, 2), "same", (9, 7)),
    ],
)
def test_transposed_convolutions(window, strides, padding, size):
    rng = np.random.default_rng(sum(size))
    arguments = {"strides": strides, "padding": padding, "output_size": size}
    for _ in range(3):
        source = random_grid(rng)
        layer = random_weighted(rng, IntegerConv2DTranspose, (*window, 7, 6), 7, 7, source, **arguments)
        assert_equal_codes(layer, [source], [codes_of(rng, 4, 5, 4, 6)])


def test_a_transposed_convolution_by_hand():
    kernel = np.arange(1, 5).reshape(2, 2, 1, 1)
    layer = IntegerConv2DTranspose(
        weight_codes=np.concatenate([kernel, -kernel], axis=2), weight_scales=[1.0, 1.0], bias_codes=[10, 20],
        input_grid=Grid(1.0, 3), output_grid=Grid(1.0, 0), strides=2, output_size=(2, 4), name="t",
    )  # fmt: skip
    # Codes 4 and 1 are 1 and -2: each puts the kernel, times itself, on its own four places.
    found = layer(tf.constant([4.0, 1.0], shape=(1, 1, 2, 1))).numpy()[0]
    assert found[..., 0].tolist() == [[11, 12, 8, 6], [13, 14, 4, 2]]
    assert found[..., 1].tolist() == [[19, 18, 22, 24], [17, 16, 26, 28]]


@pytest.mark.parametrize("groups", [2, 3])
def test_convolutions_of_groups(groups):
    rng = np.random.default_rng(groups)
    for window, strides in (((3, 2), (2, 2)), ((1, 1), (1, 1)), ((3, 3), (2, 1))):
        source = random_grid(rng)
        shape = (*window, 12 // groups, 18)
        layer = random_weighted(rng, IntegerGroupedConv2D, shape, 18, 18, source, strides=strides)
        assert layer.row_length is None
        assert_equal_codes(layer, [source], [codes_of(rng, 4, 9, 8, 12)])


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("strides", [(1, 3), (3, 2), (4, 1)])
def test_depthwise_windows_of_unequal_strides(strides, padding):
    rng = np.random.default_rng(strides[0])
    source, window = random_grid(rng), {"strides": strides, "padding": padding}
    layer = random_weighted(rng, IntegerDepthwiseConv2D, (4, 3, 5, 2), 10, 10, source, **window)
    assert_equal_codes(layer, [source], [codes_of(rng, 4, 11, 10, 5)])
    pool = IntegerAveragePool2D(grid=GRID, pool_size=(4, 3), **window)
    assert_equal_codes(pool, [GRID], [codes_of(rng, 4, 11, 10, 5)], partitions=0)


def test_unequal_strides_by_hand():
    rows = np.arange(5.0)[:, None] * 10 + np.arange(4.0)
    kernel = np.ones((1, 2, 1, 1), int)
    layer = IntegerAffine(
        weight_codes=kernel, weight_scales=[1.0], bias_codes=[0], input_grid=Grid(1.0, 0),
        output_grid=Grid(1.0, 0), strides=(2, 3), padding="same",
    )  # fmt: skip
    # SAME: two places in a row of four pixels, three pixels apart, need one pixel more, below and right.
    found = layer(tf.constant(rows.reshape(1, 5, 4, 1), tf.float32)).numpy()[0, :, :, 0]
    assert found.tolist() == [[1, 3], [41, 23], [81, 43]]


@pytest.mark.parametrize("activation", ["linear", "relu", "relu6"])
def test_differences_of_all_pairs(activation):
    rng = np.random.default_rng(3)
    for _ in range(5):
        first, second = random_grid(rng), random_grid(rng)
        target = Grid(max(first.scale, second.scale) * rng.uniform(0.3, 2.0), int(rng.integers(-128, 128)))
        layer = IntegerSub(input_grids=(first, second), output_grid=target, activation=activation)
        assert_equal_codes(layer, [first, second], PAIRS)


def test_a_difference_by_hand():
    layer = IntegerSub(input_grids=(Grid(0.2, 0), Grid(0.1, 3)), output_grid=Grid(0.2, -4))
    # 10 - 0.5 * (4 - 3) = 9.5 -> 10 and 10 - 0.5 * (2 - 3) = 10.5 -> 11: halves go up.
    found = layer([tf.constant([10.0, 10.0, -128.0]), tf.constant([4.0, 2.0, 127.0])])
    assert found.numpy().tolist() == [10 - 4, 11 - 4, -128]


@pytest.mark.parametrize("largest", [True, False])
def test_the_larger_and_the_smaller_of_all_pairs(largest):
    """As `fold` writes them: no code is rounded, in whatever kernels."""
    rng = np.random.default_rng(4)
    first, second = (tf.constant(codes, tf.float32) for codes in PAIRS)
    for _ in range(5):
        grid = random_grid(rng)
        excess_grid = Grid(grid.scale, -128)
        excess = IntegerSub(input_grids=(grid, grid), output_grid=excess_grid, activation="relu")
        step = (IntegerAdd if largest else IntegerSub)(input_grids=(grid, excess_grid), output_grid=grid)
        found = step([second if largest else first, excess([first, second])])
        np.testing.assert_array_equal(found, (np.maximum if largest else np.minimum)(*PAIRS))


@pytest.mark.parametrize("activation", ["linear", "relu", "relu6"])
@pytest.mark.parametrize("factor", [0.5, 1 / 3, 1 / 7])
def test_a_scaled_sum_keeps_the_codes_of_the_sum(factor, activation):
    rng = np.random.default_rng(5)
    every = np.arange(-128, 128, dtype=np.int8).reshape(1, 1, 256, 1)
    for _ in range(5):
        target = random_grid(rng)
        of_sum = Grid(target.scale / factor, target.zero_point)
        layer = IntegerScale(factor=factor, input_grid=of_sum, output_grid=target, activation=activation)
        assert_equal_codes(layer, [of_sum], [every])
        if activation == "linear":
            np.testing.assert_array_equal(layer(every.astype(np.float32)), every)


@pytest.mark.parametrize("axes", [(1, 2, 0), (2, 0, 1), (1, 0, 2)])
def test_transposition(axes):
    array = codes_of(np.random.default_rng(6), 3, 5, 7, 4)
    assert_equal_codes(IntegerTranspose(grid=GRID, axes=axes), [GRID], [array])


def test_slices():
    array = codes_of(np.random.default_rng(7), 3, 9, 8, 7)
    part = IntegerSlice(grid=GRID, begin=(1, 0, 2), end=(7, 8, 5), step=(1, 1, 1))
    assert_equal_codes(part, [GRID], [array])
    np.testing.assert_array_equal(part(array.astype(np.float32)), array[:, 1:7, :, 2:5])
    # XNNPACK takes no steps.
    steps = IntegerSlice(grid=GRID, begin=(0, 1, 0), end=(9, 8, 7), step=(2, 1, 3))
    assert_equal_codes(steps, [GRID], [array], partitions=0)


@pytest.mark.parametrize(
    "places",
    [{}, {"half_pixel_centers": False}, {"align_corners": True, "half_pixel_centers": False}],
)
@pytest.mark.parametrize("size", [(12, 10), (24, 15), (4, 13), (1, 1)])
def test_bilinear_resizing(size, places):
    array = codes_of(np.random.default_rng(8), 3, 6, 5, 4)
    assert_equal_codes(IntegerResizeBilinear(grid=GRID, size=size, **places), [GRID], [array])


def test_bilinear_resizing_by_hand():
    layer = IntegerResizeBilinear(grid=GRID, size=(1, 4))
    pixels = tf.constant([[0, 100], [0, 2], [0, -2]], tf.float32, shape=(3, 1, 2, 1))
    # Places -1/4, 1/4, 3/4 and 5/4; 1/2 and -1/2 go up.
    assert layer(pixels).numpy().reshape(3, 4).tolist() == [[0, 25, 75, 100], [0, 1, 2, 2], [0, 0, -1, -2]]


@pytest.mark.parametrize("size", [(12, 10), (7, 13), (3, 2)])
def test_nearest_resizing(size):
    array = codes_of(np.random.default_rng(9), 3, 6, 5, 4)
    assert_equal_codes(IntegerResizeNearest(grid=GRID, size=size), [GRID], [array], partitions=0)
