"""Profiles: kernels aligned with the operators of a file by hand, and LiteRT's profiler on real files."""

import json
import subprocess
import sys

import pytest
from small_files import SAME, Net, options
from tflite_samples import bits_document, sample

from mmx_tf.export.benchmark import benchmark, main, profiler
from mmx_tf.export.benchmark.isolated import ask
from mmx_tf.export.benchmark.operators import FileOperator, Kernel, operator_times
from mmx_tf.export.benchmark.timing import file_operators, profiles

CONV, DWCONV = "Convolution (NHWC, QC8) IGEMM", "Convolution (NHWC, QC8) DWConv"
GEMM, UNARY = "Fully Connected (NC, QS8, QC8W) GEMM", "Invalid Unary Op"


def file_of(*kinds):
    return [FileOperator(index, kind, f"t{index}") for index, kind in enumerate(kinds)]


def groups(kernels, operators):
    return [time.operators for time in operator_times(kernels, operators)]


def xnnpack(*names):
    return [Kernel(name, None, 1.0) for name in names]


@pytest.mark.parametrize(
    ("names", "kinds", "expected"),
    [
        ((CONV, "Add (ND)"), ("CONV_2D", "ADD"), [(0,), (1,)]),
        # Fused: a PAD with what follows it, a requantization with what precedes it.
        ((GEMM, DWCONV), ("CONV_2D", "PAD", "DEPTHWISE_CONV_2D"), [(0,), (1, 2)]),
        ((GEMM, UNARY, GEMM), ("CONV_2D", "MUL", "QUANTIZE", "CONV_2D"), [(0,), (1, 2), (3,)]),
        ((GEMM, "Add (ND)"), ("CONV_2D", "RELU", "ADD"), [(0, 1), (2,)]),
        # A PAD that XNNPACK does not fuse, and a kernel that is no operator of the file.
        (("Constant Pad (ND, X8)", CONV), ("PAD", "CONV_2D"), [(0,), (1,)]),
        (("Mean (ND) Reduce", "Static Reshape (NC)", GEMM), ("MEAN", "FULLY_CONNECTED"), [(0,), (), (1,)]),
        (("Tanh (NC)", "Sigmoid (NC)"), ("TANH", "LOGISTIC"), [(0,), (1,)]),
        (("Something New",), ("CONV_2D",), [()]),
        ((), ("CONV_2D",), []),
    ],
)
def test_kernels_find_their_operators(names, kinds, expected):
    assert groups(xnnpack(*names), file_of(*kinds)) == expected


def test_a_time_names_its_operators_and_its_share():
    kernels = [Kernel("QUANTIZE", 0, 1.0), *xnnpack(DWCONV), Kernel("SOFTMAX", 3, 2.0)]
    first, second, third = operator_times(kernels, file_of("QUANTIZE", "PAD", "DEPTHWISE_CONV_2D", "SOFTMAX"))
    assert (first.kind, first.delegated, first.share) == ("QUANTIZE", False, 0.25)
    assert (second.kind, second.output, second.delegated) == ("PAD+DEPTHWISE_CONV_2D", "t2", True)
    assert (third.operators, third.output, third.share) == ((3,), "t3", 0.5)


def test_without_a_list_of_operators_kernels_stay_anonymous():
    (time,) = operator_times(xnnpack(CONV), None)
    assert (time.operators, time.kind, time.output, time.share) == ((), CONV, None, 1)


def convolutions(tmp_path, channels=(4, 64)):
    """A file of two 3x3 convolutions on one 32x32 input; the second costs 16 times the first."""
    net, outputs = Net(seed=0), []
    source = net.input("image", (32, 32, 16), scale=0.1)
    how = options("Conv2D", strideH=1, strideW=1, dilationHFactor=1, dilationWFactor=1, padding=SAME)
    for index, count in enumerate(channels):
        weights, bias, _ = net.weights(f"{index}", (count, 3, 3, 16), axis=0, source_scale=0.1)
        output = net.tensor(f"conv{index}", (32, 32, count))
        outputs.append(net.operator("CONV_2D", [source, weights, bias], output, options=how, version=3))
    path = tmp_path / "convolutions.tflite"
    path.write_bytes(net.finish(*outputs))
    return path


def test_the_profiler_sees_which_operator_costs(tmp_path):
    path = convolutions(tmp_path)
    (timing,) = benchmark([path], runs=20)
    (profile,) = profiles([timing], runs=20)
    cheap, dear = profile.operators
    assert [time.output for time in profile.operators] == ["conv0", "conv1"]
    assert all(time.delegated and time.kind == "CONV_2D" for time in profile.operators)
    # 16 times the multiplications; kernels of few channels are less efficient.
    assert dear.median_ms > 2 * cheap.median_ms
    assert cheap.share + dear.share == pytest.approx(1)
    assert profile.sum_ms == pytest.approx(cheap.median_ms + dear.median_ms)
    assert profile.median_ms == timing.median_ms
    # What the profiler saw happened within runs of that length, on a machine with other work to do.
    assert 0.3 < profile.run_ms / timing.median_ms < 3


def test_every_operator_of_a_file_is_found_or_fused(tmp_path):
    """A file in two partitions: the depthwise convolution with int4 weights is not XNNPACK's on x86."""
    path = tmp_path / "sample.tflite"
    path.write_bytes(sample(bits_document()))
    own = file_operators(path)
    assert [operator.kind for operator in own] == [
        "QUANTIZE",
        "CONV_2D",
        "PAD",
        "DEPTHWISE_CONV_2D",
        "MEAN",
        "FULLY_CONNECTED",
    ]
    kernels = [Kernel(**kernel) for kernel in ask(profiler.profile, path, threads=1, runs=3, warmup=0)[0]]
    times = operator_times(kernels, own)
    assert [index for time in times for index in time.operators] == list(range(6))
    (timing,) = benchmark([path], runs=1)
    assert sum(not time.delegated for time in times) == timing.ops_outside


def test_the_profiler_uses_the_threads(tmp_path):
    """XNNPACK's own pool: one more thread in the process for every thread but the first."""
    path = convolutions(tmp_path)
    code = (
        "import os, pathlib, sys; from export.benchmark import profiler;"
        "before = len(os.listdir('/proc/self/task'));"
        "profiler.profile(pathlib.Path(sys.argv[1]), threads=int(sys.argv[2]), runs=1, warmup=0);"
        "print(len(os.listdir('/proc/self/task')) - before)"
    )
    counts = [
        int(subprocess.run([sys.executable, "-c", code, path, n], capture_output=True, check=True).stdout)
        for n in ("1", "3")
    ]
    assert counts[1] - counts[0] == 2


def test_the_command_prints_and_writes_profiles(tmp_path, capsys):
    path, out = convolutions(tmp_path), tmp_path / "out.json"
    assert main([f"--model={path}", "--runs=3", "--threads=1,2", "--profile", f"--json={out}"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("the whole file without profiler takes") == 2
    assert "Their medians need not add up to the file's" in printed
    record = json.loads(out.read_text())
    assert [profile["threads"] for profile in record["profiles"]] == [1, 2]
    for profile, result in zip(record["profiles"], record["results"], strict=True):
        assert profile["median_ms"] == result["median_ms"]
        assert [time["output"] for time in profile["operators"]] == ["conv0", "conv1"]
        assert profile["sum_ms"] == pytest.approx(sum(time["median_ms"] for time in profile["operators"]))
