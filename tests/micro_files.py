"""Files of one operator in every type, for TensorFlow Lite Micro: (bytes, arrays of two images)."""

import platform
import sys

import numpy as np
import pytest
from small_files import SAME, VALID, Net, options, random_codes, schema

from mmx_tf.export.reading.contents import tensor_bits
from mmx_tf.export.writing.flatbuffer import packed, quantization

interpreter_needed = pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"),
    reason="NO PACKAGE tflite-micro FOR THIS PLATFORM: its interpreter is not asked",
)
TensorType = schema.TensorType
NUMPY = {
    **{name: getattr(np, name.lower()) for name in ("INT8", "UINT8", "INT16", "UINT16", "INT32", "UINT32")},
    **{name: getattr(np, name.lower()) for name in ("INT64", "FLOAT16", "FLOAT32", "FLOAT64")},
    "BOOL": np.bool_,
}
QUANTIZED = ("INT8", "UINT8", "INT16", "INT32")
IMAGES = 2
_IMAGE = (4, 4, 3)
# Output scale and zero point of kinds that have one grid in each type.
_FIXED = {
    ("LOGISTIC", "INT8"): (1 / 256, -128), ("LOGISTIC", "INT16"): (1 / 32768, 0),
    ("SOFTMAX", "INT8"): (1 / 256, -128), ("SOFTMAX", "INT16"): (1 / 32768, 0),
}  # fmt: skip


class TypedNet(Net):
    """A `Net` whose activations have any type of the schema."""

    def activation(self, name, kind, shape, *, scale=0.1, zero_point=0):
        """A tensor without a free batch, quantized if its type is."""
        grid = quantization([scale], [zero_point]) if kind in QUANTIZED else None
        return self.writer.tensor(name, (1, *shape), getattr(TensorType, kind), quantization=grid)

    def source(self, name, kind, shape, **grid):
        """An input."""
        self.inputs[name] = self.activation(name, kind, shape, **grid)
        return self.inputs[name]


def operator(kind, sources, result, fields=None, constants=(), *, scales=()):
    """A file of one operator on inputs of `sources` [(type, shape)], and their `scales`, 0.1 if not given."""
    net, (output_type, output_shape) = TypedNet(3), result
    indices = [
        net.source(f"x{place}", source, shape, scale=dict(enumerate(scales)).get(place, 0.1))
        for place, (source, shape) in enumerate(sources)
    ]
    indices += [net.constant(f"c{place}", np.array(c), TensorType.INT32) for place, c in enumerate(constants)]
    scale, zero_point = _FIXED.get((kind, output_type), (0.1, 0))
    y = net.activation("y", output_type, output_shape, scale=scale, zero_point=zero_point)
    data = net.file_of(kind, indices, y, options=fields)
    return data, [np.ones((IMAGES, *shape), NUMPY[source]) for source, shape in sources]


def _argmax():
    fields = schema.ArgMaxOptionsT()
    fields.outputType = TensorType.INT32
    return fields


def _pool():
    return options("Pool2D", padding=VALID, strideH=2, strideW=2, filterHeight=2, filterWidth=2)


def _same(kind, count=1, shape=_IMAGE, output=None, fields=None, constants=()):
    return lambda t: operator(kind, [(t, shape)] * count, (t, output or shape), fields, constants)


PADDINGS = [[0, 0], [1, 1], [1, 2], [0, 0]]
OF_ONE_TYPE = {
    "ADD": _same("ADD", 2, fields=options("Add")),
    "SUB": _same("SUB", 2, fields=options("Sub")),
    "MUL": _same("MUL", 2, fields=options("Mul")),
    "MEAN": _same("MEAN", output=(3,), fields=options("Reducer"), constants=[[1, 2]]),
    "PAD": _same("PAD", output=(6, 7, 3), fields=options("Pad"), constants=[PADDINGS]),
    "MAX_POOL_2D": _same("MAX_POOL_2D", output=(2, 2, 3), fields=_pool()),
    "AVERAGE_POOL_2D": _same("AVERAGE_POOL_2D", output=(2, 2, 3), fields=_pool()),
    "STRIDED_SLICE": _same(
        "STRIDED_SLICE", output=(2, 3, 3), fields=options("StridedSlice", beginMask=9, endMask=9),
        constants=[[0, 1, 1, 0], [0, 3, 4, 0], [1, 1, 1, 1]],
    ),
    "RESIZE_BILINEAR": _same(
        "RESIZE_BILINEAR", output=(8, 6, 3), fields=options("ResizeBilinear", halfPixelCenters=True),
        constants=[[8, 6]],
    ),
    "RESIZE_NEAREST_NEIGHBOR": _same(
        "RESIZE_NEAREST_NEIGHBOR", output=(8, 6, 3),
        fields=options("ResizeNearestNeighbor", halfPixelCenters=True), constants=[[8, 6]],
    ),
    "TRANSPOSE": _same(
        "TRANSPOSE", output=(4, 3, 4), fields=options("Transpose"), constants=[[0, 2, 3, 1]]
    ),
    "LOGISTIC": _same("LOGISTIC"),
    "SOFTMAX": _same("SOFTMAX", shape=(10,), fields=options("Softmax", beta=1.0)),
    "ARG_MAX": lambda t: operator("ARG_MAX", [(t, (10,))], ("INT32", ()), _argmax(), [[1]]),
    "CONCATENATION": _same("CONCATENATION", 2, output=(4, 4, 6), fields=options("Concatenation", axis=3)),
    "RELU": _same("RELU"),
    "RELU6": _same("RELU6"),
    "HARD_SWISH": _same("HARD_SWISH", fields=options("HardSwish")),
}  # fmt: skip
"""kind -> (type of inputs and output -> file)."""


def converting(kind, source, result):
    """QUANTIZE or DEQUANTIZE from one type to another."""
    fields = options(kind.capitalize())
    return operator(kind, [(source, _IMAGE)], (result, _IMAGE), fields)


WINDOW = {"padding": SAME, "strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
# kind -> (weights, axis of their channels, input, output, options)
WEIGHTED = {
    "CONV_2D": ((5, 3, 3, 3), 0, (6, 5, 3), (6, 5, 5), ("Conv2D", WINDOW)),
    "DEPTHWISE_CONV_2D": (
        (1, 3, 3, 7), 3, (6, 5, 7), (6, 5, 7), ("DepthwiseConv2D", WINDOW | {"depthMultiplier": 1}),
    ),
    "FULLY_CONNECTED": ((5, 7), 0, (7,), (5,), ("FullyConnected", {})),
}  # fmt: skip


def weighted(kind, source="INT8", weights="INT8", *, per_channel=True, bias="given", layout=None, seed=3):
    """A layer of random codes; `bias`: "given", "none" (two inputs) or "left out" (the third is -1)."""
    shape, axis, source_shape, output_shape, (options_name, fields) = layout or WEIGHTED[kind]
    net, channels = TypedNet(seed), shape[axis]
    x = net.source("x", source, source_shape)
    scales = net.rng.uniform(0.005, 0.05, channels if per_channel else 1).astype(np.float32)
    grid = None if weights.startswith("FLOAT") else quantization(scales, np.zeros(len(scales)), axis=axis)
    bits = tensor_bits(weights)
    if weights in ("INT8", "INT4", "INT2"):
        high = 2 ** (bits - 1) - 1
        codes = net.rng.integers(-high, high + 1, shape)
        data = codes.astype(np.int8).tobytes() if bits == 8 else packed(codes, bits=bits)
    else:
        data = bytes(int(np.prod(shape)) * bits // 8)
    inputs = [x, net.writer.tensor("w", shape, getattr(TensorType, weights), quantization=grid, data=data)]
    if bias == "given":
        values = net.rng.integers(-300, 300, channels)
        inputs.append(net.constant("b", values, TensorType.INT32, scales=np.float32(0.1) * scales))
    elif bias == "left out":
        inputs.append(-1)
    y = net.activation("y", source, output_shape, scale=net.scale(0.2, 2), zero_point=3)
    data = net.file_of(kind, inputs, y, options=options(options_name, **fields))
    if source == "INT8":
        return data, [random_codes(net.rng, (IMAGES, *source_shape))]
    return data, [np.ones((IMAGES, *source_shape), NUMPY[source])]
