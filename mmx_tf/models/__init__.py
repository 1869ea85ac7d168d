"""The built-in float networks, by name.

    >>> from mmx_tf import models
    >>> model = models.build("mobilenet_v2", input_shape=(224, 224, 3), num_classes=1000)

They are ordinary functional `tf_keras` models that take float32 images in [-1, 1] and give logits (no
softmax). Nothing else in the project depends on them: `mmx_tf.augment` takes any network of the layer kinds
that it lists.
"""

from mmx_tf import startup

startup.load_tensorflow()

import tf_keras as keras

from mmx_tf.choices import NETWORKS
from mmx_tf.errors import ModelError
from mmx_tf.layers import keras_defaults, strided_pointwise
from mmx_tf.models import mobilenet_v1, mobilenet_v2, mobilenet_v3, resnet8, resnet18

NAMES = NETWORKS
_MODULES = dict(zip(NAMES, (mobilenet_v1, mobilenet_v2, mobilenet_v3, resnet8, resnet18), strict=True))


def _module(name: str):
    """The module that builds the network `name`; a `ModelError` that lists `NAMES` for any other."""
    if name not in _MODULES:
        raise ModelError(
            f"There is no built-in network {name!r}; the built-in networks are {', '.join(NAMES)}. Name one "
            "of these, or bring your own trained Keras network as a file."
        )
    return _MODULES[name]


@keras_defaults.float32()
def build(
    name: str,
    *,
    input_shape: tuple[int, int, int],
    num_classes: int,
    width: float = 1.0,
    classifier: bool = True,
    variant: str = "auto",
) -> keras.Model:
    """Build the network `name` with random weights.

    Args:
        name: one of `NAMES`.
        input_shape: (height, width, channels) of the images.
        num_classes: number of logits.
        width: multiplier of the channel counts (1.0 is the published network).
        classifier: False where outputs are no classes of one set: a binary network has one, others numbers.
        variant: "published" strides, which reduce images by 32 on their way; those of "small_images", by 8;
            "auto" takes the latter below 96 pixels.

    Returns:
        A functional `tf_keras` model: float32 [B, H, W, C] in [-1, 1] -> logits [B, num_classes].

    Raises:
        ModelError: unknown name, fewer than 2 classes, a width of 0 or less, images that are too small, a
            variant that is unknown or that the network does not have.
    """
    network = _module(name).build(
        input_shape=input_shape,
        num_classes=num_classes,
        width=width,
        classifier=classifier,
        variant=variant,
    )
    strided_pointwise.avoid_damage(network)
    return network


def load_imagenet_weights(name: str, model: keras.Model) -> None:
    """Fill `model`, which `build(name, ...)` made, with the ImageNet weights that Keras publishes for it.

    Keras keeps them under ~/.keras/models and downloads them there when they are missing.

    Raises:
        ModelError: there are no published weights for this shape of the network, or they cannot be had.
    """
    _module(name).load_imagenet_weights(model)


__all__ = ["NAMES", "ModelError", "build", "load_imagenet_weights"]
