"""Reading a .tflite: all of it where it is sound, one line of error where it is not."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tflite_samples import bits_document, model_of, sample, written

from mmx_tf.export.comparing.cut import cut, expose
from mmx_tf.export.comparing.unpacked import unpacked
from mmx_tf.export.reading.constants import values_of
from mmx_tf.export.reading.contents import TfliteFileError, tensor_bits
from mmx_tf.export.reading.summary import summary
from mmx_tf.export.reading.tflite_file import parse, read
from mmx_tf.export.running import litert

SAMPLE = sample(bits_document())


def changed(change):
    """The sample file after `change(model)`."""
    model = model_of(SAMPLE)
    change(model)
    return written(model)


def test_contents():
    file = parse(SAMPLE)
    kinds = [operator.kind for operator in file.operators]
    assert kinds == ["QUANTIZE", "CONV_2D", "PAD", "DEPTHWISE_CONV_2D", "MEAN", "FULLY_CONNECTED"]
    assert [operator.version for operator in file.operators] == [2, 3, 2, 7, 1, 4]
    assert file.data == SAMPLE and file.description == "mmx_tf" and file.subgraphs == 1
    assert [file.tensors[index].name for index in (*file.inputs, *file.outputs)] == ["image", "logits"]
    (signature,) = file.signatures
    assert signature == ("serving_default", {"image": file.inputs[0]}, {"scores": file.outputs[0]})
    weights = file.tensors[file.operators[3].inputs[1]]
    assert (weights.type, weights.shape, weights.data.size) == ("INT4", (1, 3, 3, 4), 18)
    assert weights.scales.size == 4 and weights.zero_points.tolist() == [0, 0, 0, 0]
    image = file.tensors[file.inputs[0]]
    assert (image.type, image.scale, image.zero_point) == ("UINT8", float(np.float32(0.1)), 128)
    assert image.data is None and image.scales.size == image.zero_points.size == 1
    assert list(file.metadata) == ["mmx_tf"] and file.metadata["mmx_tf"].startswith(b'{"schema": 1')


def test_bits_of_types():
    assert [tensor_bits(kind) for kind in ("INT4", "INT8", "FLOAT32", "STRING")] == [4, 8, 32, None]


@pytest.mark.parametrize("padding", [0, 1])
def test_every_truncation_is_an_error(padding):
    # One letter more moves what lies at the end of the file.
    data = sample(bits_document(), input_name="image" + padding * "s")
    parse(data)
    for length in range(len(data)):
        with pytest.raises(TfliteFileError, match=r"empty|identifier|damaged|truncated"):
            parse(data[:length])


def test_a_name_that_ends_outside_the_file_is_an_error():
    name = b"\x05\0\0\0codes\0"
    assert SAMPLE.count(name) == 1
    with pytest.raises(TfliteFileError, match="damaged"):
        parse(SAMPLE.replace(name, b"\xff\xff\0" + name[3:]))


def test_operator_codes_of_older_writers():
    """They know only the field of 8 bits."""

    def older(model):
        for code in model.operatorCodes:
            code.builtinCode = 0

    kinds = [operator.kind for operator in parse(SAMPLE).operators]
    assert [operator.kind for operator in parse(changed(older)).operators] == kinds


@given(st.lists(st.tuples(st.integers(0, len(SAMPLE) - 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_a_damaged_file_is_summed_up_or_refused(changes):
    data = bytearray(SAMPLE)
    for position, value in changes:
        data[position] = value
    try:
        found = summary(bytes(data), delegation=False)
    except TfliteFileError as error:
        assert "\n" not in str(error)
    else:
        assert found.file_bytes.total == len(SAMPLE)


@given(st.binary(max_size=2000))
def test_random_bytes_with_the_identifier_are_refused(noise):
    with pytest.raises(TfliteFileError):
        parse(noise[:4].ljust(4, b"\x08") + b"TFL3" + noise[4:])


def _no_subgraph(model):
    model.subgraphs = []


def _no_such_operator_code(model):
    model.subgraphs[0].operators[1].opcodeIndex = 17


def _no_such_tensor(model):
    model.subgraphs[0].operators[2].outputs = np.array([999], np.int32)


def _no_such_buffer(model):
    model.subgraphs[0].tensors[4].buffer = 123


def _no_such_output(model):
    model.subgraphs[0].outputs = np.array([-1], np.int32)


def _signature_of_no_subgraph(model):
    model.signatureDefs[0].subgraphIndex = 1


def _metadata_of_no_buffer(model):
    model.metadata[0].buffer = 99


def _too_few_weights(model):
    tensor = next(tensor for tensor in model.subgraphs[0].tensors if list(tensor.shape) == [4, 3, 3, 3])
    tensor.shape = np.array([4, 3, 3, 5], np.int32)


def _negative_shape(model):
    model.subgraphs[0].tensors[0].shape = np.array([1, -8, 8, 3], np.int32)


def _zero_points_of_other_channels(model):
    tensor = next(tensor for tensor in model.subgraphs[0].tensors if list(tensor.shape) == [4, 3, 3, 3])
    tensor.quantization.zeroPoint = np.zeros(3, np.int64)


def _data_behind_the_end(model):
    model.buffers[2].data, model.buffers[2].offset, model.buffers[2].size = None, 2000, 10**6


def _later_schema(model):
    model.version = 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_no_subgraph, "no subgraph"),
        (_no_such_operator_code, "operator 1 refers to operator code 17, but the file has 6"),
        (_no_such_tensor, "operator 2 refers to tensor 999"),
        (_no_such_buffer, "tensor 4 refers to buffer 123"),
        (_no_such_output, "the subgraph refers to tensor -1"),
        (_signature_of_no_subgraph, "a signature refers to subgraph 1"),
        (_metadata_of_no_buffer, "the metadata refers to buffer 99"),
        (_too_few_weights, r"INT8 \(4, 3, 3, 5\), needs 180 bytes, but has 108"),
        (_negative_shape, r"tensor 0 has shape \(1, -8, 8, 3\)"),
        (_zero_points_of_other_channels, "has 4 scales and 3 zero points"),
        (_data_behind_the_end, "buffer 2 lies outside the file"),
        (_later_schema, "schema version 4"),
    ],
)
def test_what_does_not_fit_together_is_named(change, message):
    with pytest.raises(TfliteFileError, match=message):
        parse(changed(change))


def weights_behind_the_flatbuffer():
    """Files of more than 2 GB keep their weights there."""

    def move(model):
        model.buffers[1].data, model.buffers[1].offset, model.buffers[1].size = None, 1, 1

    values = model_of(SAMPLE).buffers[1].data
    body = changed(move)
    offset = -(-len(body) // 16) * 16

    def place(model):
        model.buffers[1].data, model.buffers[1].offset, model.buffers[1].size = None, offset, values.size

    data = changed(place)
    assert len(data) == len(body)
    return data.ljust(offset, b"\0") + values.tobytes()


def test_data_behind_the_flatbuffer_is_read():
    constants = [
        [tensor.data.tobytes() for tensor in parse(data).tensors if tensor.data is not None]
        for data in (SAMPLE, weights_behind_the_flatbuffer())
    ]
    assert len(constants[0]) == 8 and constants[1] == constants[0]


@pytest.mark.parametrize("change", [lambda data: cut(data).data, expose, unpacked])
def test_a_file_is_changed_wherever_its_data_lie(change):
    data = change(weights_behind_the_flatbuffer())
    assert data == change(SAMPLE)
    litert.Runner(data, kernels="reference" if change is unpacked else "builtin")


@pytest.mark.parametrize("change", [cut, expose, unpacked])
def test_what_changes_a_file_reads_it_within_bounds(change):
    with pytest.raises(TfliteFileError, match="damaged or truncated"):
        change(SAMPLE[:-100])
    with pytest.raises(TfliteFileError, match="operator 2 refers to tensor 999"):
        change(changed(_no_such_tensor))


def test_constants_are_arrays():
    """Two's complement, the first of two codes in the lower half of a byte."""
    tensors = {tensor.name: tensor for tensor in parse(SAMPLE).tensors}
    assert values_of(tensors["paddings"]).tolist() == [[0, 0], [1, 1], [1, 1], [0, 0]]
    assert values_of(tensors["image"]) is None
    stored = next(tensor for tensor in parse(SAMPLE).tensors if tensor.type == "INT4")
    packed = dataclasses.replace(stored, shape=(1, 3), data=np.array([0x7F, 0x08], np.uint8))
    values = values_of(packed)
    assert values.dtype == np.int8 and values.tolist() == [[-1, 7, -8]]
    with pytest.raises(ValueError, match=r"shape \(1, 5\) needs 5 values; the file holds 4"):
        values_of(dataclasses.replace(packed, shape=(1, 5)))
    with pytest.raises(ValueError, match="is STRING; known types: FLOAT32"):
        values_of(dataclasses.replace(packed, type="STRING"))


def test_the_message_names_the_file(tmp_path):
    cases = {
        "missing.tflite": (None, "no such file"),
        "empty.tflite": (b"", "the file is empty"),
        "photo.tflite": (b"\x89PNG\r\n\x1a\n" + bytes(100), "not a .tflite file"),
        "notes.tflite": (b"hello", "not a .tflite file"),
        "cut.tflite": (SAMPLE[: len(SAMPLE) // 2], "damaged or truncated"),
    }
    for name, (content, message) in cases.items():
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(TfliteFileError) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}: ") and message in str(caught.value)
    with pytest.raises(TfliteFileError, match="is a directory"):
        read(tmp_path)
    with pytest.raises(TfliteFileError, match="null"):
        read("a\0b.tflite")
