"""Image files as a file takes them: the pixels that evaluation would see, without TensorFlow.

    pixels = fitted(read("cat.jpg", channels=3), 224, 224, margin=256 / 224)        # uint8 [224, 224, 3]

Resizing follows `tf.image.resize` (bilinear, with antialiasing) and cutting the centre out
`mmx_tf.data.images`, so that what runs here is what the run has evaluated. Needs numpy and Pillow.
"""

import pathlib
import warnings

import numpy as np
from PIL import Image

MODES = {1: "L", 3: "RGB"}
"""Channels -> how Pillow calls such an image."""


class ImageFileError(ValueError):
    """A file that is no image, or a damaged one; the message names it."""


def read(path, *, channels: int) -> np.ndarray:
    """The pixels of an image file, uint8 [h, w, channels]; grey ones are repeated, coloured ones made grey.

    Raises:
      ImageFileError: if it holds no image, or a damaged one.
    """
    path = pathlib.Path(path)
    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter("ignore")  # of large images and of palettes
            if image.mode.startswith("I"):  # 16 bits a pixel, of which the upper ones are shown
                image = Image.fromarray((np.asarray(image, np.uint32) >> 8).astype(np.uint8))
            pixels = np.asarray(image.convert(MODES[channels]))
    except Exception as error:  # Pillow raises what its decoders raise, among them SyntaxError.
        reason = "" if isinstance(error, Image.UnidentifiedImageError) else f" ({error})"
        raise ImageFileError(f"{path} is no image that Pillow can read{reason}.") from error
    return pixels.reshape(*pixels.shape[:2], channels)


def fitted(image: np.ndarray, height: int, width: int, *, margin: float = 1.0) -> np.ndarray:
    """The centre of an image, resized: uint8 [h, w, C] -> [height, width, C].

    The image is resized so that it covers `margin` times the wanted size, without changing its proportions.
    """
    tall, wide = round(height * margin), round(width * margin)
    scale = max(tall / image.shape[0], wide / image.shape[1])
    rows = max(tall, round(scale * image.shape[0]))
    columns = max(wide, round(scale * image.shape[1]))
    top, left = (rows - height) // 2, (columns - width) // 2
    # Only what is kept is computed.
    down = _weights(image.shape[0], rows)[top : top + height]
    across = _weights(image.shape[1], columns)[left : left + width]
    resized = np.tensordot(down, image.astype(np.float32), axes=(1, 0))
    resized = np.tensordot(across, resized, axes=(1, 1)).transpose(1, 0, 2)
    return np.clip(np.rint(resized), 0, 255).astype(np.uint8)


def _weights(size: int, resized: int) -> np.ndarray:
    """What each pixel of a resized row is made of: float32 [resized, size], of which each row sums to 1."""
    step = np.float32(1) / (np.float32(resized) / np.float32(size))
    reach = max(step, np.float32(1))
    centres = (np.arange(resized, dtype=np.float32) + np.float32(0.5)) * step
    distances = np.arange(size, dtype=np.float32) + np.float32(0.5) - centres[:, None]
    weights = np.maximum(0, 1 - np.abs(distances / reach), dtype=np.float32)
    return weights / weights.sum(axis=1, keepdims=True)
