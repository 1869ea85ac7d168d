"""export.vela: what Vela says of files whose figures are known, and how the command refuses what it must."""

import importlib.util
import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import calibrated
from refusals import files_of
from small_files import SAME, Net, TensorType, options, quantization

import mmx_tf
from mmx_tf import models
from mmx_tf.export import vela
from mmx_tf.export.reading import tflite_file
from mmx_tf.export.vela import command, estimates, text
from mmx_tf.export.vela.configurations import resolve

pytestmark = pytest.mark.broad

needed = pytest.mark.skipif(
    importlib.util.find_spec("ethosu") is None,
    reason="NO PACKAGE ethos-u-vela (extra ethos-u): Vela is not asked",
)
U55, U65, U85 = "ethos-u55-128", "ethos-u65-256", "ethos-u85-256"


def convolution(*, channels=16, depth=4, bits=8, dequantized=False):
    """A 3x3 convolution of 8x8 pixels, alone or with a DEQUANTIZE behind it, which no Ethos-U computes."""
    net = Net(1)
    grid = quantization([0.1], [0])
    image = net.writer.tensor("image", (1, 8, 8, depth), TensorType.INT8, quantization=grid)
    net.inputs["image"] = image
    shape = (channels, 3, 3, depth)
    weights, bias, _ = net.weights("conv", shape, axis=0, source_scale=0.1, bits=bits)
    grid = quantization([0.2], [3])
    output = net.writer.tensor("conv", (1, 8, 8, channels), TensorType.INT8, quantization=grid)
    window = options("Conv2D", padding=SAME, strideH=1, strideW=1)
    net.operator("CONV_2D", [image, weights, bias], output, options=window, version=3)
    if dequantized:
        source, output = output, net.writer.tensor("floats", (1, 8, 8, channels), TensorType.FLOAT32)
        net.operator("DEQUANTIZE", [source], output, options=options("Dequantize"), version=2)
    return net.finish(output)


@pytest.fixture
def paths(tmp_path):
    """Three files: a convolution of 8-bit weights, one of 2-bit weights, one with an operator for the CPU."""
    folder = tmp_path / "files"
    folder.mkdir()
    made = {
        "wide": convolution(channels=64, depth=32),
        "narrow": convolution(channels=64, depth=32, bits=2),
        "float": convolution(dequantized=True),
    }
    for name, data in made.items():
        (folder / f"{name}.tflite").write_bytes(data)
    return {name: str(folder / f"{name}.tflite") for name in made}


def refused(capsys, tmp_path, *words) -> str:
    """The one sentence of a command that must be refused; no file is changed."""
    before = files_of(tmp_path)
    assert command.main([str(word) for word in words]) == 2
    shown = capsys.readouterr()
    assert (files_of(tmp_path), shown.out) == (before, "")
    assert shown.err.count("\n") == 1 and shown.err.endswith(".\n")
    return shown.err


@needed
def test_figures_of_a_convolution_are_those_computed_by_hand():
    found = vela.estimate(convolution(), accelerator=U55)
    assert found.macs == 8 * 8 * 16 * 3 * 3 * 4
    assert found.weight_bytes == 16 * 3 * 3 * 4
    assert found.sram_bytes == 8 * 8 * 4 + 8 * 8 * 16  # the image, and what is made of it
    assert (found.dram_bytes, found.on_chip_flash_bytes) == (0, 0)
    assert found.off_chip_flash_bytes > found.packed_weight_bytes > 0
    # 128 products a cycle are the most that the NPU does.
    assert found.macs / 128 <= found.npu_cycles <= found.cycles
    assert (found.clock_hz, found.latency_seconds) == (500e6, found.cycles / 500e6)
    assert (found.operators, found.cpu_operators) == (1, ())
    (operator,) = found.operator_cycles
    assert (operator.kind, operator.name, operator.macs) == ("Conv2D", "conv", found.macs)
    assert operator.cycles == found.cycles


@needed
@pytest.mark.parametrize("accelerator", [U55, U65, U85])
def test_each_family_has_velas_own_defaults(tmp_path, accelerator):
    path = tmp_path / "network.tflite"
    path.write_bytes(convolution())
    words = [sys.executable, "-m", "ethosu.vela", path, f"--accelerator-config={accelerator}"]
    subprocess.run([*words, f"--output-dir={tmp_path}"], check=True, capture_output=True)
    (summary,) = tmp_path.glob("*_summary_*.csv")
    header, row = (line.split(",") for line in summary.read_text().splitlines())
    said = dict(zip(header, row, strict=True))
    found = vela.estimate(path.read_bytes(), accelerator=accelerator)
    assert found.configuration == resolve(accelerator)
    assert found.configuration.system_config == said["system_config"]
    assert found.configuration.memory_mode == said["memory_mode"]
    assert found.cycles == int(said["cycles_total"])


@needed
def test_accelerators_are_those_that_vela_has():
    done = subprocess.run([sys.executable, "-m", "ethosu.vela", "--help"], capture_output=True, text=True)
    _, _, rest = done.stdout.partition("--accelerator-config {")
    assert tuple("".join(rest.partition("}")[0].split()).split(",")) == vela.ACCELERATORS


@needed
def test_weights_in_dram_or_flash_as_the_memory_mode_says():
    data = convolution()
    shared, alone = (
        vela.estimate(data, accelerator=U55, system_config="Ethos_U55_Deep_Embedded", memory_mode=mode)
        for mode in ("Shared_Sram", "Sram_Only")
    )
    assert shared.clock_hz == alone.clock_hz == 200e6
    assert shared.off_chip_flash_bytes and not alone.off_chip_flash_bytes and alone.on_chip_flash_bytes
    assert vela.estimate(data, accelerator=U65).dram_bytes


@needed
def test_several_files_side_by_side(tmp_path, capsys, paths):
    report = tmp_path / "report.json"
    names = [paths[name] for name in ("wide", "narrow", "float")]
    before = files_of(tmp_path / "files")
    out = tmp_path / "compiled"
    words = [*names, f"--accelerator={U55}", f"--json={report}", f"--out={out}", "--profile"]
    assert command.main(words) == 0
    shown = capsys.readouterr().out
    document = json.loads(report.read_text())
    wide, narrow, floats = document["results"]
    assert [result["file"] for result in document["results"]] == names
    assert wide["ratios"]["cycles"] == wide["ratios"]["packed_weight_bytes"] == 1
    assert narrow["ratios"]["cycles"] == narrow["cycles"] / wide["cycles"]
    assert narrow["weight_bytes"] == wide["weight_bytes"]
    # Three values of 255: entropy alone would save three quarters and more.
    assert narrow["ratios"]["packed_weight_bytes"] < 0.6
    assert wide["ratios"]["dram_bytes"] is None
    assert floats["cpu_operators"] == [{"kind": "DEQUANTIZE", "name": "floats"}]
    assert "files/float.tflite: DEQUANTIZE floats stays on the CPU\n" in shown
    header, *rows = shown.splitlines()[1:5]
    assert "off-chip flash" in header and "on-chip flash" not in header and "DRAM" not in header
    assert [row.split()[-1] for row in rows] == names and "1 of 2" in rows[2]
    assert f"{wide['cycles']:,}  1.000  " in rows[0] and "Conv2D 100.0%" in shown
    assert files_of(tmp_path / "files") == before
    made = sorted(out.iterdir())
    assert [path.name for path in made] == [f"{n}_vela.tflite" for n in ("float", "narrow", "wide")]
    left = [[operator.kind for operator in tflite_file.read(path).operators] for path in made]
    assert left == [
        [estimates.NPU_OPERATOR, "DEQUANTIZE"],
        [estimates.NPU_OPERATOR],
        [estimates.NPU_OPERATOR],
    ]
    again = refused(capsys, tmp_path, paths["wide"], f"--accelerator={U55}", f"--out={out}")
    assert again == f"{out / 'wide_vela.tflite'} is already there; give another --out=.\n"


@settings(deadline=None)
@given(st.lists(st.integers(1, 10**9), min_size=3, max_size=3), st.integers(0, 10**6))
def test_ratios_are_to_the_first_file(cycles, flash):
    rows = [estimates.Estimate(None, 1e9, n, n, n / 1e9, 1, 0, 0, flash, 1, 1, 1, 1, (), ()) for n in cycles]
    for row, count in zip(rows, cycles, strict=True):
        found = text.ratios(row, rows[0])
        assert found["cycles"] == pytest.approx(count / cycles[0], rel=1e-12)
        assert found["latency_seconds"] == pytest.approx(count / cycles[0], rel=1e-12)
        assert found["off_chip_flash_bytes"] == (1 if flash else None) and found["dram_bytes"] is None


def test_a_wrong_accelerator_names_the_allowed_ones_with_and_without_vela(
    tmp_path, capsys, paths, monkeypatch
):
    for hidden in (False, True):
        if hidden:
            monkeypatch.setitem(sys.modules, "ethosu", None)
        said = refused(capsys, tmp_path, paths["wide"], "--accelerator=ethos-u55")
        allowed = ", ".join(vela.ACCELERATORS)
        assert said == f"--accelerator=ethos-u55 is not one of Vela's accelerators: {allowed}.\n"


def test_without_vela_a_sentence_names_the_extra(tmp_path, capsys, paths, monkeypatch):
    monkeypatch.setitem(sys.modules, "ethosu", None)
    said = refused(capsys, tmp_path, paths["wide"], f"--accelerator={U55}", f"--out={tmp_path / 'out'}")
    assert "is not installed" in said and "mmx_tf[ethos-u]" in said
    with pytest.raises(vela.MissingVelaError, match="mmx_tf\\[ethos-u\\]"):
        vela.estimate(convolution(), accelerator=U55)


@needed
def test_what_is_no_tflite_or_damaged_is_refused_before_anything_is_compiled(tmp_path, capsys, paths):
    whole = convolution()
    for name, data in {"short": whole[: len(whole) // 2], "empty": b"", "text": b"hello world"}.items():
        path = tmp_path / f"{name}.tflite"
        path.write_bytes(data)
        words = [paths["wide"], path, f"--accelerator={U55}", f"--out={tmp_path / 'out'}"]
        assert refused(capsys, tmp_path, *words).startswith(f"{path}: ")
    said = refused(capsys, tmp_path, tmp_path / "none.tflite", f"--accelerator={U55}")
    assert said == f"{tmp_path / 'none.tflite'}: no such file or directory.\n"


@needed
@pytest.mark.parametrize(
    ("word", "said"),
    [
        (
            "--system_config=Fast",
            "--system_config=Fast is not in Vela's Arm/vela.ini, which has Ethos_U55_Deep",
        ),
        ("--memory_mode=Flash", "--memory_mode=Flash is not in Vela's Arm/vela.ini, which has Sram_Only, "),
        (
            "--memory_mode=Dedicated_Sram",
            "wide.tflite: Vela does not compile it for ethos-u55-128, Ethos_U55_H",
        ),
        ("--json=none/report.json", "--json=none/report.json: its folder does not exist"),
        ("--out=", "--out= is no folder"),
        ("--json={wide}", "is one of the networks; give another file."),
        ("{wide}", "A file is named twice"),
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path, capsys, paths, word, said):
    words = [word.format(**paths), paths["wide"], f"--accelerator={U55}"]
    assert said in refused(capsys, tmp_path, *words)


@needed
def test_a_file_on_which_vela_crashes_is_told_as_one_that_it_does_not_compile(tmp_path, capsys):
    from tflite_samples import sample

    path = tmp_path / "sample.tflite"
    path.write_bytes(sample())  # its int4 weights end Vela 5.2 with a division by zero
    said = refused(capsys, tmp_path, path, f"--accelerator={U55}")
    assert said.startswith(f"{path}: Vela does not compile it") and "signal" in said


def test_no_tensorflow_is_loaded():
    code = "import sys, export.vela.command; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


SMALL = {"resnet8": 1.0}
LARGE = {"mobilenet_v1": 0.25, "mobilenet_v2": 0.5, "mobilenet_v3_large": 0.5, "resnet18": 0.25}


@needed
@pytest.mark.parametrize(
    ("name", "width"),
    [*SMALL.items(), *(pytest.param(*case, marks=pytest.mark.slow) for case in LARGE.items())],
)
def test_built_in_networks_are_wholly_on_the_npu(digits, name, width):
    network = models.build(name, input_shape=(16, 16, 1), num_classes=10, width=width)
    data = mmx_tf.convert(mmx_tf.fold(calibrated(network, digits)), input_type="int8")
    for accelerator in (U55, U65, U85):
        found = vela.estimate(data, accelerator=accelerator)
        assert found.cpu_operators == () and found.operators > 10
        total = sum(operator.cycles for operator in found.operator_cycles)
        assert total == pytest.approx(found.cycles, rel=0.02), accelerator
        assert found.macs > 1000
