"""Whole networks as QONNX under qonnx's own executor, its bits and BOPs, and the command that writes it."""

import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
from c_source_test import gated_network
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import calibrated, small_network
from qonnx_models import FORMS, assert_exact, datatypes_of, kinds_of, needed
from small_files import Net, TensorType, options

import mmx_tf
from mmx_tf.export import inspect, reference
from mmx_tf.export.qonnx import UnsupportedError, qonnx_model
from mmx_tf.export.qonnx.command import main
from mmx_tf.export.qonnx.running import bops_of, compared
from mmx_tf.export.qonnx.stored import integer_bits, stored_as

pytestmark = pytest.mark.broad

NETWORKS = {"residual": small_network, "gated": gated_network}


@pytest.fixture(scope="module")
def files(digits):
    """The files of both networks, one with packed weights, and one with classes."""
    folded = {name: mmx_tf.fold(calibrated(build(), digits)) for name, build in NETWORKS.items()}
    made = {name: mmx_tf.convert(network) for name, network in folded.items()}
    packed = mmx_tf.fold(calibrated(small_network(), digits), weight_storage="int4")
    names = [f"digit {number}" for number in range(10)]
    classes = mmx_tf.convert(folded["residual"], output_type="class", labels=names)
    return made | {"int4": mmx_tf.convert(packed, weight_storage="int4"), "class": classes}


@pytest.fixture(scope="module")
def pixels(digits):
    """uint8 images, of which the integer input is made."""
    images = np.concatenate([images for images, _ in digits.evaluation(batch_size=90)])[:6]
    return np.rint(255 * (images - images.min()) / np.ptp(images)).astype(np.uint8)


def images_of(data, pixels):
    (image,) = reference.load(data).inputs
    assert image.type == "UINT8"
    return {image.name: pixels}


@needed
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", [*NETWORKS, "int4", "class"])
def test_every_tensor_is_that_of_the_file(files, pixels, name, form):
    data = files[name]
    graph = reference.load(data)
    made = assert_exact(data, images_of(data, pixels), form=form)
    # Every operator makes a tensor that is compared, and the image is one; a convolution may pad by itself.
    computed = {operator.outputs[0].name: operator.kind for operator in graph.operators}
    computed |= {tensor.name: "input" for tensor in graph.inputs}
    assert {computed[name] for name in computed.keys() - made.names.keys()} <= {"PAD"}
    assert ("MultiThreshold" if form == "thresholds" else "Quant") in kinds_of(made.model)


@needed
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", [*NETWORKS, "int4"])
def test_qonnx_counts_the_bit_operations_that_we_count(files, name, form):
    layers = inspect.layers(files[name], delegation=False)
    assert {layer.activation_bits for layer in layers if layer.bops} == {8, 4, 3}
    made = qonnx_model(files[name], form=form)
    assert bops_of(made.model) == made.bops == sum(layer.bops for layer in layers)


@needed
@pytest.mark.parametrize("form", FORMS)
def test_every_layer_has_the_bits_of_the_metadata(files, form):
    made = qonnx_model(files["residual"], form=form)
    datatypes = datatypes_of(made.model)
    found = {}
    for node in made.model.graph.node:
        if node.op_type in ("Conv", "MatMul"):
            found[node.name.removesuffix("/sums")] = tuple(
                int(datatypes[name].rpartition("INT")[2]) for name in node.input
            )
    named = {
        layer.name: (layer.activation_bits, layer.weight_bits)
        for layer in inspect.layers(files["residual"], delegation=False)
        if layer.activation_bits
    }
    assert found == named and len(named) == 5 and {bits for _, bits in named.values()} == {8, 4}


@needed
def test_the_model_is_one_that_onnx_accepts_with_nothing_left_over(files):
    import onnx

    for data in files.values():
        for form in FORMS:
            model = qonnx_model(data, form=form).model
            onnx.checker.check_model(model)
            read = {name for node in model.graph.node for name in node.input}
            made = {name for node in model.graph.node for name in node.output}
            assert made - read == {output.name for output in model.graph.output}
            assert {constant.name for constant in model.graph.initializer} <= read


@needed
def test_metadata_say_which_file_it_was_and_what_numbers_mean(files):
    import onnx

    model = onnx.load_from_string(qonnx_model(files["class"]).model.SerializeToString())
    told = {entry.key: entry.value for entry in model.metadata_props}
    assert told["mmx_tf.tflite_sha256"] == hashlib.sha256(files["class"]).hexdigest()
    assert json.loads(told["mmx_tf.labels"])[3] == "digit 3"
    assert int(told["mmx_tf.bops"]) == sum(layer.bops for layer in inspect.layers(files["class"]))
    tensors = json.loads(told["mmx_tf.tensors"])
    for tensor in reference.load(files["class"]).tensors:
        if tensor.name in tensors:
            assert np.float32(tensors[tensor.name]["scale"]) == tensor.scale
            assert tensors[tensor.name]["zero_point"] == tensor.zero_point
    outputs = json.loads(told["mmx_tf.outputs"])
    assert outputs == [tensor.name for tensor in reference.load(files["class"]).outputs]
    assert len(tensors) > 10


@needed
@pytest.mark.parametrize("which", ["multiplier", "weights/codes"])
def test_a_wrong_number_is_found(files, pixels, which):
    import onnx

    data = files["residual"]
    made = qonnx_model(data, batch=len(pixels))
    (constant,) = [one for one in made.model.graph.initializer if one.name == f"expand/{which}"]
    values = onnx.numpy_helper.to_array(constant).copy()
    values.reshape(-1)[0] += 1 if which == "weights/codes" else values.reshape(-1)[0] / 10
    constant.CopyFrom(onnx.numpy_helper.from_array(values, constant.name))
    assert compared(data, made, images_of(data, pixels)).differing["expand"]


@settings(deadline=None)
@given(
    low=st.integers(-128, 127),
    length=st.integers(0, 255),
    zero_point=st.integers(-128, 127),
    bits=st.integers(2, 8),
)
def test_codes_fit_into_their_bits(low, length, zero_point, bits):
    high = min(low + length, 127)
    tensor = reference.graph.Tensor("t", "INT8", (1,), np.ones(1), np.array([zero_point]), None)
    stored = stored_as(tensor, low, high, bits=bits)
    (first, last), (lowest, highest) = stored.span, stored.type_range
    assert lowest <= first <= last <= highest and last - first == high - low
    assert highest - lowest + 1 == 2**stored.bits and stored.bits == max(bits, (high - low).bit_length(), 2)
    # Real 0 is 0 wherever the codes on both sides of it fit.
    fits = (
        0 <= low - zero_point
        and high - zero_point < 2**stored.bits
        or -(2 ** (stored.bits - 1)) <= low - zero_point
        and high - zero_point < 2 ** (stored.bits - 1)
    )
    assert (stored.zero == 0) == (fits or low == zero_point)


def test_codes_by_hand():
    def of(low, high, zero_point, **kwargs):
        tensor = reference.graph.Tensor("t", "INT8", (1,), np.ones(1), np.array([zero_point]), None)
        stored = stored_as(tensor, low, high, **kwargs)
        return stored.datatype, stored.offset, stored.zero

    # Unsigned 4 bits, signed 4 bits with 15 codes, a byte around -5, 7 bits that a layer calls 8, an image.
    assert of(112, 127, 112) == ("UINT4", 112, 0)
    assert of(-128, -114, -121) == ("INT4", -121, 0)
    assert of(-128, 127, -5) == ("UINT8", -128, 123)
    assert of(0, 127, 0, bits=8) == ("UINT8", 0, 0)
    assert of(-128, 127, -5, raw=True) == ("INT8", 0, -5)
    assert [integer_bits(*ends) for ends in ((0, 1), (-2, 1), (-3, 0), (0, 127), (-128, 128))] == [
        2,
        2,
        3,
        8,
        9,
    ]


def layer(bits, bias, *, taps=64, scale=1e-6):
    """A dense layer of equal weights on int8 codes."""
    net = Net(0)
    source = net.input("codes", (taps,), scale=0.5, zero_point=0)
    weights = np.full((2, taps), 2 ** (bits - 1) - 1)
    weights[0, ::2] -= 1
    constants = [
        net.constant("w", weights, TensorType.INT8, scales=[scale] * 2, axis=0),
        net.constant("b", np.array(bias), TensorType.INT32, scales=[scale / 2] * 2),
    ]
    target = net.tensor("sums", (2,), scale=2.0, zero_point=7)
    fields = options("FullyConnected")
    data = net.file_of("FULLY_CONNECTED", [source, *constants], target, options=fields, version=12)
    return net, data


@needed
@pytest.mark.parametrize("form", FORMS)
def test_sums_beyond_float32_are_rounded_once_as_int32_is(form):
    net, data = layer(8, [300_000_001, -2_000_000_000], scale=1e-7)
    codes = net.rng.integers(-128, 128, (40, 64)).astype(np.int8)
    made = assert_exact(data, {"codes": codes}, form=form)
    assert ("Cast" in kinds_of(made.model)) == (form == "quant")


@needed
def test_sums_that_float32_or_int32_cannot_hold_are_refused():
    with pytest.raises(UnsupportedError, match=r"operator 0 \(FULLY_CONNECTED\) has sums of up to 2"):
        qonnx_model(layer(8, [0, 0], taps=1400)[1])
    with pytest.raises(UnsupportedError, match="has sums beyond int32, which wrap"):
        qonnx_model(layer(8, [2**31 - 1, 0])[1])


def command(folder, data, *arguments):
    path = folder / "model.tflite"
    path.write_bytes(data)
    return main([str(path), f"--out={folder / 'model.onnx'}", *arguments])


@needed
@pytest.mark.parametrize("form", FORMS)
def test_the_command_writes_what_it_has_checked(tmp_path, capsys, files, pixels, form):
    np.save(tmp_path / "images.npy", pixels)
    assert command(tmp_path, files["gated"], f"--check={tmp_path / 'images.npy'}", f"--form={form}") == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("0 of ") and told[0].endswith("tensors differ on 6 images")
    bops = sum(layer.bops for layer in inspect.layers(files["gated"], delegation=False))
    assert told[1] == f"{bops:,} BOPs by qonnx's inference_cost, {bops:,} by export.inspect"
    assert told[2].startswith(f"{tmp_path / 'model.onnx'}: ")
    made = qonnx_model(files["gated"], form=form).model
    assert (tmp_path / "model.onnx").read_bytes() == made.SerializeToString(deterministic=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images.npy", "model.onnx", "model.tflite"]


def float_file():
    net = Net(0)
    source = net.input("image", (4, 4, 2), dtype=TensorType.FLOAT32)
    target = net.tensor("reals", (4, 4, 2), dtype=TensorType.FLOAT32)
    return net.file_of("EXP", [source], target)


def foreign_operator():
    net = Net(0)
    source = net.input("image", (4, 4, 2))
    target = net.tensor("codes", (8, 8, 1))
    return net.file_of("DEPTH_TO_SPACE", [source], target, options=options("DepthToSpace"))


def wide_scale():
    net = Net(0)
    source = net.input("image", (4,), scale=1000.0)
    other = net.constant("other", np.arange(4), TensorType.INT8, scales=[1.0], zero_points=[0])
    target = net.tensor("codes", (4,), scale=0.01)
    return net.file_of("ADD", [source, other], target, options=options("Add"), version=2)


@needed
def test_bad_files_and_words_are_refused_and_nothing_is_written(tmp_path, capsys, files):
    data = files["residual"]
    (tmp_path / "model.onnx").write_text("mine")
    np.save(tmp_path / "wrong.npy", np.zeros((2, 5, 5, 1), np.uint8))
    for content, said in {
        data[: len(data) // 2]: "truncated",
        b"GIF89a and more": "not a .tflite file",
        b"": "the file is empty",
        float_file(): "is FLOAT32; in QONNX it is one of INT8, UINT8. Make the file with --input_type",
        foreign_operator(): "operator 0 (DEPTH_TO_SPACE) is not among the operators that are written",
        wide_scale(): "operator 0 (ADD) is not taken by XNNPACK, whose rounding the QONNX graph has",
    }.items():
        assert command(tmp_path, content) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
    for word, said in {
        "--out=": "--out= names no file",
        f"--out={tmp_path}": "is a folder; give a file",
        f"--out={tmp_path / 'none' / 'model.onnx'}": "none is not there",
        "--check=": "--check= names no file",
        f"--check={tmp_path / 'none.npy'}": "no such file",
        f"--check={__file__}": "is not a NumPy file",
        f"--check={tmp_path / 'wrong.npy'}": "has shape (2, 5, 5, 1); the file takes [N, *(16, 16, 1)]",
    }.items():
        assert command(tmp_path, data, word) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
    assert (tmp_path / "model.onnx").read_text() == "mine"
    with pytest.raises(ValueError, match="form is 'float'; use one of 'quant', 'thresholds'"):
        qonnx_model(data, form="float")
    with pytest.raises(TypeError, match="data is of type str; give the bytes"):
        qonnx_model("model.tflite")


@needed
def test_damaged_bytes_are_refused_with_a_sentence():
    net, data = layer(8, [0, 0])
    rng, refused = net.rng, 0
    with np.errstate(all="ignore"):
        for _ in range(150):
            damaged = np.frombuffer(data, np.uint8).copy()
            places = rng.integers(0, len(data), rng.integers(1, 5))
            damaged[places] = rng.integers(0, 256, len(places))
            try:
                qonnx_model(damaged.tobytes())
            except ValueError as error:
                refused += 1
                assert str(error)
    assert 20 < refused < 150


def run_without(module, path):
    """The command where a module cannot be imported."""
    code = (
        f"import sys; sys.modules[{module!r}] = None; from mmx_tf.export.qonnx import command; "
        f"sys.exit(command.main([{str(path)!r}, '--out={path.with_suffix('.onnx')}']))"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_without_the_extra_the_command_says_what_to_install(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(layer(8, [0, 0])[1])
    done = run_without("onnx", path)
    said = "the package 'onnx' is not installed; get it with: pip install 'mmx_tf[fpga]'\n"
    assert (done.returncode, done.stderr) == (2, said)
    assert not path.with_suffix(".onnx").exists()


@needed
def test_writing_needs_neither_tensorflow_nor_the_executor(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(layer(8, [0, 0])[1])
    for module in ("tensorflow", "onnxruntime", "qonnx"):
        done = run_without(module, path)
        assert done.returncode == 0, done.stderr
    assert path.with_suffix(".onnx").exists()
