"""Layers and operators of Keras 3 one by one: equal in tf_keras, or refused with their name."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras3_networks import SHAPE, L, assert_equal, functional
from signals_test import IN_KERAS3
from signals_test import ONE_LAYER as SIGNALS
from signals_test import OPERATORS_OF_KERAS3 as SIGNAL_OPERATORS

from mmx_tf.network import keras3_operators
from mmx_tf.network.canonical import UnsupportedLayerError
from mmx_tf.network.keras3 import as_tf_keras
from mmx_tf.network.keras3_layers import OF_TENSORFLOW
from mmx_tf.network.kinds import OF_KERAS3

ops = keras.ops

LAYERS = {
    "conv": lambda: L.Conv2D(5, (3, 2), strides=2, padding="same", activation="relu6"),
    "dilated": lambda: L.Conv2D(4, 3, dilation_rate=2, use_bias=False, kernel_regularizer="l2"),
    "groups": lambda: L.Conv2D(6, 3, groups=3),
    "transposed": lambda: L.Conv2DTranspose(5, 3, 2, padding="same", activation="relu6"),
    "transposed valid": lambda: L.Conv2DTranspose(5, (2, 4), (3, 2), use_bias=False),
    "upsampling": lambda: L.UpSampling2D((2, 3)),
    "bilinear upsampling": lambda: L.UpSampling2D(2, interpolation="bilinear"),
    "resizing": lambda: L.Resizing(5, 11),
    "nearest resizing": lambda: L.Resizing(16, 5, interpolation="nearest"),
    "depthwise": lambda: L.DepthwiseConv2D(3, strides=2, depth_multiplier=2, activation="tanh"),
    "separable": lambda: L.SeparableConv2D(5, 3, padding="same", depth_multiplier=2, activation="silu"),
    "dense on an image": lambda: L.Dense(4, activation="softmax"),
    "batch norm": lambda: L.BatchNormalization(epsilon=0.1, momentum=0.5),
    "batch norm without scale": lambda: L.BatchNormalization(scale=False),
    "relu": lambda: L.ReLU(max_value=1.5, negative_slope=0.25, threshold=0.5),
    "relu6": lambda: L.ReLU(6),
    "leaky relu": lambda: L.LeakyReLU(negative_slope=0.05),
    "prelu": lambda: L.PReLU(alpha_initializer=keras.initializers.RandomUniform(0, 1, seed=1)),
    "prelu per channel": lambda: L.PReLU(
        alpha_initializer=keras.initializers.RandomUniform(0, 1, seed=1), shared_axes=[1, 2]
    ),
    "elu": lambda: L.ELU(alpha=0.5),
    "TensorFlow's relu": lambda: L.Conv2D(4, 3, activation=tf.nn.relu),
    "TensorFlow's leaky relu": lambda: L.Activation(tf.nn.leaky_relu),
    "TensorFlow's silu": lambda: L.Dense(4, activation=tf.nn.silu),
    "softmax": lambda: L.Softmax(axis=2),
    "global average": lambda: L.GlobalAveragePooling2D(keepdims=True),
    "global max": lambda: L.GlobalMaxPooling2D(),
    "average": lambda: L.AveragePooling2D(3, strides=2, padding="same"),
    "max": lambda: L.MaxPooling2D((2, 3)),
    "padding": lambda: L.ZeroPadding2D(((0, 1), (2, 3))),
    "cropping": lambda: L.Cropping2D(((1, 0), (2, 1))),
    "flatten": lambda: L.Flatten(),
    "reshape": lambda: L.Reshape((16, -1)),
    "permute": lambda: L.Permute((2, 3, 1)),
    "dropout": lambda: L.Dropout(0.4),
    "spatial dropout": lambda: L.SpatialDropout2D(0.4),
    "rescaling": lambda: L.Rescaling(1 / 127.5, offset=-1),
    "rescaling by channel": lambda: L.Rescaling(np.array([1.0, 2.0, 3.0]), offset=[1, 2, 3]),
    "normalization": lambda: L.Normalization(mean=[0.5, 1.0, 2.0], variance=[1.0, 2.0, 3.0]),
    **{
        f"TensorFlow's {function.__name__}": lambda function=function: L.Conv2D(4, 3, activation=function)
        for function in OF_TENSORFLOW
    },
    "layer as activation": lambda: L.Conv2D(4, 3, activation=L.ReLU(6, negative_slope=0.1)),
    "invalid name": lambda: L.Conv2D(4, 3, name="my conv"),
    **{
        f"activation {name}": lambda name=name: L.Activation(name)
        for name in (
            *("linear", "relu", "relu6", "sigmoid", "softmax", "tanh", "elu", "selu", "gelu", "softplus"),
            *("softsign", "exponential", "mish", "silu", "swish", "celu"),
            *("leaky_relu", "hard_sigmoid", "hard_silu", "hard_swish"),
        )
    },
}


@pytest.mark.parametrize("case", LAYERS)
def test_layers(case):
    assert_equal(functional(lambda x: LAYERS[case]()(x)))


MERGED = {
    "add": lambda x: L.Add()([x, 2 * x, x]),
    "subtract": lambda x: L.Subtract()([x, L.ReLU()(x)]),
    "multiply per channel": lambda x: L.Multiply()([x, L.GlobalAveragePooling2D(keepdims=True)(x)]),
    "average": lambda x: L.Average()([x, L.ReLU()(x)]),
    "maximum": lambda x: L.Maximum()([x, -1 * x]),
    "minimum": lambda x: L.Minimum()([x, -1 * x]),
    "concatenate": lambda x: L.Concatenate(axis=1)([x, L.ReLU()(x)]),
}
OPERATORS = {
    "relu": lambda x: ops.relu(x),
    "relu6": lambda x: ops.relu6(x),
    "relu of activations": lambda x: keras.activations.relu(x, max_value=1.0, negative_slope=0.5),
    "leaky": lambda x: ops.leaky_relu(x, negative_slope=0.3),
    "clip": lambda x: ops.clip(x, 0, 1.5),
    "sigmoid": lambda x: keras.activations.sigmoid(x),
    "hard sigmoid": lambda x: ops.hard_sigmoid(x),
    "silu": lambda x: keras.activations.silu(x),
    "hard silu": lambda x: ops.hard_silu(x),
    "tanh": lambda x: ops.tanh(x),
    "gelu": lambda x: ops.gelu(x, approximate=False),
    "approximate gelu": lambda x: ops.gelu(x),
    "elu": lambda x: ops.elu(x, alpha=0.5),
    "softsign": lambda x: ops.softsign(x),
    "exponential": lambda x: ops.exp(x),
    "selu": lambda x: ops.selu(x),
    "softplus": lambda x: ops.softplus(x),
    "softmax": lambda x: ops.softmax(x, axis=1),
    "add": lambda x: x + ops.relu(x),
    "subtract": lambda x: x - ops.relu(x),
    "multiply": lambda x: x * ops.mean(x, axis=(1, 2), keepdims=True),
    "maximum": lambda x: ops.maximum(x, 0.5 * x),
    "minimum": lambda x: ops.minimum(x, 0.5 * x),
    "larger than 0": lambda x: ops.maximum(x, 0),
    "bounded": lambda x: ops.minimum(ops.maximum(0.0, x), 0.5),
    "numbers": lambda x: 3.0 - (x * np.float32(2) / 127.5 - 1 + 0.25),
    "quotient": lambda x: ops.divide(x, 2.5),
    "cast": lambda x: ops.cast(x, "float64"),
    "concatenate": lambda x: ops.concatenate([x, ops.relu(x)], axis=-1),
    "mean": lambda x: ops.mean(x, axis=(-2, 1)),
    "max": lambda x: ops.max(x, axis=(1, 2), keepdims=True),
    "average pool": lambda x: ops.average_pool(x, 2, strides=1, padding="same"),
    "max pool": lambda x: ops.max_pool(x, (2, 3)),
    "reshape": lambda x: ops.reshape(x, (-1, 16, 12)),
    "slice": lambda x: x[:, ::2, 1:-1],
    "index": lambda x: x[..., 1],
    "transpose": lambda x: ops.transpose(x, (0, 3, 1, 2)),
    "resize": lambda x: ops.image.resize(x, (5, 12)),
    "resize to the nearest": lambda x: ops.image.resize(x, (16, 16), interpolation="nearest"),
    "pad": lambda x: ops.pad(x, [[0, 0], [1, 0], [2, 3], [0, 0]]),
}


@pytest.mark.parametrize("case", [*MERGED, *(f"operator {name}" for name in OPERATORS)])
def test_merging_layers_and_operators(case):
    body = MERGED.get(case) or OPERATORS[case.removeprefix("operator ")]
    assert_equal(functional(lambda x: body(L.Conv2D(3, 1)(x))))


def test_hard_sigmoid_has_the_formula_of_keras_3():
    network = as_tf_keras(functional(L.Activation("hard_sigmoid"), (1, 1, 5)))
    # relu6(x + 3) / 6; that of tf_keras would give 0.2 and 0.7 in the second and fourth place.
    result = network(np.array([-4, -1.5, 0, 1, 3], "float32").reshape(1, 1, 1, 5))
    np.testing.assert_allclose(np.ravel(result), [0, 0.25, 0.5, 2 / 3, 1], atol=1e-6)


class Custom(L.Layer):
    def call(self, x):
        return x


class ReLU(L.ReLU):
    pass


def with_lora(x):
    dense = L.Dense(4, name="bad")
    x = dense(x)
    dense.enable_lora(2)
    return x


def with_own_weight(x):
    dense = L.Dense(4, name="bad")
    x = dense(x)
    dense._tracker.unlock()
    dense.add_weight(shape=(7,), name="own")
    return x


def quantized(x):
    dense = L.Dense(4, name="bad")
    x = dense(x)
    dense.quantize("int8")
    return x


REFUSED = {
    "lacking layer": (lambda x: L.RepeatVector(2, name="bad")(L.Flatten()(x)), "RepeatVector", "Conv2D"),
    "layer norm": (lambda x: L.LayerNormalization(name="bad")(x), "LayerNormalization", "BatchNormalization"),
    "attention": (lambda x: L.MultiHeadAttention(2, 3, name="bad")(x, x), "as matrices", "squeeze-excite"),
    "custom layer": (lambda x: Custom(name="bad")(x), "Custom", "Conv2D"),
    "impostor": (lambda x: ReLU(name="bad")(x), "ReLU", "Conv2D"),
    "own activation": (lambda x: L.Conv2D(2, 1, activation=np.tanh, name="bad")(x), "tanh", "hard_silu"),
    "other formula": (lambda x: L.Activation(ops.gelu, name="bad")(x), "gelu", "hard_silu"),
    "renorm": (lambda x: L.BatchNormalization(renorm=True, name="bad")(x), "renorm=True", "Build it without"),
    "lora": (with_lora, "lora_rank=2", "Build it without"),
    "quantized": (quantized, "quantization_config=Int8QuantizationConfig", "Build it without"),
    "weights in an activation": (
        lambda x: L.Dense(4, activation=L.Dense(5), name="bad")(x),
        "activation 'Dense'",
        "LeakyReLU",
    ),
    "weights of one's own": (with_own_weight, "[(3, 4), (4,), (7,)]", "[(3, 4), (4,)]"),
    "other operation": (lambda x: ops.sqrt(x), "Sqrt", "Concatenate"),
    "mean of one axis": (lambda x: ops.mean(x, axis=1), "Mean", "Build the network with layers"),
    "unlike ranks": (lambda x: x + ops.mean(x, axis=(1, 2)), "Add", "Build the network with layers"),
    "reshape of the batch": (lambda x: ops.reshape(x, (-1, 3)), "Reshape", "Build the network with layers"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_equal_is_refused_with_its_name(case):
    body, named, advice = REFUSED[case]
    with pytest.raises(UnsupportedLayerError) as error:
        as_tf_keras(functional(body))
    assert named in str(error.value) and advice in str(error.value)
    assert error.value.layer_name in str(error.value)
    assert error.value.layer_name == "bad" or body(keras.Input(SHAPE)).name != "bad"


def graph_of(bodies, shape):
    inputs = keras.Input(shape)
    return keras.Model(inputs, [body(inputs) for body in bodies])


def test_the_messages_list_exactly_what_is_tried():
    """Every layer and operator that a message offers is in a case of `test_layers` and its like, and runs."""
    images = [lambda x, make=make: make()(x) for make in LAYERS.values()]
    signals = [lambda x, make=make: make(L)(x) for name, make in SIGNALS.items() if name in IN_KERAS3]
    networks = [
        graph_of([*images, *MERGED.values(), *OPERATORS.values()], SHAPE),
        graph_of([*signals, *SIGNAL_OPERATORS.values()], (24, 3)),
    ]
    tried = {type(operation).__name__ for network in networks for operation in network.operations}
    assert {*OF_KERAS3, *keras3_operators.OPERATORS} - tried == set()
