"""The operators that resizing, slicing, moving and comparing layers become.

Where XNNPACK lacks an operator, others give the same codes without leaving it: pixels are repeated by joining
and reshaping, the larger of two is a difference and a sum, and every s-th pixel is a depthwise convolution
of one pixel. What stays outside: other resizings to the nearest pixel, and steps along channels.
"""

import numpy as np

from mmx_tf.folding.bias import AFFINE_CODE
from mmx_tf.folding.registry import folds
from mmx_tf.folding.values import Codes, FoldError, Pending, codes_of, name_of, on_same_grid
from mmx_tf.layers.grid import LOWEST, Grid
from mmx_tf.layers.integer.differences import IntegerScale, IntegerSub
from mmx_tf.layers.integer.layers import IntegerAdd
from mmx_tf.layers.integer.moving import (
    IntegerResizeNearest,
    IntegerSlice,
    IntegerTranspose,
)
from mmx_tf.layers.integer.shapes import IntegerConcatenate, IntegerReshape
from mmx_tf.layers.integer.weighted import IntegerAffine

JOINED_AT_ONCE = 5
"""Most tensors of a CONCATENATION that XNNPACK takes."""


@folds("ScaledAdd")
def _scaled_add(layer, values):
    """The sum on a grid that is coarser by the factor, whose codes are those of the scaled sum."""
    first, second = (codes_of(layer, value) for value in values)

    def emit(output_grid, activation):
        of_sum = Grid(output_grid.scale / layer.factor, output_grid.zero_point)
        add = IntegerAdd(input_grids=(first.grid, second.grid), output_grid=of_sum, name=f"{layer.name}_sum")
        scale = IntegerScale(
            factor=layer.factor,
            input_grid=of_sum,
            output_grid=output_grid,
            activation=activation,
            name=layer.name,
        )
        return scale(add([first.tensor, second.tensor]))

    return Pending(emit, layer, nonnegative=first.nonnegative and second.nonnegative)


@folds("Maximum", "Minimum")
def _extreme(layer, values):
    """max(a, b) = b + relu(a - b), min(a, b) = a - relu(a - b), on one grid without any rounding."""
    first, second = (codes_of(layer, value) for value in values)
    grid = first.grid
    if second.grid != grid:
        names = ", ".join(repr(name_of(value.tensor)) for value in (first, second))
        raise FoldError(layer, f"its inputs {names} have different grids.")
    of_excess = Grid(grid.scale, LOWEST)
    excess = IntegerSub(
        input_grids=(grid, grid), output_grid=of_excess, activation="relu", name=f"{layer.name}_excess"
    )([first.tensor, second.tensor])
    largest = type(layer).__name__ == "Maximum"
    kept, operator = (second, IntegerAdd) if largest else (first, IntegerSub)
    step = operator(input_grids=(grid, of_excess), output_grid=grid, name=layer.name)
    return Codes(step([kept.tensor, excess]), grid, first.nonnegative and second.nonnegative)


@folds("Permute")
def _permute(layer, value):
    axes = [axis - 1 for axis in layer.dims]
    return on_same_grid(value, lambda grid: IntegerTranspose(axes=axes, grid=grid, name=layer.name))


@folds("Slice")
def _slice(layer, value):
    def make(grid):
        return lambda codes: _sliced(layer, grid, codes)

    return on_same_grid(value, make)


def _sliced(layer, grid, codes):
    """The part from begin to end, and of its rows and columns every step-th."""
    by_pixel = len(layer.step) == 3 and max(layer.step[:2]) > 1
    strides, step = (layer.step[:2], (1, 1, layer.step[2])) if by_pixel else ((1, 1), layer.step)
    whole = [0] * len(layer.begin), list(codes.shape[1:]), [1] * len(layer.step)
    if not by_pixel or (list(layer.begin), list(layer.end), list(step)) != whole:
        name = f"{layer.name}_part" if by_pixel else layer.name
        codes = IntegerSlice(begin=layer.begin, end=layer.end, step=step, grid=grid, name=name)(codes)
    return subsampled(codes, strides, grid, name=layer.name) if by_pixel else codes


def subsampled(codes, strides, grid, *, name):
    """Every s-th row and column: the mean of windows of one pixel, which is the pixel."""
    channels = codes.shape[-1]
    pixels = IntegerAffine(
        input_grid=grid,
        output_grid=grid,
        weight_codes=np.full((1, 1, channels, 1), AFFINE_CODE),
        weight_scales=np.full(channels, 1 / AFFINE_CODE),
        bias_codes=np.zeros(channels),
        strides=strides,
        name=name,
    )
    return pixels(codes)


@folds("NearestResize")
def _nearest_resize(layer, value):
    def make(grid):
        return lambda codes: _nearest(layer, grid, codes)

    return on_same_grid(value, make)


def _nearest(layer, grid, codes):
    """Whole factors by joining a tensor with itself, which XNNPACK takes, others by the operator."""
    (rows, columns), channels = codes.shape[1:3], codes.shape[3]
    down, right = layer.size[0] // rows, layer.size[1] // columns
    if (rows * down, columns * right) != tuple(layer.size):
        return IntegerResizeNearest(size=layer.size, grid=grid, name=layer.name)(codes)
    # A pixel beside itself, then a row below itself.
    codes = _repeated(codes, right, grid, name=f"{layer.name}_columns")
    if down > 1:
        row = (rows, 1, columns * right * channels)
        codes = IntegerReshape(target_shape=row, grid=grid, name=f"{layer.name}_as_rows")(codes)
        codes = _repeated(codes, down, grid, name=f"{layer.name}_rows")
    return IntegerReshape(target_shape=(*layer.size, channels), grid=grid, name=layer.name)(codes)


def _repeated(codes, count, grid, *, name):
    """`count` copies of a tensor's channels behind each other."""
    made = {1: codes}

    def of(copies):
        if copies not in made:
            quarter, rest = divmod(copies, JOINED_AT_ONCE - 1)
            few = copies <= JOINED_AT_ONCE
            parts = [codes] * copies if few else [of(quarter)] * (JOINED_AT_ONCE - 1)
            parts += [of(rest)] if rest and not few else []
            join = IntegerConcatenate(axis=-1, grid=grid, name=f"{name}_{copies}")
            made[copies] = join(parts)
        return made[copies]

    return of(count)
