"""Gates: hard-sigmoid and sigmoid by hand, their fixed grids, and the table of LOGISTIC."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from mmx_tf.layers.grid import Grid
from mmx_tf.layers.quantizers.gates import (
    HARD_SIGMOID_SCALE,
    LOGISTIC_SCALE,
    GateQuantizer,
    HardSigmoid,
    IntegerLogistic,
)

GATE = Grid(LOGISTIC_SCALE, -128)


def test_hard_sigmoid_by_hand():
    gate = HardSigmoid(slope=1 / 6)
    np.testing.assert_allclose(
        gate(tf.constant([-9.0, -3.0, -1.5, 0.0, 3.0, 4.0])), [0, 0, 0.25, 0.5, 1, 1], atol=1e-7
    )
    x = tf.Variable([-9.0, 1.0, 9.0])
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(gate(x))
    np.testing.assert_allclose(tape.gradient(total, x), [0, 1 / 6, 0], rtol=1e-6)


def test_a_gate_has_256_codes_and_gradients_inside_its_range():
    quantizer = GateQuantizer(scale=HARD_SIGMOID_SCALE)
    x = tf.Variable([0.0, 0.2, 1.0, 0.4 / 255, 0.6 / 255, -0.1, 1.2])
    with tf.GradientTape() as tape:
        y = quantizer(x)
        total = tf.reduce_sum(y)
    np.testing.assert_allclose(y * 255, [0, 51, 255, 0, 1, 0, 255], rtol=1e-6)
    np.testing.assert_array_equal(tape.gradient(total, x), [1, 1, 1, 1, 1, 0, 0])
    assert not quantizer.weights and quantizer.grid == Grid(1 / 255, -128)


def test_the_table_is_the_curve_to_half_a_code():
    layer = IntegerLogistic(input_grid=Grid(0.05, 3), output_grid=GATE)
    codes = np.arange(-128, 128)
    found = layer(codes.astype(np.float32)).numpy()
    curve = 1 / (1 + np.exp(-0.05 * (codes - 3.0)))
    assert np.abs((found + 128) / 256 - curve).max() <= 0.5 / 256 + 1e-6
    assert found[3 + 128] == 0  # x = 0: 0.5 = 128 / 256
    # 255 / 256 is the largest value that the grid has.
    wide = IntegerLogistic(input_grid=Grid(2.0, 0), output_grid=GATE)
    np.testing.assert_array_equal(wide(tf.constant([-128.0, -60.0, 60.0, 127.0])), [-128, -128, 127, 127])


def test_errors_name_the_value():
    with pytest.raises(ValueError, match="slope is -1"):
        HardSigmoid(slope=-1)
    with pytest.raises(ValueError, match="LOGISTIC has Grid"):
        IntegerLogistic(input_grid=Grid(0.1, 0), output_grid=Grid(0.1, 0))


@pytest.mark.parametrize("layer", [HardSigmoid(slope=0.2), GateQuantizer(scale=LOGISTIC_SCALE)])
def test_config_round_trip(layer):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(again) is type(layer) and again.get_config() == layer.get_config()
