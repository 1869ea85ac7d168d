"""What TensorFlow traces: no more than it has to, and without a warning where many shapes are meant."""

import logging

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from mmx_tf.layers import batch_norm
from mmx_tf.training.task import judged


class Counted(keras.layers.Layer):
    """Notes the shapes with which its Python code is run: once for every trace."""

    def __init__(self):
        super().__init__()
        self.shapes = []

    def call(self, x):
        self.shapes.append(tuple(x.shape))
        return x


def test_a_network_is_judged_in_one_trace():
    keras.utils.set_random_seed(0)
    counted, inputs = Counted(), keras.Input((6,))
    network = keras.Model(inputs, keras.layers.Dense(3)(counted(inputs)), name="network")
    counted.shapes.clear()
    random = np.random.default_rng(0)
    images = random.normal(size=(11, 6)).astype(np.float32)
    labels = random.integers(0, 3, 11).astype(np.int32)
    evaluation = tf.data.Dataset.from_tensor_slices((images, labels)).batch(4)
    found = judged("classification", network, evaluation)
    assert counted.shapes == [(None, 6)]
    kernel, bias = (weight.numpy().astype(np.float64) for weight in network.layers[-1].weights)
    right = (images @ kernel + bias).argmax(1) == labels
    assert found == {"accuracy": pytest.approx(right.mean())}


def test_layers_of_many_shapes_are_no_function_that_is_retraced_by_mistake():
    """As in the pass that sets step sizes, outside of any graph."""
    said = []

    class Listener(logging.Handler):
        def emit(self, record):
            said.append(record.getMessage())

    logger, listener = logging.getLogger("tensorflow"), Listener(logging.WARNING)
    logger.addHandler(listener)
    try:
        for size in range(20, 32):
            x = tf.random.stateless_normal((2, size, size, 3), [0, size])
            y, mean, _ = batch_norm.normalize(x, tf.ones([3]), tf.zeros([3]), epsilon=1e-3)
            np.testing.assert_allclose(mean, tf.reduce_mean(x, [0, 1, 2]), atol=1e-5)
            assert y.shape == x.shape
    finally:
        logger.removeHandler(listener)
    assert not [line for line in said if "retracing" in line]
