"""What each layer on images becomes while a network is folded: its operators, and their codes beside float64.

Layers are handled one by one, on random codes, without a network around them.
"""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from mmx_tf.folding.registry import folded
from mmx_tf.folding.values import Codes, FoldError, Pending, materialize
from mmx_tf.layers.grid import Grid
from mmx_tf.layers.image_layers import BilinearResize, NearestResize, ScaledAdd, Slice
from mmx_tf.network import graph

layers = keras.layers
FIRST, SECOND, TARGET = Grid(0.05, -20), Grid(0.11, 9), Grid(0.08, 3)
IMAGE = (6, 5, 4)


@dataclasses.dataclass
class Handled:
    """One handled layer: real inputs and outputs, names of the integer layers in order, their grids."""

    value: Codes | Pending
    inputs: list
    outputs: np.ndarray
    operators: list
    grids: set


def handled(layer, grids, *, shape=IMAGE, nonnegative=False, output_grid=TARGET, waiting=False):
    """Handles a layer of inputs on these grids, and computes it for random codes of two images.

    waiting: give it an operator that has no grid yet, and is put on the first of `grids` afterwards.
    """
    random = np.random.default_rng(len(shape))
    inputs = [keras.Input(shape, name=f"codes_{place}") for place in range(len(grids))]
    values = [Codes(tensor, grid, nonnegative) for tensor, grid in zip(inputs, grids, strict=True)]
    if waiting:
        values = [Pending(lambda grid, activation: inputs[0], source=None)]
    value = folded(layer, values if len(grids) > 1 else values[0])
    if waiting:
        value = dataclasses.replace(values[0], deferred=value.deferred)
        output_grid = grids[0]
    if isinstance(value, Pending):
        outputs, grid = materialize(value, output_grid), output_grid
    else:
        outputs, grid = value.tensor, value.grid
    codes = [random.integers(-128, 128, (2, *shape)).astype(np.float32) for _ in grids]
    network = keras.Model(inputs, outputs)
    made = [layer for layer in network.layers if not isinstance(layer, layers.InputLayer)]
    real = [grid_of.dequantize(part) for grid_of, part in zip(grids, codes, strict=True)]
    found = grid.dequantize(network(codes if len(codes) > 1 else codes[0]))
    grids = {layer.output_grid for layer in made}
    return Handled(value, real, found, [type(layer).__name__ for layer in made], grids)


def assert_nearest(found, expected, grid, *, steps=0.51):
    """Outputs are the codes nearest to what float64 gives, but for ties and for the file's fixed point."""
    bounds = np.float64(grid.dequantize([-128, 127]))
    np.testing.assert_allclose(found, np.clip(expected, *bounds), atol=steps * grid.scale, rtol=0)
    assert np.ptp(found) > 20 * grid.scale


def test_a_difference_is_of_the_first_less_the_second():
    found = handled(layers.Subtract(name="less"), [FIRST, SECOND], nonnegative=True)
    first, second = np.float64(found.inputs)
    assert_nearest(found.outputs, first - second, TARGET)
    assert found.operators == ["IntegerSub"]
    # Of two numbers above zero it may be below.
    assert not found.value.nonnegative and found.value.fuses


@pytest.mark.parametrize("nonnegative", [True, False])
@pytest.mark.parametrize("factor", [0.5, 1 / 3])
def test_a_scaled_sum_is_rounded_once(factor, nonnegative):
    # Sums below zero saturate on the output's grid, and may not do so before.
    target, layer = Grid(0.04, -100), ScaledAdd(factor=factor, name="mean")
    found = handled(layer, [FIRST, SECOND], nonnegative=nonnegative, output_grid=target)
    assert_nearest(found.outputs, factor * np.float64(found.inputs).sum(0), target)
    assert found.operators == ["IntegerAdd", "IntegerScale"]
    assert found.value.nonnegative == nonnegative and found.value.fuses


@pytest.mark.parametrize(
    "layer",
    [layers.Subtract(name="less"), ScaledAdd(factor=0.5, name="mean")],
    ids=["difference", "scaled sum"],
)
def test_a_relu_behind_is_fused(layer):
    value = folded(layer, [Codes(keras.Input(IMAGE), FIRST, False), Codes(keras.Input(IMAGE), SECOND, False)])
    value.activation = "relu6"
    assert materialize(value, TARGET).node.layer.activation == "relu6"


@pytest.mark.parametrize(
    ("layer", "expected", "operators"),
    [
        (layers.Maximum(name="larger"), np.maximum, ["IntegerSub", "IntegerAdd"]),
        (layers.Minimum(name="smaller"), np.minimum, ["IntegerSub", "IntegerSub"]),
    ],
    ids=["maximum", "minimum"],
)
def test_the_larger_and_the_smaller_keep_the_grid(layer, expected, operators):
    found = handled(layer, [FIRST, FIRST])
    # Differences of float32 numbers that dequantize gives.
    assert_nearest(found.outputs, expected(*found.inputs), FIRST, steps=1e-4)
    assert found.value.grid == FIRST and found.operators == operators


@pytest.mark.parametrize("kind", [layers.Maximum, layers.Minimum])
def test_two_grids_are_refused_by_the_layers_name(kind):
    values = [
        Codes(keras.Input(IMAGE, name=name), grid, False) for name, grid in (("a", FIRST), ("b", SECOND))
    ]
    layer = kind(name="extreme")
    with pytest.raises(FoldError, match="'extreme'.*inputs 'a', 'b' have different grids"):
        folded(layer, values)
    for signs in ((True, True), (True, False), (False, True)):
        same = [
            Codes(value.tensor, FIRST, nonnegative) for value, nonnegative in zip(values, signs, strict=True)
        ]
        assert folded(kind(name="extreme"), same).nonnegative == all(signs)


MOVED = {
    "transposed": (layers.Permute((3, 1, 2), name="moved"), ["IntegerTranspose"]),
    "part": (Slice(begin=(1, 0, 2), end=(5, 5, 4), step=(1, 1, 1), name="moved"), ["IntegerSlice"]),
    "channels by steps": (
        Slice(begin=(0, 0, 1), end=(6, 5, 4), step=(1, 1, 2), name="moved"), ["IntegerSlice"],
    ),
    "rows by steps": (Slice(begin=(0, 0, 0), end=(6, 5, 4), step=(2, 1, 1), name="moved"), ["IntegerAffine"]),
    "columns by steps": (
        Slice(begin=(0, 0, 0), end=(6, 5, 4), step=(1, 3, 1), name="moved"), ["IntegerAffine"],
    ),
    "a part by steps": (
        Slice(begin=(1, 0, 0), end=(6, 4, 4), step=(2, 3, 1), name="moved"),
        ["IntegerSlice", "IntegerAffine"],
    ),
    "all by steps": (
        Slice(begin=(0, 0, 0), end=(6, 5, 4), step=(2, 2, 3), name="moved"),
        ["IntegerSlice", "IntegerAffine"],
    ),
    "twice": (
        NearestResize(size=(12, 10), name="moved"),
        ["IntegerConcatenate", "IntegerReshape", "IntegerConcatenate", "IntegerReshape"],
    ),
    "wider": (NearestResize(size=(6, 15), name="moved"), ["IntegerConcatenate", "IntegerReshape"]),
    "higher": (
        NearestResize(size=(18, 5), name="moved"), ["IntegerReshape", "IntegerConcatenate", "IntegerReshape"],
    ),
    # 8 = 4 * 2 and 7 = 4 * 1 + 3 copies of at most five tensors.
    "eight times wider": (
        NearestResize(size=(6, 40), name="moved"), ["IntegerConcatenate"] * 2 + ["IntegerReshape"],
    ),
    "seven times wider": (
        NearestResize(size=(6, 35), name="moved"), ["IntegerConcatenate"] * 2 + ["IntegerReshape"],
    ),
    "by no whole factor": (NearestResize(size=(9, 10), name="moved"), ["IntegerResizeNearest"]),
    "smaller": (NearestResize(size=(3, 5), name="moved"), ["IntegerResizeNearest"]),
}  # fmt: skip


@pytest.mark.parametrize("waiting", [False, True], ids=["codes", "pending"])
@pytest.mark.parametrize(("layer", "operators"), MOVED.values(), ids=MOVED)
def test_codes_are_moved_as_the_layer_moves_numbers(layer, operators, waiting):
    found = handled(layer, [FIRST], nonnegative=True, waiting=waiting)
    np.testing.assert_array_equal(found.outputs, layer(found.inputs[0]))
    assert found.operators == operators and found.grids == {FIRST}
    if not waiting:
        assert (found.value.grid, found.value.nonnegative) == (FIRST, True)


@pytest.mark.parametrize("case", ["eight times wider", "seven times wider", "twice"])
def test_no_more_tensors_are_joined_than_xnnpack_takes(case):
    source = keras.Input(IMAGE)
    value = folded(MOVED[case][0], Codes(source, FIRST, False))
    joined = [
        len(node.call_args[0])
        for node in graph.nodes(keras.Model(source, value.tensor))
        if type(node.layer).__name__ == "IntegerConcatenate"
    ]
    assert joined and max(joined) <= 5


@pytest.mark.parametrize(
    "places", [{}, {"half_pixel_centers": False}, {"half_pixel_centers": False, "align_corners": True}]
)
def test_bilinear_resizing_keeps_grid_and_places(places):
    layer = BilinearResize(size=(11, 8), **places, name="resized")
    found = handled(layer, [FIRST], nonnegative=True)
    # Weights have 11 fractional bits.
    assert_nearest(found.outputs, layer(found.inputs[0]).numpy(), FIRST, steps=0.7)
    assert np.abs(found.outputs - layer(found.inputs[0])).mean() < 0.3 * FIRST.scale
    assert (found.value.grid, found.value.nonnegative) == (FIRST, True)
    assert found.operators == ["IntegerResizeBilinear"] and found.grids == {FIRST}


@pytest.mark.parametrize("kind", ["Subtract", "ScaledAdd", "BilinearResize"])
def test_inputs_without_a_grid_are_refused(kind):
    made = {"Subtract": layers.Subtract, "ScaledAdd": lambda **name: ScaledAdd(factor=1.0, **name)}
    layer = made.get(kind, lambda **name: BilinearResize(size=(2, 2), **name))(name="early")
    pending = Pending(lambda grid, activation: tf.zeros(()), source=None)
    with pytest.raises(FoldError, match="'early'.*its input has no grid"):
        folded(layer, pending if kind == "BilinearResize" else [pending, pending])
