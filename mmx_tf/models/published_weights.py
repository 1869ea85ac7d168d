"""ImageNet weights that Keras publishes for its applications, brought into a built-in network by name."""

from collections.abc import Callable
from typing import NoReturn

import tf_keras as keras

from mmx_tf.errors import ModelError


def refuse(title: str) -> NoReturn:
    """Refuses ImageNet weights of a network of which Keras publishes none.

    Raises:
        ModelError: always.
    """
    raise ModelError(
        f"Keras publishes no ImageNet weights of {title}. Give a trained network with "
        "--float_model=FILE.keras, or train the float network with --float_epochs."
    )


def check_shapes(model: keras.Model, *, sizes: tuple[int, ...]) -> None:
    """Check that the classes and images of `model` are those of the published weights.

    Raises:
        ModelError: not 1000 classes, or not a colour image of one of `sizes`.
    """
    shape, classes = model.input_shape[1:], model.output_shape[-1]
    if classes != 1000 or shape[2] != 3 or shape[0] != shape[1] or shape[0] not in sizes:
        raise ModelError(
            "Keras's ImageNet weights fit a network of 1000 classes on square colour images of "
            f"{', '.join(map(str, sizes))} pixels, not one of {classes} classes on images of shape "
            f"{shape}. Change --dataset or --image_size, or give a trained network with "
            "--float_model=FILE.keras."
        )


def published_width(title: str, channels, channels_at: Callable, widths: tuple[float, ...]) -> float:
    """The width multiplier, among those with published weights, that gives exactly a model's channels.

    Args:
        title: the network's name for people.
        channels: output channels of the model's layers, the first convolution's first.
        channels_at: width -> the channels that the network has there.
        widths: multipliers with published weights.

    Raises:
        ModelError: Keras publishes no such weights.
    """
    for width in widths:
        if channels_at(width) == channels:
            return width
    raise ModelError(
        f"Keras publishes ImageNet weights for the widths {', '.join(map(str, widths))}; this {title} (first "
        f"convolution of {channels[0]} channels) has none of them. Choose such a --width or train the float "
        "network with --float_epochs."
    )


def load(model: keras.Model, title: str, published: Callable[[], keras.Model]) -> None:
    """Fill `model` with the weights of `published()`, layer by layer of the same name.

    Args:
        model: has every layer with weights of the published network, under its name.
        title: what the weights are of, for people.
        published: builds the application with its weights, from ~/.keras/models or downloaded.

    Raises:
        ModelError: the weights are neither on this machine nor to be downloaded.
    """
    try:
        source = published()
    except Exception as error:  # Keras wraps every failed download in a bare Exception
        raise ModelError(
            f"The ImageNet weights of {title} are not in Keras's "
            f"cache folder ~/.keras/models and could not be downloaded: {error}. Fetch the file named in "
            "this message on a machine with network access and put it there, or give a trained network with "
            "--float_model=FILE.keras."
        ) from error
    for layer in source.layers:
        if layer.weights:
            model.get_layer(layer.name).set_weights(layer.get_weights())
