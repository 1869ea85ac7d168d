"""export.inspect: figures counted by hand, equal to the training side's, and errors that end in one line."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from tflite_samples import BITS, bits_document, model_of, sample, written

from mmx_tf.export import inspect
from mmx_tf.export.reading.contents import TfliteFileError
from mmx_tf.export.running.delegation import query
from mmx_tf.export.writing.flatbuffer import GraphWriter, quantization

ROOT = pathlib.Path(__file__).resolve().parent.parent
TensorType = schema.TensorType
MACS = {"conv": 16 * 4 * 27, "depthwise": 16 * 4 * 9, "logits": 40}


def run(*arguments, cwd=ROOT):
    return subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, cwd=cwd)


def by_name(layers):
    return {layer.name: layer for layer in layers}


def test_layers():
    layers = by_name(inspect.layers(sample(bits_document())))
    assert list(layers) == ["codes", "conv", "pad", "depthwise", "mean", "logits"]
    assert [layer.index for layer in layers.values()] == list(range(6))
    for name, (activation, weight) in BITS.items():
        layer = layers[name]
        assert (layer.activation_bits, layer.weight_bits) == (activation, weight)
        assert (layer.macs, layer.bops) == (MACS[name], MACS[name] * activation * weight)
        assert layer.end == (name != "depthwise")
    for name in ("codes", "pad", "mean"):
        layer = layers[name]
        assert (layer.activation_bits, layer.weight_bits, layer.weight_type) == (None, None, None)
        assert (layer.macs, layer.bops, layer.weight_bytes, layer.end) == (0, 0, 0, False)
    depthwise = layers["depthwise"]
    assert (depthwise.kind, depthwise.version) == ("DEPTHWISE_CONV_2D", 7)
    assert (depthwise.activation_type, depthwise.weight_type) == ("INT8", "INT4")
    assert (depthwise.weight_bytes, depthwise.bias_bytes) == (18, 16)
    assert (depthwise.output_type, depthwise.output_shape) == ("INT8", (1, 4, 4, 4))
    assert (depthwise.output_scale, depthwise.output_zero_point) == (0.25, -5)
    # What was padded counts, not the zeros around it.
    assert depthwise.input_elements == 64


def test_delegation():
    found = inspect.summary(sample())
    left_outside = query(sample()).left_outside
    assert {(layer.index, layer.kind) for layer in found.layers if not layer.delegated} == set(left_outside)
    # uint8 never enters XNNPACK, convolutions of int8 weights always do.
    assert found.layers[0].delegated is False and found.layers[1].delegated is True
    assert found.partitions == query(sample()).partitions >= 1
    unasked = inspect.summary(sample(), delegation=False)
    assert unasked.partitions is None and {layer.delegated for layer in unasked.layers} == {None}


def test_summary():
    data = sample(bits_document(budget={"target_bops": 200_000}, labels=list("0123456789")))
    found = inspect.summary(data, delegation=False)
    parts = found.file_bytes
    assert (parts.weights, parts.biases, parts.constants) == (108 + 18 + 40, 16 + 16 + 40, 32 + 8)
    metadata = bits_document(budget={"target_bops": 200_000}, labels=list("0123456789"))
    assert parts.metadata == len(json.dumps(metadata))
    # Seven activations with one scale each, two layers of four, one per tensor, weights and bias each.
    # Stored once: four different scales of activations, and zero points 0, 112, 128, -5, 1 and four zeros.
    assert (parts.scales, parts.zero_points, parts.ranges) == (4 * (4 + 18), 8 * (5 + 4), 0)
    assert parts.total == len(data) and parts.structure > 0
    everything = vars(parts).copy()
    assert everything.pop("total") == sum(everything.values())
    assert found.macs == sum(MACS.values())
    assert found.bops == sum(MACS[name] * a * w for name, (a, w) in BITS.items())
    assert found.average_bits == {"plain": 4.0, "by_ops": 4.0, "by_elements": 4.0} and found.bits_known
    assert {(used.kind, used.version, used.count) for used in found.operators} == {
        *{("QUANTIZE", 2, 1), ("CONV_2D", 3, 1), ("PAD", 2, 1), ("DEPTHWISE_CONV_2D", 7, 1)},
        *{("MEAN", 1, 1), ("FULLY_CONNECTED", 4, 1)},
    }
    assert [vars(endpoint) for endpoint in (*found.inputs, *found.outputs)] == [
        dict(name="image", type="UINT8", shape=(1, 8, 8, 3), scale=float(np.float32(0.1)), zero_point=128),
        dict(name="logits", type="INT8", shape=(1, 10), scale=0.5, zero_point=1),
    ]
    assert found.signatures == (inspect.SignatureInfo("serving_default", ("image",), ("scores",)),)
    assert found.metadata == {"schema": 1, "budget": metadata["budget"], "labels": metadata["labels"]}
    assert found.faults == () and found.uncounted == () and found.subgraphs == 1


def test_what_the_file_stores_once_counts_once():
    # Our writer shares equal vectors, the flatbuffers library's own does not.
    shared = inspect.summary(sample(), delegation=False).file_bytes
    apart = inspect.summary(written(model_of(sample())), delegation=False).file_bytes
    assert apart.zero_points == 8 * (7 + 18) and apart.scales == 4 * (7 + 18)
    # The single zero points 0, 112, 128, -5 and 1, and four zeros.
    assert shared.zero_points == 8 * (1 + 1 + 1 + 1 + 1 + 4) < apart.zero_points
    assert (shared.weights, shared.biases) == (apart.weights, apart.biases) == (166, 72)
    assert 0 < shared.structure <= apart.structure


def test_a_file_without_metadata_has_the_bits_of_its_types():
    found = inspect.summary(sample(), delegation=False)
    layers = by_name(found.layers)
    assert {(layer.activation_bits, layer.weight_bits) for layer in found.layers} == {(None, None)}
    assert layers["depthwise"].bops == MACS["depthwise"] * 8 * 4
    assert layers["conv"].bops == MACS["conv"] * 8 * 8
    assert not found.bits_known and found.average_bits == {} and found.metadata is None
    lines = inspect.text(found).splitlines()
    assert lines[2].split()[:5] == ["1", "conv", "CONV_2D", "-/-", "INT8/INT8"]


def test_a_layer_that_the_metadata_leaves_out_does_not_count():
    """A batch norm on its own becomes a depthwise convolution of the file."""
    bits = {name: BITS[name] for name in ("conv", "logits")}
    found = inspect.summary(sample(bits_document(bits)), delegation=False)
    assert by_name(found.layers)["depthwise"].macs == 0
    assert found.macs == MACS["conv"] + MACS["logits"] and found.faults == ()


@pytest.mark.parametrize(
    ("metadata", "fault"),
    [
        (b"\xff{", "cannot be read"),
        (b"[1, 2]", "not a JSON object of schema 1"),
        ({"schema": 2, "layers": []}, "not a JSON object of schema 1"),
        ({"schema": 1}, "'layers' is missing"),
        (bits_document({"conv": (8, 64)}), "layer 'conv' has bits (8, 64)"),
        (bits_document({"conv": (8, "4")}), "layer 'conv' has bits (8, '4')"),
        (bits_document(BITS | {"stem": (8, 8)}), "names layer 'stem', the file has none"),
        (bits_document(BITS | {"pad": (8, 8)}), "names layer 'pad', the file has none"),
        (bits_document(BITS | {"depthwise": (4, 5)}), "said to have 5 weight bits, but they are INT4"),
        (bits_document(BITS | {"conv": (9, 8)}), "said to have 9 activation bits, but they are INT8"),
        (
            bits_document(BITS | {"conv": (8, 3)}),
            "said to have 3 weight bits, but its weights take 15 values",
        ),
        (bits_document(bops=7), "records 7 BOPs, counted from the file are 122368"),
        (bits_document(labels=["cat", "dog"]), "has 2 labels, the output has 10 classes"),
    ],
)
def test_metadata_that_the_file_does_not_bear_out(metadata, fault):
    found = inspect.summary(sample(metadata), delegation=False)
    assert len(found.faults) == 1 and fault in found.faults[0]
    assert f"FAULT       {found.faults[0]}" in inspect.text(found)


def test_metadata_that_agrees():
    assert inspect.summary(sample(bits_document(bops=122368)), delegation=False).faults == ()


def test_bops_and_average_bits_are_those_of_the_selection():
    # TensorFlow takes long to import, and this test alone needs it.
    import tf_keras as keras
    from networks import small_network

    import mmx_tf

    keras.utils.set_random_seed(5)
    search = mmx_tf.augment(small_network(), bit_widths=(8, 4, 3), weight_bits=4)
    images = np.random.default_rng(0).uniform(-1, 1, (32, 16, 16, 1)).astype(np.float32)
    search(images, branch=0)
    selection = search.selection_of([1, 2, 0])
    fixed = mmx_tf.rebuild(search, selection)
    fixed(images, training=True)
    data = mmx_tf.convert(mmx_tf.fold(fixed), input_type="int8")
    found = inspect.summary(data)
    assert found.bops == selection.bops and found.macs == sum(layer.macs for layer in selection.layers)
    assert found.average_bits == pytest.approx(selection.average_bits)
    counted = [layer for layer in found.layers if layer.macs]
    for layer, expected in zip(counted, selection.layers, strict=True):
        assert layer.name == expected.name and layer.end != expected.searched
        for attribute in ("macs", "bops", "activation_bits", "weight_bits", "input_elements"):
            assert getattr(layer, attribute) == getattr(expected, attribute)
    assert found.faults == () and found.partitions == 1
    assert all(layer.delegated for layer in found.layers)


def test_what_litert_cannot_load_is_shown_nevertheless():
    writer = GraphWriter()
    x, y = (
        writer.tensor(name, (1, 4), TensorType.INT8, quantization=quantization([1], [0])) for name in "xy"
    )
    writer.operator(schema.BuiltinOperator.CUSTOM, [x], [y])
    found = inspect.summary(writer.finish({"x": x}, {"y": y}))
    assert "cannot load" in found.delegation_fault and "\n" not in found.delegation_fault
    assert found.layers[0].kind == "CUSTOM " and found.layers[0].delegated is None
    assert found.uncounted == ("CUSTOM ",)


def test_command(tmp_path, capsys):
    path = tmp_path / "model.tflite"
    path.write_bytes(sample(bits_document(labels=[f"class {i}" for i in range(10)])))
    assert inspect.main([str(path)]) == 0
    output = capsys.readouterr().out
    for part in (
        "depthwise  DEPTHWISE_CONV_2D   4/4  INT8/INT4",
        "122,368 BOPs",
        "weights 166 (",
        "image: UINT8 1x8x8x3, grid 0.1 @ 128",
        'labels: 10 entries: "class 0"',
        "serving_default: image -> scores",
    ):
        assert part in output
    assert inspect.main([str(path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["file"], document["bops"]) == (1, str(path), 122368)
    assert [layer["name"] for layer in document["layers"]][1] == "conv"


def test_names_do_not_break_the_table():
    name = "image\n\x1b[31m" + 100 * "x"
    lines = inspect.text(inspect.summary(sample(input_name=name), delegation=False)).splitlines()
    assert len([line for line in lines if line.startswith("input ")]) == 1
    assert all(line.isprintable() for line in lines)


def test_errors_are_one_line_and_exit_code_2(tmp_path):
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(sample()[:1000])
    for path in (damaged, tmp_path / "missing.tflite", tmp_path):
        done = run("-m", "export.inspect", path)
        assert done.returncode == 2 and done.stdout == ""
        assert done.stderr.count("\n") == 1 and done.stderr.startswith(f"{path}: ")
    with pytest.raises(TfliteFileError, match="identifier"):
        inspect.summary(b"no such thing")


def test_no_tensorflow():
    code = "import sys, export.inspect, export.c_array; sys.exit('tensorflow' in sys.modules)"
    assert run("-c", code).returncode == 0


def test_scripts_of_the_folder_find_the_inspect_of_the_standard_library(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(sample())
    done = run("-m", "benchmark", "--help", cwd=ROOT / "export")
    assert done.returncode == 0 and "FILE.tflite" in done.stdout
    done = run(ROOT / "export" / "inspect.py", path, cwd=tmp_path)
    assert done.returncode == 0 and "XNNPACK" in done.stdout
    done = run(
        "-c", "import dataclasses, inspect; print(inspect.signature(print).parameters)", cwd=ROOT / "export"
    )
    assert done.returncode == 0 and "flush" in done.stdout
