"""Networks as C source in programs that a C compiler of this machine has made."""

import atexit
import functools
import pathlib
import re
import shutil
import subprocess
import tempfile

import pytest

from mmx_tf.export.c_source import c_source
from mmx_tf.export.c_source.check import check_program
from mmx_tf.export.c_source.writer import RUNTIME, runtime

COMPILER = next((path for path in map(shutil.which, ("cc", "gcc", "clang")) if path), None)
needed = pytest.mark.skipif(
    COMPILER is None, reason="NO C COMPILER (cc, gcc, clang): C source is not compiled"
)
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror")
FAST = ("-O2", "-Wconversion")
SANITIZED = ("-O0", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def run_compiler(*words):
    done = subprocess.run([COMPILER, *STRICT, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@functools.cache
def kernels(flags) -> pathlib.Path:
    """The kernels' object file, which all networks of a process share."""
    folder = pathlib.Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name in RUNTIME:
        (folder / name).write_text(runtime(name))
    run_compiler(*flags, "-c", folder / "mmx_kernels.c", "-o", folder / "mmx_kernels.o")
    return folder / "mmx_kernels.o"


def differing(folder, made, images, *, flags=SANITIZED):
    """(codes, tensors) that a compiled network computes unlike the reference, and (all codes, tensors)."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {**made.files, "check.c": check_program(made, images)}.items():
        (folder / name).write_text(text)
    trace = f"-D{made.name.upper()}_TRACE"
    sources = (folder / f"{made.name}.c", folder / "check.c", kernels(flags))
    run_compiler(*flags, trace, *sources, "-o", folder / "check")
    done = subprocess.run([folder / "check"], capture_output=True, text=True)
    found = re.findall(r"^(\d+) of (\d+) (?:codes|tensors) differ$", done.stdout, re.MULTILINE)
    assert len(found) == 2, done.stdout + done.stderr
    (codes, of), (tensors, of_tensors) = (tuple(map(int, pair)) for pair in found)
    assert done.returncode == (codes + tensors > 0), done.stdout
    return (codes, tensors), (of, of_tensors)


def assert_exact(folder, data, images, *, flags=SANITIZED, **options):
    """Compiles a file as C and compares every output and stored tensor -> the `CSource`."""
    made = c_source(data, **options)
    wrong, counted = differing(folder, made, images, flags=flags)
    assert wrong == (0, 0), f"{wrong} of {counted} codes and tensors differ"
    assert min(counted) > 0
    return made
