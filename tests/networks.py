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


def of_long_sums():
    """Digits, with sums over 32,768 codes in the end: beyond 2**24, up to which QONNX's float32 is exact."""
    inputs = keras.Input((16, 16, 1))
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="stem")(inputs)
    x = keras.layers.Conv2D(128, 1, activation="relu", name="middle")(x)
    x = keras.layers.Dense(10, name="logits")(keras.layers.Flatten(name="flat")(x))
    return keras.Model(inputs, x, name="long_sums")


def pretrained(digits):
    """The small network, briefly trained on real digits, once a process: it tells most of them apart."""
    keras.utils.set_random_seed(0)
    network = small_network()
    if not _TRAINED:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        network.compile(keras.optimizers.Adam(0.02), loss)
        network.fit(digits.train(batch_size=64, seed=0), epochs=8, verbose=0)
        _TRAINED.extend(network.get_weights())
        keras.utils.set_random_seed(0)
        network = small_network()
    network.set_weights(_TRAINED)
    return network


_TRAINED = []


def fine_tuned(network, digits, *, choice=None, weight_bits=4, steps=6, pixel_scaling=None):
    """A fixed network that is trained a little, for twice `steps` steps, so that its accuracy counts."""
    fixed = untrained(network, digits, choice=choice, weight_bits=weight_bits, pixel_scaling=pixel_scaling)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    fixed.compile(optimizer=keras.optimizers.SGD(0.01, momentum=0.9), loss=loss, metrics=["accuracy"])
    fixed.fit(digits.train(batch_size=64, seed=0).take(steps), epochs=2, verbose=0)
    return fixed


def calibrated(network, digits, **options):
    """A fixed network with numbers as training leaves them, for whoever asks for equal codes alone.

    Statistics are those of real images. Every number that training would move is moved at random, which takes
    a fraction of the time of tracing a training step.
    """
    fixed = untrained(network, digits, **options)
    fixed(next(iter(digits.train(batch_size=64, seed=1)))[0], training=True)
    rng = np.random.default_rng(7)
    for variable in fixed.trainable_variables:
        value = variable.numpy()
        moved = value * rng.uniform(0.8, 1.2, value.shape) + 0.02 * value.std() * rng.normal(size=value.shape)
        # Biases and betas start at 0; step sizes stay above it.
        moved += 0.1 * rng.normal(size=value.shape) * (not value.any())
        variable.assign(moved)
    return fixed


def untrained(network, digits, *, choice=None, weight_bits=4, pixel_scaling=None):
    """A fixed network whose activation step sizes are those of one batch of real images."""
    keras.utils.set_random_seed(7)
    search = mmx_tf.augment(
        network, bit_widths=(8, 4, 3), weight_bits=weight_bits, pixel_scaling=pixel_scaling
    )
    choice = [i % 3 for i in range(len(search.quantizers))] if choice is None else choice
    images, _ = next(iter(digits.train(batch_size=64, seed=0)))
    search(images, branch=0)
    return mmx_tf.rebuild(search, search.selection_of(choice))


def randomize_statistics(model: keras.Model, seed: int) -> None:
    """Batch norms that differ from each other, so that mixing them up shows."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
