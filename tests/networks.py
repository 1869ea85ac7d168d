"""Small networks that the tests share."""

import numpy as np
import tf_keras as keras

import mmx_tf


def small_network(batch_norm=True):
    """Five weighted layers on 16x16 digits, with a depthwise layer, a residual and batch norm."""
    inputs = keras.Input((16, 16, 1))
    x = keras.layers.Conv2D(6, 3, strides=2, padding="same", use_bias=False, name="stem")(inputs)
    x = keras.layers.BatchNormalization(momentum=0.8, name="stem_bn")(x) if batch_norm else x
    x = shortcut = keras.layers.ReLU(6.0, name="stem_relu")(x)
    x = keras.layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="depthwise")(x)
    x = keras.layers.BatchNormalization(momentum=0.8, name="depthwise_bn")(x) if batch_norm else x
    x = keras.layers.ReLU(6.0, name="depthwise_relu")(x)
    x = keras.layers.Conv2D(6, 1, name="project")(x)
    x = keras.layers.Add(name="add")([x, shortcut])
    x = keras.layers.Conv2D(8, 1, name="expand")(x)
    x = keras.layers.ReLU(name="expand_relu")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, keras.layers.Dense(10, name="logits")(x), name="small")


def pretrained(digits):
    """The small network, briefly trained on real digits: it tells most of them apart."""
    keras.utils.set_random_seed(0)
    network = small_network()
    network.compile(keras.optimizers.Adam(0.02), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    network.fit(digits.train(batch_size=64, seed=0), epochs=8, verbose=0)
    return network


def fine_tuned(network, digits, *, choice=None, weight_bits=4, steps=6, pixel_scaling=None):
    """A fixed network of real step sizes and batch-norm statistics."""
    keras.utils.set_random_seed(7)
    search = mmx_tf.augment(
        network, bit_widths=(8, 4, 3), weight_bits=weight_bits, pixel_scaling=pixel_scaling
    )
    choice = [i % 3 for i in range(len(search.quantizers))] if choice is None else choice
    images, labels = next(iter(digits.train(batch_size=64, seed=0)))
    search(images, branch=0)
    fixed = mmx_tf.rebuild(search, search.selection_of(choice))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    fixed.compile(optimizer=keras.optimizers.SGD(0.01, momentum=0.9), loss=loss, metrics=["accuracy"])
    fixed.fit(digits.train(batch_size=64, seed=0).take(steps), epochs=2, verbose=0)
    return fixed


def randomize_statistics(model: keras.Model, seed: int) -> None:
    """Batch norms that differ from each other, so that mixing them up shows."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
