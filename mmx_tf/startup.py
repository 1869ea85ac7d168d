"""Environment variables that TensorFlow reads when it is first imported, where the user has not set them.

On a CPU, training spends much of its time in getting memory from the system: glibc gives back every large
buffer and takes it anew, page by page, in the next step. TensorFlow's own allocator keeps it.

oneDNN's kernels, which TensorFlow by default takes on CPUs with AVX-512 alone, are the faster ones on AVX2
too (TF_ENABLE_ONEDNN_OPTS=1), but their sums are not the same in every run. `benchmarks/settings.py` measures
both; a deterministic run has oneDNN off.

XLA uses half of the registers of AVX-512 unless it is told otherwise; the loops of `layers.lsq.fused`
take a tenth to a third less time with all of them, and compute the same. Other CPUs have no such choice.
"""

import contextlib
import ctypes
import functools
import os
import sys
import warnings
from collections.abc import Iterator

from mmx_tf.quiet import without_native_noise

MEMORY_BYTES = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

SETTINGS = {
    # One line of ours is worth more than a screen of TensorFlow's.
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "TF_CPU_ALLOCATOR_USE_BFC": "1",
    # tfmot sets it too, but when TensorFlow has loaded Keras 3, and with it scikit-learn and Matplotlib.
    "TF_USE_LEGACY_KERAS": "1",
    # Its limit is 64 GB otherwise, whatever the machine has.
    "TF_CPU_BFC_MEM_LIMIT_IN_MB": str(MEMORY_BYTES // 2**20),
}
XLA_OPTIONS = {"--xla_cpu_prefer_vector_width": "512"}
"""Options inside XLA_FLAGS, which may hold others of the user's."""
_M_ARENA_MAX = -8  # glibc's malloc.h


ONEDNN = "TF_ENABLE_ONEDNN_OPTS"


def make_deterministic() -> None:
    """Turns oneDNN off, for which the program is started anew where TensorFlow is loaded already.

    Process, command line and files stay what they are; only then TensorFlow looks at its environment anew.
    """
    if os.environ.get(ONEDNN) == "0":
        return
    os.environ[ONEDNN] = "0"
    if "tensorflow" in sys.modules:
        sys.stdout.flush()
        sys.stderr.flush()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], dict(os.environ))


def apply() -> None:
    """Sets the variables that are not set yet. Too late, and without effect, once TensorFlow is imported."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    flags = os.environ.get("XLA_FLAGS", "")
    ours = [f"{name}={value}" for name, value in XLA_OPTIONS.items() if name not in flags]
    os.environ["XLA_FLAGS"] = " ".join([*flags.split(), *ours])
    _keep_one_heap()


@functools.cache
def load_tensorflow() -> None:
    """Loads TensorFlow and tfmot without their noise. The rooms that need them call it before they do."""
    with without_native_noise(), without_keras_engine(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # tfmot asks distutils for versions.
        import tensorflow_model_optimization as _  # noqa: F401


@contextlib.contextmanager
def without_keras_engine() -> Iterator[None]:
    """A block in which `import keras.engine`, which Keras 3 does not have, fails without loading Keras 3."""
    if "keras" in sys.modules:
        yield
        return
    sys.modules["keras.engine"] = None
    try:
        yield
    finally:
        del sys.modules["keras.engine"]


def _keep_one_heap() -> None:
    # glibc gives threads heaps of their own, and each keeps what it once held while a graph was optimized and
    # compiled: 200 MB of a search's peak. Tensors come from TensorFlow's allocator, so nothing is slower.
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt and "MALLOC_ARENA_MAX" not in os.environ:
        mallopt(_M_ARENA_MAX, 1)
