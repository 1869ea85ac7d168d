"""Keras's global settings, as everything that is built here needs them.

Keras takes the type of an Input, of a layer and its variables, of metrics and of learning rates from global
settings of the user's: the dtype policy (`set_global_policy("mixed_float16")`), `set_floatx`, and the data
format. Networks here are float32 and channels last whatever these are, so they are built, compiled and
loaded in this block.

    >>> with float32():
    ...     keras.Input((32, 32, 3)).dtype
    tf.float32
"""

from collections.abc import Iterator
from contextlib import contextmanager

import tf_keras as keras
from tf_keras.src.mixed_precision.policy import policy_scope


@contextmanager
def float32() -> Iterator[None]:
    """While the block lasts, Keras's defaults are float32 and channels last; `@float32()` decorates."""
    backend = keras.backend
    kept = backend.floatx(), backend.image_data_format()
    try:
        backend.set_floatx("float32")
        backend.set_image_data_format("channels_last")
        with policy_scope("float32"):
            yield
    finally:
        backend.set_floatx(kept[0])
        backend.set_image_data_format(kept[1])
