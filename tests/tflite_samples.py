"""Small .tflite files that the tests share, written operator by operator."""

import json

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from mmx_tf.export.writing.flatbuffer import GraphWriter, packed, quantization

Builtin, TensorType = schema.BuiltinOperator, schema.TensorType
BITS = {"conv": (8, 8), "depthwise": (4, 4), "logits": (8, 8)}


def bits_document(bits=BITS, **more):
    """The metadata of `sample`, as a dict."""
    layers = [
        {"name": name, "kind": "conv", "activation_bits": activation, "weight_bits": weight}
        for name, (activation, weight) in bits.items()
    ]
    return {"schema": 1, "layers": layers, **more}


def sample(metadata=None, *, input_name="image"):
    """uint8 image 8x8x3, convolution, padding, depthwise convolution with int4 weights, mean, 10 logits.

    metadata: the content of the buffer "mmx_tf", None for a file without one; dicts are written as JSON.
    """
    rng, writer = np.random.default_rng(3), GraphWriter()

    def codes(name, shape, scale, zero_point, dtype=TensorType.INT8):
        return writer.tensor(name, shape, dtype, quantization=quantization([scale], [zero_point]))

    def constant(name, values, dtype, data, scales=None, axis=None):
        grid = None if scales is None else quantization(scales, np.zeros(len(scales)), axis=axis)
        return writer.tensor(name, values.shape, dtype, data=data, quantization=grid)

    def weighted(builtin, source, output, shape, axis, options, *, int4=False, version=3):
        channels = shape[axis]
        values = rng.integers(-7, 8, shape).astype(np.int8)
        scales = rng.uniform(0.01, 0.02, channels if builtin != Builtin.FULLY_CONNECTED else 1)
        kind, data = (
            (TensorType.INT4, packed(values, bits=4)) if int4 else (TensorType.INT8, values.tobytes())
        )
        weights = constant("w", values, kind, data, scales, axis)
        bias_codes = np.zeros(channels, np.int32)
        bias = constant("b", bias_codes, TensorType.INT32, bias_codes.tobytes(), scales / 10)
        writer.operator(builtin, [source, weights, bias], [output], options=options, version=version)
        return output

    def window(options, stride):
        options.strideH = options.strideW = stride
        options.padding = schema.Padding.SAME if stride == 2 else schema.Padding.VALID
        return options

    def integers(name, values):
        values = np.array(values, np.int32)
        return constant(name, values, TensorType.INT32, values.tobytes())

    image = codes(input_name, (1, 8, 8, 3), 0.1, 128, TensorType.UINT8)
    x = codes("codes", (1, 8, 8, 3), 0.1, 0)
    writer.operator(Builtin.QUANTIZE, [image], [x], options=schema.QuantizeOptionsT(), version=2)
    options = window(schema.Conv2DOptionsT(), 2)
    x = weighted(Builtin.CONV_2D, x, codes("conv", (1, 4, 4, 4), 0.125, 112), (4, 3, 3, 3), 0, options)
    padded = codes("pad", (1, 6, 6, 4), 0.125, 112)
    paddings = integers("paddings", [[0, 0], [1, 1], [1, 1], [0, 0]])
    writer.operator(Builtin.PAD, [x, paddings], [padded], options=schema.PadOptionsT(), version=2)
    options = window(schema.DepthwiseConv2DOptionsT(), 1)
    options.depthMultiplier = 1
    x = codes("depthwise", (1, 4, 4, 4), 0.25, -5)
    x = weighted(Builtin.DEPTHWISE_CONV_2D, padded, x, (1, 3, 3, 4), 3, options, int4=True, version=7)
    mean = codes("mean", (1, 4), 0.25, -5)
    writer.operator(Builtin.MEAN, [x, integers("axes", [1, 2])], [mean], options=schema.ReducerOptionsT())
    options = schema.FullyConnectedOptionsT()
    logits = codes("logits", (1, 10), 0.5, 1)
    weighted(Builtin.FULLY_CONNECTED, mean, logits, (10, 4), 0, options, version=4)
    buffers = {}
    if metadata is not None:
        is_text = isinstance(metadata, bytes)
        buffers = {"mmx_tf": metadata if is_text else json.dumps(metadata).encode()}
    return writer.finish({input_name: image}, {"scores": logits}, metadata=buffers)


def model_of(data):
    """The object form of a file, to change it."""
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))


def written(model):
    """The bytes of an object form."""
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())
