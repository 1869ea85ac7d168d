"""Networks as C source in programs that a C compiler of this machine has made."""

import re
import shutil
import subprocess

import pytest

from mmx_tf.export.c_source import c_source
from mmx_tf.export.c_source.check import check_program

COMPILER = next((path for path in map(shutil.which, ("cc", "gcc", "clang")) if path), None)
needed = pytest.mark.skipif(COMPILER is None, reason="NO C COMPILER (cc, gcc, clang): C source is not compiled")
FLAGS = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-O1")
SANITIZERS = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def compiled(folder, made, images, *, flags=()):
    """The test program of a `CSource` in `folder`; flags: of the compiler, besides `FLAGS`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {**made.files, "check.c": check_program(made, images)}.items():
        (folder / name).write_text(text)
    trace = f"-D{made.name.upper()}_TRACE"
    sources = [folder / f"{name}.c" for name in (made.name, "mmx_kernels", "check")]
    command = [COMPILER, *FLAGS, trace, *flags, *sources, "-o", folder / "check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "check"


def differing(folder, made, images, *, flags=SANITIZERS):
    """(codes, tensors) that a compiled network computes unlike the reference, and how many there are of each."""
    done = subprocess.run([compiled(folder, made, images, flags=flags)], capture_output=True, text=True)
    found = re.findall(r"^(\d+) of (\d+) (?:codes|tensors) differ$", done.stdout, re.MULTILINE)
    assert len(found) == 2, done.stdout + done.stderr
    (codes, of), (tensors, of_tensors) = (tuple(map(int, pair)) for pair in found)
    assert done.returncode == (codes + tensors > 0), done.stderr
    return (codes, tensors), (of, of_tensors)


def assert_exact(folder, data, images, **options):
    """Compiles a file as C and compares every output and stored tensor -> the `CSource`."""
    made = c_source(data, **options)
    wrong, counted = differing(folder, made, images)
    assert wrong == (0, 0), f"{wrong} of {counted} codes and tensors differ"
    assert min(counted) > 0
    return made
