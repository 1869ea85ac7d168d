"""Epoch checkpoints: restored into the network that was saved, refused for another one."""

import numpy as np
import pytest
import tf_keras as keras

from mmx_tf.checkpoints import EpochCheckpoint
from mmx_tf.recipe import RecipeError


def compiled(units):
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Dense(units)(inputs))
    model.compile(optimizer="sgd", loss="mse")
    model.optimizer.build(model.trainable_variables)
    return model


def trained(folder, units=2):
    model = compiled(units)
    checkpoint = EpochCheckpoint(folder, model)
    model.fit(np.ones((4, 3)), np.ones((4, units)), epochs=2, verbose=0, callbacks=[checkpoint])
    return model


def test_the_same_network_goes_on_where_it_stopped(tmp_path):
    model, again = trained(tmp_path), compiled(2)
    assert EpochCheckpoint(tmp_path, again).restore() == 2
    for expected, found in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_another_network_is_refused_with_the_way_out(tmp_path):
    trained(tmp_path)
    with pytest.raises(RecipeError, match=r"ckpt-2 is of another network.*new --workdir"):
        EpochCheckpoint(tmp_path, compiled(5)).restore()
