"""The images of a first batch or of an evaluation: those that would set step sizes wrongly, for good.

>>> check_first_images(search.network, [images])     # ValueError: all zeros, or not as pixel_scaling says
"""

import numpy as np
import tf_keras as keras
from absl import logging

from mmx_tf.fitting.given import Given, images_of
from mmx_tf.layers.fusion import all_initialized
from mmx_tf.layers.quantizers.pixels import HIGHEST_PIXEL, PixelQuantizer, pixels_of, told_outside

FEW = 8
SMALL_SHARE = 0.55
"""Part of the pixels' range; images of 0 to 1 take half of that of -1 to 1."""


def check_first_images(network: keras.Model, images: list[np.ndarray]) -> None:
    """Checks the first batch of a network whose step sizes are not set yet.

    Args:
      network: functional network with its quantizers.
      images: finite numbers, (batch, height, width, channels), of each input.

    Raises:
      ValueError: for images that are all zero, or that lie outside of what `pixel_scaling` gives.
    """
    for taken, own in zip(network.inputs, images, strict=True):
        _check_first(network, taken, own)


def _check_first(network, taken, images) -> None:
    """Checks the first images of one input."""
    if not np.any(images):
        raise ValueError(
            "the images of the first batch are all 0, and the step sizes of the quantizers are set from "
            "them: give real images."
        )
    quantizer = _of_the_image(network, taken)
    if quantizer is None:
        return
    if sentence := _outside(quantizer, images):
        raise ValueError(sentence)
    if images.max() - images.min() < quantizer.scale:
        raise ValueError(
            f"images go from {images.min():.4g} to {images.max():.4g}, which pixel_scaling=("
            f"{quantizer.scale:.6g}, {quantizer.offset:.6g}) makes one and the same pixel: give the "
            "scale and offset of image = pixel * scale + offset."
        )
    share = (images.max() - images.min()) / (HIGHEST_PIXEL * quantizer.scale)
    if len(images) >= FEW and share < SMALL_SHARE:
        ends = np.array([images.min(), images.max()], np.float64)
        pixels = pixels_of(ends, scale=quantizer.scale, offset=quantizer.offset).numpy()
        logging.warning(
            "the %d images of the first batch go from %.4g to %.4g, which under pixel_scaling=(%.6g, %.6g) "
            "are pixels %d to %d of 0 to %d: is that their scaling?",
            len(images), *ends, quantizer.scale, quantizer.offset, *pixels, HIGHEST_PIXEL,
        )  # fmt: skip


def check_judged(name: str, network: keras.Model, given: Given) -> None:
    """Checks images that are evaluated or predicted; warns where they set step sizes for good.

    Args:
      name: of what judges them, for messages.
      network: functional network with its quantizers.
      given: the images.

    Raises:
      ValueError: for images that do not fit, or that are no finite numbers where they set step sizes.
    """
    given.check(network, labelled=False)
    first = list(map(np.asarray, images_of(given.first()[0], network))) if given.is_arrays else None
    outside = None if first is None else outside_pixels(network, first)
    if outside:
        logging.warning("%s: %s", name, outside)
    if all_initialized(network):
        return
    if first is not None and not all(np.isfinite(np.asarray(one, np.float32)).all() for one in first):
        raise ValueError(
            f"{name}: images hold values that are NaN or infinite, and they would set the step sizes of its "
            "quantizers: give finite ones."
        )
    logging.warning(
        "%s has seen no image: the step sizes of its quantizers are set from these, for good. Call fit "
        "first, or give images as it will be trained on.", name,
    )  # fmt: skip


def check_pixels(network: keras.Model, images: list[np.ndarray]) -> None:
    """Refuses (ValueError) images of which much lies outside of what `pixel_scaling` gives."""
    sentence = outside_pixels(network, images)
    if sentence:
        raise ValueError(sentence)


def outside_pixels(network: keras.Model, images: list[np.ndarray]) -> str | None:
    """A sentence about images of which much lies outside of `pixel_scaling`; None where it fits."""
    both = zip(network.inputs, images, strict=True)
    return next(filter(None, (_outside(_of_the_image(network, taken), own) for taken, own in both)), None)


def _outside(quantizer: PixelQuantizer | None, images: np.ndarray) -> str | None:
    if quantizer is None:
        return None
    outside = told_outside(images, scale=quantizer.scale, offset=quantizer.offset)
    return outside and f"{outside}: give augment the scale and offset of these images."


def _of_the_image(network: keras.Model, taken) -> PixelQuantizer | None:
    """The quantizer that takes an input itself; behind a rescaling its scale is not that of the images."""
    return next(
        (layer for layer in network.layers if isinstance(layer, PixelQuantizer) and layer.input is taken),
        None,
    )
