"""Damaged files: the benchmark ends in a measurement or in one line and exit code 2, whatever LiteRT does."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_files import Net
from tflite_samples import bits_document, model_of, sample, written

from mmx_tf.export.benchmark import main

_ROOT = Path(__file__).resolve().parent.parent
_WHOLE = sample(bits_document())


# A damaged shape may ask for any amount of memory (here 6 GiB); a crash is expected and needs no dump. By the
# shell, since Python code between fork and exec may wait for ever for a lock that another thread held.
_LIMITED = ["sh", "-c", 'ulimit -v 6291456 && ulimit -c 0 && exec "$@"', "sh"]


def ended(path, data, *more):
    """Exit code and error message of the command on a file of these bytes, in a process of its own."""
    path.write_bytes(data)
    words = [sys.executable, "-m", "export.benchmark", f"--model={path}", "--runs=1", "--warmup=0", *more]
    done = subprocess.run([*_LIMITED, *words], capture_output=True, text=True, cwd=_ROOT, timeout=300)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("INFO: ")]
    if done.returncode == 0:
        assert not lines and str(path) in done.stdout
        return 0, ""
    assert done.returncode == 2 and len(lines) == 1, done.stderr
    assert lines[0].startswith(f"python -m export.benchmark: {path}: ")
    return 2, lines[0]


def changed(change):
    model = model_of(_WHOLE)
    change(model.subgraphs[0])
    return written(model)


def without_bias(graph):
    graph.operators[3].inputs = np.asarray(graph.operators[3].inputs[:2], np.int32)


def scaleless(graph):
    graph.tensors[graph.operators[3].inputs[1]].quantization.scale = None


def huge(graph):
    graph.tensors[graph.inputs[0]].shape = np.array([1, 100_000, 100_000, 3], np.int32)


def of_text(graph):
    graph.tensors[graph.inputs[0]].type = 5


def test_the_whole_file_runs(tmp_path):
    assert ended(tmp_path / "whole.tflite", changed(lambda graph: None), "--profile") == (0, "")


@pytest.mark.parametrize("share", [0.01, 0.1, 0.3, 0.5, 0.9, 0.99])
def test_cut_files(tmp_path, share):
    code, message = ended(tmp_path / "cut.tflite", _WHOLE[: max(8, int(share * len(_WHOLE)))])
    assert code == 2 and "LiteRT cannot run it" in message


@pytest.mark.slow
def test_flipped_bytes(tmp_path):
    """One or two bytes anywhere behind the identifier; the seed is fixed, so are the files."""
    random, codes = np.random.default_rng(0), []
    for _ in range(16):
        data = np.frombuffer(_WHOLE, np.uint8).copy()
        places = random.integers(8, len(data), random.integers(1, 3))
        data[places] ^= random.integers(1, 256, len(places), np.uint8)
        codes.append(ended(tmp_path / "flipped.tflite", data.tobytes())[0])
    assert set(codes) == {0, 2}


@pytest.mark.parametrize("change", [scaleless, huge, of_text])
def test_well_formed_files_that_make_no_sense(tmp_path, change):
    code, message = ended(tmp_path / "changed.tflite", changed(change))
    assert code == 2 and "LiteRT cannot run it" in message


@pytest.mark.parametrize("more", [[], ["--profile"], ["--threads=2"]])
def test_a_crash_names_the_signal_and_the_file(tmp_path, more):
    """LiteRT's depthwise convolution reads a third input whether there is one or not."""
    code, message = ended(tmp_path / "crash.tflite", changed(without_bias), *more)
    assert code == 2 and "crash.tflite: LiteRT crashes on it (signal 11, SIGSEGV)." in message


def test_a_crash_of_the_second_model_comes_before_any_timing(tmp_path, capsys):
    good, bad = tmp_path / "good.tflite", tmp_path / "bad.tflite"
    good.write_bytes(_WHOLE)
    bad.write_bytes(changed(without_bias))
    with pytest.raises(SystemExit) as stopped:
        main([f"--model={good}", f"--model={bad}", "--runs=1000000000"])
    assert stopped.value.code == 2
    assert "bad.tflite: LiteRT crashes on it" in capsys.readouterr().err


def test_a_file_of_which_xnnpack_takes_nothing(tmp_path, capsys):
    """No delegate is no error: the table says that all operators are left to the builtin kernels."""
    net = Net(seed=0)
    source = net.input("x", (4, 4, 2), scale=0.1)
    path = tmp_path / "plain.tflite"
    path.write_bytes(net.file_of("FLOOR_MOD", [source, source], net.tensor("y", (4, 4, 2), scale=0.1)))
    assert main([f"--model={path}", "--runs=1", "--profile"]) == 0
    printed = capsys.readouterr().out
    assert "0 part., 1/1 ops left" in printed and "builtin  FLOOR_MOD" in printed


def test_a_file_for_a_delegate_that_is_not_here(tmp_path, capsys):
    """A custom operator that only its own delegate knows."""
    model = model_of(_WHOLE)
    model.operatorCodes[0].builtinCode = model.operatorCodes[0].deprecatedBuiltinCode = 32
    model.operatorCodes[0].customCode = b"TheirOwn"
    path = tmp_path / "custom.tflite"
    path.write_bytes(written(model))
    with pytest.raises(SystemExit) as stopped:
        main([f"--model={path}"])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert "custom.tflite: LiteRT cannot run it" in error and "TheirOwn" in error and error.count("\n") == 1
