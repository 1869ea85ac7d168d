"""Keeping what TensorFlow, TFDS and LiteRT tell themselves away from the user's screen.

Their C++ parts write straight to file descriptor 2 and know no level that silences a line such as "Could not
find cuda drivers"; their Python parts log through absl and `logging`. Only the known lines are dropped: any
other message, and every warning that is not listed here, gets through.

    with without_native_noise():
        import tensorflow

This module imports nothing but the standard library and absl, since it is needed before TensorFlow.
"""

import logging
import os
import pathlib
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from absl import logging as absl_logging

NATIVE_NOISE = re.compile(
    rb"log messages before absl::InitializeLog\(\) is called"
    rb"|cudart_stub\.cc\S* Could not find cuda drivers"
    # 303: no driver is installed; 100: a driver but no device. Any other failure concerns an owner of a GPU.
    rb"|failed call to cuInit: .*(\(303\)|CUDA_ERROR_NO_DEVICE)"
    rb"|INFO: Created TensorFlow Lite XNNPACK delegate"
    # On where the CPU has AVX-512 or the user asks for it.
    rb"|oneDNN custom operations are on"
)
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


@contextmanager
def without_native_noise() -> Iterator[None]:
    """Holds back what is written to file descriptor 2 in the block; afterwards all but the noise is written.

    Meant for short blocks, since a crash of the process inside one loses its last words.
    """
    try:
        sys.stderr.flush()
        original = os.dup(2)
    except (OSError, AttributeError):  # no standard error at all, so there is nothing to keep clean
        yield
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(original, 2)
            os.close(original)
            held.seek(0)
            for line in held:
                if not NATIVE_NOISE.search(line):
                    os.write(2, line)


def set_up_logging() -> None:
    """Logs lines such as "mmx_tf: select: epochs 1 to 2"; others' lines only from level WARNING."""
    absl_logging.set_verbosity(absl_logging.INFO)
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
