"""Shapes of networks that quantizers are asked about most: to a verified file, or refused before training.

They are written as in public threads on tfmot, QKeras, larq, AI Edge and others. Nothing is trained here.
"""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

import mmx_tf
from mmx_tf.network.canonical import canonicalize

L = keras.layers
IMAGES = np.random.default_rng(0).normal(size=(24, 16, 16, 3)).astype(np.float32)


def conv(x, width, size=3, **options):
    return L.Conv2D(width, size, **{"padding": "same", **options})(x)


def pooled(x, classes=4, **options):
    return L.Dense(classes, **options)(L.GlobalAveragePooling2D()(x))


def nested(width, size):
    inputs = L.Input(size)
    x = L.BatchNormalization()(conv(inputs, width, strides=2, use_bias=False))
    return keras.Model(inputs, L.ReLU(6.0)(x))


def dense_with_a_norm(x):
    x = L.Dense(24, activation=tf.nn.relu)(L.Flatten()(x))
    return L.Dense(4, activation=tf.nn.softmax)(L.BatchNormalization()(x))


def dense_on_images(x):
    x = L.MaxPooling2D()(L.BatchNormalization()(L.Dense(5)(x)))
    x = L.Dropout(0.4)(L.MaxPooling2D()(L.Dense(5)(x)))
    return L.GlobalMaxPooling2D()(conv(x, 6, padding="valid", activation="softmax"))


def norm_behind_an_activation(x):
    x = L.BatchNormalization()(conv(x, 6, 5, strides=2, activation="relu"))
    return L.Softmax()(pooled(L.BatchNormalization()(conv(x, 6, activation="sigmoid"))))


def rescaled_transfer_learning(x):
    x = nested(6, (16, 16, 3))(L.Rescaling(1 / 127.5, offset=-1.0)(x))
    x = L.Dropout(0.2)(L.GlobalAveragePooling2D()(nested(8, (8, 8, 6))(x)))
    return L.Dense(4, activation="softmax")(L.BatchNormalization()(L.Dense(12, activation="relu")(x)))


def pyramid_with_a_shared_head(x):
    fine = conv(x, 6, strides=2, activation="relu")
    coarse = conv(fine, 8, strides=2, activation="relu")
    fine = L.Add()([conv(fine, 6, 1), L.UpSampling2D()(conv(coarse, 6, 1))])
    coarse = conv(coarse, 6, 1)
    head, last = L.Conv2D(6, 3, padding="same", activation="relu"), L.Conv2D(4, 1)
    rows = [L.Reshape((-1, 4))(last(head(level))) for level in (fine, coarse)]
    return L.Concatenate(axis=1)(rows)


def fused_resolutions(x):
    high = conv(x, 6, strides=2, activation="relu")
    low = conv(high, 8, strides=2, activation="relu")
    up = L.UpSampling2D(2)(L.BatchNormalization()(conv(low, 6, 1, use_bias=False)))
    down = L.BatchNormalization()(conv(high, 8, strides=2, use_bias=False))
    high, low = L.ReLU()(L.Add()([high, up])), L.ReLU()(L.Add()([low, down]))
    return L.Concatenate()([pooled(high), pooled(low)])


def operators_with_keywords(x):
    x = tf.nn.relu(features=tf.math.add(x=conv(x, 6), y=0.5))
    gate = tf.math.sigmoid(x=conv(tf.math.reduce_mean(input_tensor=x, axis=[1, 2], keepdims=True), 6, 1))
    x = tf.math.multiply(x=x, y=gate)
    x = tf.reshape(tensor=tf.math.reduce_max(conv(x, 4), axis=[1, 2]), shape=(-1, 4))
    return L.Dense(4)(x)


def clipped_by_hand(x):
    x = tf.clip_by_value(conv(x, 6), 0.0, 6.0)
    x = tf.minimum(tf.maximum(conv(x, 6), 0.0), 6.0)
    x = tf.nn.max_pool2d(tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]), 3, 2, "VALID")
    return pooled(tf.nn.avg_pool2d(conv(x, 6, activation="relu"), ksize=2, strides=2, padding="VALID"))


def shuffled_channels(x):
    x = conv(x, 8, activation="relu")
    left, right = x[..., :4], x[..., 4:]
    right = L.ReLU()(L.DepthwiseConv2D(3, padding="same")(conv(right, 4, 1, activation="relu")))
    x = L.Reshape((16, 16, 2, 4))(L.Concatenate()([left, right]))
    x = L.Reshape((16, 16, 8))(L.Permute((1, 2, 4, 3))(x))
    return pooled(conv(x, 6, activation="relu"))


def soft_stagewise_branches(x):
    a = L.AveragePooling2D(2)(conv(x, 6, activation="tanh"))
    b = L.MaxPooling2D(2)(conv(x, 6, activation="relu"))
    a, b = (L.Dense(6, activation=kind)(L.Flatten()(y)) for kind, y in (("tanh", a), ("relu", b)))
    return L.Dense(1)(L.Multiply()([a, b]))


def unet_with_dropout(x):
    def block(x, width):
        x = L.Dropout(0.2)(L.Activation("relu")(L.BatchNormalization()(conv(x, width))))
        return L.Activation("relu")(L.BatchNormalization()(conv(x, width)))

    high = block(x, 6)
    low = block(L.MaxPooling2D()(high), 8)
    up = L.Conv2DTranspose(6, 2, strides=2, padding="same")(low)
    return conv(block(L.concatenate([up, high]), 6), 3, 1, activation="softmax")


def asymmetric_decoder(x):
    x = L.LeakyReLU(0.1)(L.BatchNormalization()(conv(x, 8, strides=(1, 2))))
    x = L.Conv2DTranspose(6, (1, 4), strides=(1, 2), padding="same")(x)
    x = L.LeakyReLU(0.1)(L.BatchNormalization()(x))
    return conv(x, 3, 1, activation="sigmoid")


def depth_from_an_autoencoder(x):
    x = conv(conv(x, 6, strides=2, activation="elu"), 8, strides=2, activation="elu")
    for width in (6, 4):
        x = tf.image.resize(x, [2 * x.shape[1], 2 * x.shape[2]], method="nearest")
        x = conv(x, width, activation="elu")
    return tf.squeeze(conv(x, 1, activation="sigmoid"), axis=-1)[..., None]


def super_resolution(x):
    return tf.nn.depth_to_space(conv(conv(x, 6, 5, activation="tanh"), 12), 2)


NETWORKS = (
    dense_with_a_norm, dense_on_images, norm_behind_an_activation, rescaled_transfer_learning,
    pyramid_with_a_shared_head, fused_resolutions, operators_with_keywords, clipped_by_hand,
    shuffled_channels, soft_stagewise_branches, unet_with_dropout, asymmetric_decoder,
    depth_from_an_autoencoder, super_resolution,
)  # fmt: skip
OUTSIDE = {dense_on_images: ["SOFTMAX"]}


@pytest.mark.slow
@pytest.mark.parametrize("body", NETWORKS, ids=lambda body: body.__name__)
def test_a_network_goes_all_the_way(body):
    inputs = L.Input((16, 16, 3))
    model = keras.Model(inputs, body(inputs), name=body.__name__)
    search = mmx_tf.augment(model, bit_widths=(8, 4), target_average_bits=6)
    search(IMAGES, branch=0)
    fixed = mmx_tf.rebuild(search, search.selection_of([i % 2 for i in range(len(search.quantizers))]))
    fixed(IMAGES, training=True)
    folded = mmx_tf.fold(fixed)
    np.testing.assert_allclose(canonicalize(model)(IMAGES), model(IMAGES), rtol=1e-4, atol=1e-4)
    batches = [(IMAGES, np.zeros((24, *model.output_shape[1:]), np.float32))]
    report = mmx_tf.verify(folded, mmx_tf.convert(folded, input_type="int8"), batches, task="regression")
    assert report.code_disagreement == 0.0 and not any(tensor.differing for tensor in report.tensors)
    assert [kind for _, kind in report.left_outside] == OUTSIDE.get(body, [])


def normalized_by_hand(x):
    x = conv(x, 4)
    mean = tf.reduce_mean(x, axis=-1, keepdims=True)
    return pooled((x - mean) / tf.sqrt(tf.reduce_mean(tf.square(x - mean), axis=-1, keepdims=True) + 1e-3))


REFUSED = {
    "frames": (lambda x: L.TimeDistributed(L.Dense(4), name="bad")(L.Reshape((16, 48))(x)), "for every step"),
    "recurrent": (lambda x: L.LSTM(4, name="bad")(L.Reshape((16, 48))(x)), "Use Conv1D layers in its place"),
    "reversed": (lambda x: pooled(conv(tf.reverse(x, [1]), 4)), "tf.reverse.* has no integer form"),
    "lambda": (lambda x: L.Lambda(lambda y: y * 2, name="bad")(x), "'bad' .Lambda. cannot be handled"),
    "normalized by hand": (normalized_by_hand, "TFOpLambda.*has no integer form"),
    "attention": (lambda x: L.Attention(name="bad")([x, x]), "Use convolutions, or squeeze-excite"),
    "split": (lambda x: conv(tf.split(x, 3, axis=-1)[0], 4), "gives 3 tensors.*one output each"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_others_are_refused_before_training_by_their_layer(case):
    body, message = REFUSED[case]
    inputs = L.Input((16, 16, 3))
    with pytest.raises(ValueError, match=message):
        mmx_tf.augment(keras.Model(inputs, body(inputs)), target_average_bits=4)
