"""How weights are stored: one, two or four codes in a byte.

A *storage* is what a user asks for, a *container* is the type of one layer's weight tensor:

    int8          every layer int8
    int4          what has at most 4 bits int4, or int2 where it has 2 bits and XNNPACK takes it
    int4_xnnpack  the same, but only where XNNPACK takes it; the other layers int8
    int4_micro    what has at most 4 bits int4 where TensorFlow Lite Micro takes it; the other layers int8

XNNPACK takes packed weights of FULLY_CONNECTED alone, with rows that fill whole bytes: an even number of
inputs for int4, a multiple of 4 for int2. A pointwise convolution of stride 1 is a FULLY_CONNECTED over the
last axis, and is written as one when its weights are packed.

TensorFlow Lite Micro takes int4 in convolutions, pointwise and depthwise ones too, in rows of any length, but
in FULLY_CONNECTED only with one scale for all weights, and int2 nowhere. So for it a pointwise convolution
stays a CONV_2D, and dense layers are int8.
"""

import math

from mmx_tf.choices import STORAGES

CONTAINERS = {"int8": (-127, 127), "int4": (-8, 7), "int2": (-2, 1)}
"""Smallest and largest weight code of each container."""

CODES_PER_BYTE = {"int8": 1, "int4": 2, "int2": 4}


def check_storage(weight_storage: str) -> None:
    """ValueError for a storage outside `STORAGES`."""
    if weight_storage not in STORAGES:
        raise ValueError(f"weight_storage is {weight_storage!r}; use one of {', '.join(STORAGES)}.")


def row_length(kernel_shape, *, strides=(1, 1), parted: bool = False) -> int | None:
    """Inputs of each product of a layer that is one matrix product per pixel; None for other layers.

    Args:
      kernel_shape: (inputs, outputs) of a dense layer or (height, width, inputs, outputs) of a convolution.
      strides: of the convolution.
      parted: whether it is a depthwise one, or one of several groups.
    """
    *window, inputs, _ = kernel_shape
    pointwise = not parted and math.prod(window) == 1 and tuple(strides) == (1, 1)
    return inputs if pointwise else None


def container_of(
    weight_storage: str, *, bits: int, row: int | None, dense: bool, packable: bool = True
) -> str:
    """The container of a layer's weights.

    Args:
      weight_storage: one of `STORAGES`.
      bits: of the weights.
      row: the layer's `row_length`.
      dense: whether it is a dense layer.
      packable: whether there are kernels that take its weights packed, which a TRANSPOSE_CONV has not.
    """
    if weight_storage == "int8" or bits > 4 or not packable:
        return "int8"
    if weight_storage == "int4_micro":
        return "int8" if dense else "int4"
    if bits == 2 and _fills_bytes(row, "int2"):
        return "int2"
    return "int4" if weight_storage == "int4" or _fills_bytes(row, "int4") else "int8"


def packed_as_matrix_product(weight_storage: str) -> bool:
    """Whether a pointwise convolution with packed weights is written as FULLY_CONNECTED, not as CONV_2D."""
    return weight_storage != "int4_micro"


def _fills_bytes(row, container) -> bool:
    return row is not None and row % CODES_PER_BYTE[container] == 0
