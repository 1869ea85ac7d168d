"""What the names of a generated program may begin with, which its files are named after."""

from mmx_tf.export.identifiers import check_name

RUNTIME = ("mmx_kernels.c", "mmx_kernels.h")
LONGEST = 40
"""Characters: C99 compares 63 of a macro's name, and `_OUTPUT_99_ZERO_POINT` stands behind it."""
_HEADERS = frozenset(
    """
    assert complex ctype errno fenv inttypes iso646 limits locale math setjmp signal stdarg stdbool stddef
    stdint stdio stdlib string tgmath time wchar wctype
    """.split()
)


def check_prefix(name: str, *, said: str = "name=") -> None:
    """ValueError for one that is no identifier, or whose files would hide others; `said` is its flag."""
    check_name(name, said=said)
    if len(name) > LONGEST:
        raise ValueError(f"{said}{name!r} has {len(name)} characters; give one of at most {LONGEST}.")
    # Include guards are in capitals, and some file systems do not tell a from A.
    if f"{name.lower()}.c" in RUNTIME:
        raise ValueError(f"{said}{name!r} is the name of the kernels' files; take another one.")
    if name.lower() in _HEADERS:
        raise ValueError(f"{said}{name!r} is the name of a header of C, {name.lower()}.h; take another one.")
