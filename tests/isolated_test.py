"""Asking LiteRT in another process: a function's answer, or why it gave no answer."""

import time

import pytest
from tflite_samples import sample

from mmx_tf.export.benchmark import interpreter, profiler
from mmx_tf.export.benchmark.isolated import RefusalError, TooLongError, ask
from mmx_tf.export.benchmark.timing import file_operators
from mmx_tf.export.running.partitions import delegated_ops


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "sample.tflite"
    path.write_bytes(sample())
    return path


def test_a_function_gets_the_path_or_the_bytes(path):
    listed = ask(interpreter.undelegated, path)
    assert listed[1]["kind"] == "CONV_2D" and file_operators(path)[1].kind == "CONV_2D"
    found = delegated_ops(sample())
    assert ask(delegated_ops, sample()) == {
        "partitions": found.partitions,
        "left_outside": [list(entry) for entry in found.left_outside],
    }


def test_what_takes_too_long_is_ended(path):
    begin = time.monotonic()
    with pytest.raises(TooLongError, match=r"^more than 3 s$"):
        ask(profiler.profile, path, limit_s=3, threads=1, runs=10**9, warmup=0)
    assert time.monotonic() - begin < 12


@pytest.mark.parametrize("arguments", [{"threads": []}, {"nothing": 1}])
def test_an_error_is_one_line(path, arguments):
    with pytest.raises(RefusalError, match=r"^[^\n]+$"):
        ask(interpreter.memory, path, **arguments)
