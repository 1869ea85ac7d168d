"""`python -m mmx_tf.check`: what can be done with a network, told without data."""

import sys

import keras as keras3
import pytest
import tensorflow as tf
import tf_keras as keras
from c_source_operators_test import convolved
from networks import of_long_sums, small_network
from qonnx_models import needed
from small_files import Net, options

import mmx_tf
from mmx_tf import __main__ as program
from mmx_tf import check
from mmx_tf.checking import forms
from mmx_tf.checking.text import text

L = keras.layers


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("networks")
    small_network().save(root / "good.keras")
    inputs = keras.Input((8, 8, 3))
    x = L.LayerNormalization(name="norm")(L.Conv2D(4, 3, name="stem")(inputs))
    x = L.Conv2D(4, 3, activation="exponential", name="grows")(x)
    x = L.Dense(3, name="logits")(L.LSTM(4, name="memory")(L.Reshape((16, 4))(x)))
    keras.Model(inputs, x, name="bad").save(root / "bad.keras")
    (root / "text.keras").write_text("no network")
    return root


def test_a_network_that_goes_all_the_way(folder, capsys):
    assert check.main([str(folder / "good.keras")]) == 0
    said = capsys.readouterr().out
    assert "It can be searched (3 of 5 weighted layers have bits to choose), trained and exported." in said
    assert "XNNPACK: one partition; outside QUANTIZE." in said
    assert "TensorFlow Lite Micro: has all operators." in said
    assert "C source (--device=cortex-m4): can be made, " in said
    assert " of constants at 8-bit activations and 4-bit weights.\n" in said
    lines = {line.split()[0]: line for line in said.splitlines() if line}
    network = mmx_tf.augment(small_network(), target_average_bits=4)
    for cost in network.budget.costs:
        assert lines[cost.name].endswith("8 (an end)" if cost.end else "searched")


def test_everything_that_has_to_be_changed_is_told_at_once(folder, capsys):
    assert check.main([str(folder / "bad.keras")]) == 1
    said = capsys.readouterr().out
    rows = {line.split()[0]: line for line in said.split("It cannot")[0].splitlines() if line}
    for name in ("norm", "memory"):
        assert rows[name].endswith("cannot be used") and f"* Layer {name!r} (" in said
    assert not rows["stem"].endswith("cannot be used")
    assert "Change this (2):" in said


def test_a_layer_without_an_integer_form_is_told(capsys, tmp_path):
    inputs = keras.Input((8, 8, 3))
    x = L.Softmax(axis=1, name="grows")(L.Conv2D(4, 3, name="stem")(inputs))
    x = L.Dense(3, name="logits")(L.Flatten()(L.Conv2D(4, 3, name="middle")(x)))
    found = mmx_tf.check_network(keras.Model(inputs, x, name="without"))
    assert not found.exportable and found.file is None
    assert [layer.name for layer in found.layers if layer.problem] == ["grows"]
    assert "softmax of axis 1, and TFLite of the last one: use axis=-1" in found.problems[0]


def test_an_operator_without_an_integer_form_is_told_with_what_to_do():
    inputs = keras.Input((8, 8, 3))
    x = tf.reverse(L.Conv2D(4, 3)(inputs), [1])
    found = mmx_tf.check_network(keras.Model(inputs, L.Dense(3)(L.Flatten()(L.Conv2D(4, 3)(x)))))
    assert [row.name for row in found.layers if row.problem] == ["tf.reverse"]
    assert "'tf.reverse' (TFOpLambda): it has no integer form yet. Write it with layers" in found.problems[0]


@needed
def test_what_qonnx_does_not_have_is_told_by_its_operator():
    found = mmx_tf.check_network(of_long_sums())
    assert found.exportable and "(FULLY_CONNECTED) has sums of up to " in found.qonnx.refusal
    assert f"QONNX (--device=fpga): refused: {found.qonnx.refusal}" in text(found).splitlines()
    assert not found.c_source.refusal


def test_what_c_source_does_not_have_is_told_by_its_operator():
    net = Net(0)
    image, codes = net.input("image", (4, 4, 2)), net.tensor("codes", (8, 8, 1))
    data = net.file_of("DEPTH_TO_SPACE", [image], codes, options=options("DepthToSpace"))
    assert forms.as_c_source(data).refusal.startswith("operator 0 (DEPTH_TO_SPACE) is not among")


def test_without_onnx_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    _, data = convolved("CONV_2D", (5, 6, 3), (7, 3, 3, 3), (5, 6, 7))
    assert "pip install 'mmx_tf[fpga]'" in forms.as_qonnx(data).missing
    assert forms.as_c_source(data).facts["flash_bytes"] > 7 * 3 * 3 * 3


def test_a_network_of_keras_3_that_cannot_be_imported_is_told_as_any_other(tmp_path, capsys):
    K = keras3.layers
    network = keras3.Sequential([K.Input((8, 8, 3)), K.Conv2D(4, 3), K.LayerNormalization(name="norm")])
    network.save(tmp_path / "norm.keras")
    for given in (network, str(tmp_path / "norm.keras")):
        found = mmx_tf.check_network(given)
        assert not found.exportable and "'norm' (LayerNormalization, Keras 3)" in found.problems[0]
    assert check.main([str(tmp_path / "norm.keras")]) == 1
    said = capsys.readouterr().out
    assert "It cannot be searched and exported as it is. Change this (1):\n* 'norm'" in said


def test_a_subclassed_network_that_was_not_called_is_told_of():
    class Mine(keras.Model):
        def call(self, x):
            return x

    found = mmx_tf.check_network(Mine(name="mine"))
    assert (found.name, found.exportable) == ("mine", False) and "call it on a batch" in found.problems[0]


def test_operators_of_one_kind_are_counted_together():
    inputs = keras.Input((16,))
    x = L.Dense(4, name="b")(L.ReLU()(L.Dense(8, name="a")(inputs)))
    found = mmx_tf.check_network(keras.Model(inputs, L.Dense(4, name="c")(L.ReLU()(x))))
    assert text(found).count("FULLY_CONNECTED") == 1 and "3 FULLY_CONNECTED" in text(found)


def test_files_are_told_one_by_one(folder, capsys):
    names = [str(folder / name) for name in ("text.keras", "bad.keras", "none.keras")]
    assert program.main(["check", *names]) == 2
    said = capsys.readouterr()
    assert "network 'bad'" in said.out
    assert f"{names[0]}: " in said.err and f"there is no file {names[2]!r}" in said.err
