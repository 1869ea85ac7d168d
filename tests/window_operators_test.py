"""TensorFlow's operators on windows, borders, blocks and bounds: the layers they equal, or none."""

import pytest
import tensorflow as tf
import tf_keras as keras
from canonical_test import checked, classes_of, functional

L = keras.layers
LAYERS = {
    "max pooling": (lambda x: tf.nn.max_pool2d(x, 3, (2, 1), "SAME"), ["MaxPooling2D"]),
    "max pooling of four numbers": (
        lambda x: tf.nn.max_pool(x, [1, 2, 3, 1], [1, 2, 2, 1], "VALID"), ["MaxPooling2D"],
    ),
    "average pooling": (lambda x: tf.nn.avg_pool2d(x, (2, 3), 1, "SAME"), ["AveragePooling2D"]),
    "average pooling by name": (
        lambda x: tf.nn.avg_pool(input=x, ksize=2, strides=2, padding="VALID"), ["AveragePooling2D"],
    ),
    "padding": (lambda x: tf.pad(x, [[0, 0], [1, 2], [0, 3], [0, 0]]), ["ZeroPadding2D"]),
    "padding by name": (
        lambda x: tf.pad(tensor=x, paddings=tf.constant([[0, 0], [1, 1], [1, 1], [0, 0]])),
        ["ZeroPadding2D"],
    ),
    "blocks": (
        lambda x: tf.nn.depth_to_space(L.Conv2D(12, 1)(x), 2),
        ["Conv2D", "Reshape", "Permute", "Reshape"],
    ),
    "clip": (lambda x: tf.clip_by_value(x, 0, 0.5), ["ReLU"]),
    "larger than 0": (lambda x: tf.maximum(0.0, x), ["ReLU"]),
    "smaller behind a relu": (lambda x: tf.minimum(tf.nn.relu(x), 0.5), ["ReLU", "ReLU"]),
    "largest of all": (lambda x: tf.reduce_max(x, axis=(1, 2)), ["MaxPooling2D", "Flatten"]),
    "largest that is kept": (lambda x: tf.math.reduce_max(x, [1, 2], True), ["MaxPooling2D"]),
    "without axes": (
        lambda x: tf.squeeze(tf.reduce_mean(x, [1, 2], keepdims=True), [1, 2]),
        ["GlobalAveragePooling2D", "Reshape"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", LAYERS)
def test_an_operator_is_the_layers_that_it_equals(case):
    body, kinds = LAYERS[case]
    assert classes_of(checked(functional(body))) == kinds


def test_a_signal_is_padded_too():
    checked(functional(lambda x: L.Conv1D(2, 3)(tf.pad(x, [[0, 0], [2, 1], [0, 0]])), (24, 3)))


@pytest.mark.parametrize(
    "body",
    [
        lambda x: tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 2]]),
        lambda x: tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], constant_values=1.0),
        lambda x: tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], "REFLECT"),
        lambda x: tf.clip_by_value(x, -1.0, 1.0),
        lambda x: tf.minimum(x, 0.5),
        lambda x: tf.minimum(L.LeakyReLU()(x), 0.5),
        lambda x: tf.maximum(x, 0.5),
        lambda x: tf.reduce_max(x, axis=-1),
        lambda x: tf.squeeze(tf.reduce_mean(x, [1, 2], keepdims=True)),
    ],
    ids=[
        "channels", "ones", "mirrored", "from below 0", "of any sign", "of a slope",
        "from above 0", "of channels", "of all axes",
    ],
)  # fmt: skip
def test_what_no_layer_computes_stays_an_operator(body):
    kinds = classes_of(checked(functional(body)))
    assert "TFOpLambda" in kinds
