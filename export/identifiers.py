"""Names that a program in C or C++ may define."""

import re

_KEYWORDS = frozenset(
    """
    alignas alignof and and_eq asm auto bitand bitor bool break case catch char char8_t char16_t char32_t
    class compl concept const const_cast consteval constexpr constinit continue co_await co_return
    co_yield decltype default delete do double dynamic_cast else enum explicit export extern false float
    for friend goto if inline int long mutable namespace new noexcept not not_eq nullptr operator or or_eq
    private protected public register reinterpret_cast requires restrict return short signed sizeof static
    static_assert static_cast struct switch template this thread_local throw true try typedef typeid
    typename union unsigned using virtual void volatile wchar_t while xor xor_eq
    """.split()
)


def check_name(name: str, *, said: str = "--name=") -> None:
    """ValueError for what is no identifier, or one that a program may not define; `said` is its flag."""
    # A program may define no name with two underscores in a row, nor one that begins with an underscore.
    valid = re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", str(name)) and "__" not in name and name not in _KEYWORDS
    if not valid:
        raise ValueError(
            f"{said}{name!r} is no C identifier: letters, digits and single underscores, a letter first, "
            "and no keyword of C++."
        )
