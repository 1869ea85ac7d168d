"""Reading image files for `tf.io.decode_image`, which knows no WebP.

Pillow decodes those, and hands them on as BMP, which costs a copy and no second decoding. A file that Pillow
cannot decode is given as it is, so that whoever decodes it finds it damaged and names it.
"""

import io

import tensorflow as tf
from PIL import Image

WEBP = ".webp"


@tf.autograph.experimental.do_not_convert
def read(path: tf.Tensor, *, webp: bool) -> tf.Tensor:
    """The bytes of an image file, in a format that TensorFlow decodes.

    Args:
      path: scalar string.
      webp: whether some files of the dataset are WebP, by their names; the others are read without Python.
    """
    if not webp:
        return tf.io.read_file(path)
    is_webp = tf.strings.regex_full_match(path, rf"(?i)(?s).*\{WEBP}")

    def decoded():
        stored = tf.numpy_function(as_bmp, [tf.io.read_file(path)], tf.string, stateful=False)
        return tf.ensure_shape(stored, [])

    return tf.cond(is_webp, decoded, lambda: tf.io.read_file(path))


def as_bmp(stored: bytes) -> bytes:
    """A WebP image, the first one of an animation, as BMP; anything else as it is."""
    written = io.BytesIO()
    try:
        with Image.open(io.BytesIO(stored), formats=["WEBP"]) as image:
            image.convert("RGB").save(written, "BMP")
    except Exception:  # Pillow raises what its decoders raise, among them SyntaxError and struct.error.
        return stored
    return written.getvalue()
