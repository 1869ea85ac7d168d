"""The bytes of a file: constants aligned, equal vectors once, everything read back as written."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from metadata_buffers import read_metadata

from mmx_tf.export.running.litert import run
from mmx_tf.export.writing.flatbuffer import CONSTANT_ALIGNMENT, GraphWriter, packed, quantization

Builtin, TensorType = schema.BuiltinOperator, schema.TensorType


def dense(channels=64, layers=3):
    """A chain of dense layers of `channels` weights each way, with per-channel grids."""
    rng, writer = np.random.default_rng(0), GraphWriter()
    grid = quantization([0.05], [3])
    tensor = first = writer.tensor(
        "image", (1, channels), TensorType.INT8, quantization=grid, dynamic_batch=True
    )
    for index in range(layers):
        weights = writer.tensor(
            f"weights{index}",
            (channels, channels),
            TensorType.INT8,
            data=rng.integers(-127, 128, channels * channels).astype(np.int8).tobytes(),
            quantization=quantization(rng.uniform(0.001, 0.002, channels), np.zeros(channels), axis=0),
        )
        bias = writer.tensor(
            f"bias{index}",
            (channels,),
            TensorType.INT32,
            data=rng.integers(-99, 99, channels).astype(np.int32).tobytes(),
            quantization=quantization(rng.uniform(0.001, 0.002, channels), np.zeros(channels)),
        )
        output = writer.tensor(
            f"layer{index}", (1, channels), TensorType.INT8, quantization=grid, dynamic_batch=True
        )
        options = schema.FullyConnectedOptionsT()
        writer.operator(
            Builtin.FULLY_CONNECTED, [tensor, weights, bias], [output], options=options, version=12
        )
        tensor = output
    return writer.finish({"image": first}, {"logits": tensor}, metadata={"odd": b"12345"})


def test_constants_are_aligned_in_the_file():
    data = dense(channels=21)
    model = schema.Model.GetRootAs(data, 0)
    offsets = []
    for index in range(model.BuffersLength()):
        buffer = model.Buffers(index)
        if buffer.DataLength():
            field = buffer._tab.Offset(4)
            offsets.append(buffer._tab.Vector(field))
    assert len(offsets) == 7  # three weights, three biases, the metadata
    assert [offset % CONSTANT_ALIGNMENT for offset in offsets] == [0] * 7


def test_equal_vectors_are_written_once():
    """Each layer more costs its own weights, biases and scales, but no zero points."""
    channels = 64
    layer = channels * channels + channels * 4 + 2 * channels * 4
    zero_points = 2 * channels * 8
    growth = len(dense(channels, 6)) - len(dense(channels, 5))
    assert layer < growth < layer + zero_points // 2


def test_what_was_written_is_read_back():
    data = dense(channels=21)
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    for tensor in model.subgraphs[0].tensors:
        if tensor.name.startswith((b"weights", b"bias")):
            np.testing.assert_array_equal(tensor.quantization.zeroPoint, np.zeros(21))
            assert len(set(tensor.quantization.scale)) == 21
    assert read_metadata(data) == {"odd": b"12345"}
    images = np.random.default_rng(1).integers(-128, 128, (5, 21)).astype(np.int8)
    logits = run(data, {"image": images})["layer2"]
    assert logits.shape == (5, 21) and len(np.unique(logits)) > 10


def test_int4_codes_are_packed_low_nibble_first():
    assert packed([1, -2, 7], bits=4) == bytes([0xE1, 0x07])
    with pytest.raises(ValueError, match="span -9..0; int4 holds -8..7"):
        packed([-9, 0], bits=4)
