"""The benchmark of microcontrollers: its tables, its refusals, and one small run."""

import json

import cortex_m
import numpy as np
import pytest
from networks import calibrated, small_network

import mmx_tf
from benchmarks import cmsis_nn, microcontroller
from mmx_tf.export import reference


@pytest.fixture(scope="module")
def exported(digits):
    return mmx_tf.convert(mmx_tf.fold(calibrated(small_network(), digits)))


def test_layers_with_weights_are_read_from_a_file(exported):
    layers = {layer.title: layer for layer in cmsis_nn.weighted_layers(reference.load(exported))}
    # The stem strides with SAME padding over 16 pixels: nothing above, one row below.
    stem, depthwise = layers["3x3 convolution"], layers["3x3 depthwise"]
    assert (stem.input, stem.output) == ((16, 16, 1), (8, 8, 6))
    assert (stem.kernel, stem.strides, stem.padding) == ((3, 3), (2, 2), (0, 0))
    assert (depthwise.output, depthwise.strides, depthwise.padding) == ((8, 8, 6), (1, 1), (1, 1))
    assert (layers["pointwise"].input, layers["pointwise"].output) == ((8, 8, 6), (8, 8, 8))
    assert (layers["dense"].input, layers["dense"].output) == ((1, 1, 8), (1, 1, 10))


def test_layers_stand_beside_cmsis_nn():
    layers = [
        cmsis_nn.Layer("a", "CONV_2D", (4, 4, 8), (4, 4, 8)),
        cmsis_nn.Layer("b", "FULLY_CONNECTED", (1, 1, 8), (1, 1, 2)),
    ]
    ours = {"packed": {"a": 150, "b": 50, "map": 7}, "int8": {"a": 100, "b": 25}}
    rows = microcontroller.beside_cmsis_nn(layers, ours, {"a": 100, "b": 50})
    assert [(row["kind"], row["packed_ratio"], row["int8_ratio"]) for row in rows] == [
        ("pointwise", 1.5, 1.0), ("dense", 1.0, 0.5),
    ]  # fmt: skip
    assert microcontroller.layer_table(rows).splitlines()[1].split() == ["b", "dense", "50", "1.00", "0.50"]


@pytest.fixture
def files(exported, digits, tmp_path):
    """A folder with one file, and images beside it."""
    (tmp_path / "small_mixed.tflite").write_bytes(exported)
    images, _ = next(iter(digits.evaluation(batch_size=4)))
    np.save(tmp_path / "small.npy", np.rint((images.numpy() + 1) * 127.5).astype(np.uint8))
    return tmp_path


@cortex_m.needed
def test_a_file_is_measured(files, tmp_path, capsys):
    out = tmp_path / "out.json"
    words = [f"--files={files}", "--boards=cortex-m4", "--images=2", f"--json={out}"]
    assert microcontroller.main(words) == 0
    document = json.loads(out.read_text())
    assert {"command", "provenance", "versions", "results"} <= set(document)
    found = document["results"]["small_mixed"]["boards"]["cortex-m4"]
    for build in microcontroller.BUILDS:
        assert (found[build]["logits"], found[build]["logits_unlike_xnnpack"]) == (20, 0)
        ram, stack = found[build]["ram_bytes"], found[build]["stack_bytes"]
        assert found[build]["ram_with_stack_bytes"] == ram + stack > ram > 0
        assert found[build]["flash_bytes"] >= found[build]["code_bytes"] + found[build]["constant_bytes"] > 0
    assert found["packed"]["ram_bytes"] < found["int8"]["ram_bytes"]
    assert "| small_mixed | cortex-m4 |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "give --make=DIR, or --files=DIR"),
        (["--files={empty}"], "holds no .tflite with '' in its name"),
        (["--files={files}", "--only=other"], "holds no .tflite with 'other' in its name"),
        (["--files={files}", "--cmsis_nn={empty}"], "holds no CMSIS-NN"),
        (["--files={files}", "--boards=z80"], "known are cortex-m3, cortex-m4, cortex-m7"),
        (["--files={files}", "--images=0"], "'0' is no integer of 1 or more"),
    ],
)
@cortex_m.needed
def test_what_is_missing_is_told(words, said, files, tmp_path, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(SystemExit) as stopped:
        microcontroller.main([word.format(files=files, empty=empty) for word in words])
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


@cortex_m.needed
def test_a_file_without_images_is_refused(files, capsys):
    (files / "small.npy").unlink()
    with pytest.raises(SystemExit):
        microcontroller.main([f"--files={files}"])
    assert "small_mixed.tflite has no images beside it: small.npy" in capsys.readouterr().err


@cortex_m.needed
@pytest.mark.slow
def test_networks_are_made(tmp_path):
    from benchmarks import microcontroller_networks

    microcontroller_networks.make(tmp_path, ["digits"], data_dir="", steps=4)
    files = {path.name for path in tmp_path.iterdir()}
    assert files == {"digits.npy", "digits_a8.tflite", "digits_a4.tflite", "digits_mixed.tflite"}
    images = np.load(tmp_path / "digits.npy")
    found = {}
    for path in tmp_path.glob("*.tflite"):
        folder = tmp_path / path.stem
        folder.mkdir()
        firmware = microcontroller.Firmware(path.read_bytes(), "packed", "cortex-m4", images[:1], folder)
        found[path.stem] = firmware.measured()
        assert found[path.stem]["logits_unlike_xnnpack"] == 0
    assert found["digits_a4"]["ram_bytes"] < found["digits_a8"]["ram_bytes"]
