"""How TensorFlow is loaded: in which environment, where the user has not set it, and without its noise.

On a CPU, training spends much of its time in getting memory from the system: glibc gives back every large
buffer and takes it anew, page by page, in the next step. TensorFlow's own allocator keeps it.

oneDNN's kernels, which TensorFlow by default takes on CPUs with AVX-512 alone, are the faster ones on AVX2
too (TF_ENABLE_ONEDNN_OPTS=1), but their sums are not the same in every run. `benchmarks/settings.py` measures
both; a deterministic run has oneDNN off.

XLA uses half of the registers of AVX-512 unless it is told otherwise; the loops of `layers.lsq.fused`
take a tenth to a third less time with all of them, and compute the same. Other CPUs have no such choice.

C++ parts of TensorFlow and LiteRT write straight to file descriptor 2 and know no level that silences a line
such as "Could not find cuda drivers". Only the known lines are dropped:

    with without_native_noise():
        import tensorflow
"""

import contextlib
import ctypes
import functools
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator

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
NATIVE_NOISE = re.compile(
    rb"log messages before absl::InitializeLog\(\) is called"
    rb"|cudart_stub\.cc\S* Could not find cuda drivers"
    # 303: no driver is installed; 100: a driver but no device. Any other failure concerns an owner of a GPU.
    rb"|failed call to cuInit: .*(\(303\)|CUDA_ERROR_NO_DEVICE)"
    rb"|INFO: Created TensorFlow Lite XNNPACK delegate"
    # On where the CPU has AVX-512 or the user asks for it.
    rb"|oneDNN custom operations are on"
)
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
