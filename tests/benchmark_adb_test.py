"""Benchmarks on a device: adb's commands, the tool's output as it is, and everything that can be wrong."""

import json
import os
import pathlib
import platform
import struct
import sys

import ai_edge_litert
import pytest
from adb_device import COMPILER, make_device, tool
from benchmark_profile_test import convolutions
from small_files import SAME, Net, options
from tflite_samples import bits_document, sample

from mmx_tf.export.benchmark import main
from mmx_tf.export.benchmark.program import program_abi
from mmx_tf.export.benchmark.timing import file_operators

pytestmark = pytest.mark.broad

_ROOT = pathlib.Path(__file__).resolve().parent.parent
_HERE = {"x86_64": "x86_64", "aarch64": "arm64-v8a"}.get(platform.machine())


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    if COMPILER is None or _HERE is None:
        pytest.skip("NO C COMPILER (cc, gcc, clang) or no processor of Android's: no program for the device")
    return tool(tmp_path_factory.mktemp("tool"))


@pytest.fixture
def device(tmp_path, monkeypatch):
    made = make_device(tmp_path / "device", abis=f"{_HERE},other")
    monkeypatch.setenv("PATH", f"{made.path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(_ROOT))
    return made


@pytest.fixture
def models(tmp_path):
    paths = [tmp_path / "one.tflite", tmp_path / "two 2.tflite"]
    for path in paths:
        path.write_bytes(sample(bits_document()))
    return paths


def arguments(models, program, *more):
    return [*(f"--model={path}" for path in models), "--adb", f"--benchmark_model={program}", *more]


def refused(capsys, *given):
    with pytest.raises(SystemExit) as ended:
        main(list(map(str, given)))
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("mmx_tf benchmark: ") and error.count("\n") == 1
    return error


def test_models_take_turns_and_nothing_is_left(device, models, program, tmp_path, capsys):
    out = tmp_path / "out.json"
    given = arguments(
        models, program, "--threads=1,2", "--runs=5", "--rounds=2", "--warmup=3", f"--json={out}"
    )
    assert main(given) == 0
    shell = device.commands("shell")
    runs = [command for command in shell if "--graph" in command]
    flags = "--num_runs=3 --min_secs=0 --warmup_runs=4 --warmup_min_secs=0 --use_xnnpack=true"
    folder = "/data/local/tmp/mmx_tf"
    expected = [
        f"{{ {folder}/benchmark_model --graph={folder}/{model}.tflite --num_threads={threads} "
        f"{flags}; }} 2>&1"
        for threads in (1, 2)
        for model in (0, 1)
    ]
    assert runs == 2 * expected
    assert device.commands("push") == [
        f"{folder}/{name}" for name in ("benchmark_model", "0.tflite", "1.tflite")
    ]
    assert device.files() == []
    assert "Phone" in capsys.readouterr().out
    record = json.loads(out.read_text())
    assert record["machine"]["serial"] == "phone1" and record["machine"]["android"] == "15"
    assert record["benchmark_model"]["statistic"] == "medians"
    for result, model in zip(record["results"], 2 * models, strict=True):
        assert result["model"] == str(model) and result["runs"] == 6
        assert 0 < result["min_ms"] <= result["median_ms"] <= result["p95_ms"] and result["p90_ms"] is None
        assert result["memory_bytes"] == 2.25 * 2**20
        # One operator is left between the two partitions and one before them.
        assert (result["partitions"], result["ops"], result["ops_outside"]) == (2, 6, None)


def test_an_older_tool_tells_averages(device, models, program, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DEVICE_OLD", "1")
    out = tmp_path / "out.json"
    assert main(arguments(models[:1], program, "--runs=4", "--rounds=1", f"--json={out}")) == 0
    assert "of the tool's averages" in capsys.readouterr().out
    record = json.loads(out.read_text())
    assert record["benchmark_model"]["statistic"] == "averages"
    assert record["results"][0]["median_ms"] > 0 and record["results"][0]["p95_ms"] is None


def test_profiles_name_the_operators(device, program, tmp_path):
    """A file in one partition behind one QUANTIZE, as the exporter writes with 8-bit storage."""
    path, out = convolutions(tmp_path), tmp_path / "out.json"
    assert main(arguments([path], program, "--runs=6", "--rounds=3", "--profile", f"--json={out}")) == 0
    record = json.loads(out.read_text())
    (profile,), (result,) = record["profiles"], record["results"]
    assert profile["median_ms"] == result["median_ms"]
    assert (result["partitions"], result["ops_outside"]) == (1, 0)
    cheap, dear = profile["operators"]
    assert (cheap["output"], dear["output"]) == ("conv0", "conv1")
    assert cheap["delegated"] and dear["median_ms"] > cheap["median_ms"] > 0
    runs = [command for command in device.commands("shell") if "--graph" in command]
    assert ["--enable_op_profiling=true" in command for command in runs] == 3 * [False, True]


def test_the_tool_adds_up_equal_kernels_of_two_partitions(device, models, program, tmp_path):
    """Then the delegate's stay anonymous; the builtin ones are told by their place in the file."""
    net = Net(seed=0)
    how = options("Conv2D", strideH=1, strideW=1, dilationHFactor=1, dilationWFactor=1, padding=SAME)
    x = net.input("image", (4, 4, 8), scale=0.1)
    for index in range(2):
        weights, bias, _ = net.weights(f"{index}", (8, 1, 1, 8), axis=0, source_scale=0.1)
        x = net.operator(
            "CONV_2D",
            [x, weights, bias],
            net.tensor(f"conv{index}", (4, 4, 8), scale=0.1),
            options=how,
            version=3,
        )
        if index == 0:
            x = net.operator("FLOOR_MOD", [x, x], net.tensor("between", (4, 4, 8), scale=0.1))
    path, out = tmp_path / "split.tflite", tmp_path / "out.json"
    path.write_bytes(net.finish(x))
    assert main(arguments([path], program, "--runs=1", "--profile", f"--json={out}")) == 0
    times = json.loads(out.read_text())["profiles"][0]["operators"]
    assert [operator.kind for operator in file_operators(path)] == ["CONV_2D", "FLOOR_MOD", "CONV_2D"]
    assert [time["delegated"] for time in times] == [True, False]
    assert times[0]["operators"] == [] and times[0]["output"] is None


def test_no_adb(models, program, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "adb is not on PATH" in refused(capsys, *arguments(models, program))


@pytest.mark.parametrize(
    ("listed", "more", "message"),
    [
        ("", [], "no device is connected"),
        ("phone1\tunauthorized\n", [], "phone1 (unauthorized); allow this computer"),
        ("phone1\toffline\n", [], "phone1 (offline)"),
        ("phone1\tdevice\nphone2\tdevice\n", [], "several devices are connected: phone1, phone2; choose one"),
        ("phone1\tdevice\n", ["--adb_serial=phone3"], "'phone3'; connected: phone1 (device)"),
        ("phone1\tdevice\nphone2\toffline\n", ["--adb_serial=phone2"], "phone2 is not ready (offline)"),
    ],
)
def test_which_device(device, models, program, capsys, listed, more, message):
    device.connect(listed)
    assert message in refused(capsys, *arguments(models, program, *more))


def test_the_serial_number_chooses(device, models, program):
    device.connect("phone1\tdevice\nphone2\tdevice\n")
    assert main(arguments(models, program, "--runs=1", "--adb_serial=phone2")) == 0
    lines = (device.root / "commands").read_text().splitlines()
    assert {json.loads(line)[1] for line in lines[1:]} == {"phone2"}


def test_programs_of_the_wrong_kind(device, models, tmp_path, capsys):
    elf = b"\x7fELF\x02\x01\x01" + bytes(9)
    contents = {
        "text": (b"#!/bin/sh\n", "not a program for Android"),
        "app.apk": (b"PK\x03\x04 rest", "an archive such as an .apk"),
        "cut": (elf + b"\x02", "damaged program"),
        "riscv": (elf + struct.pack("<HH", 2, 243) + bytes(44), "for processor type 243"),
        "object": (elf + struct.pack("<HH", 1, 183) + bytes(44), "a library or object file"),
    }
    for name, (data, message) in contents.items():
        (tmp_path / name).write_bytes(data)
        assert message in refused(capsys, *arguments(models, tmp_path / name))
    assert "cannot be read (No such file" in refused(capsys, *arguments(models, tmp_path / "none"))
    assert "cannot be read (Is a directory" in refused(capsys, *arguments(models, tmp_path))
    (library,) = pathlib.Path(ai_edge_litert.__file__).parent.glob("libLiteRt.so")
    assert "a library or object file" in refused(capsys, *arguments(models, library))
    assert "a program for Linux (loaded by /lib" in refused(capsys, *arguments(models, sys.executable))


def test_a_program_for_another_processor(device, models, tmp_path, capsys):
    foreign = tmp_path / "foreign"
    machine, abi = (183, "arm64-v8a") if _HERE != "arm64-v8a" else (62, "x86_64")
    foreign.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HH", 2, machine) + bytes(44))
    assert program_abi(foreign) == abi
    error = refused(capsys, *arguments(models, foreign))
    assert f"a program for {abi}; device phone1 runs {_HERE},other" in error


def test_the_tools_own_message_is_shown(device, models, program, capsys):
    models[1].write_bytes(models[1].read_bytes()[:200])
    error = refused(capsys, *arguments(models, program, "--runs=1"))
    assert "two 2.tflite: benchmark_model fails on device phone1 (exit code 1)" in error
    assert "ERROR: Benchmarking failed." in error
    assert device.files() == []


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        ("DEVICE_DIES", "fails on device phone1 (exit code 134)"),
        ("DEVICE_WITHOUT_XNNPACK_FLAG", "benchmark_model knows no --use_xnnpack"),
    ],
)
def test_a_tool_that_dies_or_is_another(device, models, program, monkeypatch, capsys, variable, message):
    monkeypatch.setenv(variable, "1")
    assert message in refused(capsys, *arguments(models, program, "--runs=1"))
    assert device.files() == []


def test_a_full_device(device, models, program, capsys):
    (device.root / "full").touch()
    assert "cannot push" in (error := refused(capsys, *arguments(models, program)))
    assert "No space left on device" in error
    assert device.files() == []


def test_other_files_in_the_folder_stay(device, models, program):
    (device.root / "tmp" / "mmx_tf").mkdir()
    (device.root / "tmp" / "mmx_tf" / "mine").touch()
    assert main(arguments(models, program, "--runs=1")) == 0
    assert device.files() == ["mmx_tf", "mmx_tf/mine"]


@pytest.mark.parametrize("given", ["--rounds=0", "--runs=0", "--warmup=-1"])
def test_numbers(device, models, program, capsys, given):
    assert given.removeprefix("--") in refused(capsys, *arguments(models, program, given))
    assert not (device.root / "commands").exists()
