"""From stored images to the pixels that a network sees: decode, crop, resize, shift, flip.

Everything is TensorFlow operations, for use inside `tf.data`. All geometry is done on uint8 pixels, so that
a float pixel is always one of the 256 values `pixel * scale + offset` and an integer network can be fed the
very same pixels. Random operations take a seed tensor of two integers and are stateless: the same seed gives
the same image in whatever order a parallel map runs.

A photograph is decoded, cropped and resized on its own, with as few operations as it takes, because each
costs a share of what decoding costs; what has one shape for all images is done to whole batches.
"""

import functools

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.config import is_op_determinism_enabled

from mmx_tf.choices import PIXEL_SCALING

# A training crop of a photograph covers this share of its area, at an aspect ratio in this range, as ImageNet
# recipes have done since Inception.
CROP_AREA = (0.08, 1.0)
CROP_ASPECT = (3 / 4, 4 / 3)
CROP_ATTEMPTS = 10
# libjpeg decodes an image at 1/2, 1/4 and 1/8 of its size with less work than at all of it.
JPEG_DIVISORS = (1, 2, 4, 8)
MAX_SHIFT = 1 / 8


def batches_at_once() -> int | None:
    """Batches whose images are decoded side by side, so that none waits for the last image of another.

    None, one after the other, under op determinism: TensorFlow would make it so itself, and write an error of
    its own ("NodeDef mentions attribute use_unbounded_threadpool") while it does.
    """
    return None if is_op_determinism_enabled() else 2


@tf.autograph.experimental.do_not_convert
def normalise(images: tf.Tensor, scaling: tuple[float, float] = PIXEL_SCALING) -> tf.Tensor:
    """Map uint8 pixels 0..255 of any shape to float32 `pixels * scale + offset`."""
    divisor, offset = _divisor_and_offset(scaling)
    return tf.cast(images, tf.float32) / divisor + offset


def _divisor_and_offset(scaling) -> tuple[np.float32, np.float32]:
    """As people write it: by 127.5 or 255 is divided."""
    scale, offset = scaling
    return np.float32(1 / scale), np.float32(offset)


@tf.autograph.experimental.do_not_convert
def augmented(
    pixels: tf.Tensor,
    pair: tf.Tensor,
    *,
    by: int,
    mirrored: bool,
    scaling: tuple[float, float],
    part: tuple[int, int],
) -> tf.Tensor:
    """A batch of training images, shifted by up to `by` pixels (0: not), flipped, scaled.

    Args:
      pixels: uint8 [B, H, W, C].
      pair: random seed, two integers.
      by, mirrored: what is done.
      scaling, part: as for `flip_and_normalise`.

    Returns:
      float32 [B, H, W, C].
    """
    if by:
        pixels = shift(pixels, pair, by=by, part=part)
    if mirrored:
        return flip_and_normalise(pixels, pair + 1, scaling=scaling, part=part)
    return normalise(pixels, scaling)


@tf.autograph.experimental.do_not_convert
def decode(stored: tf.Tensor, *, channels: int) -> tf.Tensor:
    """Make uint8 [h, w, channels] of one stored image: an encoded file's bytes, or pixels as they are."""
    if stored.dtype != tf.string:
        return stored
    image = tf.io.decode_image(stored, channels=channels, expand_animations=False)
    image.set_shape([None, None, channels])
    return image


def resize(image: tf.Tensor, height, width) -> tf.Tensor:
    """Resize uint8 [..., h, w, C] bilinearly (with antialiasing when it shrinks), rounded back to uint8."""
    resized = tf.image.resize(image, tf.stack([height, width]), antialias=True)
    return tf.cast(tf.clip_by_value(tf.round(resized), 0.0, 255.0), tf.uint8)


@tf.autograph.experimental.do_not_convert
def centre_square(image: tf.Tensor, *, size: int, margin: float = 1.0) -> tf.Tensor:
    """Resize the shorter side of uint8 [h, w, C] to `margin * size` and take the centre: [size, size, C]."""
    shape = tf.shape(image)
    shorter = round(size * margin)
    scale = shorter / tf.minimum(shape[0], shape[1])
    height = tf.maximum(shorter, tf.cast(tf.round(scale * tf.cast(shape[0], tf.float64)), tf.int32))
    width = tf.maximum(shorter, tf.cast(tf.round(scale * tf.cast(shape[1], tf.float64)), tf.int32))
    top, left = (height - size) // 2, (width - size) // 2
    square = resize(image, height, width)[top : top + size, left : left + size]
    return tf.ensure_shape(square, [size, size, image.shape[-1]])


WHOLE = (0, 1)
"""(index, count) of the part of a batch that is all of it."""


@tf.autograph.experimental.do_not_convert
def shift(images: tf.Tensor, seed: tf.Tensor, *, by: int, part: tuple[int, int] = WHOLE) -> tf.Tensor:
    """Move each image of uint8 [B, H, W, C] by up to `by` pixels on both axes; black comes in behind it.

    With part = (index, count) the images are one of the `count` equal parts of a batch, and move as in it.
    """
    height, width = images.shape[1], images.shape[2]
    offsets = _of_part(
        lambda batch: tf.random.stateless_uniform([2, batch, 1], seed, 0, 2 * by + 1, tf.int32),
        images, part, axis=1,
    )  # fmt: skip
    padded = tf.pad(images, [(0, 0), (by, by), (by, by), (0, 0)])
    rows = tf.gather(padded, offsets[0] + tf.range(height), axis=1, batch_dims=1)
    return tf.gather(rows, offsets[1] + tf.range(width), axis=2, batch_dims=1)


@tf.autograph.experimental.do_not_convert
def flip_and_normalise(
    images: tf.Tensor,
    seed: tf.Tensor,
    *,
    scaling: tuple[float, float] = PIXEL_SCALING,
    part: tuple[int, int] = WHOLE,
) -> tf.Tensor:
    """Mirror each image of uint8 [B, H, W, C] left to right with probability one half; scaled to float32.

    `scaling` is as for `normalise`, `part` as for `shift`.
    """
    mirrored = _of_part(lambda batch: tf.random.stateless_uniform([batch, 1, 1, 1], seed), images, part) < 0.5
    # As constants of the compiled function XLA would multiply by the inverse, which rounds otherwise.
    return _mirror_and_normalise(images, mirrored, *map(tf.constant, _divisor_and_offset(scaling)))


def _of_part(numbers_of, images, part, axis=0):
    """numbers_of(batch), random numbers of the whole batch along an axis, for the images of a part of it."""
    index, count = part
    own = tf.shape(images)[0]
    if count == 1:
        return numbers_of(own)
    return tf.gather(numbers_of(own * count), index * own + tf.range(own), axis=axis)


@tf.function(jit_compile=True, autograph=False)
def _mirror_and_normalise(images, mirrored, divisor, offset):
    """One pass over the batch, where TensorFlow's operations write it once each."""
    return tf.cast(tf.where(mirrored, tf.reverse(images, [2]), images), tf.float32) / divisor + offset


@tf.autograph.experimental.do_not_convert
def random_resized_crop(stored: tf.Tensor, seed: tf.Tensor, *, size: int, channels: int) -> tf.Tensor:
    """Cut a random window (`CROP_AREA`, `CROP_ASPECT`) out of one stored image: uint8 [size, size, C].

    The window of a JPEG file is decoded alone, without the rest of the image, divided by the largest of
    `JPEG_DIVISORS` that leaves it `size` pixels on both sides. What then shrinks to half or less is resized
    by the mean of the area that falls on a pixel, anything else bilinearly, so that no pixel is left out.
    """

    def from_jpeg():
        window = _random_window(tf.io.extract_jpeg_shape(stored), seed)
        halvings = tf.reduce_sum(tf.cast(tf.reduce_min(window[2:]) >= smallest, tf.int32))
        window = tf.bitwise.right_shift(window, halvings)
        return tf.switch_case(
            halvings,
            [
                functools.partial(
                    tf.image.decode_and_crop_jpeg, stored, window, channels=channels, ratio=divisor
                )
                for divisor in JPEG_DIVISORS
            ],
        )

    def from_any():
        image = decode(stored, channels=channels)
        window = _random_window(tf.shape(image), seed)
        return image[window[0] : window[0] + window[2], window[1] : window[1] + window[3]]

    smallest = tf.constant([divisor * size for divisor in JPEG_DIVISORS[1:]])
    encoded = stored.dtype == tf.string
    cut = tf.cond(tf.io.is_jpeg(stored), from_jpeg, from_any) if encoded else from_any()
    batch, to = cut[tf.newaxis], tf.constant([size, size])
    resized = tf.cond(
        tf.reduce_min(tf.shape(cut)[:2]) >= 2 * size,
        lambda: tf.raw_ops.ResizeArea(images=batch, size=to),
        lambda: tf.raw_ops.ResizeBilinear(images=batch, size=to, half_pixel_centers=True),
    )
    # Resizing keeps within 0..255, so this rounds to the nearest pixel value.
    return tf.ensure_shape(tf.cast(resized + 0.5, tf.uint8)[0], [size, size, channels])


def _random_window(shape: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """A random [top, left, height, width] inside an image of shape [h, w, C]; all of it if none was found."""
    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        shape,
        bounding_boxes=tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
        seed=seed,
        min_object_covered=0.0,
        aspect_ratio_range=CROP_ASPECT,
        area_range=CROP_AREA,
        max_attempts=CROP_ATTEMPTS,
        use_image_if_no_bounding_boxes=True,
    )
    return tf.concat([begin[:2], extent[:2]], 0)
