"""The images of a first batch, from which step sizes are set for good: those that would set them wrongly.

>>> check_first_images(network, images)     # ValueError: all zeros, or another scale than pixel_scaling
"""

import numpy as np
import tf_keras as keras

from layers.pixel_quantizer import HIGHEST_PIXEL, PixelQuantizer

LARGEST_SHARE_OUTSIDE = 0.05
"""Share of values that may lie beyond the darkest and brightest pixel, as random contrast makes them."""


def check_first_images(network: keras.Model, images: np.ndarray) -> None:
    """Checks the first batch of a network whose step sizes are not set yet.

    Args:
      network: functional network of one image, with its quantizers.
      images: finite numbers, (batch, height, width, channels).

    Raises:
      ValueError: for images that are all zero, or that lie outside of what `pixel_scaling` gives.
    """
    if not np.any(images):
        raise ValueError(
            "the images of the first batch are all 0, and the step sizes of the quantizers are set from "
            "them: give real images."
        )
    check_pixels(network, images)
    quantizer = _of_the_image(network)
    if quantizer is not None and images.max() - images.min() < quantizer.scale:
        raise ValueError(
            f"images go from {images.min():.4g} to {images.max():.4g}, which {_scaling(quantizer)} makes one "
            "and the same pixel: give the scale and offset of image = pixel * scale + offset."
        )


def check_pixels(network: keras.Model, images: np.ndarray) -> None:
    """Refuses (ValueError) images of which much lies outside of what `pixel_scaling` gives."""
    quantizer = _of_the_image(network)
    if quantizer is None or not images.size:
        return
    low, high = quantizer.offset, quantizer.offset + HIGHEST_PIXEL * quantizer.scale
    outside = np.mean((images < low - quantizer.scale) | (images > high + quantizer.scale))
    if outside > LARGEST_SHARE_OUTSIDE:
        raise ValueError(
            f"images go from {images.min():.4g} to {images.max():.4g}, but {_scaling(quantizer)} makes "
            f"pixels {low:.4g} to {high:.4g}: give augment the scale and offset of these images."
        )


def _of_the_image(network: keras.Model) -> PixelQuantizer | None:
    """The quantizer that takes the images themselves; behind a rescaling its scale is not theirs."""
    return next(
        (
            layer
            for layer in network.layers
            if isinstance(layer, PixelQuantizer) and layer.input is network.inputs[0]
        ),
        None,
    )


def _scaling(quantizer: PixelQuantizer) -> str:
    return f"pixel_scaling=({quantizer.scale:.6g}, {quantizer.offset:.6g})"
