"""Lower clips without operators: low-bit tensors in units of their own, cut off by a fused activation."""

import numpy as np
import pytest
import tf_keras as keras
from networks import calibrated

import mmx_tf
from mmx_tf.export.reading import tflite_file
from mmx_tf.folding import clips
from mmx_tf.layers.grid import Grid
from mmx_tf.layers.integer import arithmetic
from mmx_tf.layers.integer.differences import IntegerScale


@pytest.mark.parametrize("bits", range(2, 9))
def test_the_activation_leaves_the_codes_of_the_quantizer_and_no_others(bits):
    most = 2 ** (bits - 1) - 1
    ranges = [(-most, most), *((-below, 2**bits - 1 - below) for below in range(most + 1))]
    for lowest, highest in ranges:
        grid = clips.bounded_grid(low=lowest, high=highest)
        low, high = arithmetic.activation_bounds(clips.BOUNDED, grid)
        assert (low - grid.zero_point, high - grid.zero_point) == (lowest, highest)


def test_a_grid_by_hand():
    assert clips.bounded_grid(low=-7, high=7) == Grid(1 / 7, -121)
    assert arithmetic.activation_bounds(clips.BOUNDED, Grid(1 / 7, -121)) == (-128, -114)


def residual_network():
    """Signed tensors from a convolution, from a carrier, and from the sum at the end of two residuals."""
    inputs = keras.Input((16, 16, 1))
    x = keras.layers.Conv2D(6, 3, strides=2, padding="same", name="stem")(inputs)
    x = keras.layers.Conv2D(6, 1, name="linear")(x)
    x = keras.layers.BatchNormalization(name="linear_bn")(x)
    for block in ("first", "second"):
        y = keras.layers.Conv2D(8, 1, name=f"{block}_expand")(x)
        y = keras.layers.ReLU(name=f"{block}_relu")(y)
        y = keras.layers.Conv2D(6, 3, padding="same", name=f"{block}_project")(y)
        x = keras.layers.Add(name=f"{block}_add")([x, y])
    x = keras.layers.ZeroPadding2D(name="pad")(keras.layers.Conv2D(5, 1, name="behind")(x))
    x = keras.layers.Conv2D(8, 3, strides=2, name="last")(x)
    x = keras.layers.Flatten(name="flatten")(keras.layers.ReLU(name="last_relu")(x))
    return keras.Model(inputs, keras.layers.Dense(10, name="logits")(x), name="residual")


@pytest.fixture(scope="module")
def fixed(digits):
    # Bits of linear, first_expand, first_project, second_expand, second_project, behind, last.
    return calibrated(residual_network(), digits, choice=[1, 2, 1, 0, 1, 1, 2])


@pytest.mark.parametrize("storage", ["int8", "int4_xnnpack"])
def test_a_network_with_signed_codes_is_exact_and_has_no_operator_for_clips(fixed, digits, storage):
    folded = mmx_tf.fold(fixed, weight_storage=storage)
    data = mmx_tf.convert(folded, input_type="int8", weight_storage=storage)
    report = mmx_tf.verify(folded, data, digits.evaluation(batch_size=90))
    assert [tensor.name for tensor in report.tensors if tensor.differing] == []
    assert (report.code_disagreement, report.partitions, report.left_outside) == (0.0, 1, ())
    file = tflite_file.parse(data)
    kinds = [operator.kind for operator in file.operators]
    # One MUL for each block's expansion, which reads a carrier.
    assert kinds.count("MUL") == 2 and "QUANTIZE" not in kinds
    bounded = [
        file.tensors[operator.outputs[0]].name
        for operator in file.operators
        if getattr(operator.options, "fusedActivationFunction", 0) == 2  # RELU_N1_TO_1
    ]
    assert {"stem", "behind", "second_add"} < set(bounded) and len(bounded) == 4
    used = {tensor.name: tensor.distinct for tensor in report.tensors}
    assert used["second_add"] <= 15 and used["stem"] <= 15


def test_units_change_no_logit(fixed, digits, monkeypatch):
    """Beside the network that is folded without them, whose clips are QUANTIZE operators."""
    images = np.concatenate([images for images, _ in digits.evaluation(batch_size=90)])[:90]
    chained = clips.chains(fixed)
    assert {layer.name for layer in chained.values()} == {"behind_input_quantizer"}
    assert len(chained) == 5  # four carriers and the quantizer
    found = mmx_tf.fold(fixed).predict(images, verbose=0)
    monkeypatch.setattr(clips, "into_weights_alone", lambda network: set())
    monkeypatch.setattr(clips, "chains", lambda network: {})
    plain = mmx_tf.fold(fixed)
    assert any(layer.name.endswith("lower_clip") for layer in plain.layers)
    np.testing.assert_array_equal(found, plain.predict(images, verbose=0))


def test_a_factor_counts_in_what_xnnpack_takes():
    """Steps of 1e-6 in a unit of 1e-4: 1e-6 * 1e4 / (1/7) = 0.07, where the steps alone are 7e-6 apart."""
    steps = {"input_grid": Grid(1e-6, 0), "output_grid": Grid(1 / 7, -121)}
    scale = IntegerScale(factor=1e4, name="scale", **steps)
    np.testing.assert_array_equal(scale(np.float32([[-100, 0, 100]])), [[-128, -121, -114]])
    with pytest.raises(ValueError, match="ratio of input to output scale is 7e-06"):
        IntegerScale(factor=1.0, name="scale", **steps)
