"""The benchmark on real .tflite files: a small convolutional network as plain int8 and as float."""

import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from ai_edge_litert.interpreter import Interpreter
from sklearn.datasets import load_digits

from mmx_tf.export.benchmark import Timing, benchmark, main, table, timing
from mmx_tf.run.int8_baseline import int8_baseline

pytestmark = pytest.mark.broad

_ROOT = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Paths of a network as int8, as float, and with an operator in it that XNNPACK does not take."""
    folder = tmp_path_factory.mktemp("models")
    images = (load_digits().images[:64, :, :, None] / 16).astype(np.float32)

    def network(middle):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((8, 8, 1))
        x = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(inputs)
        x = keras.layers.DepthwiseConv2D(3, padding="same", activation="relu6")(middle(x))
        x = keras.layers.GlobalAveragePooling2D()(x)
        return keras.Model(inputs, keras.layers.Dense(10)(x))

    def float32(model):
        return tf.lite.TFLiteConverter.from_keras_model(model).convert()

    plain = network(lambda x: x)
    split = network(lambda x: tf.cumsum(x, axis=1))
    contents = {"int8": int8_baseline(plain, images), "float": float32(plain), "split": float32(split)}
    for name, content in contents.items():
        (folder / f"{name}.tflite").write_bytes(content)
    return {name: folder / f"{name}.tflite" for name in contents}


def _run(*arguments, cwd=_ROOT):
    return subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, cwd=cwd, timeout=120
    )


def test_times_every_model_at_every_number_of_threads(models):
    results = benchmark([models["int8"], models["float"]], threads=(1, 2), runs=7, warmup=1)
    assert [(r.model, r.threads) for r in results] == [
        (str(models[name]), threads) for threads in (1, 2) for name in ("int8", "float")
    ]
    for result in results:
        assert 0 < result.min_ms <= result.median_ms <= result.p90_ms <= result.p95_ms
        assert result.init_ms > 0 and result.first_ms > 0 and result.runs == 7
        assert result.file_bytes == pathlib.Path(result.model).stat().st_size
    for first, second in (results[:2], results[2:]):
        assert first.ratio == 1
        assert second.ratio == second.median_ms / first.median_ms


def test_models_take_turns(models, monkeypatch):
    order = []
    run = timing.run
    monkeypatch.setattr(timing, "run", lambda interpreter: order.append(id(interpreter)) or run(interpreter))
    benchmark([models["int8"], models["float"]], runs=3, warmup=2)
    rounds = order[-10:]
    assert rounds[0] != rounds[1]
    assert rounds == rounds[:2] * 5


def test_counts_what_xnnpack_takes(models):
    whole, split = benchmark([models["int8"], models["split"]], runs=1, warmup=0)
    assert (whole.partitions, whole.ops_outside) == (1, 0)
    # conv | CUMSUM | depthwise, mean, dense: one partition before and one after the operator left out.
    assert (split.partitions, split.ops_outside) == (2, 1)
    assert split.ops == 5


def test_memory_is_the_models_own(models, tmp_path):
    """A network with 32 MB of weights shows them; the small one beside it does not."""
    inputs = keras.Input((1024,))
    outputs = keras.layers.Dense(10)(keras.layers.Dense(8192)(inputs))
    big = tmp_path / "big.tflite"
    big.write_bytes(tf.lite.TFLiteConverter.from_keras_model(keras.Model(inputs, outputs)).convert())
    large, small = benchmark([big, models["int8"]], runs=1, warmup=0)
    if not os.path.exists("/proc/self/status"):  # only Linux tells the peak of a process
        assert large.memory_bytes is None
        return
    assert large.memory_bytes - small.memory_bytes > 25e6
    assert 10e6 < small.peak_rss_bytes < 150e6  # the child's, not this process's with TensorFlow


def test_command_line_writes_table_and_json(models, tmp_path):
    out = tmp_path / "times.json"
    done = _run(
        "-m",
        "export.benchmark",
        f"--model={models['int8']}",
        f"--model={models['float']}",
        "--threads=1,2",
        "--runs=3",
        "--warmup=0",
        f"--json={out}",
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[1].split()[:3] == ["threads", "median", "ratio"]
    assert [line.split()[0] for line in lines[2:]] == ["1", "1", "2", "2"]
    record = json.loads(out.read_text())
    assert record["schema"] == 2 and record["profiles"] == []
    assert [entry["threads"] for entry in record["results"]] == [1, 1, 2, 2]
    assert set(record["results"][0]) == {field.name for field in dataclasses.fields(Timing)}


def test_needs_no_tensorflow_and_nothing_of_this_project(models, tmp_path):
    code = (
        "import sys; from export import benchmark; "
        f"assert benchmark.main(['--model={models['int8']}', '--runs=1']) == 0; "
        "print(sorted({name.split('.')[0] for name in sys.modules} & "
        "{'tensorflow', 'tf_keras', 'keras', 'mmx_tf', 'layers', 'tensorflow_model_optimization'}))"
    )
    done = _run("-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    # On a device there is the folder and nothing else.
    shutil.copytree(_ROOT / "export" / "benchmark", tmp_path / "benchmark")
    done = _run("-m", "benchmark", f"--model={models['int8']}", "--runs=1", "--profile", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "XNNPACK  CONV_2D" in done.stdout


def test_table_says_when_the_runtime_does_not_tell(models):
    (result,) = benchmark([models["int8"]], runs=1, warmup=0)
    quiet = dataclasses.replace(result, ops=None, partitions=None, ops_outside=None, memory_bytes=None)
    assert "1 part., 0/" in table([result])
    assert table([quiet]).splitlines()[1].split().count("?") == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--model"),
        (["--model=none.tflite"], "none.tflite: no such file"),
        (["--model=text.tflite"], "text.tflite: not a .tflite file"),
        (["--model=empty.tflite"], "empty.tflite: not a .tflite file"),
        (["--model=folder.tflite"], "folder.tflite: a folder, not a .tflite file"),
        (["--model=good.tflite", "--threads=0"], "'0' is not a list of positive integers"),
        (["--model=good.tflite", "--threads=1,two"], "'1,two' is not a list of positive integers"),
        (["--model=good.tflite", "--threads=-1"], "'-1' is not a list of positive integers"),
        (["--model=good.tflite", "--runs=0"], "runs=0"),
        (["--model=good.tflite", "--runs=many"], "'many'"),
        (["--model=good.tflite", "--warmup=-1"], "warmup=-1"),
        (["--model=good.tflite", "--json=nowhere/out.json"], "nowhere/out.json: its folder does not exist"),
        (["--model=good.tflite", "extra"], "extra"),
        (["--model=good.tflite", "--adb_serial=1"], "--adb_serial is for a device; give --adb"),
        (["--model=good.tflite", "--adb"], "--adb needs --benchmark_model"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(models, arguments, message, tmp_path, monkeypatch, capsys):
    good = models["int8"].read_bytes()
    (tmp_path / "good.tflite").write_bytes(good)
    (tmp_path / "text.tflite").write_text("this is no flatbuffer")
    (tmp_path / "empty.tflite").write_bytes(b"")
    (tmp_path / "folder.tflite").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("mmx_tf benchmark: ") and error.count("\n") == 1


def test_int8_baseline_is_integer_throughout_and_close(models):
    interpreters = {name: Interpreter(model_path=str(models[name])) for name in ("int8", "float")}
    outputs = {}
    for name, interpreter in interpreters.items():
        interpreter.allocate_tensors()
        (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()
        scale, zero_point = source["quantization"]
        image = load_digits().images[:1, :, :, None] / 16
        fed = np.round(image / scale + zero_point).clip(-128, 127) if name == "int8" else image
        interpreter.set_tensor(source["index"], fed.astype(source["dtype"]))
        interpreter.invoke()
        outputs[name] = interpreter.get_tensor(target["index"]).astype(np.float64)
        if name == "int8":
            scale, zero_point = target["quantization"]
            outputs[name] = (outputs[name] - zero_point) * scale
    assert {np.dtype(tensor["dtype"]) for tensor in interpreters["int8"].get_tensor_details()} <= {
        np.dtype("int8"),
        np.dtype("int32"),
    }
    np.testing.assert_allclose(outputs["int8"], outputs["float"], atol=0.05 * np.abs(outputs["float"]).max())


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((0, 8, 8, 1)), r"shape \(0, 8, 8, 1\) do not fit"),
        (np.zeros((2, 8, 8)), r"shape \(n, 8, 8, 1\)"),
        (np.zeros((2, 9, 8, 1)), r"shape \(2, 9, 8, 1\) do not fit"),
    ],
)
def test_int8_baseline_refuses(images, message):
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match=message):
        int8_baseline(model, images)


def test_empty_calls_are_refused(models):
    with pytest.raises(ValueError, match="no model"):
        benchmark([])
    with pytest.raises(ValueError, match="threads"):
        benchmark([models["int8"]], threads=())
