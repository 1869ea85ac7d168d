"""Tiny networks with a head of every kind, and real digits with labels for each."""

import numpy as np
import tf_keras as keras

import mmx_tf
from mmx_tf.layers.grid import Grid
from mmx_tf.layers.integer.layers import Dequantize, QuantizeInput
from mmx_tf.layers.integer.weighted import IntegerDense

losses = keras.losses
LABELS = {
    "classification": lambda images, digits: digits,
    "one_hot": lambda images, digits: np.eye(10, dtype=np.float32)[digits],
    "binary": lambda images, digits: (digits >= 5).astype(np.float32)[:, None],
    # The four binary digits of a digit.
    "multi_label": lambda images, digits: (digits[:, None] >> np.arange(4) & 1).astype(np.float32),
    # The ink of an image, in percent of its pixels, and the digit.
    "regression": lambda images, digits: np.stack([50 * (images.mean((1, 2, 3)) + 1), digits], 1),
    "ink": lambda images, digits: (images.mean((1, 2, 3)) + 1) / 2,
    # Which pixels of a 4x4 raster are ink, and which of two kinds.
    "segmentation": lambda images, digits: np.digitize(raster(images), [-0.6, 0.2]),
    "mask": lambda images, digits: (raster(images) > -0.4).astype(np.float32)[..., None],
}
# Kind of labels: outputs, last activation, loss, task.
HEADS = {
    "softmax": ("classification", 10, "softmax", "sparse_categorical_crossentropy", "classification"),
    "one_hot": ("one_hot", 10, None, losses.CategoricalCrossentropy(from_logits=True), "classification"),
    "sigmoid": ("binary", 1, "sigmoid", losses.BinaryCrossentropy(), "binary"),
    "logit": ("binary", 1, None, losses.BinaryCrossentropy(from_logits=True), "binary"),
    "hard_sigmoid": ("binary", 1, "hard_sigmoid", "mse", "binary"),
    "sigmoids": ("multi_label", 4, "sigmoid", "binary_crossentropy", "multi_label"),
    "numbers": ("regression", 2, None, "mse", "regression"),
    "number": ("ink", 1, None, "mse", "regression"),
    "pixels": ("segmentation", 3, "softmax", "sparse_categorical_crossentropy", "segmentation"),
    "mask": ("mask", 1, "sigmoid", "binary_crossentropy", "segmentation"),
}


def raster(images):
    """Means of 4x4 pixels: [N, 4, 4] of [N, 16, 16, 1]."""
    return images[..., 0].reshape(-1, 4, 4, 4, 4).mean((2, 4))


def network(head):
    """Four weighted layers on 16x16 images."""
    _, outputs, activation, _, task = HEADS[head]
    inputs = keras.Input((16, 16, 1))
    x = keras.layers.Conv2D(6, 3, strides=2, padding="same", activation="relu", name="stem")(inputs)
    x = keras.layers.Conv2D(8, 3, strides=2, padding="same", activation="relu", name="middle")(x)
    x = keras.layers.Conv2D(12, 1, activation="relu", name="expand")(x)
    if task == "segmentation":
        return keras.Model(
            inputs, keras.layers.Conv2D(outputs, 1, activation=activation, name="end")(x), name=head
        )
    x = keras.layers.Flatten()(x)
    return keras.Model(inputs, keras.layers.Dense(outputs, activation=activation, name="end")(x), name=head)


def labelled(head, batches):
    """Batches of (images, labels for a head) of batches of (images, digits)."""
    return [
        (images.numpy(), LABELS[HEADS[head][0]](images.numpy(), digits.numpy())) for images, digits in batches
    ]


def trained(head, digits, *, whole=False):
    """A fixed network of a trained float one by augment and rebuild; with `whole` searched and fine-tuned."""
    keras.utils.set_random_seed(0)
    loss = HEADS[head][3]
    batches = labelled(head, digits.train(batch_size=64, seed=0).take(12))
    images, labels = (np.concatenate(part) for part in zip(*batches, strict=True))
    model = network(head)
    model.compile(keras.optimizers.Adam(0.01), loss)
    model.fit(images, labels, batch_size=64, epochs=8, verbose=0)
    search = mmx_tf.augment(model, bit_widths=(8, 4), target_average_bits=6)
    if whole:
        search.compile(optimizer=keras.optimizers.SGD(1e-4), loss=loss)
        search.fit(images, labels, batch_size=64, epochs=2, verbose=0)
        selection = search.bit_selection()
    else:
        search(images[:64], branch=0)
        selection = search.selection_of([0] * len(search.quantizers))
    fixed = mmx_tf.rebuild(search, selection)
    fixed.compile(optimizer=keras.optimizers.Adam(0.002), loss=loss)
    if whole:
        fixed.fit(images, labels, batch_size=64, epochs=3, verbose=0)
    else:
        fixed(images[:64], training=True)  # What carriers start from.
    return fixed


def pass_through(outputs, *, scale=0.25, zero_point=0, name="logits"):
    """A folded network whose outputs' codes are its image's."""
    image, grid = keras.Input((outputs,), name="image"), Grid(scale, zero_point)
    codes = QuantizeInput(output_grid=grid, name="codes")(image)
    dense = IntegerDense(
        weight_codes=np.eye(outputs, dtype=int),
        weight_scales=np.ones(1, np.float32),
        bias_codes=np.zeros(outputs, int),
        input_grid=grid,
        output_grid=grid,
        name=name,
    )
    return keras.Model(image, Dequantize(input_grid=grid, name="scores")(dense(codes)), name="pass_through")
