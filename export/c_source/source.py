"""The text of a generated file in the making: constants, structures, and the calls of `net_run`."""

import numpy as np

_PER_LINE = {"uint8_t": 20, "int8_t": 20, "uint32_t": 8, "int32_t": 8, "float": 6}


class Source:
    """Collects what `net.c` consists of.

    Attributes:
      arrays: (type, name, count, text of the values) in the order of their first use.
      structures: (type, name, text of the members).
      calls: (step, function, arguments); an argument is text, or a stored tensor's place to be filled in.
      bytes: of all constants, by type.
    """

    def __init__(self, graph):
        self._constants = {tensor.name: tensor.constant for tensor in graph.tensors}
        self.arrays, self.structures, self.calls = [], [], []
        self.bytes = {}
        self._tables = {}

    def array(self, kind: str, name: str, values) -> str:
        """Adds an array of constants -> its name."""
        values = np.asarray(values).reshape(-1)
        self.bytes[name] = len(values) * (1 if kind == "uint8_t" else 4)
        self.arrays.append((kind, name, len(values), lines_of(kind, values)))
        return name

    def table(self, values) -> str:
        """Adds a table of slot codes -> its name; equal ones are one."""
        values = np.asarray(values).astype(np.uint8)
        key = values.tobytes()
        if key not in self._tables:
            self._tables[key] = self.array("uint8_t", f"table_{len(self._tables)}", values)
        return self._tables[key]

    def structure(self, kind: str, number, fields: dict) -> str:
        """Adds a structure of constants -> its name."""
        name = f"{kind.removeprefix('mmx_')}_{number}"
        self.structures.append((kind, name, _members(fields)))
        return name

    def at(self, stored):
        """The place of a stored tensor, known when memory is planned; a constant's is an array."""
        if stored.place == "constant":
            return self.table(self._constants[stored.name].reshape(-1).astype(np.int64) - stored.low)
        return stored

    def scratch(self, step):
        """The place of a step's scratch memory."""
        return step

    def call(self, step, function: str, arguments: list) -> None:
        """Adds a call to the program."""
        self.calls.append((step, function, arguments))


def lines_of(kind: str, values) -> str:
    """Numbers of a C type as the text between braces."""
    texts = [_number(kind, value) for value in np.asarray(values).reshape(-1).tolist()]
    per_line = _PER_LINE[kind]
    return ",\n  ".join(", ".join(texts[i : i + per_line]) for i in range(0, len(texts), per_line))


def ascii_text(text: str) -> str:
    """Text that ends no comment and no line of it."""
    escaped = text.encode("unicode_escape").decode()
    # Nor does it begin one, or a trigraph.
    return escaped.replace("*/", "* /").replace("/*", "/ *").replace("??", "? ?")


def quoted(text: str) -> str:
    """A string literal of C."""
    # Octal: hexadecimal escapes have no end of their own. A ? could begin a trigraph, a * end a comment.
    safe = set(range(32, 127)) - set(b'"\\?*')
    inner = "".join(chr(byte) if byte in safe else f"\\{byte:03o}" for byte in str(text).encode())
    return f'"{inner}"'


def _members(fields):
    return ", ".join(f".{name} = {_member(value)}" for name, value in fields.items())


def _member(value):
    if isinstance(value, dict):
        return "{" + _members(value) + "}"
    if isinstance(value, list | tuple):
        return "{" + ", ".join(map(str, value)) + "}"
    return str(value)


def _number(kind, value):
    if kind == "uint32_t":
        return f"0x{value:08x}u"
    if kind == "float":
        return float(value).hex() + "f"
    # The lowest int32 has no literal of its own type.
    return "(-2147483647 - 1)" if value == -(2**31) else str(value)
