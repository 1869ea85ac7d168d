"""One function per kind of operator that makes its step; what the kernels in C lack is refused here."""

from dataclasses import replace

import numpy as np

from mmx_tf.export.c_source.errors import UnsupportedError
from mmx_tf.export.c_source.program import Step
from mmx_tf.export.reference import moving, resizing
from mmx_tf.export.reference.kernels import taken_by_xnnpack
from mmx_tf.export.reference.windows import Window

ROUNDED = ("ADD", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "MUL", "SUB", "TRANSPOSE_CONV")
"""Operators that compute more than a look-up and round."""
WITH_TABLES = ("conv", "depthwise", "binary", "mean", "max_pool", "average_pool")
"""Steps that look up their result in a table."""


def refused(operator, reason: str) -> UnsupportedError:
    """The error for an operator, which it names."""
    return UnsupportedError(f"operator {operator.index} ({operator.kind}) {reason}.")


def check_rounding(operator) -> None:
    """Refuses (UnsupportedError) an operator that XNNPACK leaves to kernels that round otherwise."""
    if operator.kind in ROUNDED and not taken_by_xnnpack(operator):
        raise refused(operator, "is not taken by XNNPACK, whose rounding the C source has")


def _window(lowering, operator, kind):
    source = operator.inputs[0]
    front = lowering.views.before_pad(source.name)
    read = lowering.read(front)
    step = Step(kind, operator, [read], None, ())
    if front != source.name:
        pad = lowering.graph.operators[lowering.views.pad_of(source.name)]
        step.padding = tuple(int(amount) for amount in pad.inputs[1].constant[1:3, 0])
    if any(tensor is not None and tensor.constant is None for tensor in operator.inputs[1:3]):
        raise refused(operator, "has weights or a bias that are computed; they must be constants")
    return step


def _convolution(lowering, operator):
    step = _window(lowering, operator, "conv")
    step.details["window"] = Window.from_options(
        operator.inputs[0].shape[1:3], operator.inputs[1].shape[1:3], operator.options
    )
    return step


def _dense(lowering, operator):
    step = _window(lowering, operator, "conv")
    if operator.inputs[1].zero_points.any():
        raise refused(operator, "has weights with a zero point other than 0")
    step.details["window"] = None
    return step


def _depthwise(lowering, operator):
    step = _convolution(lowering, operator)
    step.kind = "depthwise"
    return step


def _transposed(lowering, operator):
    # Input, weights and bias in the places of a convolution.
    _, matrix, source, *bias = operator.inputs
    step = _window(lowering, replace(operator, inputs=(source, matrix, *bias)), "conv")
    size = tuple(operator.outputs[0].shape[1:3])
    step.details["window"] = Window.from_options(size, matrix.shape[1:3], operator.options)
    return step


def _bilinear(lowering, operator):
    return Step("bilinear", operator, [lowering.read(operator.inputs[0].name)], None, ())


def _binary(lowering, operator):
    reads = [lowering.read(tensor.name) for tensor in operator.inputs]
    return Step("binary", operator, reads, None, ())


def _pool(kind):
    def make(lowering, operator):
        step = Step(kind, operator, [lowering.read(operator.inputs[0].name)], None, ())
        options = operator.options
        step.details["window"] = Window.from_options(
            operator.inputs[0].shape[1:3], (options.filterHeight, options.filterWidth), options
        )
        return step

    return make


def _mean(lowering, operator):
    return Step("mean", operator, [lowering.read(operator.inputs[0].name)], None, ())


def _rows(kind):
    def make(lowering, operator):
        axis = operator.inputs[1].constant if kind == "argmax" else None
        rank = len(operator.inputs[0].shape)
        if axis is not None and int(axis.reshape(-1)[0]) % rank != rank - 1:
            raise refused(operator, "is not along the last axis")
        return Step(kind, operator, [lowering.read(operator.inputs[0].name)], None, ())

    return make


def _move(indices):
    """A step that copies: `indices` gives, of an array of places of the input, the one of the output."""

    def make(lowering, operator):
        read = lowering.read(operator.inputs[0].name)
        places = np.arange(read.stored.count).reshape(1, *read.shape)
        step = Step("move", operator, [read], None, ())
        step.details["places"] = [indices(operator, places)[0]]
        return step

    return make


def _pad_places(operator, places):
    return np.pad(places, operator.inputs[1].constant.tolist(), constant_values=-1)


def _slice_places(operator, places):
    inputs = [places, *(tensor.constant for tensor in operator.inputs[1:])]
    return moving.strided_slice(operator, inputs, "xnnpack")


def _transpose_places(operator, places):
    return moving.transpose(operator, [places, operator.inputs[1].constant], "xnnpack")


def _nearest_places(operator, places):
    return resizing.resize_nearest(operator, [places, operator.inputs[1].constant], "xnnpack")


def _concatenate(lowering, operator):
    reads = [lowering.read(tensor.name) for tensor in operator.inputs]
    step = Step("move", operator, reads, None, ())
    # Places of all inputs in a row; each part takes its own.
    moving.concatenate(operator, [np.zeros((1, *read.shape), np.int8) for read in reads], "xnnpack")
    parts = []
    for number, _ in enumerate(reads):
        arrays = [
            np.arange(other.stored.count).reshape(1, *other.shape)
            if i == number
            else np.full((1, *other.shape), -2)
            for i, other in enumerate(reads)
        ]
        parts.append(np.concatenate(arrays, axis=operator.options.axis)[0])
    step.details["places"] = parts
    return step


STEPS = {
    "ADD": _binary,
    "ARG_MAX": _rows("argmax"),
    "AVERAGE_POOL_2D": _pool("average_pool"),
    "CONCATENATION": _concatenate,
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _dense,
    "MAX_POOL_2D": _pool("max_pool"),
    "MEAN": _mean,
    "MUL": _binary,
    "PAD": _move(_pad_places),
    "RESIZE_BILINEAR": _bilinear,
    "RESIZE_NEAREST_NEIGHBOR": _move(_nearest_places),
    "SOFTMAX": _rows("softmax"),
    "STRIDED_SLICE": _move(_slice_places),
    "SUB": _binary,
    "TRANSPOSE": _move(_transpose_places),
    "TRANSPOSE_CONV": _transposed,
}
"""Kind of operator -> function (lowering, operator) that makes its step."""
