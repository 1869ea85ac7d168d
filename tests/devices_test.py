"""mmx_tf.devices: what a device asks of a run's flags, what it refuses, and what its tool is asked once."""

import importlib.util
import json
import sys

import numpy as np
import pytest
from networks import small_network
from small_files import SAME, Net, TensorType, options, quantization

import mmx_tf
from mmx_tf import devices
from mmx_tf.devices import ethos_u, kept
from mmx_tf.errors import RecipeError
from mmx_tf.recipe.recipe import Recipe
from mmx_tf.report import device as reported
from mmx_tf.run import device_budget
from mmx_tf.workdir import results
from tests.commands import train_main

RUNNABLE = "--float_epochs=1\n--workdir=w\n--image_size=16\n"
ETHOS_U = "ethos-u55-128"
with_vela = pytest.mark.skipif(
    importlib.util.find_spec("ethosu") is None,
    reason="NO PACKAGE ethos-u-vela (extra ethos-u): Vela is not asked",
)


def recipe(*lines: str) -> Recipe:
    return Recipe.from_flagfile(RUNNABLE + "\n".join(lines))


def refused(*lines: str) -> str:
    with pytest.raises(RecipeError) as error:
        recipe(*lines).validate()
    return str(error.value)


def two_convolutions():
    """Two 1x1 convolutions of 4x4 pixels, the second one's input clipped in front of it."""
    net = Net(1)
    grid = quantization([0.1], [0])
    before = net.writer.tensor("image", (1, 4, 4, 16), TensorType.INT8, quantization=grid)
    net.inputs["image"] = before
    for name in ("first", "second"):
        weights, bias, _ = net.weights(name, (16, 1, 1, 16), axis=0, source_scale=0.1, bits=8)
        after = net.writer.tensor(name, (1, 4, 4, 16), TensorType.INT8, quantization=grid)
        window = options("Conv2D", padding=SAME, strideH=1, strideW=1)
        net.operator("CONV_2D", [before, weights, bias], after, options=window, version=3)
        before = after
    return net.finish(before)


def test_a_device_sets_what_is_not_given():
    assert (recipe().device, recipe().weight_storage, recipe().input_type) == ("bops", "int8", "")
    assert recipe("--device=cpu").weight_storage == "int4_xnnpack"
    assert recipe(f"--device={ETHOS_U}").input_type == "int8"
    # Whatever comes first, what is given stays.
    assert recipe("--device=cpu", "--weight_storage=int8").weight_storage == "int8"
    assert recipe("--input_type=uint8", f"--device={ETHOS_U}").input_type == "uint8"
    made = recipe("--device=cpu", "--target_latency=150us")
    assert made.target_latency == 0.15 and Recipe.from_flagfile(made.to_flagfile()) == made


@pytest.mark.parametrize(("text", "found"), [("2ms", 2.0), ("150us", 0.15), ("0.01s", 10.0), ("3", 3.0)])
def test_times_are_milliseconds(text, found):
    assert recipe(f"--target_latency={text}").target_latency == found


@pytest.mark.parametrize("text", ["0ms", "2m", "-1ms", "nan", "ms"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(RecipeError, match=f"--target_latency={text} is not a time"):
        recipe(f"--target_latency={text}")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["--device=ethos"], "--device=ethos is not allowed; allowed: bops, cpu, cortex-m4, ethos-u"),
        (["--target_latency=2ms"], "name it with --device"),
        (["--device=cortex-m4", "--target_latency=2ms"], "they are not time"),
        (["--device=cortex-m4", "--input_type=float32"], "The C source takes codes."),
        (["--device=cpu", "--target_flash=1M", "--weight_bits=8,4"], "--target_bytes"),
        (["--device=fpga", "--output_type=float32"], "QONNX has integers alone."),
        ([f"--device={ETHOS_U}", "--weight_storage=int4"], "Vela reads int8 weights"),
        (["--device=ethos-u65-256", "--target_flash=1M", "--weight_bits=8,4"], "the weights in DRAM"),
        (
            ["--device=cpu", "--target_latency=2ms", "--target_bops=1G,2G"],
            "one number, or empty, with --target_latency and --device=cpu",
        ),
    ],
)
def test_what_cannot_work_is_refused_in_a_sentence(lines, said):
    message = refused(*lines)
    assert said in message and message.endswith(".")


def test_without_vela_the_extra_is_named_before_anything_else(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "ethosu", None)
    flags = [*RUNNABLE.split(), f"--device={ETHOS_U}", f"--workdir={tmp_path / 'run'}"]
    with pytest.raises(SystemExit) as end:
        train_main(flags)
    assert end.value.code == 2 and "pip install 'mmx_tf[ethos-u]'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_what_a_workdir_has_figures_of(tmp_path):
    """A tool that is not there is missed by a run alone that has to ask it."""
    assert not results.is_judged(tmp_path)
    (tmp_path / "metrics.json").write_text('{"baselines": {"int8": {}}}')
    assert results.is_judged(tmp_path) and results.is_judged(tmp_path, ["int8"])
    assert not results.is_judged(tmp_path, ["int8", "uniform"])
    (tmp_path / "metrics.json").write_text('{"base')
    assert not results.is_judged(tmp_path)
    of_targets = recipe("--target_bops=1M,2M")
    assert of_targets.finished_in == ("w/target_1M", "w/target_2M") and recipe().finished_in == ("w",)


def test_an_untrained_trial_is_shown_to_the_devices_that_make_their_own_form(digits):
    search = mmx_tf.augment(small_network(), bit_widths=(8, 4), target_average_bits=4)
    untouched = [variable.numpy() for variable in search.network.weights]
    device_budget.check_trial(recipe("--device=cortex-m4"), search, digits)
    # Flags refuse it as well; here it is the writer of the C source that does.
    in_floats = recipe("--device=cortex-m4", "--output_type=float32")
    with pytest.raises(ValueError, match=r"^--device=cortex-m4: output 'logits_dequantize' is FLOAT32; in C"):
        device_budget.check_trial(in_floats, search, digits)
    # Without a form of its own a device takes every file.
    device_budget.check_trial(recipe("--output_type=float32"), search, digits)
    for variable, before in zip(search.network.weights, untouched, strict=True):
        np.testing.assert_array_equal(variable, before)


def test_a_notebook_gets_the_allowed_names():
    with pytest.raises(devices.DeviceError, match="device='m4': one of 'bops', 'cpu'"):
        devices.named("m4")


def test_a_tool_is_asked_once_about_the_same_bytes(tmp_path):
    device, path, asked = devices.named("cpu"), tmp_path / "costs.json", []

    def ask(data):
        return device.remembered("what", data, lambda: asked.append(data) or len(data))

    with kept.using(kept.Kept(path)) as found:
        assert [ask(b"ab"), ask(b"ab"), ask(b"abc")] == [2, 2, 3]
        found.save()
    assert asked == [b"ab", b"abc"] and found.measured == 2
    with kept.using(kept.Kept(path)) as found:
        assert [ask(b"abc"), ask(b"abcd")] == [3, 4] and found.measured == 1
    # A damaged file is measured anew.
    path.write_text("{")
    with kept.using(kept.Kept(path)):
        assert ask(b"ab") == 2
    assert asked == [b"ab", b"abc", b"abcd", b"ab"]


class _Told(ethos_u.EthosU):
    """A table's arithmetic, from figures of files that are given."""

    def __init__(self, said):
        super().__init__(ETHOS_U)
        self.said = said

    def _estimated(self, data):
        return self.said[data]


def test_latencies_of_layers_and_the_rest_are_computed_by_hand():
    """At 1 MHz a cycle is a microsecond. The rest: 10 - (3 + 2 + 1) = 4 and 12 - (6 + 0 + 1) = 5 us."""
    said = {
        b"4": {
            "clock_hz": 1e6,
            "milliseconds": 0.010,
            "operator_cycles": {"a": 3, "b_input_quantizer": 2, "b": 1},
        },
        b"8": {"clock_hz": 1e6, "milliseconds": 0.012, "operator_cycles": {"a": 6, "b": 1, "bb": 4}},
    }
    table = _Told(said).table("target_latency", {(4, 4): b"4", (8, 4): b"8"}, ["a", "b"])
    assert table.costs["a"] == {(4, 4): pytest.approx(0.003), (8, 4): pytest.approx(0.006)}
    assert table.costs["b"] == {(4, 4): pytest.approx(0.003), (8, 4): pytest.approx(0.001)}
    assert table.fixed == pytest.approx(0.005)


@with_vela
def test_flash_of_layers_is_that_of_their_operators_alone():
    data, device = two_convolutions(), devices.named(ETHOS_U)
    with kept.using(kept.Kept()) as found:
        table = device.table("target_flash", {(8, 8): data}, ["first", "second"])
        said = device._said(data)
        assert found.measured == 3
    costs = [table.costs[name][8, 8] for name in ("first", "second")]
    assert sum(costs) == said["packed_weight_bytes"]
    assert table.fixed == said["off_chip_flash_bytes"] - sum(costs)


def test_the_file_of_one_operator_has_its_input_and_output_alone():
    from mmx_tf.export.reading import tflite_file

    file = tflite_file.parse(ethos_u.alone_in(two_convolutions(), "second"))
    assert [operator.kind for operator in file.operators] == ["CONV_2D"]
    assert [tensor.name for tensor in file.at(file.inputs)] == ["first"]
    assert [tensor.name for tensor in file.at(file.outputs)] == ["second"]
    with pytest.raises(ValueError, match="no operator that makes 'third'"):
        ethos_u.alone_in(two_convolutions(), "third")


def test_a_report_says_whether_a_budget_is_met():
    budget = {"unit": "ms", "figure": 2.5, "target": 2.0, "met": False}
    device = {"name": ETHOS_U, "figures": {"device_latency_ms": 2.5}, "budgets": {"target_latency": budget}}
    assert reported.lines(json.loads(json.dumps(device))) == [
        ("time of one image", "2.5 ms"),
        ("budget of time of one image", "2.5 ms (budget 2): EXCEEDED"),
    ]
    assert reported.lines(None) == []
