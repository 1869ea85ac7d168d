"""export.c_array: the same bytes again, as a compiler and as a reader of the text see them."""

import hashlib
import re
import subprocess
import sys

import compiled_array
import pytest
from ai_edge_litert import schema_py_generated as schema
from small_files import Net, options
from tflite_samples import bits_document, sample

from mmx_tf.export.c_array import MicroError, main, sources
from mmx_tf.export.reading.micro_operators import resolver_method
from mmx_tf.export.reading.tflite_file import parse
from mmx_tf.export.writing.flatbuffer import GraphWriter, quantization

SAMPLE = sample(bits_document())


def write(folder, data=SAMPLE, *arguments):
    path = folder / "model.tflite"
    path.write_bytes(data)
    assert main([str(path), f"--out={folder / 'out'}", *arguments]) == 0
    return folder / "out"


def test_the_text_holds_the_bytes(tmp_path):
    out = write(tmp_path)
    assert sorted(path.name for path in out.iterdir()) == ["model_data.cc", "model_data.h"]
    definition, header = ((out / f"model_data.{suffix}").read_text() for suffix in ("cc", "h"))
    (values,) = re.findall(
        r"^alignas\(16\) const unsigned char model_data\[model_data_length\] = \{([^}]*)\};$",
        definition,
        re.MULTILINE,
    )
    assert bytes(int(value, 16) for value in re.findall(r"0x[0-9a-f]{2}", values)) == SAMPLE
    assert f"constexpr unsigned int model_data_length = {len(SAMPLE)};" in header
    assert header.count("MODEL_DATA_H_") == 3
    for text in (definition, header):
        assert hashlib.sha256(SAMPLE).hexdigest() in text and text.isascii()
        assert max(map(len, text.splitlines())) <= 120


def test_the_header_tells_operators_and_grids():
    _, header = sources(parse(SAMPLE), source="model.tflite")
    comment = [line.removeprefix("//").strip() for line in header.splitlines() if line.startswith("//")]
    start = comment.index("tflite::MicroMutableOpResolver<6> resolver;")
    assert comment[start + 1 : start + 7] == [
        "resolver.AddConv2D();",
        "resolver.AddDepthwiseConv2D();",
        "resolver.AddFullyConnected();",
        "resolver.AddMean();",
        "resolver.AddPad();",
        "resolver.AddQuantize();",
    ]
    assert '"image": UINT8 [1, 8, 8, 3], scale 0.10000000149011612, zero point 128' in comment
    assert '"logits": INT8 [1, 10], scale 0.5, zero point 1' in comment


@compiled_array.needed
@pytest.mark.parametrize("standard", ["c++11", "c++17"])
def test_a_compiled_program_holds_the_bytes(tmp_path, standard):
    out = write(tmp_path, SAMPLE, "--name=digits")
    assert compiled_array.compiled_bytes(out, "digits", standard) == SAMPLE


@pytest.mark.parametrize(
    "name", ["7up", "model-data", "", "class", "a b", "_x", "a__b", "größe", "x\n", "../x"]
)
def test_a_name_must_be_an_identifier(tmp_path, capsys, name):
    path = tmp_path / "model.tflite"
    path.write_bytes(SAMPLE)
    assert main([str(path), f"--out={tmp_path / 'out'}", f"--name={name}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"--name={name!r} is no C identifier") and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_names_of_tensors_do_not_leave_the_comment():
    data = sample(input_name='image"\n#error */ \\')
    _, header = sources(parse(data))
    assert not any(line.startswith("#error") for line in header.splitlines())
    assert not any(line.endswith("\\") for line in header.splitlines())


def refused_file():
    """Five dense layers of INT4 weights, a scale for each output, and an operator that Micro lacks."""
    net = Net(3)
    x = net.input("x", (8,), scale=0.1)
    for index in range(5):
        weights, bias, _ = net.weights(
            f"dense {index}", (8, 8), axis=0, source_scale=0.1, bits=4, dtype=schema.TensorType.INT4
        )
        y = net.tensor(f"dense {index}", (8,), scale=0.1)
        x = net.operator("FULLY_CONNECTED", [x, weights, bias], y, options=options("FullyConnected"))
    x = net.operator("RELU6", [x], net.tensor("relu", (8,)))
    return net.file_of("BUCKETIZE", [x], net.tensor('a "b"\n', (8,)))


def test_what_tensorflow_lite_micro_refuses_is_named_and_nothing_is_written(tmp_path, capsys):
    path, out = tmp_path / "model.tflite", tmp_path / "out"
    path.write_bytes(refused_file())
    assert main([str(path), f"--out={out}"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"{path}: TensorFlow Lite Micro refuses FULLY_CONNECTED with INT4 weights of several scales: "
        '"dense 0/w", "dense 1/w", "dense 2/w" and 2 more; '
        'convert with weight_storage "int4_micro", or "int8".',
        f"{path}: TensorFlow Lite Micro refuses BUCKETIZE (it has no such operator): "
        "\"a 'b'\\n\"; build the network without it.",
    ]
    assert not out.exists()
    with pytest.raises(MicroError) as caught:
        sources(parse(path.read_bytes()))
    assert [refusal.kind for refusal in caught.value.refusals] == ["FULLY_CONNECTED"] * 5 + ["BUCKETIZE"]


def test_methods_of_the_resolver():
    assert [resolver_method(kind) for kind in ("MAX_POOL_2D", "PADV2", "ADD_N", "ARG_MAX", "BUCKETIZE")] == [
        *("AddMaxPool2D", "AddPadV2", "AddAddN", "AddArgMax"),
        None,
    ]
    kinds = {name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    methods = {kind: resolver_method(kind) for kind in kinds}
    # Every operator of the table is one of the schema.
    assert sum(method is not None for method in methods.values()) == 100


def test_errors_are_one_line_and_leave_the_old_files(tmp_path, capsys):
    out = write(tmp_path)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    grid = quantization([0.1], [0])
    writer = GraphWriter()
    x = writer.tensor("x", (1, 4), schema.TensorType.INT8, quantization=grid)
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(writer.finish({"x": x}, {"x": x})[:-40])
    file_in_the_way = tmp_path / "model.tflite"
    capsys.readouterr()
    for arguments, named in (
        ([damaged, f"--out={out}"], damaged),
        ([tmp_path / "missing.tflite", f"--out={out}"], tmp_path / "missing.tflite"),
        ([tmp_path, f"--out={out}"], tmp_path),
        ([file_in_the_way, f"--out={file_in_the_way}"], file_in_the_way),
        ([file_in_the_way, f"--out={file_in_the_way / 'sub'}"], file_in_the_way / "sub"),
    ):
        assert main(list(map(str, arguments))) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and error.startswith(f"{named}: ")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_command(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(SAMPLE)
    command = [sys.executable, "-m", "export.c_array", path, f"--out={tmp_path / 'a' / 'b'}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and f"{len(SAMPLE):,} bytes as model_data" in done.stdout
    assert (tmp_path / "a" / "b" / "model_data.cc").exists()
