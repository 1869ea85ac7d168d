"""What export.c_array and export.c_source write in programs that a C++ compiler has made."""

import shutil
import subprocess

import pytest

COMPILER = next((path for path in map(shutil.which, ("c++", "g++", "clang++")) if path), None)
needed = pytest.mark.skipif(
    COMPILER is None, reason="NO C++ COMPILER (c++, g++, clang++): the array is not compiled"
)


def compiled_bytes(folder, name, standard="c++17") -> bytes:
    """What a program prints that is compiled from `name`.cc and `name`.h in `folder`: the array's bytes."""
    (folder / "main.cc").write_text(
        f'#include <cstdint>\n#include <cstdio>\n#include "{name}.h"\n#include "{name}.h"\n'
        f'static_assert(sizeof({name}) == {name}_length, "");\n'
        "int main() {\n"
        f"  if (reinterpret_cast<std::uintptr_t>({name}) % 16) return 1;\n"
        f"  return std::fwrite({name}, 1, {name}_length, stdout) != {name}_length;\n"
        "}\n"
    )
    return output(folder, folder / "main.cc", folder / f"{name}.cc", standard=standard)


def output(folder, *parts, standard) -> bytes:
    """What a program prints that is made of sources and object files."""
    flags = [f"-std={standard}", "-Wall", "-Wextra", "-Werror", "-o", folder / "program"]
    subprocess.run([COMPILER, *flags, *parts], check=True)
    return subprocess.run([folder / "program"], check=True, capture_output=True).stdout
