"""What is logged to the user's screen: our lines, and of TensorFlow's, TFDS's and LiteRT's what matters.

Their Python parts log through absl and `logging`. Only the known lines are dropped: any other message, and
every warning that is not listed here, gets through. What their C++ parts write, `mmx_tf.startup` holds back.

    quiet.set_up_logging()

This module imports nothing but the standard library and absl, since it is needed before TensorFlow.
"""

import logging
import os
import pathlib
import re
import sys

from absl import flags
from absl import logging as absl_logging

LOGGED_NOISE = re.compile(
    # A function was traced for many models, which is what this program does; Keras's and our own callbacks
    # take longer than a training step of a tiny network.
    r"triggered tf\.function retracing|is slow compared to the batch time"
)
_MMX_TF = pathlib.Path(__file__).resolve().parent
_OURS = (
    [_MMX_TF]
    if (_MMX_TF / "layers").is_dir()
    else [_MMX_TF, _MMX_TF.parent / "layers", _MMX_TF.parent / "export"]
)
_OUR_FOLDERS = tuple(f"{folder}{os.sep}" for folder in _OURS)


def set_up_logging() -> None:
    """Logs lines such as "mmx_tf: select: epochs 1 to 2"; others' lines only from level WARNING."""
    absl_logging.set_verbosity(absl_logging.INFO)
    # Python's own handler is there once something was logged before; absl's takes its place.
    if all(type(one) is logging.StreamHandler and one.stream is sys.stderr for one in logging.root.handlers):
        # Commands that are no program of absl's have its flags, which say where lines go, at their defaults.
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()
        absl_logging.use_absl_handler()
    handler = absl_logging.get_absl_handler().python_handler
    handler.setFormatter(_ShortFormat())
    handler.addFilter(_is_for_the_user)
    tensorflow_logger = logging.getLogger("tensorflow")
    tensorflow_logger.addFilter(_is_for_the_user)
    # It has a handler of its own beside absl's; a warning said once is enough.
    for own in list(tensorflow_logger.handlers):
        tensorflow_logger.removeHandler(own)


class _ShortFormat(logging.Formatter):
    """`mmx_tf: message`, with the level in front of the message from WARNING on."""

    def format(self, record: logging.LogRecord) -> str:
        level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        sender = "mmx_tf" if record.pathname.startswith(_OUR_FOLDERS) else record.name
        return f"{sender}: {level}{super().format(record)}"


def _is_for_the_user(record: logging.LogRecord) -> bool:
    ours = record.pathname.startswith(_OUR_FOLDERS)
    return ours or (record.levelno >= logging.WARNING and not LOGGED_NOISE.search(record.getMessage()))
