"""Which processor and system a program file is for, from its ELF header.

    program_abi("android_aarch64_benchmark_model")      # "arm64-v8a", Android's name

Layout: https://refspecs.linuxfoundation.org/elf/gabi4+/ch4.eheader.html
"""

import os
import pathlib
import struct

ABIS = {183: "arm64-v8a", 40: "armeabi-v7a", 62: "x86_64", 3: "x86"}
_EXECUTABLE, _SHARED, _INTERPRETER = 2, 3, 3


def program_abi(path: str | os.PathLike) -> str:
    """Android's name of the processor that a program is for; raises `ValueError` for anything else."""
    try:
        data = pathlib.Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}).") from error
    if data[:4] == b"PK\x03\x04":
        raise ValueError(
            f"{path}: an archive such as an .apk; the command-line program benchmark_model is needed."
        )
    if data[:4] != b"\x7fELF" or data[5:6] != b"\x01":
        raise ValueError(f"{path}: not a program for Android (no little-endian ELF file).")
    try:
        kind, machine = struct.unpack_from("<HH", data, 16)
        loader = _loader(data)
    except (struct.error, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: a damaged program (its ELF header is cut).") from error
    if machine not in ABIS:
        raise ValueError(f"{path}: for processor type {machine}; Android runs {', '.join(ABIS.values())}.")
    if kind not in (_EXECUTABLE, _SHARED) or (kind == _SHARED and loader is None):
        raise ValueError(f"{path}: a library or object file, not a program.")
    if loader is not None and not loader.startswith("/system/"):
        raise ValueError(f"{path}: a program for Linux (loaded by {loader}), not for Android.")
    return ABIS[machine]


def _loader(data: bytes) -> str | None:
    """The dynamic loader that a program asks for; None: it needs none."""
    if data[4] == 2:
        (table,), (size, count) = struct.unpack_from("<Q", data, 32), struct.unpack_from("<HH", data, 54)
        place, layout = 8, "<Q"
    else:
        (table,), (size, count) = struct.unpack_from("<I", data, 28), struct.unpack_from("<HH", data, 42)
        place, layout = 4, "<I"
    for start in range(table, table + size * count, size or 1):
        if struct.unpack_from("<I", data, start)[0] == _INTERPRETER:
            (offset,) = struct.unpack_from(layout, data, start + place)
            return data[offset : data.index(b"\0", offset)].decode() if b"\0" in data[offset:] else None
    return None
