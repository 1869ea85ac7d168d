"""Networks of several outputs, and real digits with labels for each: class, and box around the ink."""

import numpy as np
import tf_keras as keras

layers = keras.layers
LOSSES = {"class": "sparse_categorical_crossentropy", "box": "mse"}
WEIGHTS = {"class": 1.0, "box": 4.0}
METRICS = {"class": ["accuracy"], "box": ["mae"]}


def detector(outputs=list, width=8):
    """Seven weighted layers on 16x16 images: a class head and a head of four numbers, in a list or a dict."""
    inputs = keras.Input((16, 16, 1), name="image")
    x = layers.Conv2D(width, 3, strides=2, padding="same", activation="relu", name="stem")(inputs)
    x = layers.Conv2D(12, 3, padding="same", use_bias=False, name="middle")(x)
    x = layers.ReLU(name="middle_relu")(layers.BatchNormalization(momentum=0.8, name="middle_bn")(x))
    x = layers.Conv2D(12, 3, strides=2, padding="same", activation="relu", name="deep")(x)
    x = layers.Flatten(name="flat")(x)
    classes = layers.Dense(24, activation="relu", name="class_features")(x)
    classes = layers.Dense(10, activation="softmax", name="class")(classes)
    box = layers.Dense(4, name="box")(layers.Dense(16, activation="relu", name="box_features")(x))
    heads = [classes, box] if outputs is list else {"class": classes, "box": box}
    return keras.Model(inputs, heads, name="detector")


def boxes(images):
    """Top, left, bottom and right end of the ink in shares of the image: float32 [N, 4] of [N, H, W, 1]."""
    found = []
    for ink in images[..., 0] > 0:
        rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
        found.append([rows[0], columns[0], rows[-1] + 1, columns[-1] + 1] if len(rows) else [0, 0, 16, 16])
    return np.float32(found) / images.shape[1]


def joined(batches):
    """Images, digits and boxes of batches of (images, digits)."""
    images, digits = (np.concatenate(part) for part in zip(*batches, strict=True))
    return images, digits, boxes(images)
